"""How many jobs a second the queue hands out and ends, with everything that it does on the way switched on: the guard,
the history, the owners' exact limits and turns, the fence.

Two processes claim and complete a hundred jobs at a time, once for many owners in turn and once for a single owner
without a limit. Beside them stands a bare loop, two processes that take rows of a plain table by `for update skip
locked` and mark them done: what Postgres itself can do here. Jobs are written as rows; Storage is not part of it.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any
from uuid import uuid4

import psycopg

from bench import common
from pipeline import migrate
from pipeline.embedded.postgres import PostgresServer

_BATCH = 100
_WORKERS = 2
_SINGLE_CLAIMS = 200
_PASSWORD = "bench"

_ENQUEUE = """
with owners as (
  select array_agg(gen_random_uuid()) as ids from generate_series(1, %(owners)s)
),
written as (
  insert into pipeline.documents (owner_id, object_id, object_version, bucket_id, name)
  select o.ids[1 + n %% %(owners)s], gen_random_uuid(), gen_random_uuid()::text, 'documents',
         o.ids[1 + n %% %(owners)s] || '/' || n || '.txt'
    from owners o, generate_series(1, %(jobs)s) n
  returning id, owner_id, object_id, object_version, bucket_id, name
)
insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name)
select id, owner_id, object_id, object_version, bucket_id, name from written
"""
_BARE = """
create schema bench;
create table bench.bare (id bigint generated always as identity primary key, state text not null default 'available');
create index on bench.bare (id) where state = 'available';
grant usage on schema bench to pipeline_worker;
grant select, update on bench.bare to pipeline_worker;
"""
_BARE_CLAIM = """
update bench.bare set state = 'running'
 where id in (select id from bench.bare where state = 'available' order by id limit %s for update skip locked)
returning id
"""


async def measure(jobs: int = 20_000) -> dict[str, Any]:
    """Jobs a second of each drain; milliseconds of a claim of one from the full queue."""
    with common.folder() as folder:
        server = await PostgresServer.start(folder / "data")
        try:
            url = server.url("postgres")
            await migrate.apply(url, worker_password=_PASSWORD)
            worker_url = server.url("pipeline_worker", password=_PASSWORD)
            return await asyncio.to_thread(_measure, url, worker_url, jobs)
        finally:
            await server.stop()


def _measure(url: str, worker_url: str, jobs: int) -> dict[str, Any]:
    figures: dict[str, Any] = {"jobs": jobs, "workers": _WORKERS, "jobs_in_one_claim": _BATCH}
    # Spawned, not forked: this process has threads and connections.
    with (
        psycopg.connect(url, autocommit=True) as admin,
        ProcessPoolExecutor(_WORKERS, mp_context=get_context("spawn")) as pool,
    ):
        list(pool.map(_warm, range(_WORKERS)))
        admin.execute(_BARE.encode())
        admin.execute("insert into bench.bare (state) select 'available' from generate_series(1, %s)", (jobs,))
        admin.execute("vacuum analyze bench.bare")
        figures["bare_loop_per_second"] = _drain(pool, _work_bare, worker_url, jobs)

        owners = max(1, min(2000, jobs // 10))
        admin.execute(_ENQUEUE.encode(), {"jobs": jobs, "owners": owners})
        admin.execute("vacuum analyze pipeline.jobs, pipeline.documents, pipeline.wakeups")
        figures["claim_of_one_from_the_full_queue"] = _single_claims(worker_url, min(_SINGLE_CLAIMS, jobs))
        left = jobs - min(_SINGLE_CLAIMS, jobs)
        figures["owners"] = owners
        figures["many_owners_per_second"] = _drain(pool, _work, worker_url, left)

        admin.execute("update pipeline.limits set max_concurrent_jobs = 1000000 where owner_id is null")
        admin.execute(_ENQUEUE.encode(), {"jobs": jobs, "owners": 1})
        admin.execute("vacuum analyze pipeline.jobs, pipeline.documents, pipeline.owners, pipeline.wakeups")
        figures["one_owner_per_second"] = _drain(pool, _work, worker_url, jobs)

        row = admin.execute(
            "select count(*) filter (where state = 'completed'), "
            "(select coalesce(sum(running), 0) from pipeline.owners) from pipeline.jobs"
        ).fetchone()
        assert row == (2 * jobs, 0), f"not everything was completed once: {row}"
    figures["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return figures


def _drain(pool: ProcessPoolExecutor, work: Any, url: str, jobs: int) -> float | None:
    if jobs <= 0:
        return None
    began = time.perf_counter()
    done = sum(pool.map(work, [url] * _WORKERS))
    seconds = time.perf_counter() - began
    assert done == jobs, f"{done} of {jobs} jobs were done"
    return round(done / seconds)


def _warm(_: int) -> None:
    time.sleep(0.2)  # long enough that each process starts for one of them


def _work(url: str) -> int:
    """Claim and complete until two claims in a row found nothing; the other worker may hold the last owners."""
    done = idle = 0
    listener = f"bench {uuid4().hex[:8]}"
    with psycopg.connect(url, autocommit=True) as connection:
        while idle < 2:
            rows = connection.execute(
                "select id, attempt from pipeline.claim(%s, %s, interval '1 minute', 1)", (listener, _BATCH)
            ).fetchall()
            if not rows:
                idle += 1
                time.sleep(0.01)
                continue
            idle = 0
            ended = connection.execute(
                "select pipeline.complete(%s::bigint[], %s::integer[])",
                ([row[0] for row in rows], [row[1] for row in rows]),
            ).fetchall()
            done += len(ended)
    return done


def _work_bare(url: str) -> int:
    done = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while rows := connection.execute(_BARE_CLAIM.encode(), (_BATCH,)).fetchall():
            connection.execute("update bench.bare set state = 'done' where id = any(%s)", ([row[0] for row in rows],))
            done += len(rows)
    return done


def _single_claims(url: str, count: int) -> dict[str, float]:
    durations = []
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(count):
            began = time.perf_counter()
            row = connection.execute(
                "select id, attempt from pipeline.claim('bench one', 1, interval '1 minute', 1)"
            ).fetchone()
            durations.append(time.perf_counter() - began)
            assert row is not None
            connection.execute("select pipeline.complete(array[%s]::bigint[], array[%s]::integer[])", row)
    return common.milliseconds(durations)
