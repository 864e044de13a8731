"""Claims and uploads under every isolation level: no job is left that nobody is woken for."""

from __future__ import annotations

import asyncio
import json
import uuid

import psycopg
import pytest

from pipeline.db.connection import again

LEVELS = ["read committed", "repeatable read", "serializable"]


@pytest.mark.parametrize("level", LEVELS[1:])
async def test_a_claim_with_a_stale_snapshot_is_refused(db, level):
    """It would mark an owner as waiting for nothing whose newest job it cannot see, after another claim has consumed
    that job's wake-up: nobody would come for it."""
    owner, other = await db.sign_up(), await db.sign_up()
    await db.upload(owner, "first")
    await db.run("select pipeline.wake()")
    async with await db.connect("pipeline_worker") as stale:
        await stale.execute(f"begin isolation level {level}".encode())
        await stale.execute("select pipeline.now(), count(*) from pipeline.settings")
        await db.upload(other, "b")
        await db.run("update pipeline.owners set served_at = now() where owner_id = %s", owner)
        await db.upload(owner, "second")
        (taken,) = await db.claim(1)
        assert taken["owner_id"] == other
        with pytest.raises(psycopg.errors.InvalidTransactionState, match="read committed"):
            await stale.execute("select * from pipeline.claim('stale', 10, '1 minute', 1)")
        await stale.execute("rollback")
    assert len(await db.claim(10)) == 2


@pytest.mark.parametrize("ending", ["sweep", "fail", "release"])
async def test_jobs_that_go_back_together_are_each_woken_for(db, ending):
    """Their delays differ; whoever is due later must not depend on the wake-up of whoever is due first."""
    owner = await db.sign_up()
    for name in "abc":
        await db.upload(owner, name)
    await db.run("insert into pipeline.limits (owner_id, max_concurrent_jobs) values (%s, 3)", owner)
    jobs = await db.claim(3)
    assert len(jobs) == 3
    if ending == "sweep":
        await db.move_time("2 minutes")
        assert (await db.one("select pipeline.sweep() as swept"))["swept"] == 3
    elif ending == "fail":
        await db.run(
            "update pipeline.jobs set state = 'available', failures = 1, claimed_by = null, lease_expires_at = null, "
            "available_at = pipeline.now() + id * interval '1 second', error_class = 'transient', error = 'x'"
        )
    else:
        await db.run("select pipeline.release(%s, %s)", [j["id"] for j in jobs], [j["attempt"] for j in jobs])
    for step in range(1, 40):  # each becomes due on its own
        await db.move_time(f"2 minutes {step} seconds")
        await db.claim(3)
    assert await db.all("select id from pipeline.jobs where state = 'available'") == []


@pytest.mark.parametrize("level", LEVELS)
async def test_uploads_under_any_isolation_beside_two_claimers_are_all_claimed(db, level):
    """Storage's sessions are not ours: their level is the project's default."""
    owners = [await db.sign_up() for _ in range(3)]
    await db.run("update pipeline.limits set max_concurrent_jobs = 3")
    committed: set[str] = set()
    claimed: list[str] = []
    uploaded = asyncio.Event()

    async def uploads(nth: int) -> None:
        async with await db.connect("postgres") as connection:
            await connection.execute(f"set default_transaction_isolation = '{level}'".encode())
            await connection.execute("set role service_role")

            async def write(name: str, version: str) -> None:
                await connection.execute(
                    "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
                    "values ('documents', %s, %s, %s, %s) on conflict (bucket_id, name) do update "
                    "set version = excluded.version, metadata = excluded.metadata",
                    (name, name.split("/")[0], version, json.dumps({"size": 1})),
                )

            for i in range(25):
                owner = owners[(nth + i) % len(owners)]
                # every third one overwrites what another session writes too
                name, version = f"{owner}/{i % 3 == 0 or nth}-{i}", str(uuid.uuid4())
                try:
                    await again(lambda name=name, version=version: write(name, version))
                except psycopg.errors.SerializationFailure:
                    continue  # the client is told
                committed.add(version)

    async def claims(nth: int) -> None:
        async with await db.connect("pipeline_worker") as connection:
            quiet = 0
            while not uploaded.is_set() or quiet < 3:
                rows = await again(
                    lambda: connection.execute(
                        "select id, attempt, object_version from pipeline.claim(%s, 2, '1 minute', 1)", (str(nth),)
                    )
                )
                jobs = await rows.fetchall()
                quiet = 0 if jobs else quiet + 1
                claimed.extend(job["object_version"] for job in jobs)
                # the first try goes back, the second ends
                for query, first in (("pipeline.release(%s, %s)", True), ("pipeline.complete(%s, %s)", False)):
                    mine = [job for job in jobs if (job["attempt"] == 1) is first]
                    pairs = ([job["id"] for job in mine], [job["attempt"] for job in mine])
                    await again(lambda q=query, p=pairs: connection.execute(f"select {q}".encode(), p))

    claimers = [asyncio.create_task(claims(nth)) for nth in range(2)]
    await asyncio.gather(*(uploads(nth) for nth in range(4)))
    uploaded.set()
    await asyncio.gather(*claimers)
    assert committed
    assert await db.all("select id from pipeline.jobs where state = 'running'") == []
