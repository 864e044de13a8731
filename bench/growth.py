"""How long a claim takes as the queue grows: by queued jobs, by owners, and by completed jobs beside them.

The rows are written past the triggers, as if they had been enqueued by uploads long ago; owners are woken by the
queue's own function. Each claim is one statement of the worker's role, committed durably; what it took is completed
outside of the time. Owners may have a hundred jobs at once here, so that one alone can fill a claim of a hundred.
Documents are left out: a claim does not look at them.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import psycopg

from bench import common
from pipeline.db.queries import SCHEMA_VERSION
from pipeline.embedded.postgres import SUPERUSER, PostgresServer
from pipeline.operate import migrate

_PASSWORD = "bench"
_OWNERS = 1000
_MANY = 100
_WARM = 5
_STEP = 1_000_000

_JOBS = """
insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name, state, attempt,
                           available_at, started_at, finished_at)
select gen_random_uuid(), md5('owner ' || n %% %(owners)s)::uuid, gen_random_uuid(), gen_random_uuid()::text,
       'documents', 'owner/' || n || '.txt', %(state)s, %(done)s::int,
       at, case when %(done)s then at end, case when %(done)s then at end
  from generate_series(%(first)s::bigint, %(last)s::bigint) n,
       lateral (select pipeline.now() - interval '1 day' + n * interval '1 millisecond') t (at)
"""
_QUEUE = """
insert into pipeline.queue (owner_id, lane, due_at, job_id)
select owner_id, lane, available_at, id from pipeline.jobs where state = 'available' and id > %s order by id
"""
_WAKE_UPS = """
insert into pipeline.wakeups (owner_id, lane, due_at)
select md5('owner ' || n)::uuid, 1, pipeline.now() from generate_series(0, %s - 1) n
"""
_CLEAR = """
truncate pipeline.documents, pipeline.jobs, pipeline.job_events, pipeline.owners, pipeline.owner_stops,
  pipeline.wakeups, pipeline.queue, pipeline.lease_checks cascade
"""


async def measure(most: int = 1_000_000, claims: int = 50) -> dict[str, Any]:
    """Milliseconds of a claim of one and of a hundred. `most` bounds the queued jobs (a million at most) and the
    completed ones beside them."""
    rows: list[dict[str, Any]] = []
    with common.folder() as folder:
        server = await PostgresServer.start(folder / "data")
        try:
            await migrate.apply(server.url("postgres"), worker_password=_PASSWORD)
            with (
                psycopg.connect(server.url(SUPERUSER), autocommit=True) as admin,
                psycopg.connect(server.url("pipeline_worker", password=_PASSWORD), autocommit=True) as worker,
            ):
                admin.execute("set statement_timeout = 0")
                admin.execute(f"update pipeline.limits set max_concurrent_jobs = {_MANY}".encode())
                _queued(admin, worker, rows, most, claims)
                _owned(admin, worker, rows, most, claims)
        finally:
            await server.stop()
    for row in rows:
        for kind in ("one", "hundred"):
            row[f"claim_of_{kind}"]["to_the_first"] = round(
                row[f"claim_of_{kind}"]["p50_ms"] / rows[0][f"claim_of_{kind}"]["p50_ms"], 2
            )
    return {
        "claims": claims,
        "rows": rows,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _queued(
    admin: psycopg.Connection, worker: psycopg.Connection, rows: list[dict[str, Any]], most: int, claims: int
) -> None:
    """A thousand owners, ever more queued jobs; then ever more completed ones."""
    before = 0
    for queued in _powers(3, min(most, 1_000_000)):
        _fill(admin, before, queued, "available", _OWNERS)
        _wake(admin, _OWNERS)
        before = queued
        _time(admin, worker, rows, claims, queued=queued, owners=_OWNERS, completed=0)
    done = 0
    for completed in _powers(6, most):
        _fill(admin, done, completed, "completed", _OWNERS)
        done = completed
        _time(admin, worker, rows, claims, queued=before, owners=_OWNERS, completed=completed)


def _owned(
    admin: psycopg.Connection, worker: psycopg.Connection, rows: list[dict[str, Any]], most: int, claims: int
) -> None:
    """A hundred thousand queued jobs of ever more owners; the last time with all of them still to be woken."""
    queued = min(most, 100_000)
    for owners in _powers(0, queued):
        admin.execute(_CLEAR.encode())
        _fill(admin, 0, queued, "available", owners)
        _wake(admin, owners)
        _time(admin, worker, rows, claims, queued=queued, owners=owners, completed=0)
    admin.execute(_CLEAR.encode())
    _fill(admin, 0, queued, "available", queued)
    admin.execute(_WAKE_UPS.encode(), (queued,))
    _time(admin, worker, rows, claims, queued=queued, owners=queued, completed=0, to_be_woken=queued)


def _powers(first: int, last: int) -> list[int]:
    return [10**exponent for exponent in range(first, 9) if 10**exponent <= last]


def _fill(admin: psycopg.Connection, first: int, last: int, state: str, owners: int) -> None:
    """Write jobs number `first` + 1 to `last`, without triggers and foreign keys."""
    admin.execute("set session_replication_role = replica")
    for begin in range(first + 1, last + 1, _STEP):
        admin.execute(
            _JOBS.encode(),
            {
                "owners": owners,
                "state": state,
                "done": state == "completed",
                "first": begin,
                "last": min(last, begin + _STEP - 1),
            },
        )
    admin.execute("set session_replication_role = origin")
    if state == "available":
        admin.execute(_QUEUE.encode(), (first,))


def _wake(admin: psycopg.Connection, owners: int) -> None:
    admin.execute(_WAKE_UPS.encode(), (owners,))
    while True:
        row = admin.execute("select pipeline.wake(1000)").fetchone()
        if row is None or not row[0]:
            return


def _time(
    admin: psycopg.Connection, worker: psycopg.Connection, rows: list[dict[str, Any]], claims: int, **size: int
) -> None:
    admin.execute(
        "vacuum analyze pipeline.jobs, pipeline.owners, pipeline.owner_stops, pipeline.wakeups, pipeline.queue"
    )
    admin.execute("checkpoint")
    # A claim of a hundred takes a good part of a small queue: fewer of them there.
    hundreds = max(1, min(claims, size["queued"] // 200))
    row: dict[str, Any] = dict(size)
    for kind, jobs, count in (("one", 1, claims), ("hundred", _MANY, hundreds)):
        warm = min(_WARM, count)
        durations = [_claim(worker, jobs) for _ in range(warm + count)]
        row[f"claim_of_{kind}"] = common.milliseconds(durations[warm:])
    rows.append(row)
    print(row, file=sys.stderr, flush=True)


def _claim(worker: psycopg.Connection, jobs: int) -> float:
    """Seconds of a claim; the jobs are then completed."""
    began = time.perf_counter()
    rows = worker.execute(
        "select id, attempt from pipeline.claim('bench', %s, interval '1 minute', %s)", (jobs, SCHEMA_VERSION)
    ).fetchall()
    seconds = time.perf_counter() - began
    if not rows:
        raise RuntimeError("a claim found nothing in a queue that is not empty")
    worker.execute(
        "select pipeline.complete(%s::bigint[], %s::integer[])", ([row[0] for row in rows], [row[1] for row in rows])
    )
    return seconds


def markdown(figures: dict[str, Any]) -> str:
    """What `measure` returned, as a table."""
    head = (
        "queued",
        "owners",
        "completed beside",
        "claim of 1, ms",
        "p95",
        "× first",
        "claim of 100, ms",
        "p95",
        "× first",
    )
    lines = [head, ("---",) * len(head)]
    for row in figures["rows"]:
        one, hundred = row["claim_of_one"], row["claim_of_hundred"]
        owners = f"{row['owners']:,}" + (" to be woken" if "to_be_woken" in row else "")
        lines.append(
            (
                f"{row['queued']:,}",
                owners,
                f"{row['completed']:,}",
                *(str(kind[key]) for kind in (one, hundred) for key in ("p50_ms", "p95_ms", "to_the_first")),
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
