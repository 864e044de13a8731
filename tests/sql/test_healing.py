"""Each violation that needs no person is made by the owner of the tables, and mended by the steps of the healing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest


async def heal(db, max_rows: int = 1000) -> dict[str, int]:
    """All that is due, until every hand rests."""
    await db.run("update pipeline.healing set rested_at = '-infinity'")
    mended: dict[str, int] = {}
    for _ in range(500):
        healed = (await db.one("select pipeline.heal(%s)", max_rows))["heal"]
        if healed is None:
            return mended
        for what, times in healed.items():
            mended[what] = mended.get(what, 0) + times
    raise AssertionError("the healing does not come to an end")


async def world(db) -> None:
    """Two owners with two available, one running, one completed and one cancelled job each."""
    await db.run("update pipeline.limits set max_concurrent_jobs = 2")
    for _ in range(2):
        owner = await db.sign_up()
        for name in ("a", "b", "c", "d", "e"):
            await db.upload(owner, name)
        await db.delete(owner, "e")
    jobs = await db.claim(4)
    assert len(jobs) == 4
    owners = {job["owner_id"]: job for job in jobs}
    await db.run(
        "select pipeline.complete(%s, %s)", [j["id"] for j in owners.values()], [j["attempt"] for j in owners.values()]
    )


BROKEN = {
    "a wake-up is gone": (
        "delete from pipeline.wakeups; update pipeline.owners set lanes = 0",
        {"owners that nobody was woken for": 2},
    ),
    "a wake-up is late": (
        "delete from pipeline.wakeups; update pipeline.owners set lanes = 0; "
        "insert into pipeline.wakeups (owner_id, lane, due_at) select owner_id, 1, 'infinity' from pipeline.owners",
        {"owners that nobody was woken for": 2},
    ),
    "the owners are gone, and their wake-ups": (
        "update pipeline.jobs set state = 'cancelled', finished_at = now(), claimed_by = null, lease_expires_at = null "
        "where state = 'running'; delete from pipeline.wakeups; delete from pipeline.owners",
        {"owners that nobody was woken for": 2},
    ),
    "too many count as running": (
        "update pipeline.owners set started = started + 3",
        {"owners whose counters were wrong": 2},
    ),
    "too few count as running": (
        "update pipeline.owner_stops set stopped = stopped + 3",
        {"owners whose counters were wrong": 2},
    ),
    "an owner has no row of stops": (
        "delete from pipeline.owner_stops where owner_id = (select min(owner_id::text)::uuid from pipeline.owners)",
        {"owners whose counters were wrong": 1},
    ),
    "places in the queue are gone": (
        "delete from pipeline.queue",
        {"jobs that were not in the queue": 4},
    ),
    "places in the queue are wrong": (
        "update pipeline.queue set due_at = due_at + interval '1 day', lane = 2",
        {"jobs that were not in the queue": 4, "places in the queue without a job": 4},
    ),
    "places in the queue have no job": (
        "insert into pipeline.queue select owner_id, 1, created_at, id from pipeline.jobs where state = 'completed'",
        {"places in the queue without a job": 2},
    ),
    "nobody looks at the leases": ("delete from pipeline.lease_checks", {"leases that nobody looked at": 2}),
    "somebody looks at the leases too late": (
        "update pipeline.lease_checks set due_at = 'infinity'",
        {"leases that nobody looked at": 2},
    ),
    "the last event of each history is gone": (
        "delete from pipeline.job_events e "
        "where e.id = (select max(i.id) from pipeline.job_events i where i.job_id = e.job_id)",
        {"histories without their end": 10},
    ),
    "everything at once": (
        "truncate pipeline.wakeups, pipeline.queue, pipeline.lease_checks, pipeline.job_events; "
        "update pipeline.owners set lanes = 0, started = started + 1",
        {
            "jobs that were not in the queue": 4,
            "leases that nobody looked at": 2,
            "histories without their end": 10,
            "owners whose counters were wrong": 2,
        },
    ),
}


@pytest.mark.parametrize("max_rows", [1000, 2])
@pytest.mark.parametrize("broken", BROKEN)
async def test_what_needs_no_person_is_mended_and_named(db, broken, max_rows):
    await world(db)
    statements, expected = BROKEN[broken]
    for statement in statements.split("; "):
        await db.run(statement)
    violations = await db.all("select * from pipeline.invariant_violations")
    assert violations or "late" in broken, "nothing was broken"

    mended = await heal(db, max_rows)
    # an owner whose running jobs cannot be found yet is counted right in the round after
    expected_now = dict(expected)
    if broken == "everything at once":
        mended = {what: max(times, (await heal(db)).get(what, 0)) for what, times in mended.items()}
    assert mended == expected_now
    assert await db.all("select * from pipeline.invariant_violations") == []
    assert await heal(db) == {}, "it is mended once"
    # and it works again: everything that is due is claimed
    await db.run("update pipeline.limits set max_concurrent_jobs = 100")
    assert len(await db.claim(100)) == 4


async def test_a_healthy_queue_is_left_alone_by_hands_that_rest(db):
    await world(db)
    before = await everything(db)
    assert await heal(db, 2) == {}
    assert await everything(db) == before
    assert (await db.one("select pipeline.heal()"))["heal"] is None
    await db.move_time("2 minutes")
    assert (await db.one("select pipeline.heal()"))["heal"] == {}, "one hand goes round every minute"
    assert (await db.one("select pipeline.heal()"))["heal"] is None


async def everything(db) -> list[Any]:
    return [
        await db.all(f"select * from pipeline.{table} t order by t::text")
        for table in ("jobs", "job_events", "queue", "lease_checks", "owners", "owner_stops", "wakeups")
    ]


async def test_two_listeners_do_not_mend_the_same_thing_twice(db):
    await world(db)
    await db.run("update pipeline.owners set started = started + 3")
    async with await db.connect("postgres") as other, other.transaction():
        await other.execute("select from pipeline.healing for no key update")
        assert (await db.one("select pipeline.heal()"))["heal"] is None
    assert await heal(db) == {"owners whose counters were wrong": 2}


async def test_a_step_reads_no_large_table_as_a_whole(db):
    owner = await db.sign_up()
    await db.upload(owner, "a")
    await db.run(
        "insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name) "
        "select document_id, owner_id, object_id, i::text, bucket_id, name "
        "from pipeline.jobs, generate_series(1, 20000) i"
    )
    await db.run("analyze pipeline.jobs")
    await db.run("analyze pipeline.queue")
    for hand in ("waiting", "owners", "queue", "jobs"):
        before = await reads(db)
        await db.run(f"select pipeline.heal_{hand}(null, 100)")
        after = await reads(db)
        read = {table: after[table] - before[table] for table in ("jobs", "queue", "job_events", "wakeups")}
        assert max(read.values()) <= 1000, (hand, read)


async def reads(db) -> dict[str, int]:
    """Rows read, by index or by scan, of each table."""
    await db.run("select pg_stat_force_next_flush()")
    rows = await db.all(
        "select relname, seq_tup_read + coalesce(idx_tup_fetch, 0) as rows from pg_stat_user_tables "
        "where schemaname = 'pipeline'"
    )
    return {row["relname"]: row["rows"] for row in rows}


async def test_two_who_heal_at_once_take_a_difference_off_once(db):
    await world(db)
    await db.run("update pipeline.owners set started = started + 1")
    other = await db.connect("postgres")
    step = "select healed from pipeline.heal_owners(null, 1000)"
    async with other:
        async with db.admin.transaction():
            await db.run(step)
            second = asyncio.create_task(other.execute(step.encode()))
            await db.waits_for_a_lock(other.info.backend_pid)
        await second
    wrong = await db.all("select * from pipeline.invariant_violations where invariant like 'the counters%%'")
    assert wrong == []
