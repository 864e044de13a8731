"""The doctor: what went unseen while the triggers were gone is found, mended, and then no longer found."""

from __future__ import annotations

import asyncio
import uuid

import psycopg
import pytest
import pytest_asyncio

from pipeline.errors import SetupError
from pipeline.operate.doctor import Doctor, chunks_without_vector

TRIGGERS = (
    "pipeline_object_inserted",
    "pipeline_object_updated",
    "pipeline_object_moved_out",
    "pipeline_object_deleted",
)


@pytest_asyncio.fixture(autouse=True)
async def room(db):
    """All jobs of an owner at once."""
    await db.run("update pipeline.limits set max_concurrent_jobs = 100 where owner_id is null")


async def remove(db, name: str) -> None:
    """As Storage does for the service key."""
    async with db.admin.transaction():
        await db.run("set local storage.allow_delete_query = 'true'")
        await db.run("delete from storage.objects where name = %s", name)


@pytest_asyncio.fixture
async def unseen(db):
    """Until `attach` nothing that happens is noticed."""
    for name in TRIGGERS:
        await db.run(f"drop trigger {name} on storage.objects")
    for name in ("pipeline_user_deleted", "pipeline_user_deleted_softly"):
        await db.run(f"drop trigger {name} on auth.users")


async def published(db, owner: uuid.UUID, name: str, *texts: str) -> None:
    await db.upload(owner, name, " ".join(texts).encode())
    [job] = await db.claim(1)
    await db.publish(job, texts)


async def mended(db) -> dict[str, int]:
    """What was found and mended, and is found no more."""
    doctor = Doctor(db.admin)
    found = await doctor.look()
    fixed = await doctor.fix(found)
    assert fixed.found == found.found
    assert (await doctor.look()).found == {}
    return dict(found.found)


async def test_in_a_healthy_project_nothing_is_found_and_nothing_changes(db):
    owner = await db.sign_up()
    await published(db, owner, "a.txt", "one", "two")
    await db.upload(owner, "b.txt")
    await db.upload(owner, "new folder/.emptyFolderPlaceholder", b"")
    before = await db.all("select xmin, * from pipeline.documents")
    assert await mended(db) == {}
    assert await db.all("select xmin, * from pipeline.documents") == before


async def test_what_was_uploaded_unseen_gets_a_document_and_a_job(db, unseen):
    owner, other = await db.sign_up(), await db.sign_up()
    for n in range(3):
        await db.upload(owner, f"{n}.txt")
    await db.upload(other, "a.txt")
    await db.run("select pipeline.attach()")
    assert await mended(db) == {"a file without a document": 4}
    jobs = await db.claim(10)
    assert len(jobs) == 4 and all(job["etag"] for job in jobs)
    stored = await db.all("select name, version from storage.objects order by name")
    assert sorted((job["name"], job["object_version"]) for job in jobs) == [(o["name"], o["version"]) for o in stored]


async def test_what_was_overwritten_or_moved_unseen_says_what_the_file_says(db):
    owner, other = await db.sign_up(), await db.sign_up()
    for name in ("overwritten.txt", "moved.txt", "given.txt", "same.txt"):
        await published(db, owner, name, f"text of {name}")
    await db.upload(owner, "waiting.txt", b"old")
    for name in TRIGGERS:
        await db.run(f"drop trigger {name} on storage.objects")
    await db.upload(owner, "overwritten.txt", b"new")
    await db.upload(owner, "waiting.txt", b"new")
    for name, where in (("moved.txt", f"{owner}/deep/moved.txt"), ("given.txt", f"{other}/given.txt")):
        await db.run(
            "update storage.objects set name = %s, version = %s where name = %s",
            where, str(uuid.uuid4()), f"{owner}/{name}",
        )  # fmt: skip
    await db.run("select pipeline.attach()")
    assert await mended(db) == {"a document that is behind its file": 4}
    jobs = {job["name"]: job for job in await db.claim(10)}
    assert set(jobs) == {f"{owner}/{name}" for name in ("overwritten.txt", "deep/moved.txt", "waiting.txt")} | {
        f"{other}/given.txt"
    }
    given = await db.one(
        "select owner_id from pipeline.documents where name = %s and deleted_at is null", f"{other}/given.txt"
    )
    assert given["owner_id"] == other


async def test_a_file_whose_job_is_lost_gets_one(db):
    owner = await db.sign_up()
    await db.upload(owner, "a.txt")
    await db.run("delete from pipeline.jobs")
    assert await mended(db) == {"a file without a job": 1}
    assert len(await db.claim(1)) == 1


async def test_what_was_deleted_unseen_is_hidden(db):
    owner = await db.sign_up()
    await published(db, owner, "gone.txt", "secret")
    await published(db, owner, "stays.txt", "open")
    await db.upload(owner, "waiting.txt")
    for name in TRIGGERS:
        await db.run(f"drop trigger {name} on storage.objects")
    await remove(db, f"{owner}/gone.txt")
    await remove(db, f"{owner}/waiting.txt")
    await db.run("select pipeline.attach()")
    assert await mended(db) == {"a document whose file is gone": 2}
    assert await db.claim(1) == []
    living = await db.all("select name from pipeline.documents where deleted_at is null")
    assert [d["name"] for d in living] == [f"{owner}/stays.txt"]


async def test_nobody_is_erased_while_most_users_are_not_there(db, unseen):
    """Storage's rows were restored ahead of Auth's: an erasure would take the files too."""
    users = [await db.sign_up() for _ in range(3)]
    for owner in users:
        await db.upload(owner, "a.txt")
    await db.run("delete from auth.users where id = any (%s)", users[1:])
    await db.run("select pipeline.attach()")
    doctor = Doctor(db.admin)
    found = await doctor.look()
    with pytest.raises(SetupError, match="--even-most"):
        await doctor.fix(found)
    assert await db.all("select from pipeline.erasures") == []
    await doctor.fix(found, even_most=True)
    assert {row["owner_id"] for row in await db.all("select owner_id from pipeline.erasures")} == set(users[1:])
    for user in users[1:]:  # as the erasure does
        await remove(db, f"{user}/a.txt")


async def test_who_was_deleted_unseen_is_erased(db, unseen):
    await db.run("select pipeline.attach()")
    gone, softly, stays, _other = [await db.sign_up() for _ in range(4)]
    for owner in (gone, softly, stays):
        await published(db, owner, "a.txt", "one")
        await db.upload(owner, "b.txt")
    for name in ("pipeline_user_deleted", "pipeline_user_deleted_softly"):
        await db.run(f"drop trigger {name} on auth.users")
    await db.run("delete from auth.users where id = %s", gone)
    await db.run("update auth.users set deleted_at = now() where id = %s", softly)
    await db.run("select pipeline.attach()")
    assert (await mended(db))["a user who is gone"] >= 2
    erased = await db.all("select owner_id from pipeline.erasures")
    assert {row["owner_id"] for row in erased} == {gone, softly}
    assert [job["owner_id"] for job in await db.claim(10)] == [stays]
    assert await db.all("select from pipeline.erasures where owner_id = %s", stays) == []


async def test_a_file_of_nobody_is_named_and_stays(db, unseen):
    nobody = uuid.uuid4()
    await db.sign_up()
    await db.upload("Invoices", "a.txt")
    await db.upload(nobody, "a.txt")
    await db.run("select pipeline.attach()")
    doctor = Doctor(db.admin)
    assert (await doctor.look()).found == {"a file of nobody": 1, "a user who is gone": 1}
    await doctor.fix(await doctor.look())
    assert (await doctor.look()).found == {"a file of nobody": 1}
    await remove(db, "Invoices/a.txt")
    await remove(db, f"{nobody}/a.txt")


async def test_chunks_without_a_vector_are_bought_again_and_nothing_else(db):
    owner = await db.sign_up()
    await published(db, owner, "a.txt", "one", "two", "three")
    await published(db, owner, "b.txt", "four")
    await db.run(
        "delete from pipeline.embeddings where ctid in "
        "(select ctid from pipeline.embeddings order by input_sha256 limit 1)"
    )
    [lost] = await db.all(
        "select c.content, c.document_id from pipeline.chunks c where not exists (select from pipeline.embeddings e "
        "where e.input_sha256 = c.input_sha256)"
    )
    before = await db.all("select content from pipeline.chunks order by 1")
    assert await mended_jobs(db) == {"a document that lacks vectors": 1}
    [job] = await db.claim(5)
    assert job["document_id"] == lost["document_id"] and job["attempt"] == 2
    assert await db.all("select content from pipeline.chunks order by 1") == before, "searchable meanwhile"
    assert (await Doctor(db.admin).look()).found == {}, "it is on its way"
    texts = ["one", "two", "three"] if lost["content"] != "four" else ["four"]
    bought = await db.one("select count(*) as n from pipeline.embeddings")
    await db.publish(job, texts)
    assert (await db.one("select count(*) as n from pipeline.embeddings"))["n"] == bought["n"] + 1
    assert await db.all("select content from pipeline.chunks order by 1") == before
    assert (await Doctor(db.admin).look()).found == {}


async def mended_jobs(db) -> dict[str, int]:
    doctor = Doctor(db.admin)
    found = await doctor.look()
    await doctor.fix(found)
    return dict(found.found)


async def test_what_a_new_space_lacks_is_counted(db):
    owner = await db.sign_up()
    await published(db, owner, "a.txt", "one", "two")
    await published(db, owner, "gone.txt", "three")
    await db.delete(owner, "gone.txt")
    assert await chunks_without_vector(db.admin, "text-embedding-3-small-1536") == (0, 0)
    assert await chunks_without_vector(db.admin, "all-MiniLM-L6-v2-int8-384") == (2, 1)
    with pytest.raises(SetupError, match="no embedding space 'x'"):
        await chunks_without_vector(db.admin, "x")


async def test_most_documents_are_not_hidden_without_a_word(db):
    """Storage's rows may be on their way still."""
    owner = await db.sign_up()
    for n in range(25):
        await db.upload(owner, f"{n}.txt")
    for name in TRIGGERS:
        await db.run(f"drop trigger {name} on storage.objects")
    for n in range(24):
        await remove(db, f"{owner}/{n}.txt")
    await db.run("select pipeline.attach()")
    doctor = Doctor(db.admin)
    seen = await doctor.look()
    with pytest.raises(SetupError, match="24 of 25 documents have lost"):
        await doctor.fix(seen)
    assert len(await db.all("select from pipeline.documents where deleted_at is null")) == 25
    await doctor.fix(seen, even_most=True)
    assert len(await db.all("select from pipeline.documents where deleted_at is null")) == 1


async def test_a_row_that_somebody_holds_does_not_stop_the_others(db, unseen, monkeypatch):
    monkeypatch.setattr("pipeline.operate.doctor._PATIENCE", "100ms")
    owner = await db.sign_up()
    for n in range(3):
        await db.upload(owner, f"{n}.txt")
    await db.run("select pipeline.attach()")
    doctor = Doctor(db.admin)
    async with await db.connect("postgres") as holder, holder.transaction():
        await holder.execute("select from storage.objects where name like '%/1.txt' for update")
        fixed = await doctor.fix(await doctor.look())
        assert fixed.found == {"a file without a document": 2, "a row that is in use": 1}
    assert await mended(db) == {"a file without a document": 1}


async def test_an_overwrite_meanwhile_is_not_undone(db):
    """The step waits for the file's own write, and then finds nothing to do."""
    owner = await db.sign_up()
    await db.upload(owner, "a.txt", b"old")
    file = await db.one("select id from storage.objects")
    async with await db.connect("postgres") as writer:
        async with writer.transaction():
            await writer.execute("update storage.objects set version = 'newest' where id = %s", (file["id"],))
            step = asyncio.create_task(db.run("select pipeline.take_in(%s)", file["id"]))
            await db_waits(db, writer)
        await step
    document = await db.one("select object_version from pipeline.documents")
    assert document["object_version"] == "newest"
    assert [job["object_version"] for job in await db.claim(5)] == ["newest"]


async def db_waits(db, other: psycopg.AsyncConnection) -> None:
    """Until the operators' connection waits for a lock."""
    async with asyncio.timeout(10):
        while True:
            rows = await (
                await other.execute("select from pg_locks where pid = %s and not granted", (db.admin.info.backend_pid,))
            ).fetchall()
            if rows:
                return
            await asyncio.sleep(0.01)
