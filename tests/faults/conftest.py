"""One Postgres for these tests, which may crash it, and a database and services of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.faults.nursery import Nursery
from tests.faults.world import Ground, World, cloned
from tests.sql.conftest import Database


@pytest_asyncio.fixture(scope="session")
async def ground() -> AsyncIterator[Ground]:
    async with Ground.open() as ground:
        yield ground


@pytest_asyncio.fixture(scope="session")
async def nursery() -> AsyncIterator[Nursery]:
    async with Nursery.open() as nursery:
        yield nursery


@pytest_asyncio.fixture
async def db(ground: Ground) -> AsyncIterator[Database]:
    async with cloned(ground) as database:
        # delays that a test can wait for, and no end to the patience with listeners that are killed
        await database.run("update pipeline.settings set backoff_base = '0.05 seconds', max_failures = 50")
        yield database
        assert await database.all("select * from pipeline.invariant_violations") == []


@pytest_asyncio.fixture
async def world(db: Database, tmp_path: Path, nursery: Nursery) -> AsyncIterator[World]:
    async with World.open(db, tmp_path, nursery) as world:
        yield world
