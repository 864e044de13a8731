"""Quotas: refused before the bytes move, counted exactly by the write that stays, and in the user's words."""

from __future__ import annotations

import asyncio

import psycopg
import pytest
import pytest_asyncio


@pytest_asyncio.fixture
async def user(db):
    await db.run(
        "update pipeline.limits set uploads_per_day = 3, max_documents = 5, max_stored_bytes = 100 "
        "where owner_id is null"
    )
    return await db.sign_up()


def refused(why: str):
    return pytest.raises(psycopg.errors.InsufficientPrivilege, match=why)


async def used(db, user) -> int:
    rows = await db.all("select uploads from pipeline.upload_days where owner_id = %s", user)
    return rows[0]["uploads"] if rows else 0


READ = (
    "select sum(seq_tup_read + idx_tup_fetch)::int as n from pg_stat_xact_user_tables "
    "where schemaname = 'pipeline' and relname = 'documents'"
)
CHECK = (
    "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
    "values ('documents', %s, %s, '1', '{\"mimetype\": \"text/plain\"}')"
)


async def upload_as_service(db, user, name: str, *, size: int = 1, owned: bool = True) -> None:
    """The committed write, from a connection of its own; what comes by the service key is not owned."""
    async with await db.connect("authenticator") as connection:
        await connection.execute("set role service_role")
        await connection.execute(
            "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
            "values ('documents', %s, %s, gen_random_uuid()::text, jsonb_build_object('size', %s::bigint)) "
            "on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata",
            (f"{user}/{name}", str(user) if owned else None, size),
        )


async def answer(upload) -> str:
    """The sentence with which it was refused, or 'in'."""
    try:
        await upload
    except psycopg.errors.InsufficientPrivilege as error:
        return str(error.diag.message_primary)
    return "in"


async def room(db, user) -> tuple[int, int]:
    """How many files the user has, and how many bytes."""
    row = await db.one(
        "select count(*)::int as files, coalesce(sum(size), 0)::int as bytes from pipeline.documents "
        "where owner_id = %s and deleted_at is null",
        user,
    )
    return row["files"], row["bytes"]


async def at_least_what_is_stored(db, user) -> None:
    """What the quotas go by is never below what is there."""
    row = await db.one("select files, bytes from pipeline.upload_days where owner_id = %s", user)
    files, size = await room(db, user)
    assert row["files"] is None or (row["files"] >= files and row["bytes"] >= size)


async def test_uploads_overwrites_and_copies_count_and_the_day_has_an_end(db, user):
    await db.upload(user, "a.txt")
    await db.upload(user, "a.txt", b"second")
    await db.upload(user, "copy of a.txt", b"second")
    with refused("limit of uploads for today .3"):
        await db.upload(user, "b.txt")
    with refused("limit of uploads for today .3"):
        await db.dry_run(user, "b.txt")
    assert await used(db, user) == 3
    await db.move_time("1 day")
    await db.dry_run(user, "b.txt")
    await db.upload(user, "b.txt")
    assert await used(db, user) == 1


async def test_a_dry_run_counts_nothing_and_a_delete_refunds_nothing(db, user):
    for _ in range(5):
        await db.dry_run(user, "a.txt")
    assert await used(db, user) == 0
    await db.upload(user, "a.txt")
    await db.delete(user, "a.txt")
    assert await used(db, user) == 1


async def test_moves_and_the_operators_uploads_are_not_counted(db, user):
    await db.upload(user, "a.txt")
    await db.run("update storage.objects set name = %s, version = gen_random_uuid()::text", f"{user}/b.txt")
    for n in range(5):
        await db.run(
            "insert into storage.objects (bucket_id, name, version, metadata) "
            "values ('documents', %s, gen_random_uuid()::text, '{\"size\": 1}')",
            f"{user}/{n}.txt",
        )
    assert await used(db, user) == 1


async def test_a_users_placeholders_count_and_studios_do_not(db, user):
    """Else who makes folders stores objects without end, and turns them into files by moving them."""
    await db.run(
        "insert into storage.objects (bucket_id, name, version) "
        "select 'documents', %s || n || '/.emptyFolderPlaceholder', 'v' from generate_series(1, 5) n",
        f"{user}/studio ",
    )
    assert await used(db, user) == 0
    folder = await db.upload(user, "new/.emptyFolderPlaceholder", b"")
    assert await used(db, user) == 1
    move = "update storage.objects set name = %s, version = gen_random_uuid()::text where id = %s"
    await db.run(move, f"{user}/new/file.txt", folder["id"])
    assert await used(db, user) == 2, "what was no document becomes one"
    await db.run(move, f"{user}/new/.emptyFolderPlaceholder", folder["id"])
    names = await db.all("select name from pipeline.documents")
    assert names == [{"name": f"{user}/new/.emptyFolderPlaceholder"}], "and is one wherever it is moved"
    assert await used(db, user) == 2
    await db.upload(user, "newer/.emptyFolderPlaceholder", b"")
    for check in (db.upload, db.dry_run):
        with refused("limit of uploads for today .3"):
            await check(user, "newest/.emptyFolderPlaceholder")
    assert await used(db, user) == 3


async def test_a_placeholder_with_content_is_a_file(db, user):
    for n in range(3):
        await db.upload(user, f"hidden {n}/.emptyFolderPlaceholder", b"content of a file")
    assert await used(db, user) == len(await db.all("select from pipeline.jobs")) == 3
    with refused("limit of uploads for today .3"):
        await db.upload(user, "one more/.emptyFolderPlaceholder", b"content of a file")


async def test_a_file_that_was_not_read_is_moved_as_often_as_its_job_may_be_retried(db, user):
    """Each move makes a job, and what could not be read may cost money each time."""
    stored = await db.upload(user, "0.txt", b"bytes")
    move = "update storage.objects set name = %s, owner_id = %s, version = gen_random_uuid()::text where id = %s"

    async def moved(name: str, owner=user) -> None:
        await db.run(move, f"{user}/{name}", owner and str(owner), stored["id"])

    for n in range(10):
        [job] = await db.claim()
        await db.publish(job, ["what was read is read again for nothing"])
        await moved(f"{n + 1}.txt")
    for content in (b"other bytes", b"bytes of the operator"):
        for n in range(5):
            await moved(f"again {n}.txt")
        with refused("moved too often before it could be read"):
            await moved("once more.txt")
        await db.upload(user, "again 4.txt", content)
    assert await used(db, user) == 3
    for n in range(7):
        await moved(f"by the operator {n}.txt", owner=None)


async def test_a_race_lets_nobody_through(db, user):
    await db.upload(user, "a.txt")
    await db.upload(user, "b.txt")
    answers = await asyncio.gather(*(answer(upload_as_service(db, user, f"race {n}.txt")) for n in range(20)))
    assert answers.count("in") == 1
    assert sum("uploads for today (3)" in one for one in answers) == 19
    assert len(await db.all("select from pipeline.jobs")) == 3


@pytest.mark.parametrize(
    ("quota", "sentence"),
    [("max_documents = 5", "You have 5 files already"), ("max_stored_bytes = 5", "more than 5 bytes together")],
)
async def test_a_race_for_the_last_room_lets_nobody_through(db, user, quota, sentence):
    await db.run("update pipeline.limits set uploads_per_day = null, max_documents = null, max_stored_bytes = null")
    await db.run(f"update pipeline.limits set {quota}")
    for n in range(4):
        await db.upload(user, f"{n}.txt", b"x")
    answers = await asyncio.gather(*(answer(upload_as_service(db, user, f"race {n}.txt")) for n in range(20)))
    assert answers.count("in") == 1
    assert sum(sentence in one for one in answers) == 19
    assert await room(db, user) == (5, 5)


async def test_what_came_and_went_leaves_room_for_as_much(db, user):
    """Nothing is subtracted when a file is deleted: the documents are counted anew before anybody is refused."""
    await db.run("update pipeline.limits set uploads_per_day = null")
    for n in range(12):
        await db.upload(user, f"{n}.txt", b"x" * 20)
        await at_least_what_is_stored(db, user)
        await db.delete(user, f"{n}.txt")
        await db.dry_run(user, f"{n + 1}.txt")
    for n in range(5):
        await db.upload(user, f"{n}.txt", b"x" * 20)
    for size in (1, 20, 7, 20):
        await db.upload(user, "0.txt", b"x" * size)
        await at_least_what_is_stored(db, user)
    with refused("You have 5 files already"):
        await db.upload(user, "5.txt", b"x")
    with refused("more than 100 bytes together"):
        await db.upload(user, "0.txt", b"x" * 21)
    await db.delete(user, "4.txt")
    await db.upload(user, "0.txt", b"x" * 40)
    assert await room(db, user) == (4, 100)


async def test_what_the_operator_adds_takes_room_too(db, user):
    """By the service key, by a move out of another user's folder, and past the triggers."""
    await db.upload(user, "a.txt", b"x" * 40)
    await db.upload(user, "b.txt", b"x" * 9)
    await upload_as_service(db, user, "c.txt", owned=False)
    other = await db.sign_up()
    stored = await db.upload(other, "d.txt", b"x" * 50)
    move = "update storage.objects set name = %s, owner_id = null, version = gen_random_uuid()::text where id = %s"
    await db.run(move, f"{user}/d.txt", stored["id"])
    assert await room(db, user) == (4, 100)
    await at_least_what_is_stored(db, user)
    with refused("more than 100 bytes together"):
        await db.upload(user, "e.txt", b"x")
    await db.run(
        "insert into pipeline.documents (owner_id, object_id, object_version, bucket_id, name) "
        "values (%s, gen_random_uuid(), 'v', 'documents', 'restored')",
        user,
    )
    await db.run("update pipeline.limits set max_stored_bytes = null")
    await db.move_time("1 day")
    with refused("You have 5 files already"):
        await db.upload(user, "e.txt", b"x")
    await db.run("delete from pipeline.documents where name = 'restored'")


async def test_an_upload_costs_the_same_however_much_its_owner_has(db, user):
    """Far from the limits the files are not read; once a day they are."""
    await db.run("update pipeline.limits set uploads_per_day = null, max_documents = 10000, max_stored_bytes = 1e9")
    await db.upload(user, "first.txt")
    await db.run(
        "insert into pipeline.documents (owner_id, object_id, object_version, bucket_id, name) "
        "select %s, gen_random_uuid(), 'v', 'documents', n::text from generate_series(1, 2000) n",
        user,
    )
    await db.run("analyze pipeline.documents")
    async with db.admin.transaction(force_rollback=True):
        before = await db.one(READ)
        await db.upload(user, "next.txt")
        await db.run("reset role")
        await db.run(CHECK, f"{user}/other.txt", str(user))
        assert (await db.one(READ))["n"] - before["n"] < 20
        await db.move_time("1 day")
        await db.upload(user, "the first of the day.txt")
        await db.run("reset role")
        assert (await db.one(READ))["n"] - before["n"] > 2000
    await db.run("delete from pipeline.documents where object_version = 'v'")


async def test_a_permission_check_writes_nothing_and_locks_nobody(db, user):
    """Not even for the moment before it is rolled back: there is nothing that another upload would have to wait for."""
    await db.upload(user, "a.txt")
    count = (
        "select sum(n_tup_ins + n_tup_upd + n_tup_del)::int as n "
        "from pg_stat_xact_user_tables where schemaname in ('pipeline', 'realtime')"
    )
    async with db.admin.transaction(force_rollback=True):
        before = await db.one(count)
        await db.run(CHECK, f"{user}/b.txt", str(user))
        await db.run("update storage.objects set version = '1' where name = %s", f"{user}/a.txt")
        assert await db.one(count) == before
        async with asyncio.timeout(10):
            await upload_as_service(db, user, "c.txt")


async def test_a_file_is_held_to_the_limit_of_its_bucket(db, user):
    """Storage does not look at a body that comes in chunks, without a length."""
    await db.run("update storage.buckets set file_size_limit = 1048576 where id = 'documents'")
    await db.run("update pipeline.limits set max_stored_bytes = null")
    for owned in (True, False):
        name = f"{owned}.txt"
        await upload_as_service(db, user, name, size=1_048_576, owned=owned)
        with refused("This file has 1048577 bytes; a file may have 1048576 bytes"):
            await upload_as_service(db, user, f"large {name}", size=1_048_577, owned=owned)
        with refused("This file has 2048 kB; a file may have 1024 kB"):
            await upload_as_service(db, user, name, size=2_097_152, owned=owned)
    assert len(await db.all("select from pipeline.jobs where state = 'available'")) == 2
    await db.run("update storage.buckets set file_size_limit = 10 where id = 'documents'")
    move = "update storage.objects set name = %s, version = gen_random_uuid()::text where name = %s"
    await db.run(move, f"{user}/moved.txt", f"{user}/True.txt")


async def test_an_upload_that_waited_over_midnight_does_not_begin_the_new_day_anew(db, user):
    await db.run(
        "insert into pipeline.upload_days (owner_id, day, uploads) "
        "values (%s, (now() at time zone 'utc')::date + 1, 2)",
        user,
    )
    await db.upload(user, "late.txt")
    assert await used(db, user) == 3
    for late in (db.upload, db.dry_run):
        with refused("limit of uploads for today .3"):
            await late(user, "later.txt")


async def test_one_owners_quota_is_nobody_elses(db, user):
    await db.run("insert into pipeline.limits (owner_id, uploads_per_day) values (%s, 0)", user)
    with refused("limit of uploads for today .0"):
        await db.upload(user, "a.txt")
    await db.upload(await db.sign_up(), "a.txt")


async def test_files_have_a_largest_size_a_number_and_a_size_together(db, user):
    await db.run(
        "insert into pipeline.limits (owner_id, uploads_per_day, max_file_bytes, max_documents, max_stored_bytes) "
        "values (%s, null, 60, 3, 100)",
        user,
    )
    with refused("This file has 61 bytes; a file may have 60 bytes"):
        await db.upload(user, "a.txt", b"x" * 61)
    await db.upload(user, "a.txt", b"x" * 60)
    with refused("would have more than 100 bytes together"):
        await db.upload(user, "b.txt", b"x" * 41)
    await db.upload(user, "b.txt", b"x" * 20)
    await db.upload(user, "c.txt", b"x" * 20)
    with refused("You have 3 files already"):
        await db.dry_run(user, "d.txt")
    check = "update storage.objects set version = '1' where name = %s"
    async with db.admin.transaction(force_rollback=True):
        await db.run(check, f"{user}/a.txt")  # an overwrite needs no room for another file
    await db.run("update pipeline.limits set max_documents = 1 where owner_id = %s", user)
    await db.run(
        "update storage.objects set name = %s, version = gen_random_uuid()::text where name = %s",
        f"{user}/moved.txt",
        f"{user}/b.txt",
    )
    await db.run("update pipeline.limits set max_documents = 3 where owner_id = %s", user)
    await db.upload(user, "a.txt", b"overwritten")
    await db.delete(user, "c.txt")
    await db.upload(user, "d.txt")
