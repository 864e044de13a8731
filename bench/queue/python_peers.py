"""The Python queues, each at the settings that its documentation advises for many short jobs."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg

from bench.queue.contestant import BULK, Contestant, Go, NoOp

_DEQUEUE = 1000
"""Jobs of one fetch: what suits pgqueuer and oban-py best, of 250, 500 and 1,000."""


class Procrastinate(Contestant):
    name = "Procrastinate"
    settings = "concurrency 20, a pool of 20; it fetches and finishes each job by itself"
    database = "bench_procrastinate"
    packages = ("procrastinate",)
    share = 0.1
    clear = "truncate procrastinate_jobs, procrastinate_events, procrastinate_workers cascade"
    busy = "select exists (select from procrastinate_jobs where status in ('todo', 'doing'))"
    insert = (
        "select procrastinate_defer_jobs_v1(array[row('default', 'no_op', 0, null, null, '{}', null)]"
        "::procrastinate_job_to_defer_v1[])"
    )

    def _app(self, url: str, no_op: NoOp | None = None) -> tuple[Any, Any]:
        from procrastinate import App, PsycopgConnector

        app = App(connector=PsycopgConnector(conninfo=url, min_size=1, max_size=22))

        @app.task(name="no_op")
        async def task() -> None:
            assert no_op is not None
            no_op()

        return app, task

    async def install(self, url: str) -> None:
        app, _ = self._app(url)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    async def single(self, url: str, jobs: int, go: Go) -> None:
        app, task = self._app(url)
        async with app.open_async():
            await go()
            for _ in range(jobs):
                await task.defer_async()

    async def bulk(self, url: str, jobs: int, go: Go) -> None:
        app, task = self._app(url)
        async with app.open_async():
            await go()
            for begin in range(0, jobs, BULK):
                await task.batch_defer_async(*({} for _ in range(min(BULK, jobs - begin))))

    async def work(self, url: str, no_op: NoOp, go: Go) -> None:
        app, _ = self._app(url, no_op)
        async with app.open_async():
            await go()
            await app.run_worker_async(concurrency=20, install_signal_handlers=False)


class PgQueuer(Contestant):
    """On asyncpg; the subclass has the other driver."""

    name = "pgqueuer on asyncpg"
    settings = f"batch_size {_DEQUEUE:,}, uvloop, its advice for autovacuum"
    database = "bench_pgqueuer"
    packages = ("pgqueuer", "asyncpg", "uvloop")
    uvloop = True
    clear = "truncate pgqueuer, pgqueuer_log, pgqueuer_statistics"
    busy = "select exists (select from pgqueuer)"
    insert = "insert into pgqueuer (priority, entrypoint, payload, status) values (0, 'no_op', null, 'queued')"

    async def driver(self, url: str) -> Any:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver

        return AsyncpgDriver(await asyncpg.connect(url))

    async def _queries(self, url: str) -> Any:
        from pgqueuer.queries import Queries

        return Queries(await self.driver(url))

    async def install(self, url: str) -> None:
        queries = await self._queries(url)
        await queries.install()
        await queries.optimize_autovacuum()

    async def single(self, url: str, jobs: int, go: Go) -> None:
        queries = await self._queries(url)
        await go()
        for _ in range(jobs):
            await queries.enqueue("no_op", None)

    async def bulk(self, url: str, jobs: int, go: Go) -> None:
        queries = await self._queries(url)
        await go()
        for begin in range(0, jobs, BULK):
            count = min(BULK, jobs - begin)
            await queries.enqueue(["no_op"] * count, [None] * count, [0] * count)

    async def work(self, url: str, no_op: NoOp, go: Go) -> None:
        from pgqueuer import PgQueuer as Application

        application = Application(await self.driver(url))

        @application.entrypoint("no_op")
        async def task(job: Any) -> None:
            no_op()

        await go()
        await application.run(batch_size=_DEQUEUE)


class PgQueuerPsycopg(PgQueuer):
    name = "pgqueuer on psycopg"
    packages = ("pgqueuer", "psycopg", "uvloop")
    database = "bench_pgqueuer_psycopg"

    async def driver(self, url: str) -> Any:
        from pgqueuer.db import PsycopgDriver

        return PsycopgDriver(await psycopg.AsyncConnection.connect(url, autocommit=True))


class Oban(Contestant):
    name = "oban-py"
    settings = f"limit {_DEQUEUE:,}, uvloop"
    database = "bench_oban"
    packages = ("oban", "uvloop")
    uvloop = True
    clear = "truncate oban_jobs"
    busy = "select exists (select from oban_jobs where state in ('available', 'executing'))"
    insert = """
with inserted as (
  insert into oban_jobs (args, max_attempts, meta, priority, queue, state, tags, worker)
  values ('{}', 20, '{}', 0, 'default', 'available', '{}', 'bench.queue.python_peers.NoOpWorker') returning queue
)
select pg_notify('public.oban_insert', '{"queue":"' || queue || '"}') from inserted
"""

    def missing(self) -> str | None:
        return super().missing() and "not installed: pip install -e '.[peers,oban]' (Python 3.12, a C++ compiler)"

    def _worker(self, no_op: NoOp | None = None) -> Any:
        from oban import worker

        class NoOpWorker:
            async def process(self, job: Any) -> None:
                assert no_op is not None
                no_op()

        NoOpWorker.__qualname__ = "NoOpWorker"
        return worker(queue="default")(NoOpWorker)

    async def install(self, url: str) -> None:
        from oban import Oban as Application
        from oban.schema import install

        await install(await Application.create_pool(url))

    async def single(self, url: str, jobs: int, go: Go) -> None:
        from oban import Oban as Application

        kind = self._worker()
        application = Application(pool=await Application.create_pool(url))
        await go()
        for _ in range(jobs):
            await application.enqueue(kind.new())

    async def bulk(self, url: str, jobs: int, go: Go) -> None:
        from oban import Oban as Application

        kind = self._worker()
        application = Application(pool=await Application.create_pool(url))
        await go()
        for begin in range(0, jobs, BULK):
            await application.enqueue_many(kind.new() for _ in range(min(BULK, jobs - begin)))

    async def work(self, url: str, no_op: NoOp, go: Go) -> None:
        from oban import Oban as Application

        self._worker(no_op)
        pool = await Application.create_pool(url)
        await go()
        async with Application(pool=pool, queues={"default": _DEQUEUE}):
            await asyncio.Event().wait()
