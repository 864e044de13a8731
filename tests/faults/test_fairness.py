"""Limits and turns of the claim under many claimers at once, from every interval that the history holds."""

from __future__ import annotations

import asyncio
import random

from tests.faults.world import MOST_RUNNING
from tests.sql.conftest import Database

CLAIMERS = 16


async def enqueue(db: Database, owner, count: int, folder: str = "first") -> None:
    """So many files of one owner, as Storage writes them, in one statement."""
    async with db.admin.transaction():
        await db.run("set local role service_role")
        await db.run(
            "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
            "select 'documents', %s || '/' || n || '.txt', %s, gen_random_uuid(), '{\"size\": 4}' "
            "from generate_series(1, %s) n",
            f"{owner}/{folder}",
            str(owner),
            count,
        )


async def test_sixteen_claimers_never_run_more_than_the_limit_of_an_owner(db):
    """Each claims, heartbeats, and ends what it has in one of the ways that there are, until nothing is left."""
    owners = [await db.sign_up() for _ in range(12)]
    for owner in owners:
        await enqueue(db, owner, 15)
    await db.run("insert into pipeline.limits (owner_id, max_concurrent_jobs) values (%s, 5)", owners[0])

    async def claimer(number: int) -> None:
        dice = random.Random(number)
        async with await db.connect("pipeline_worker") as connection:

            async def rows(query: str, *params) -> list[dict]:
                return await (await connection.execute(query.encode(), params)).fetchall()

            while True:
                jobs = await rows(
                    "select * from pipeline.claim(%s, %s, '1 minute', 1)", f"c{number}", dice.randint(1, 4)
                )
                if not jobs and not await db.all("select from pipeline.jobs where finished_at is null limit 1"):
                    return
                for job in jobs:
                    lease = (job["id"], job["attempt"])
                    match dice.randrange(8):
                        case 0:
                            await rows("select pipeline.release(array[%s]::bigint[], array[%s])", *lease)
                        case 1:
                            await rows("select pipeline.fail(%s, %s, 'throttled', 'why', null, '0.05 seconds')", *lease)
                        case 2:
                            await rows("select pipeline.fail(%s, %s, 'permanent', 'why')", *lease)
                        case _:
                            await rows("select pipeline.heartbeat(array[%s]::bigint[], array[%s], '1 minute')", *lease)
                            await rows("select pipeline.complete(array[%s]::bigint[], array[%s])", *lease)
                if not jobs:
                    await asyncio.sleep(0.02)

    async with asyncio.timeout(120):
        await asyncio.gather(*(claimer(number) for number in range(CLAIMERS)))
    assert (await db.one("select count(*) as n from pipeline.jobs where finished_at is not null"))["n"] == 12 * 15
    most = {row["owner_id"]: row["most"] for row in await db.all(MOST_RUNNING)}
    assert most.pop(owners[0]) in (3, 4, 5)
    assert set(most.values()) == {2}


async def test_one_file_behind_ten_thousand_waits_for_one_round_at_most(db):
    """Whatever the backlog, the newcomer's job is in the next claim that has room, or in the one after it."""
    many, one = await db.sign_up(), await db.sign_up()
    others = [await db.sign_up() for _ in range(3)]
    await enqueue(db, many, 10_000)
    # the owner of the backlog runs as many as it may, and others start all the same
    running = await db.claim(8)
    assert len(running) == 2
    assert await db.claim(8) == []
    await enqueue(db, one, 1)
    [first] = await db.claim(8)
    assert first["owner_id"] == one
    for job in [*running, first]:
        await db.run("select pipeline.complete(array[%s]::bigint[], array[%s])", job["id"], job["attempt"])
    for owner in others:
        await enqueue(db, owner, 50)
    for _ in range(5):  # the queue is in full swing
        for job in await db.claim(2):
            await db.run("select pipeline.complete(array[%s]::bigint[], array[%s])", job["id"], job["attempt"])
    await enqueue(db, one, 1, "second")
    waited = 0
    while True:
        jobs = await db.claim(1)
        if [job["owner_id"] for job in jobs] == [one]:
            break
        waited += 1
        assert waited <= 1 + len(others), "a round is one job of each owner who waits"
        for job in jobs:
            await db.run("select pipeline.complete(array[%s]::bigint[], array[%s])", job["id"], job["attempt"])
