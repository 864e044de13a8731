"""The state machine, the claim, leases, fencing and retries, on a real database."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import psycopg
import pytest

from pipeline.job import Stage, State


async def test_the_python_enum_and_the_rows_name_the_same_states(db):
    assert {r["state"] for r in await db.all("select state from pipeline.job_states")} == {s.value for s in State}
    check = await db.one("select pg_get_constraintdef(oid) as d from pg_constraint where conname = 'stage_is_known'")
    assert all(f"'{stage.value}'" in check["d"] for stage in Stage)


async def test_an_upload_makes_one_job_and_a_dry_run_none(db):
    user = await db.sign_up()
    await db.dry_run(user, "a.txt")
    assert await db.all("select from pipeline.jobs") == []
    await db.upload(user, "a.txt")
    job = await db.one("select * from pipeline.jobs")
    assert (job["state"], job["attempt"], job["owner_id"], job["size"]) == ("available", 0, user, 4)


@pytest.mark.parametrize("illegal", ["completed", "dead"])
async def test_the_guard_refuses_an_illegal_transition_whoever_asks(db, illegal):
    await db.upload(await db.sign_up(), "a.txt")
    with pytest.raises(psycopg.errors.CheckViolation, match=f"cannot go from available to {illegal}"):
        await db.run(
            "update pipeline.jobs set state = %s, finished_at = now(), error = case when %s = 'dead' then 'x' end, "
            "error_class = case when %s = 'dead' then 'permanent' end",
            illegal,
            illegal,
            illegal,
        )


async def test_every_transition_that_is_no_row_is_refused(db):
    legal = {(r["from_state"], r["to_state"]) for r in await db.all("select * from pipeline.job_transitions")}
    user = await db.sign_up()
    paths = {
        "available": [],
        "running": ["running"],
        "completed": ["running", "completed"],
        "dead": ["running", "dead"],
        "cancelled": ["cancelled"],
    }
    change = (
        "update pipeline.jobs set state = %(to)s, attempt = attempt + (%(to)s = 'running')::int, "
        "finished_at = case when %(to)s in ('completed', 'dead', 'cancelled') then now() end, "
        "lease_expires_at = case when %(to)s = 'running' then now() + interval '1 hour' end, "
        "claimed_by = case when %(to)s = 'running' then 'x' end, "
        "error = case when %(to)s in ('dead', 'cancelled') then 'x' end, "
        "error_class = case when %(to)s in ('dead', 'cancelled') then 'permanent' end where id = %(id)s"
    )
    for start, path in paths.items():
        for end in State:
            if end.value == start:
                continue
            await db.upload(user, f"{start}-{end.value}.txt")
            job = await db.one("select id from pipeline.jobs order by id desc limit 1")
            for step in path:
                await db.admin.execute(change, {"to": step, "id": job["id"]})
            if (start, end.value) in legal:
                await db.admin.execute(change, {"to": end.value, "id": job["id"]})
            else:
                with pytest.raises(psycopg.errors.CheckViolation):
                    await db.admin.execute(change, {"to": end.value, "id": job["id"]})
    await db.run("delete from pipeline.jobs")
    await db.run("delete from pipeline.documents")
    await db.run("set storage.allow_delete_query = 'true'")
    async with db.as_user(user) as connection:
        await connection.execute("set storage.allow_delete_query = 'true'")
        await connection.execute("delete from storage.objects")


async def test_a_claim_leases_the_job_and_nobody_else_gets_it(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    assert job["attempt"] == 1
    assert await db.claim() == []
    events = await db.all("select from_state, to_state from pipeline.job_events order by id")
    assert events == [{"from_state": None, "to_state": "available"}, {"from_state": "available", "to_state": "running"}]


async def test_a_stale_worker_changes_nothing(db):
    await db.upload(await db.sign_up(), "a.txt")
    [old] = await db.claim()
    await db.move_time("2 minutes")
    await db.claim()  # sweeps; the retry has a backoff
    await db.move_time("10 minutes")
    [new] = await db.claim()
    assert (new["id"], new["attempt"]) == (old["id"], 2)
    stale = (old["id"], old["attempt"])
    assert await db.all("select pipeline.heartbeat(array[%s]::bigint[], array[%s], '1 hour')", *stale) == []
    assert (await db.one("select pipeline.report(%s, %s, 'embed', 1)", *stale))["report"] is False
    assert (await db.one("select pipeline.fail(%s, %s, 'permanent', 'x')", *stale))["fail"] is None
    assert await db.all("select pipeline.release(array[%s]::bigint[], array[%s])", *stale) == []
    assert await db.all("select pipeline.complete(array[%s]::bigint[], array[%s])", *stale) == []
    with pytest.raises(psycopg.Error) as lost:
        await db.publish(old, ["text"])
    assert lost.value.sqlstate == "PL001"
    job = await db.one("select state, attempt, failures from pipeline.jobs")
    assert job == {"state": "running", "attempt": 2, "failures": 1}


async def test_an_expired_lease_counts_a_failure_and_the_last_one_kills(db):
    await db.upload(await db.sign_up(), "a.txt")
    for hours in (0, 3, 6):
        await db.move_time(f"{hours} hours")
        [_] = await db.claim()
        await db.move_time(f"{hours + 1} hours")
        assert await db.claim() == []
    job = await db.one("select state, failures, attempt, error from pipeline.jobs")
    assert (job["state"], job["failures"], job["attempt"]) == ("dead", 3, 3)
    assert job["error"]


@pytest.mark.parametrize(
    ("error_class", "state", "failures"),
    [
        ("transient", "available", 1),
        ("lost", "available", 1),
        ("crash", "available", 1),
        ("throttled", "available", 0),
        ("configuration", "available", 0),
        ("permanent", "dead", 0),
    ],
)
async def test_each_class_of_failure_costs_what_it_says(db, error_class, state, failures):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    row = await db.one("select pipeline.fail(%s, %s, %s, 'why', 'detail')", job["id"], job["attempt"], error_class)
    assert row["fail"] == state
    row = await db.one("select failures, available_at > pipeline.now() as later, error from pipeline.jobs")
    assert (row["failures"], row["error"]) == (failures, "why")
    assert row["later"] or state == "dead"
    assert await db.claim() == []


async def test_a_second_crash_of_the_same_file_is_the_files_fault(db):
    await db.upload(await db.sign_up(), "a.txt")
    states = []
    for hours, error_class in enumerate(("transient", "crash", "crash"), 1):
        [job] = await db.claim()
        row = await db.one("select pipeline.fail(%s, %s, %s, 'why')", job["id"], job["attempt"], error_class)
        states.append(row["fail"])
        await db.move_time(f"{hours} hours")
    assert states == ["available", "available", "dead"]


async def test_a_retry_after_two_crashes_may_crash_once_more(db):
    owner = await db.sign_up()
    await db.upload(owner, "a.txt")
    states = []
    for hours in range(1, 5):
        [job] = await db.claim()
        row = await db.one("select pipeline.fail(%s, %s, 'crash', 'why')", job["id"], job["attempt"])
        states.append(row["fail"])
        await db.move_time(f"{hours} hours")
        if row["fail"] == "dead":
            async with db.as_user(owner) as connection:
                await connection.execute("select public.retry_job(%s)", (job["id"],))
    assert states == ["available", "dead"] * 2


async def test_retry_after_is_honoured(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    await db.run(
        "select pipeline.fail(%s, %s, 'throttled', 'why', null, %s)", job["id"], job["attempt"], timedelta(minutes=7)
    )
    await db.move_time("6 minutes 50 seconds")
    assert await db.claim() == []
    await db.move_time("8 minutes 30 seconds")
    assert len(await db.claim()) == 1


async def test_a_released_job_is_taken_at_once_and_costs_nothing(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    await db.run("select pipeline.release(array[%s]::bigint[], array[%s])", job["id"], job["attempt"])
    [again] = await db.claim()
    assert again["attempt"] == 2
    assert (await db.one("select failures from pipeline.jobs"))["failures"] == 0


async def test_an_owner_never_runs_more_than_the_limit_under_many_claimers(db):
    users = [await db.sign_up() for _ in range(3)]
    for user in users:
        for n in range(12):
            await db.upload(user, f"{n}.txt")
    seen: list[int] = []

    async def claimer(name: str) -> None:
        async with await db.connect("pipeline_worker") as connection:
            empty = 0
            while empty < 30:
                jobs = await (
                    await connection.execute("select * from pipeline.claim(%s, 2, '1 hour', 1)", (name,))
                ).fetchall()
                empty = 0 if jobs else empty + 1
                counts = await (await connection.execute("select due, running from pipeline.health()")).fetchone()
                assert counts is not None and counts["running"] <= 6
                for job in jobs:
                    seen.append(job["id"])
                    await connection.execute(
                        "select pipeline.complete(array[%s]::bigint[], array[%s])", (job["id"], job["attempt"])
                    )

    await asyncio.gather(*(claimer(f"c{n}") for n in range(8)))
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == 36
    # from every interval in the history, not from samples
    worst = await db.one("""
        select max(running) as most from (
          select sum(case when to_state = 'running' then 1 when from_state = 'running' then -1 else 0 end)
                   over (partition by owner_id order by id) as running from pipeline.job_events) e""")
    assert worst["most"] <= 2


async def test_one_file_does_not_wait_behind_another_owners_thousand(db):
    busy, small = await db.sign_up(), await db.sign_up()
    for n in range(60):
        await db.upload(busy, f"{n}.txt")
    await db.upload(small, "only.txt")
    claimed = await db.claim(2)
    assert {job["owner_id"] for job in claimed} == {busy, small}


async def test_a_pause_hands_out_nothing_and_a_resume_everything(db):
    await db.upload(await db.sign_up(), "a.txt")
    await db.run("update pipeline.settings set paused = true, paused_at = now()")
    assert await db.claim() == []
    await db.run("update pipeline.settings set paused = false, paused_at = null")
    assert len(await db.claim()) == 1


async def test_a_listener_of_another_schema_version_gets_nothing(db):
    await db.upload(await db.sign_up(), "a.txt")
    assert await db.all("select * from pipeline.claim('x', 1, '1 minute', 2)") == []
    assert len(await db.claim()) == 1


async def test_every_commit_with_a_new_job_notifies(db):
    async with await db.connect("pipeline_worker") as listening:
        await listening.execute("listen pipeline_jobs")
        await db.upload(await db.sign_up(), "a.txt")
        async for notification in listening.notifies(timeout=10):
            assert notification.payload == ""
            break
        else:
            pytest.fail("no notification came")


async def test_a_changed_limit_holds_for_the_next_claim(db):
    user = await db.sign_up()
    for n in range(5):
        await db.upload(user, f"{n}.txt")
    assert len(await db.claim(5)) == 2
    await db.run("insert into pipeline.limits (owner_id, max_concurrent_jobs) values (%s, 4)", user)
    assert len(await db.claim(5)) == 2
    assert await db.claim(5) == []


async def test_an_owner_with_priority_has_more_jobs_in_its_turn(db):
    await db.run("update pipeline.limits set max_concurrent_jobs = 100")
    favoured, other = await db.sign_up(), await db.sign_up()
    await db.run("insert into pipeline.limits (owner_id, max_concurrent_jobs, priority) values (%s, 100, 3)", favoured)
    for n in range(9):
        await db.upload(favoured, f"{n}.txt")
        await db.upload(other, f"{n}.txt")
    singly = [(await db.claim())[0]["owner_id"] for _ in range(8)]
    assert singly.count(favoured) == 6, "three of its jobs to one of the other's, also when taken one by one"
    at_once = [job["owner_id"] for job in await db.claim(4)]
    assert at_once.count(favoured) == 3


async def test_jobs_that_somebody_has_locked_hold_up_nobody_else(db):
    stuck, other = await db.sign_up(), await db.sign_up()
    await db.upload(stuck, "a.txt")
    async with await db.connect("postgres") as someone, someone.transaction():
        await someone.execute("select from pipeline.jobs for update")
        await db.upload(other, "a.txt")
        first, second = await db.claim(), await db.claim()
        assert [job["owner_id"] for job in first + second] == [other]
    assert [job["owner_id"] for job in await db.claim()] == [stuck]


async def test_transitions_go_on_where_realtime_cannot_be_told(db):
    async with await db.connect("supabase_admin") as superuser:
        await superuser.execute("alter table realtime.messages add constraint nothing check (false) not valid")
    await db.upload(await db.sign_up(), "a.txt")
    (job,) = await db.claim()
    assert await db.all("select pipeline.complete(%s, %s)", [job["id"]], [job["attempt"]]) == [{"complete": job["id"]}]


async def test_a_claim_that_finds_nothing_says_that_nothing_is_due(db):
    for _ in range(5):
        owner = await db.sign_up()
        await db.upload(owner, "a.txt")
        await db.run("select pipeline.cancel(id) from pipeline.jobs where owner_id = %s", owner)
    await db.upload(await db.sign_up(), "a.txt")
    assert len(await db.claim()) == 1


async def test_queue_health_tells_what_a_further_listener_would_find(db):
    busy, other = await db.sign_up(), await db.sign_up()
    for n in range(5):
        await db.upload(busy, f"{n}.txt")
    await db.upload(other, "a.txt")
    health = await db.one("select * from pipeline.queue_health")
    assert (health["due"], health["startable"], health["running"], health["dead"]) == (6, 3, 0, 0)
    await db.claim(2)
    health = await db.one("select * from pipeline.queue_health")
    assert (health["due"], health["startable"], health["running"]) == (4, 1, 2)
    await db.move_time("2 minutes")
    assert (await db.one("select * from pipeline.queue_health"))["expired_leases"] == 2
