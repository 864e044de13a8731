"""The small tables beside the jobs: the lanes of the queue, the owners that wait, the checks of leases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

LEASE = timedelta(minutes=1)


async def shut(db, *stages: str) -> None:
    """Shut the stages for the listener `test`, whose keys are named after them."""
    await db.run("select pipeline.listener_seen('test', '1', 'p', 's', false, array['parse', 'embed'])")
    for stage in stages:
        await db.run(
            "insert into pipeline.provider_keys (provider, fingerprint, stage, state, reason, retry_at) "
            "values (%s, %s, %s, 'refused', 'The key is refused.', pipeline.now() + interval '1 hour')",
            f"the {stage}r",
            stage,
            stage,
        )


async def came_to_embed(db, user, name: str) -> int:
    """A job that was released when its file was parsed."""
    await db.upload(user, name)
    (job,) = await db.claim()
    await db.run("select pipeline.report(%s, %s, 'embed', 0)", job["id"], job["attempt"])
    await db.run("select pipeline.release(%s, %s)", [job["id"]], [job["attempt"]])
    return job["id"]


async def nothing_broken(db) -> None:
    assert await db.all("select * from pipeline.invariant_violations") == []


@pytest.mark.parametrize(
    ("stages", "claimed"),
    [(("parse",), ["embedding"]), (("embed",), ["new"] * 2), (("parse", "embed"), []), ((), ["embedding", "new"])],
)
async def test_a_shut_stage_holds_back_the_jobs_that_need_it_next_and_no_others(db, stages, claimed):
    user = await db.sign_up()
    embedding = await came_to_embed(db, user, "parsed.txt")
    for number in range(50):
        await db.upload(user, f"{number}.txt")
    await shut(db, *stages)
    health = await db.one("select * from pipeline.queue_health")
    assert (health["due"], health["startable"]) == (51, len(claimed)), "a further listener with this key finds no more"
    jobs = await db.claim(10)
    assert ["embedding" if job["id"] == embedding else "new" for job in jobs] == claimed
    await nothing_broken(db)


async def test_work_for_any_listener_that_lives_is_startable(db):
    await db.upload(await db.sign_up(), "a.txt")
    await shut(db, "parse")
    startable = "select startable from pipeline.queue_health"
    assert (await db.one(startable))["startable"] == 0
    await db.run("select pipeline.listener_seen('other', '1', 'p', 's', false, array['another key', 'embed'])")
    assert (await db.one(startable))["startable"] == 1
    await db.move_time("2 minutes")
    assert (await db.one(startable))["startable"] == 1, "nobody lives: whoever comes may have a key that is good"


async def test_a_stage_that_opens_again_is_served_without_anybodys_hand(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    await shut(db, "parse")
    assert await db.claim() == []
    assert await db.claim() == []
    await db.run("delete from pipeline.provider_keys")
    assert len(await db.claim()) == 1


async def test_another_listeners_key_shuts_nothing_here(db):
    await db.upload(await db.sign_up(), "a.txt")
    await shut(db, "parse")
    assert await db.claim(listener="test") == []
    assert len(await db.claim(listener="another")) == 1


async def test_owners_whose_jobs_are_held_back_do_not_stand_before_those_who_can_be_served(db):
    for number in range(30):
        await db.upload(await db.sign_up(), f"{number}.txt")
    last = await came_to_embed(db, await db.sign_up(), "parsed.txt")
    await db.run("select pipeline.wake()")
    await shut(db, "parse")
    # Whoever was woken may wait in either lane until it is looked at.
    found = [job["id"] for _ in range(10) for job in await db.claim()]
    assert found == [last]
    await nothing_broken(db)


async def test_a_raw_update_keeps_the_queue_true(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    await db.run("update pipeline.jobs set available_at = pipeline.now() + interval '1 day'")
    await nothing_broken(db)
    assert await db.claim() == []
    await db.run("update pipeline.jobs set available_at = pipeline.now()")
    await nothing_broken(db)
    assert len(await db.claim()) == 1
    await db.run("update pipeline.jobs set lease_expires_at = pipeline.now()")
    await nothing_broken(db)
    assert await db.claim() == []
    assert (await db.one("select error_class from pipeline.jobs"))["error_class"] == "lease_expired"
    await db.delete(user, "a.txt")
    await db.run("delete from pipeline.jobs")
    assert await db.all("select * from pipeline.queue") == []


async def test_a_renewed_lease_is_looked_at_again_when_it_ends(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    (job,) = await db.claim()
    for seconds in (50, 100, 150):
        await db.move_time(f"{seconds} seconds")
        assert await db.all("select * from pipeline.heartbeat(%s, %s, %s)", [job["id"]], [job["attempt"]], LEASE)
        assert await db.claim() == []
        await nothing_broken(db)
    await db.move_time("211 seconds")
    await db.claim()
    assert (await db.one("select state from pipeline.jobs"))["state"] == "available"
    await nothing_broken(db)


async def test_a_lease_that_ended_while_somebody_waited_completes_nothing(db):
    await db.upload(await db.sign_up(), "a.txt")
    (job,) = await db.claim()
    other = await db.connect("supabase_admin")
    async with other, other.transaction():
        await other.execute("select from pipeline.jobs for update")
        late = asyncio.create_task(
            db.all("select pipeline.complete(%s::bigint[], %s::integer[])", [job["id"]], [job["attempt"]])
        )
        while not (await (await other.execute("select from pg_locks where not granted")).fetchall()):
            assert not late.done()
        await db_moves(other)
    with pytest.raises(Exception, match="its lease is over"):
        await late
    assert (await db.one("select state from pipeline.jobs"))["state"] == "running"


async def db_moves(connection) -> None:
    await connection.execute(
        "create or replace function pipeline.now() returns timestamptz language sql stable set search_path = '' "
        "as $$ select pg_catalog.clock_timestamp() + interval '2 minutes' $$"
    )


async def test_a_claim_waits_a_moment_for_another_that_serves_the_only_owner(db):
    user = await db.sign_up()
    await db.run("update pipeline.limits set max_concurrent_jobs = 100")
    for number in range(4):
        await db.upload(user, f"{number}.txt")
    await db.run("select pipeline.wake()")
    other = await db.connect("pipeline_worker")
    async with other:
        async with other.transaction():
            await other.execute("select pipeline.claim('other', 2, '1 minute', 1)")
            waits = "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%%pipeline.claim%%'"
            waiting = asyncio.create_task(db.claim(2))
            watch = await db.connect("supabase_admin")
            async with watch:
                while not waiting.done() and not await (await watch.execute(waits)).fetchall():
                    await asyncio.sleep(0)
            assert await waiting == [], "not for as long as the other likes"
        assert len(await db.claim(2)) == 2
    await nothing_broken(db)


async def test_claims_and_acknowledgements_of_one_owner_do_not_wait_for_each_other(db):
    user = await db.sign_up()
    for number in range(6):
        await db.upload(user, f"{number}.txt")
    first, second = await db.claim(2)
    complete = "select pipeline.complete(array[%s::bigint], array[%s])"
    claim = "select * from pipeline.claim('other', 5, '1 minute', 1)"
    await db.run("set lock_timeout = '1ms'")  # nobody who waits gets away with it
    async with await db.connect("pipeline_worker") as other:
        async with other.transaction():
            await other.execute(complete.encode(), (first["id"], first["attempt"]))
            assert await db.claim(5) == [], "an end counts when it is committed: two ran, and one may still"
        (third,) = await db.claim(5)
        await db.run(complete, third["id"], third["attempt"])
        async with other.transaction():
            assert len(await (await other.execute(claim.encode())).fetchall()) == 1
            await db.run(complete, second["id"], second["attempt"])
    assert len(await db.claim(5)) == 1
    assert (await db.one("select running from pipeline.owners_running where owner_id = %s", user))["running"] == 2
    await nothing_broken(db)
