"""What the database knows of the file store: its versions, the bytes that are lost, and when it is left alone."""

from __future__ import annotations

from typing import Any

from tests.sql.conftest import Database

KEY = "the key"


async def a_listener(db: Database, name: str, *keys: str) -> bool:
    """Whether it is to look at Storage."""
    return (await db.one("select pipeline.listener_seen(%s, '1', 'p', 's', false, %s) as probes", name, list(keys)))[
        "probes"
    ]


async def observe(db: Database, outcome: str, key: str = KEY) -> None:
    await db.run("select pipeline.observe('storage', %s, 'fetch', %s, null, 'because')", key, outcome)


async def state(db: Database, key: str = KEY) -> str:
    return (await db.one("select state from pipeline.provider_health where fingerprint = %s", key))["state"]


async def stored_file(db: Database, job: dict[str, Any]) -> dict[str, Any]:
    return await db.one("select * from pipeline.stored_file(%s, %s)", job["id"], job["attempt"])


# a version


async def test_a_job_whose_version_is_stored_cannot_be_superseded(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    supersede = "select pipeline.supersede(%s, %s) as done"
    assert (await db.one(supersede, job["id"], job["attempt"]))["done"] is False
    assert (await stored_file(db, job))["stands"] is True
    # as in a project that was restored without our triggers
    async with await db.connect("supabase_admin") as root:
        await root.execute("set session_replication_role = 'replica'")
        await root.execute("update storage.objects set version = 'another'")
    assert (await stored_file(db, job))["stands"] is False
    assert (await db.one(supersede, job["id"], job["attempt"]))["done"] is True
    async with await db.connect("supabase_admin") as root:
        await root.execute("set session_replication_role = 'replica'")
        await root.execute("delete from pipeline.documents")
        await root.execute("delete from pipeline.jobs")
        await root.execute("delete from pipeline.job_events")
        await root.execute("delete from storage.objects")


async def test_a_lost_file_is_one_until_it_is_uploaded_again_or_deleted(db):
    user = await db.sign_up()
    await db.run("update pipeline.settings set max_failures = 1")
    for name in ("a.txt", "b.txt"):
        await db.upload(user, name)
        [job] = await db.claim()
        await db.run("select pipeline.fail(%s, %s, 'lost', 'not now')", job["id"], job["attempt"])
    rows = await db.all("select name from pipeline.lost_files order by name")
    assert [row["name"] for row in rows] == [f"{user}/a.txt", f"{user}/b.txt"]
    errors = await db.all("select distinct error from pipeline.jobs")
    assert errors == [{"error": "Storage lost the file; upload it again."}]
    assert await db.one("select * from pipeline.lost_files_count()") == {"files": 2, "owners": 1}
    await db.upload(user, "a.txt", b"again")
    await db.delete(user, "b.txt")
    assert await db.all("select * from pipeline.lost_files") == []


async def test_what_is_compared_with_is_of_several_owners_and_never_the_file_itself_or_a_lost_one(db):
    alice, bob = await db.sign_up(), await db.sign_up()
    await db.upload(bob, "good.txt")
    for n in range(30):
        await db.upload(alice, f"{n}.txt")
    jobs = await db.claim(2)
    mine = next(job for job in jobs if job["owner_id"] == alice)
    for _ in range(10):
        others = (await stored_file(db, mine))["others"]
        assert f"{bob}/good.txt" in others and mine["name"] not in others
        assert 2 <= len(others) <= 6
    await db.run("update pipeline.jobs set error_class = 'lost' where owner_id = %s", alice)
    assert (await stored_file(db, mine))["others"] == [f"{bob}/good.txt"]


async def test_there_is_nothing_to_compare_the_only_file_with(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    assert (await stored_file(db, job))["others"] == []


async def test_no_two_marks_of_the_bucket_are_the_same_and_each_fits_into_milliseconds(db):
    marks = [(await db.one("select pipeline.mark_bucket() as mark"))["mark"] for _ in range(20)]
    assert marks == sorted(set(marks))
    assert all(mark.microsecond % 1000 == 0 for mark in marks)
    await db.move_time("-1 day")
    assert (await db.one("select pipeline.mark_bucket() as mark"))["mark"] > marks[-1]


async def test_a_mark_waits_for_no_upload(db):
    user = await db.sign_up()
    async with await db.connect("supabase_admin") as other, other.transaction():
        await other.execute(
            "insert into storage.objects (bucket_id, name, version) values ('documents', %s, 'v')", (f"{user}/a.txt",)
        )
        await db.run("set lock_timeout = '1ms'")
        assert (await db.one("select pipeline.mark_bucket() as mark"))["mark"]


# the circuit


async def test_with_a_shut_key_of_storage_nothing_is_claimed_and_other_listeners_go_on(db):
    user = await db.sign_up()
    for n in range(3):
        await db.upload(user, f"{n}.txt")
    await a_listener(db, "wrong", KEY)
    await a_listener(db, "right", "another key")
    await observe(db, "refused")
    assert await db.claim(3, listener="wrong") == []
    startable = "select due, startable from pipeline.queue_health"
    assert await db.one(startable) == {"due": 3, "startable": 2}
    assert len(await db.claim(1, listener="right")) == 1
    await db.run("update pipeline.listeners set stopped_at = pipeline.now() where id = 'right'")
    assert (await db.one(startable))["startable"] == 0


async def test_a_listener_whose_key_is_shut_still_takes_leases_back(db):
    await db.upload(await db.sign_up(), "a.txt")
    await a_listener(db, "wrong", KEY)
    await db.claim(listener="dead")
    await observe(db, "refused")
    await db.move_time("2 minutes")
    assert await db.claim(listener="wrong") == []
    assert (await db.one("select state from pipeline.jobs"))["state"] == "available"


async def test_three_outages_shut_it_and_one_listener_looks_again_until_it_is_back(db):
    for name in ("one", "two"):
        assert not await a_listener(db, name, KEY)
    for outages in (1, 2):
        await observe(db, "down")
        assert await state(db) == "ready", f"after {outages}"
    await observe(db, "down")
    assert await state(db) == "down"
    assert not await a_listener(db, "one", KEY), "not at once"
    await db.move_time("6 seconds")
    assert await a_listener(db, "one", KEY)
    assert not await a_listener(db, "two", KEY)
    await db.upload(await db.sign_up(), "a.txt")
    assert await db.claim(listener="one") == [], "whoever looks takes no job for it"
    await observe(db, "bought")
    assert await state(db) == "ready"
    assert len(await db.claim(listener="one")) == 1


async def test_a_success_between_outages_is_no_outage(db):
    for outcome in ("down", "down", "bought", "down", "declined", "down"):
        await observe(db, outcome)
    assert await state(db) == "ready"


async def test_a_pause_that_storage_asks_for_holds_for_all(db):
    await db.upload(await db.sign_up(), "a.txt")
    await a_listener(db, "one", KEY)
    await db.run("select pipeline.observe('storage', %s, 'fetch', 'limited', '1 minute')", KEY)
    assert await db.claim(listener="one") == []
    await db.move_time("1 minute")
    assert len(await db.claim(listener="one")) == 1


async def test_a_key_of_storage_that_a_living_listener_has_is_not_forgotten(db):
    await observe(db, "bought")
    await observe(db, "bought", "of long ago")
    await db.move_time("100 days")
    await a_listener(db, "one", KEY)
    await a_listener(db, "one", KEY)
    assert [row["fingerprint"] for row in await db.all("select fingerprint from pipeline.provider_keys")] == [KEY]


async def test_erasures_with_files_are_left_to_whoever_storage_lets_in(db):
    user, empty = await db.sign_up(), await db.sign_up()
    await db.upload(user, "a.txt")
    await a_listener(db, "wrong", KEY)
    await observe(db, "refused")
    await db.run("delete from auth.users where id in (%s, %s)", user, empty)
    claim = "select pipeline.claim_erasure(%s) as id"
    owner = "select owner_id from pipeline.erasures where id = %s"
    assert (await db.one(owner, (await db.one(claim, "wrong"))["id"]))["owner_id"] == empty
    assert (await db.one(claim, "wrong"))["id"] is None
    assert (await db.one(owner, (await db.one(claim, "right"))["id"]))["owner_id"] == user
