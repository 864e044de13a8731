"""The pipeline's own queue: the real worker with its queries, its leases, its housekeeping and its wake-ups.

Only the work is a no-op. A real job is completed by the publish of its chunks; here, where there is nothing to publish,
what is done is acknowledged by `pipeline.complete`, many jobs in a statement and each of them fenced by its attempt.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import timedelta
from typing import Any, cast

import psycopg

from bench.queue.contestant import BULK, Contestant, Go, NoOp
from pipeline.db.connection import open_pool
from pipeline.db.queries import SCHEMA_VERSION, Queries
from pipeline.job import Job
from pipeline.queue.notifications import wake_ups
from pipeline.queue.worker import Worker
from pipeline.settings import Settings
from pipeline.work.journey import Processor

BATCH = 500
"""Jobs of one claim, here and in the bare loop; ours has room for twice as many: it claims while it acknowledges."""
_NAMESPACE = uuid.UUID("3f0c3b0e-94d5-4a39-9a7b-0b8bb7a5e6a1")

_CLEAR = """
truncate pipeline.documents, pipeline.job_events, pipeline.owners, pipeline.owner_stops, pipeline.wakeups,
  pipeline.queue, pipeline.lease_checks, storage.objects, realtime.messages
  cascade
"""
_DIRECT = """
with written as (
  insert into pipeline.documents (owner_id, object_id, object_version, bucket_id, name)
  select o, gen_random_uuid(), gen_random_uuid()::text, 'documents', o || '/' || gen_random_uuid() || '.txt'
    from unnest(%s::uuid[]) o
  returning id, owner_id, object_id, object_version, bucket_id, name
)
insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name)
select id, owner_id, object_id, object_version, bucket_id, name from written
"""
_STORAGE = """
insert into storage.objects (bucket_id, name, owner_id, version, metadata)
select 'documents', o || '/' || gen_random_uuid() || '.txt', o::text, gen_random_uuid()::text,
       '{"eTag": "\\"1\\"", "size": 1, "mimetype": "text/plain", "contentLength": 1, "httpStatusCode": 200}'
  from unnest(%s::uuid[]) o
"""


def owner(number: int) -> uuid.UUID:
    """The same owners in every process."""
    return uuid.uuid5(_NAMESPACE, str(number))


class _NoOp:
    """In the processor's place: runs the no-op and returns when the job is acknowledged."""

    def __init__(self, pool: Any, no_op: NoOp) -> None:
        self._pool = pool
        self._no_op = no_op
        self._done: list[Job] = []
        self._acknowledged: asyncio.Future[set[int]] | None = None
        self._sending: asyncio.Task[None] | None = None

    async def run(self, job: Job) -> int:
        self._no_op()
        if self._acknowledged is None:
            self._acknowledged = asyncio.get_running_loop().create_future()
            if self._sending is None:
                self._sending = asyncio.create_task(self._send())
        self._done.append(job)
        assert job.id in await self._acknowledged, f"the lease of job {job.id} was lost"
        return 0

    async def _send(self) -> None:
        """Acknowledge what is done, all that is there at a time, until nothing is."""
        while acknowledged := self._acknowledged:
            batch, self._done, self._acknowledged = self._done, [], None
            async with self._pool.connection() as connection:
                cursor = await connection.execute(
                    "select pipeline.complete(%b::bigint[], %b::integer[])",
                    ([job.id for job in batch], [job.attempt for job in batch]),
                )
                acknowledged.set_result({row[0] for row in await cursor.fetchall()})
        self._sending = None


class Pipeline(Contestant):
    name = "pipeline, 1,000 owners with a limit of 2"
    settings = f"the listener's Worker with room for {2 * BATCH:,} jobs, uvloop, a project without Realtime"
    uvloop = True
    database = "postgres"
    owners = 1000
    limit = 2
    broadcasts = False
    table = _DIRECT
    busy = "select exists (select from pipeline.jobs where state in ('available', 'running'))"

    def __init__(self) -> None:
        self.clear = (
            f"{_CLEAR}; insert into auth.users (id, aud, role, email) "
            f"select o, 'authenticated', 'authenticated', o || '@example.com' from unnest({self._owners()}) o "
            f"on conflict do nothing; "
            f"update pipeline.retention set position = null, rested_at = pipeline.now(); "  # once a day, and not now
            f"update pipeline.limits set max_concurrent_jobs = {self.limit}, uploads_per_day = null, "
            f"max_documents = null, max_stored_bytes = null where owner_id is null; "
            f"alter table pipeline.jobs {'enable' if self.broadcasts else 'disable'} trigger jobs_broadcast_insert; "
            f"alter table pipeline.jobs {'enable' if self.broadcasts else 'disable'} trigger jobs_broadcast_update"
        )
        self.insert = self.table.replace("%s::uuid[]", f"array['{owner(0)}']::uuid[]")

    def _owners(self) -> str:
        return "array[" + ", ".join(f"'{owner(n)}'" for n in range(self.owners)) + "]::uuid[]"

    async def install(self, url: str) -> None:
        """The migrations made it."""

    async def single(self, url: str, jobs: int, go: Go) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await go()
            for n in range(jobs):
                await connection.execute(self.table.encode(), ([owner(n % self.owners)],))

    async def bulk(self, url: str, jobs: int, go: Go) -> None:
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            owners = [owner(n) for n in range(self.owners)]
            await go()
            for begin in range(0, jobs, BULK):
                batch = [owners[n % self.owners] for n in range(begin, min(begin + BULK, jobs))]
                await connection.execute(self.table.encode(), (batch,))

    async def work(self, url: str, no_op: NoOp, go: Go) -> None:
        defaults = Settings.model_fields
        lease = defaults["lease_seconds"].default
        async with open_pool(url, size=4) as pool:
            worker = Worker(
                Queries(pool, f"bench {uuid.uuid4().hex[:8]}", lease),
                cast(Processor, _NoOp(pool, no_op)),
                concurrency=2 * BATCH,
                lease_seconds=lease,
                poll_seconds=defaults["poll_seconds"].default,
            )
            await pool.resize(4)
            await pool.wait()
            await go()
            await asyncio.gather(
                worker.run(asyncio.Event()), worker.follow(wake_ups(url)), worker.keep_leases(), worker.keep_tidy()
            )


class PipelineOneOwner(Pipeline):
    name = "pipeline, one owner without a limit"
    wakes = False
    owners = 1
    limit = 1_000_000


class PipelineTold(Pipeline):
    """What the others do not do: each change is a row for Realtime, which tells the owner's browser."""

    name = "pipeline, 1,000 owners, told over Realtime"
    settings = "the same in a project with Realtime"
    broadcasts = True


class PipelineOneOwnerTold(PipelineOneOwner):
    name = "pipeline, one owner, told over Realtime"
    settings = "the same in a project with Realtime"
    broadcasts = True


class PipelineSql(PipelineOneOwner):
    """What the listener around the functions costs is the difference to this."""

    name = "pipeline, one owner, the SQL functions alone"
    settings = f"a loop that claims and completes {BATCH} at a time, one connection"
    wakes = False
    share = 0.5

    async def work(self, url: str, no_op: NoOp, go: Go) -> None:
        lease = Settings.model_fields["lease_seconds"].default
        with psycopg.connect(url, autocommit=True) as connection:
            await go()
            await asyncio.to_thread(_claim_and_complete, connection, no_op, timedelta(seconds=lease))


def _claim_and_complete(connection: psycopg.Connection, no_op: NoOp, lease: timedelta) -> None:
    while True:
        rows = connection.execute(
            "select id, attempt from pipeline.claim('bench', %s, %s, %s)", (BATCH, lease, SCHEMA_VERSION)
        ).fetchall()
        for _ in rows:
            no_op()
        if not rows:
            time.sleep(0.01)
            continue
        connection.execute(
            "select pipeline.complete(%b::bigint[], %b::integer[])",
            ([row[0] for row in rows], [row[1] for row in rows]),
        )


class PipelineStorage(Pipeline):
    name = "pipeline, through the trigger on storage.objects"
    settings = "one row of storage.objects a job, as Storage writes it"
    table = _STORAGE
