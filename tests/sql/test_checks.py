"""What `pipeline check` says of jobs, vectors, invariants and quotas."""

from __future__ import annotations

import pytest

from pipeline.errors import SetupError
from pipeline.operate.checks.finding import Finding
from pipeline.operate.checks.work import look as look_at
from pipeline.operate.operations import Operations

MIB = 1024 * 1024


async def look(db, max_file_bytes: int = 25 * MIB) -> dict[str, Finding]:
    return {finding.name: finding for finding in await look_at(db.admin, max_file_bytes)}


async def test_in_a_healthy_project_nothing_is_wrong(db):
    assert {name: finding.ok for name, finding in (await look(db)).items()} == dict.fromkeys(
        ("dead jobs", "oldest due job", "vectors", "invariants"), True
    )


async def test_dead_jobs_are_counted_with_their_reasons(db):
    owner = await db.sign_up()
    for n in range(3):
        await db.upload(owner, f"{n}.txt")
        [job] = await db.claim(1)
        reason = "The file is encrypted." if n else "The file is empty."
        await db.run("select pipeline.fail(%s, %s, 'permanent', %s)", job["id"], job["attempt"], reason)
    finding = (await look(db))["dead jobs"]
    assert finding.ok is None
    assert finding.detail == "3. 2 × permanent: The file is encrypted.; 1 × permanent: The file is empty."


async def test_jobs_that_wait_for_a_mended_configuration_are_wrong(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim(1)
    await db.run(
        "select pipeline.fail(%s, %s, 'configuration', 'The parser refuses our key.')", job["id"], job["attempt"]
    )
    finding = (await look(db))["jobs waiting for a mended configuration"]
    assert finding.ok is False and finding.detail == "1. 1 × The parser refuses our key."


async def test_the_oldest_due_job_is_named_when_it_is_old(db):
    await db.upload(await db.sign_up(), "a.txt")
    assert (await look(db))["oldest due job"].ok is True
    await db.move_time("1 hour")
    assert (await look(db))["oldest due job"].ok is None


async def test_chunks_without_a_vector_in_the_active_space_are_wrong(db):
    owner = await db.sign_up()
    await db.upload(owner, "a.txt")
    [job] = await db.claim(1)
    await db.publish(job, ["one", "two"])
    await db.run("select pipeline.activate_space('all-MiniLM-L6-v2-int8-384')")
    finding = (await look(db))["vectors"]
    assert finding.ok is False and finding.detail == "2 chunks have none in the active space"
    await db.run("select pipeline.activate_space('text-embedding-3-small-1536')")


async def test_broken_invariants_are_counted(db):
    owner = await db.sign_up()
    await db.upload(owner, "a.txt")
    await db.run("delete from pipeline.queue")
    finding = (await look(db))["invariants"]
    assert finding.ok is False and "1 × an available job that is not in the queue" in finding.detail
    await db.run("delete from pipeline.jobs")
    await db.delete(owner, "a.txt")


async def test_what_cannot_be_looked_through_in_time_says_so(db, monkeypatch):
    monkeypatch.setattr("pipeline.operate.checks.work._PATIENCE", "50ms")
    for name in ("_VECTORS", "_BROKEN"):
        monkeypatch.setattr(f"pipeline.operate.checks.work.{name}", "select pg_sleep(5), 1")
    found = await look(db)
    assert found["vectors"].ok is None and found["invariants"].ok is None
    assert "`pipeline doctor`" in found["vectors"].remedy


async def test_a_quota_above_what_the_bucket_takes_is_refused_and_named(db):
    async with Operations.open(db.url("postgres")) as operations:
        with pytest.raises(SetupError, match=r"takes files of 26214400 bytes at most.*Raise the bucket's"):
            await operations.set_limits(None, {"max_file_bytes": 100 * MIB})
        await db.run("update storage.buckets set file_size_limit = %s where id = 'documents'", 200 * MIB)
        assert (await operations.set_limits(None, {"max_file_bytes": 100 * MIB}))["max_file_bytes"] == 100 * MIB
        await operations.set_limits(None, {"max_file_bytes": None})
        await operations.set_limits(None, {"max_file_bytes": 50 * MIB})
    assert "listeners with these settings" in (await look(db))["quotas"].detail
    await db.run("update storage.buckets set file_size_limit = %s where id = 'documents'", 25 * MIB)
    finding = (await look(db))["quotas"]
    assert finding.ok is None and "everybody 52,428,800" in finding.detail
