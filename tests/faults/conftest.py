"""One Postgres for these tests, which may crash it, and a database and services of its own for each test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from pipeline import migrate
from pipeline.embedded.postgres import PostgresServer
from tests.faults.nursery import Nursery
from tests.faults.world import DIMENSIONS, SPACE, Ground, World, cloned
from tests.sql.conftest import WORKER_PASSWORD, Database


@pytest_asyncio.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    with tempfile.TemporaryDirectory(prefix="pipeline-faults-") as folder:
        Path(folder).chmod(0o711)
        ground = Ground(await PostgresServer.start(Path(folder) / "data"))
        try:
            await migrate.apply(ground.server.url("postgres"), worker_password=WORKER_PASSWORD)
            async with await migrate.connect(ground.server.url("postgres")) as connection:
                await connection.execute("select pipeline.create_space('text-embedding-3-small', %s)", (DIMENSIONS,))
                await connection.execute("select pipeline.activate_space(%s)", (SPACE,))
                # delays that a test can wait for, and no end to the patience with listeners that are killed
                await connection.execute(
                    "update pipeline.settings set backoff_base = '0.05 seconds', max_failures = 50"
                )
            yield ground
        finally:
            await ground.stop()


@pytest_asyncio.fixture(scope="session")
async def nursery() -> AsyncIterator[Nursery]:
    async with Nursery.open() as nursery:
        yield nursery


@pytest_asyncio.fixture
async def db(ground: Ground) -> AsyncIterator[Database]:
    async with cloned(ground) as database:
        yield database
        assert await database.all("select * from pipeline.invariant_violations") == []


@pytest_asyncio.fixture
async def world(db: Database, tmp_path: Path, nursery: Nursery) -> AsyncIterator[World]:
    async with World.open(db, tmp_path, nursery) as world:
        yield world
