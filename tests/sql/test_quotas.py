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

    async def upload(n: int) -> str:
        async with await db.connect("authenticator") as connection:
            await connection.execute("set role service_role")
            try:
                await connection.execute(
                    "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
                    "values ('documents', %s, %s, gen_random_uuid()::text, '{\"size\": 1}')",
                    (f"{user}/race {n}.txt", str(user)),
                )
            except psycopg.errors.InsufficientPrivilege as error:
                return str(error.diag.message_primary)
        return "in"

    answers = await asyncio.gather(*(upload(n) for n in range(20)))
    assert answers.count("in") == 1
    assert sum("uploads for today (3)" in answer for answer in answers) == 19
    assert len(await db.all("select from pipeline.jobs")) == 3


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
