"""What is old goes, a bounded step at a time, and nothing that a document shows goes with it."""

from __future__ import annotations


async def go_round(db) -> int:
    steps = 0
    while (await db.one("select pipeline.tidy(2, 2)"))["tidy"]:
        steps += 1
    return steps


async def finish(db, *texts: str) -> None:
    for job in await db.claim(10):
        await db.publish(job, texts)


async def test_old_jobs_of_replaced_versions_go_and_what_a_document_shows_stays(db):
    user = await db.sign_up()
    for content in (b"first", b"second", b"third"):
        await db.upload(user, "a.txt", content)
        await finish(db, content.decode())
    await db.move_time("100 days")
    assert await go_round(db) > 2
    job = await db.one("select * from pipeline.jobs")
    document = await db.one("select * from pipeline.documents")
    assert (job["id"], job["object_version"]) == (document["published_job_id"], document["object_version"])
    assert await db.one("select count(*) as n from pipeline.job_events") == {"n": 1}, (
        "a job that stays keeps its last event"
    )
    assert await db.one("select count(*) as n from pipeline.chunks") == {"n": 1}


async def test_nothing_that_is_young_goes(db):
    user = await db.sign_up()
    for content in (b"first", b"second"):
        await db.upload(user, "a.txt", content)
        await finish(db, content.decode())
    before = await db.all("select * from pipeline.job_events order by id")
    await db.move_time("6 days")
    await go_round(db)
    assert await db.all("select * from pipeline.job_events order by id") == before
    assert await db.one("select count(*) as n from pipeline.embeddings") == {"n": 2}


async def test_unused_kept_work_goes_and_used_work_stays(db):
    user = await db.sign_up()
    for content in (b"first", b"second"):
        await db.upload(user, "a.txt", content)
        await finish(db, content.decode(), "in both")
    assert await db.one("select count(*) as n from pipeline.embeddings") == {"n": 3}
    await db.move_time("8 days")
    await go_round(db)
    assert await db.one("select count(*) as n from pipeline.embeddings") == {"n": 2}


async def test_a_running_job_pins_its_owners_kept_work(db):
    user = await db.sign_up()
    for content in (b"first", b"second"):
        await db.upload(user, "a.txt", content)
        await finish(db, content.decode())
    await db.upload(user, "b.txt")
    await db.move_time("8 days")
    await db.claim(lease="1 hour")
    await go_round(db)
    assert await db.one("select count(*) as n from pipeline.embeddings") == {"n": 2}


async def test_a_deleted_document_is_forgotten_whole(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    await finish(db, "text")
    await db.delete(user, "a.txt")
    await db.move_time("100 days")
    await go_round(db)
    assert len(await db.all("select from pipeline.jobs")) == 1, "its content is not purged yet"
    while (await db.one("select pipeline.purge()"))["purge"]:
        pass
    await db.move_time("300 days")
    await go_round(db)
    for table in ("jobs", "job_events", "documents", "chunks", "embeddings", "parses"):
        assert await db.all(f"select from pipeline.{table}") == []


async def test_the_hands_rest_for_a_day_and_one_listener_moves_them(db):
    await db.upload(await db.sign_up(), "a.txt")
    async with await db.connect("pipeline_worker") as other, other.transaction():
        await other.execute("select pipeline.tidy()")
        await db.one("select pipeline.tidy()")
        assert (await db.one("select pipeline.tidy()"))["tidy"] is False, "the other hand is held by the other listener"
    assert await go_round(db) == 0
    await db.move_time("25 hours")
    assert await go_round(db) >= 2
