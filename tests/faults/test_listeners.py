"""Listeners that stop, freeze, live in another time, or are of another release than their neighbour."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from pipeline.db import queries
from tests.faults.nursery import Listener
from tests.faults.world import BATCH, World, document, stands_still


async def frozen_listener(world: World, point: str) -> Listener:
    """A listener that stands still at a point, with a job in its hands."""
    listener = await world.start(faults=f"{point}:freeze")
    await listener.logged("fault")
    async with asyncio.timeout(10):
        while not stands_still(listener):
            await asyncio.sleep(0.01)
    return listener


@pytest.mark.parametrize("point", ["fetch.done", "parse.bought", "embed.bought", "publish.begun"])
async def test_a_frozen_listener_is_replaced_and_changes_nothing_when_it_thaws(world, point):
    await world.upload(await world.db.sign_up(), "plan.txt", document())
    frozen = await frozen_listener(world, point)
    await world.db.move_time("5 minutes")
    async with world.listening():
        [job] = await world.all_ended()
    published = await world.chunks()
    assert (job["state"], job["attempt"]) == ("completed", 2)
    frozen.signal(signal.SIGCONT)
    await frozen.logged("lease lost")
    frozen.signal(signal.SIGTERM)
    assert await frozen.end() == 0
    assert frozen.lines("job completed") == []
    assert await world.db.all("select * from pipeline.jobs") == [job]
    assert await world.chunks() == published
    assert len(await world.db.all("select from pipeline.job_events where to_state = 'completed'")) == 1
    # what the frozen one had in hand when it stood still is all that is paid for twice
    assert world.parser.bill.uploads == 1
    assert world.bought_twice() <= (BATCH if point == "embed.bought" else 0)


async def test_time_that_jumps_forwards_takes_the_lease_and_nothing_else(world):
    await world.upload(await world.db.sign_up(), "plan.txt", document())
    frozen = await frozen_listener(world, "embed.stored")
    await world.db.move_time("3 days")
    frozen.signal(signal.SIGCONT)
    [job] = await world.all_ended()
    assert (job["state"], job["attempt"], job["failures"]) == ("completed", 2, 1)
    await frozen.logged("job completed")
    await world.is_sound()


async def test_time_that_jumps_backwards_costs_nothing(world):
    await world.upload(await world.db.sign_up(), "plan.txt", document())
    frozen = await frozen_listener(world, "embed.stored")
    await world.db.move_time("-3 days")
    frozen.signal(signal.SIGCONT)
    [job] = await world.all_ended()
    assert (job["state"], job["attempt"], job["failures"]) == ("completed", 1, 0)
    await world.upload(job["owner_id"], "next.txt", document(topic="teeth"))
    assert [job["state"] for job in await world.all_ended()] == ["completed"] * 2


async def test_what_fits_in_the_grace_period_finishes_and_the_rest_goes_to_another_listener_at_once(world):
    slow, quick = await world.db.sign_up(), await world.db.sign_up()
    # a lease of ten minutes: only a release can be so quick
    await world.upload(slow, "slow.txt", document(topic="slow"))
    stopping = await world.start(faults="embed.bought:hang publish.begun:freeze", lease_seconds=600, concurrency=2)
    await stopping.logged("fault")
    await world.upload(quick, "quick.txt", document(topic="quick"))
    await stopping.logged("fault", count=2)
    stopping.signal(signal.SIGTERM)
    stopping.signal(signal.SIGCONT)
    async with world.listening(lease_seconds=600):
        assert await stopping.end() == 0
        stopped = time.monotonic()
        jobs = await world.all_ended()
        assert time.monotonic() - stopped < 30
    assert [(job["state"], job["failures"], job["attempt"]) for job in jobs] == [
        ("completed", 0, 2),
        ("completed", 0, 1),
    ]
    last = stopping.lines()[-1]
    assert last["event"] == "stopped"
    row = await world.db.one("select count(*) filter (where stopped_at is not null) as n from pipeline.listeners")
    assert row["n"] == 2


async def test_two_releases_side_by_side_each_claim_only_what_fits(world, monkeypatch):
    """While the queue is moved to another contract and back, each listener lives on and waits for its turn."""
    owner = await world.db.sign_up()
    old = await world.start()
    monkeypatch.setattr(queries, "SCHEMA_VERSION", 2)
    async with world.listening():
        await world.db.run("update pipeline.settings set schema_version = 2")
        await world.upload(owner, "plan.txt", document())
        await world.all_ended()
        assert old.lines("job started") == []
        await world.db.run("update pipeline.settings set schema_version = 1")
        await world.upload(owner, "next.txt", document(topic="teeth"))
        await world.all_ended()
        await old.logged("job completed")
    jobs = await world.db.all("select state, attempt from pipeline.jobs")
    assert jobs == [{"state": "completed", "attempt": 1}] * 2
    await world.is_sound()


async def test_two_parsers_side_by_side_publish_each_file_whole(world):
    """During a roll-out one listener reads files in the old way and one in the new: a document is one or the other."""
    users = [await world.db.sign_up() for _ in range(4)]
    await world.start(concurrency=1, llamaparse_version="2026-01-01")
    await world.start(concurrency=1, llamaparse_version="2026-11-01")
    for n, owner in enumerate(users * 3):
        await world.upload(owner, f"{n}.txt", document(topic=f"case {n}"))
    assert {job["state"] for job in await world.all_ended()} == {"completed"}
    rows = await world.db.all(
        "select parser, count(*) as n, count(distinct chunk_count) as sizes from pipeline.documents group by parser"
    )
    assert {row["parser"] for row in rows} == {f"llamaparse cost_effective 2026-{month}-01" for month in ("01", "11")}
    assert sum(row["n"] for row in rows) == 12
    await world.is_sound()


@pytest.mark.parametrize("point", ["fetch.done", "parse.claimed", "embed.bought", "publish.begun"])
async def test_work_that_hangs_is_ended_with_its_jobs_time_and_counts_a_failure(world, point):
    await world.upload(await world.db.sign_up(), "plan.txt", document())
    listener = await world.start(faults=f"{point}:hang", job_timeout_seconds=2, llamaparse_timeout_seconds=1.9)
    [job] = await world.all_ended()
    assert (job["state"], job["attempt"], job["failures"]) == ("completed", 2, 1)
    [failed] = listener.lines("job failed")
    assert (failed["class"], failed["detail"]) == ("transient", "no end after 2 s")
    assert failed["error"] == "The file could not be finished in the time that one file may take."
    await world.is_sound()


async def test_work_that_hangs_and_cannot_be_cancelled_loses_its_lease(world):
    await world.upload(await world.db.sign_up(), "plan.txt", document())
    clinging = await world.start(
        faults="embed.bought:cling",
        concurrency=1,
        job_timeout_seconds=2,
        llamaparse_timeout_seconds=1.9,
        lease_seconds=2,
    )
    await clinging.logged("fault")
    async with world.listening():
        [job] = await world.all_ended()
    assert (job["state"], job["attempt"], job["failures"]) == ("completed", 2, 1)
    await world.is_sound()
