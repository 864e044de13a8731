"""A migrated Postgres for each test: one server, and a database cloned from a template, so that tests stay apart."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest_asyncio
from psycopg.rows import dict_row

from pipeline.embedded.postgres import SUPERUSER, PostgresServer
from pipeline.operate import migrate
from tests.world import lift_quotas

WORKER_PASSWORD = "worker-password-of-the-tests"
_numbers = itertools.count()


class Database:
    """One migrated database, and the statements that the platform's services run on it."""

    def __init__(self, server: PostgresServer, name: str) -> None:
        self.server = server
        self.name = name
        self.admin: psycopg.AsyncConnection[dict[str, Any]]

    def url(self, role: str) -> str:
        password = WORKER_PASSWORD if role == "pipeline_worker" else None
        return self.server.url(role, self.name, password=password)

    async def connect(self, role: str) -> psycopg.AsyncConnection[dict[str, Any]]:
        return await psycopg.AsyncConnection.connect(self.url(role), autocommit=True, row_factory=dict_row)

    async def all(self, query: str, *params: Any) -> list[dict[str, Any]]:
        return await (await self.admin.execute(query.encode(), params)).fetchall()

    async def one(self, query: str, *params: Any) -> dict[str, Any]:
        rows = await self.all(query, *params)
        assert len(rows) == 1, rows
        return rows[0]

    async def run(self, query: str, *params: Any) -> None:
        await self.admin.execute(query.encode(), params)

    # what the platform does

    async def sign_up(self) -> uuid.UUID:
        user = uuid.uuid4()
        await self.run(
            "insert into auth.users (id, aud, role, email) values (%s, 'authenticated', 'authenticated', %s)",
            user,
            f"{user}@example.org",
        )
        return user

    async def upload(
        self, owner: uuid.UUID | str, name: str, content: bytes = b"text", *, bucket: str = "documents"
    ) -> dict:
        """The committed half of an upload or an overwrite, as the Storage server writes it."""
        metadata = {
            "eTag": f'"{hashlib.md5(content).hexdigest()}"',
            "size": len(content),
            "mimetype": "text/plain",
            "contentLength": len(content),
            "httpStatusCode": 200,
        }
        async with self.admin.transaction():
            await self.run("set local role service_role")
            return await self.one(
                """insert into storage.objects (bucket_id, name, owner_id, version, metadata)
                   values (%s, %s, %s, %s, %s)
                   on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata
                   returning id, name, version""",
                bucket,
                f"{owner}/{name}",
                str(owner),
                str(uuid.uuid4()),
                json.dumps(metadata),
            )

    async def dry_run(self, owner: uuid.UUID, name: str) -> None:
        """The permission check of an upload: written as the user, then rolled back."""
        async with self.as_user(owner) as connection, connection.transaction(force_rollback=True):
            await connection.execute(
                "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
                "values ('documents', %s, %s, '1', %s)",
                (f"{owner}/{name}", str(owner), '{"mimetype": "text/plain"}'),
            )

    async def delete(self, owner: uuid.UUID, name: str) -> None:
        async with self.as_user(owner) as connection, connection.transaction():
            await connection.execute("set local storage.allow_delete_query = 'true'")
            await connection.execute(
                "delete from storage.objects where bucket_id = 'documents' and name = %s", (f"{owner}/{name}",)
            )

    @asynccontextmanager
    async def as_user(
        self, user: uuid.UUID | None, role: str = "authenticated"
    ) -> AsyncIterator[psycopg.AsyncConnection]:
        """A connection with the role and claims of a signed-in user, as the Data API makes it."""
        claims = {"role": role} | ({"sub": str(user)} if user else {})
        async with await self.connect("authenticator") as connection:
            await connection.execute(f"set role {role}".encode())
            await connection.execute("select set_config('request.jwt.claims', %s, false)", (json.dumps(claims),))
            yield connection

    async def move_time(self, interval: str) -> None:
        """Move the only clock, as its owner."""
        await self.run(
            f"""create or replace function pipeline.now() returns timestamptz language sql stable set search_path = ''
                as $$ select pg_catalog.clock_timestamp() + interval '{interval}' $$"""
        )

    async def waits_for_a_lock(self, pid: int) -> None:
        """Until the session does."""
        async with asyncio.timeout(10):
            while not await self.all("select from pg_locks where pid = %s and not granted", pid):
                await asyncio.sleep(0.01)

    # what a listener does

    async def claim(self, max_jobs: int = 1, *, lease: str = "60 seconds", listener: str = "test") -> list[dict]:
        return await self.all("select * from pipeline.claim(%s, %s, %s::interval, 1)", listener, max_jobs, lease)

    async def space(self) -> dict:
        return await self.one("select * from pipeline.spaces where active")

    async def publish(self, job: dict, texts: Sequence[str], *, heading: str | None = None) -> int:
        """Embed `texts` with made-up vectors and publish them."""
        space = await self.space()
        inputs = [hashlib.sha256(text.encode()).digest() for text in texts]
        status = {
            bytes(r["input_sha256"]): r["status"]
            for r in await self.all(
                "select * from pipeline.begin_embeddings(%s, %s, %s, %s)",
                job["id"],
                job["attempt"],
                space["id"],
                inputs,
            )
        }
        mine = [sha for sha in status if status[sha] == "buy"]
        await self.run(
            "select pipeline.store_embeddings(%s, %s, %s, %s, %s::text[]::extensions.halfvec[])",
            job["id"],
            job["attempt"],
            space["id"],
            mine,
            [made_up_vector(s, space["dimensions"]) for s in mine],
        )
        row = await self.one(
            "select pipeline.publish(%s, %s, %s, %s, 'text/plain', 1, '{}', 'test', "
            "%s::int[], %s::text[], %s::text[], %s)",
            job["id"],
            job["attempt"],
            space["id"],
            hashlib.sha256("".join(texts).encode()).digest(),
            [1] * len(texts),
            [heading] * len(texts),
            list(texts),
            inputs,
        )
        return row["publish"]


def made_up_vector(seed: bytes, dimensions: int) -> str:
    vector = np.random.default_rng(list(seed)).normal(size=dimensions)
    return "[" + ",".join(f"{x:.5f}" for x in vector / np.linalg.norm(vector)) + "]"


@pytest_asyncio.fixture(scope="session")
async def server() -> AsyncIterator[PostgresServer]:
    with tempfile.TemporaryDirectory(prefix="pipeline-tests-") as folder:
        Path(folder).chmod(0o711)
        server = await PostgresServer.start(Path(folder) / "data")
        try:
            await migrate.apply(server.url("postgres"), worker_password=WORKER_PASSWORD)
            await lift_quotas(server.url("postgres"))
            yield server
        finally:
            await server.stop()


@asynccontextmanager
async def cloned(server: PostgresServer) -> AsyncIterator[Database]:
    """A migrated database, until the block ends."""
    name = f"test_{next(_numbers)}"
    async with await psycopg.AsyncConnection.connect(server.url(SUPERUSER, "template1"), autocommit=True) as root:
        await root.execute(f"create database {name} template postgres owner postgres".encode())
        database = Database(server, name)
        database.admin = await database.connect("postgres")
        try:
            yield database
        finally:
            await database.admin.close()
            await root.execute(f"drop database {name} with (force)".encode())


@pytest_asyncio.fixture
async def db(server: PostgresServer) -> AsyncIterator[Database]:
    async with cloned(server) as database:
        yield database
        violations = await database.all("select * from pipeline.invariant_violations")
    assert violations == []
