"""A database that can crash, a file store, providers with a bill, and listeners as processes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.app import run_listener
from pipeline.embedded.fakes.llamaparse import FakeLlamaParse, Plan
from pipeline.embedded.fakes.openai import FakeOpenAI
from pipeline.embedded.fakes.server import serve
from pipeline.embedded.postgres import SUPERUSER, PostgresServer
from pipeline.operate import migrate
from pipeline.settings import Settings
from tests.faults.nursery import Listener, Nursery
from tests.sql.conftest import WORKER_PASSWORD, Database
from tests.world import lift_quotas

_numbers = itertools.count()

DIMENSIONS = 64
SPACE = f"text-embedding-3-small-{DIMENSIONS}"
BATCH = 256
"""Inputs in one request of the embedder."""

MOST_RUNNING = """
select s.owner_id, max(s.running) as most
  from (select e.owner_id,
               sum((e.to_state = 'running')::int - (coalesce(e.from_state, '') = 'running')::int)
               over (partition by e.owner_id order by e.id) as running
          from pipeline.job_events e) s
 group by s.owner_id
"""
"""The most jobs of each owner that ever ran at once, from every lease interval of the history."""

_CHUNKS = """
select split_part(d.name, '/', 2) as name, c.ordinal, c.page, c.heading, c.content, e.embedding::text as embedding
  from pipeline.documents d
  join pipeline.chunks c on c.document_id = d.id and c.job_id = d.published_job_id
  join pipeline.embeddings e on e.owner_id = c.owner_id and e.input_sha256 = c.input_sha256
 where d.deleted_at is null
 order by 1, 2
"""


class Ground:
    """One Postgres server for all of these tests, which may crash."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self._running = server
        self._down = False

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[Ground]:
        """A migrated database in a temporary folder."""
        with tempfile.TemporaryDirectory(prefix="pipeline-faults-") as folder:
            Path(folder).chmod(0o711)
            ground = cls(await PostgresServer.start(Path(folder) / "data"))
            try:
                url = ground.server.url("postgres")
                await migrate.apply(url, worker_password=WORKER_PASSWORD)
                await lift_quotas(url)
                async with await migrate.connect(url) as connection:
                    await connection.execute(
                        "select pipeline.create_space('text-embedding-3-small', %s)", (DIMENSIONS,)
                    )
                    await connection.execute("select pipeline.activate_space(%s)", (SPACE,))
                yield ground
            finally:
                await ground.stop()

    async def crash(self) -> None:
        """An immediate shutdown: connections are dropped, nothing is written down, recovery is by the log."""
        os.kill(self._running.pid, signal.SIGQUIT)
        await self._running.stop()
        self._down = True

    async def start(self) -> None:
        """Does nothing when it runs."""
        if self._down:
            self._running = await PostgresServer.start(self.server.data_dir, port=self.server.port)
            self._down = False

    async def stop(self) -> None:
        await self._running.stop()


@contextlib.asynccontextmanager
async def cloned(ground: Ground) -> AsyncIterator[Database]:
    """A migrated database, until the block ends."""
    database = Database(ground.server, f"faults_{next(_numbers)}")

    async def root(*statements: str) -> None:
        async with await psycopg.AsyncConnection.connect(
            ground.server.url(SUPERUSER, "template1"), autocommit=True
        ) as connection:
            for statement in statements:
                await connection.execute(statement.encode())

    await root(f"create database {database.name} template postgres owner postgres")
    database.admin = await database.connect("postgres")
    try:
        yield database
    finally:
        await ground.start()
        await database.admin.close()
        await root(f"drop database {database.name} with (force)")


class FileStore:
    """What a listener needs of Storage: objects by name, and what it says of them and of the bucket."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.db: Database | None = None
        self.app = Starlette(
            routes=[
                Route("/storage/v1/object/authenticated/documents/{name:path}", self._get, methods=["GET"]),
                Route("/storage/v1/object/info/authenticated/documents/{name:path}", self._info, methods=["GET"]),
                Route("/storage/v1/object/documents", self._remove, methods=["DELETE"]),
                Route("/storage/v1/bucket/documents", self._bucket, methods=["GET"]),
            ]
        )

    async def _get(self, request: Request) -> Response:
        content = self.files.get(request.path_params["name"])
        if content is None:
            return JSONResponse({"statusCode": "404", "error": "not_found", "message": "Object not found"}, 400)
        return Response(content, media_type="text/plain")

    async def _info(self, request: Request) -> Response:
        return await self._row(
            "select id, name, version from storage.objects where bucket_id = 'documents' and name = %s",
            request.path_params["name"],
        )

    async def _bucket(self, request: Request) -> Response:
        return await self._row("select id, name, updated_at from storage.buckets where id = 'documents'")

    async def _row(self, query: str, *params: str) -> Response:
        assert self.db is not None
        try:
            async with await self.db.connect("postgres") as connection:
                row = await (
                    await connection.execute(f"select to_jsonb(r)::text as row from ({query}) r".encode(), params)
                ).fetchone()
        except psycopg.Error:
            return JSONResponse({"statusCode": "544", "error": "DatabaseTimeout", "code": "DatabaseTimeout"}, 544)
        if row is None:
            return JSONResponse({"statusCode": "404", "error": "not_found", "message": "not found"}, 400)
        return Response(row["row"], media_type="application/json")

    async def _remove(self, request: Request) -> Response:
        """The rows and then the bytes, as Storage does it."""
        names = (await request.json())["prefixes"]
        assert self.db is not None
        async with await self.db.connect("postgres") as connection, connection.transaction():
            await connection.execute("set local storage.allow_delete_query = 'true'")
            await connection.execute(
                "delete from storage.objects where bucket_id = 'documents' and name = any (%s)", (names,)
            )
        for name in names:
            self.files.pop(name, None)
        return JSONResponse([])


class World:
    """One test's database, services and listeners."""

    def __init__(self, db: Database, folder: Path, nursery: Nursery, store_url: str, store: FileStore) -> None:
        self.db = db
        self.folder = folder
        self.store = store
        self.parser, self.embedder = FakeLlamaParse(), FakeOpenAI()
        self.parser.plan(*[Plan(polls=0)] * 100)
        self.settings: dict[str, Any] = {
            "supabase_url": store_url,
            "supabase_service_role_key": "a-key",
            "database_url": db.url("pipeline_worker"),
            "parser": "llamaparse",
            "llamaparse_api_key": self.parser.key,
            "embedder": "openai",
            "openai_api_key": self.embedder.key,
            "openai_dimensions": DIMENSIONS,
            "chunk_tokens": 16,
            "poll_seconds": 0.2,
            "lease_seconds": 30,
            "drain_seconds": 5,
        }
        self.listeners: list[Listener] = []
        self.nursery = nursery

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, db: Database, folder: Path, nursery: Nursery) -> AsyncIterator[World]:
        store = FileStore()
        store.db = db
        async with serve(store.app) as store_url:
            world = cls(db, folder, nursery, store_url, store)
            async with world.parser.serve() as parser_url, world.embedder.serve() as embedder_url:
                world.settings |= {"llamaparse_base_url": parser_url, "openai_base_url": embedder_url}
                try:
                    yield world
                finally:
                    for listener in world.listeners:
                        listener.signal(signal.SIGCONT)
                        listener.signal(signal.SIGKILL)
                        await listener.end()

    # files

    async def upload(self, owner: Any, name: str, content: bytes) -> None:
        self.store.files[f"{owner}/{name}"] = content
        await self.db.upload(owner, name, content)

    # listeners

    async def start(self, *, faults: str = "", ready: bool = True, host: str | None = None, **more: Any) -> Listener:
        """A listener as a process of its own; `host` is a network namespace."""
        settings = {f"UPLOAD_PIPELINE_{key.upper()}": str(value) for key, value in (self.settings | more).items()}
        environment = settings | {"PIPELINE_FAULTS": faults, "TMPDIR": str(self.folder)}
        listener = await self.nursery.start(self.folder, environment, host)
        self.listeners.append(listener)
        if ready:
            await listener.logged("listening")
        return listener

    @contextlib.asynccontextmanager
    async def listening(self, **more: Any) -> AsyncIterator[None]:
        """A listener in this process, until the block ends."""
        stop = asyncio.Event()
        settings = Settings(_env_file=None, **(self.settings | more))  # type: ignore[call-arg]
        task = asyncio.create_task(run_listener(settings, stop=stop))
        try:
            yield
        finally:
            stop.set()
            await asyncio.wait_for(task, 60)

    # what is seen

    async def until(self, query: str, *params: Any, timeout: float = 60) -> dict[str, Any]:
        """The first row of `query`, as soon as there is one."""
        async with asyncio.timeout(timeout):
            while not (rows := await self.db.all(query, *params)):
                await asyncio.sleep(0.02)
            return rows[0]

    async def all_ended(self, timeout: float = 120) -> list[dict[str, Any]]:
        """Every job in the order of its upload, once all have ended."""
        await self.until(
            "select from pipeline.jobs having count(*) > 0 and bool_and(finished_at is not null)", timeout=timeout
        )
        return await self.db.all("select * from pipeline.jobs order by id")

    async def chunks(self) -> list[dict[str, Any]]:
        """What is published: name, order, page, heading, content, embedding."""
        return await self.db.all(_CHUNKS)

    def bought_twice(self) -> int:
        """Inputs that were paid for more often than once."""
        return sum(count - 1 for count in Counter(self.embedder.bill.texts).values())

    async def ledger_is_right(self) -> None:
        """What is confirmed was bought, and what was bought is confirmed or, at least, unconfirmed."""
        await self.until("select 1 where not exists (select from pipeline.ledger where state = 'reserved')")
        for stage, unit, bought in (
            ("parse", "pages", self.parser.bill.pages),
            ("embed", "inputs", self.embedder.bill.inputs),
        ):
            row = await self.db.one(
                f"select coalesce(sum({unit}), 0) as entered, "
                f"coalesce(sum({unit}) filter (where state = 'confirmed'), 0) as confirmed "
                "from pipeline.ledger where stage = %s",
                stage,
            )
            assert row["confirmed"] <= bought <= row["entered"], (stage, row, bought)
        sums = await self.db.one(
            "select (select sum(amount) from pipeline.ledger) as ledger, "
            "(select sum(amount) from pipeline.spent_days where owner_id is null) as days, "
            "(select sum(amount) from pipeline.spent_days where owner_id is not null) as owners"
        )
        assert sums["ledger"] == sums["days"] == sums["owners"] > 0

    async def is_sound(self) -> None:
        """No invariant is violated, and nobody ever ran more than the limit."""
        assert await self.db.all("select * from pipeline.invariant_violations") == []
        assert all(row["most"] <= 2 for row in await self.db.all(MOST_RUNNING))


def stands_still(listener: Listener) -> bool:
    """Whether the process is stopped by a signal."""
    return Path(f"/proc/{listener.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def reconnect(db: Database) -> None:
    """After a crash the test's own connection is a new one."""
    with contextlib.suppress(psycopg.Error):
        await db.admin.close()
    db.admin = await db.connect("postgres")


def document(paragraphs: int = 6, *, pages: int = 2, topic: str = "knee surgery") -> bytes:
    """Pages with headings and paragraphs that all differ; each paragraph is one passage of 16 tokens or less."""
    cut = -(-paragraphs // pages)
    parts: Sequence[str] = [
        f"# Part {page + 1}\n\n"
        + "\n\n".join(f"Rule {n} on {topic} is number {n * 7919}." for n in range(page * cut, (page + 1) * cut))
        for page in range(pages)
    ]
    return "\f".join(parts).encode()
