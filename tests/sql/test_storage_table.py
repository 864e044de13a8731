"""What Storage writes, endpoint by endpoint, for the endpoints that the embedded gateway does not have.

Each test replays the statements that the real server was seen to run, under the roles it ran them as: first those
of the permission check, which is rolled back, then the committed write. What the triggers must
make of it is the same for all: one job for each committed version, none from a dry run, and the owner taken from
the name and never from `owner_id`.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

INSERT = (
    "insert into storage.objects (bucket_id, name, owner, owner_id, version, metadata) values (%s, %s, %s, %s, %s, %s)"
)
UPSERT = (
    INSERT
    + """ on conflict (bucket_id, name) do update set version = excluded.version, metadata = excluded.metadata,
          owner = excluded.owner, owner_id = excluded.owner_id"""
)


def whole(content: bytes) -> str:
    """The metadata of a final write."""
    return json.dumps({"eTag": f'"{hashlib.md5(content).hexdigest()}"', "size": len(content), "mimetype": "text/plain"})


def declared(length: int | None = None) -> str:
    """The metadata of a dry run: what the client said."""
    return json.dumps({"mimetype": "text/plain"} | ({} if length is None else {"contentLength": length}))


@asynccontextmanager
async def service(db, *, rolled_back: bool = False):
    """A transaction of the Storage server as service_role, where auth.uid() is null."""
    async with await db.connect("authenticator") as connection, connection.transaction(force_rollback=rolled_back):
        await connection.execute("select set_config('request.jwt.claims', '{\"role\": \"service_role\"}', true)")
        await connection.execute("set local role service_role")
        yield connection


@asynccontextmanager
async def person(db, user, *, rolled_back: bool = False):
    """A transaction of the Storage server as the client who asks."""
    async with db.as_user(user) as connection, connection.transaction(force_rollback=rolled_back):
        yield connection


def values(user: uuid.UUID, name: str, version: str, metadata: str, *, owner: uuid.UUID | None) -> tuple[Any, ...]:
    return ("documents", f"{user}/{name}", owner, None if owner is None else str(owner), version, metadata)


async def jobs(db) -> list[dict[str, Any]]:
    return await db.all(
        "select state, owner_id, name, object_id, object_version, size, etag from pipeline.jobs order by id"
    )


async def living(db) -> list[dict[str, Any]]:
    return await db.all(
        "select owner_id, name, object_id, object_version from pipeline.documents "
        "where deleted_at is null order by name"
    )


async def nothing(db) -> bool:
    """No document, no job, no history and nobody to wake."""
    row = await db.one(
        "select (select count(*) from pipeline.jobs) + (select count(*) from pipeline.documents) "
        "+ (select count(*) from pipeline.job_events) + (select count(*) from pipeline.wakeups) as n"
    )
    return row["n"] == 0


@pytest.fixture
async def alice(db):
    return await db.sign_up()


@pytest.mark.parametrize("parts", [1, 5], ids=["TUS", "S3 multipart"])
async def test_an_upload_in_parts_checks_at_each_and_makes_one_job_at_the_end(db, alice, parts):
    for _ in range(1 + parts):
        async with person(db, alice, rolled_back=True) as connection:
            await connection.execute(INSERT, values(alice, "a.txt", "1", declared(), owner=alice))
        assert await nothing(db)
    version = str(uuid.uuid4())
    async with service(db) as connection:
        await connection.execute(UPSERT, values(alice, "a.txt", version, whole(b"text"), owner=alice))
    [job] = await jobs(db)
    assert (job["owner_id"], job["object_version"], job["size"]) == (alice, version, 4)


@pytest.mark.parametrize("endpoint", ["service key", "S3 access keys"])
async def test_a_write_without_an_owner_belongs_to_the_user_whose_folder_it_is_in(db, alice, endpoint):
    async with service(db, rolled_back=True) as connection:
        await connection.execute(INSERT, values(alice, "a.txt", "1", declared(), owner=None))
    assert await nothing(db)
    async with service(db) as connection:
        await connection.execute(UPSERT, values(alice, "a.txt", str(uuid.uuid4()), whole(b"text"), owner=None))
    [job] = await jobs(db)
    assert job["owner_id"] == alice
    async with db.as_user(alice) as connection:
        seen = await (await connection.execute("select name from public.jobs")).fetchall()
    assert [row["name"] for row in seen] == [f"{alice}/a.txt"]


@pytest.mark.parametrize("folder", ["", "shared/", "00000000-0000-0000-0000-000000000000/"])
async def test_a_service_key_cannot_leave_a_file_that_belongs_to_nobody(db, folder):
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="belong to a user"):
        async with service(db) as connection:
            await connection.execute(INSERT, ("documents", f"{folder}a.txt", None, None, "1", whole(b"text")))
    assert await nothing(db)


async def test_an_s3_delete_hides_the_document_and_cancels_its_job(db, alice):
    await db.upload(alice, "a.txt")
    await db.upload(alice, "b.txt")
    async with person(db, alice) as connection:
        await connection.execute("select set_config('storage.allow_delete_query', 'true', true)")
        await connection.execute(
            "delete from storage.objects where bucket_id = 'documents' and name = %s", (f"{alice}/a.txt",)
        )
    assert [row["state"] for row in await jobs(db)] == ["cancelled", "available"]
    assert [row["name"] for row in await living(db)] == [f"{alice}/b.txt"]


async def test_signing_an_upload_makes_nothing_and_using_it_makes_the_signers_job(db, alice):
    async with person(db, alice, rolled_back=True) as connection:
        await connection.execute(INSERT, values(alice, "a.txt", "1", declared(0), owner=alice))
    assert await nothing(db)
    # whoever has the URL uploads; the server acts as service_role and writes the signer as the owner
    async with service(db, rolled_back=True) as connection:
        await connection.execute(INSERT, values(alice, "a.txt", "1", declared(4), owner=alice))
    assert await nothing(db)
    async with service(db) as connection:
        await connection.execute(UPSERT, values(alice, "a.txt", str(uuid.uuid4()), whole(b"text"), owner=alice))
    [job] = await jobs(db)
    assert (job["owner_id"], job["state"]) == (alice, "available")


async def test_nobody_signs_an_upload_into_another_users_folder(db, alice):
    bob = await db.sign_up()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        async with person(db, bob, rolled_back=True) as connection:
            await connection.execute(INSERT, values(alice, "a.txt", "1", declared(0), owner=bob))


async def test_emptying_the_bucket_ends_everything_in_one_transaction(db, alice):
    bob = await db.sign_up()
    for user in (alice, bob):
        for number in range(3):
            await db.upload(user, f"{number}.txt", b"%d" % number)
    [running] = await db.claim()
    async with service(db) as connection:
        await connection.execute("select set_config('storage.allow_delete_query', 'true', true)")
        rows = await (
            await connection.execute("select id from storage.objects where bucket_id = 'documents'")
        ).fetchall()
        for row in rows:
            await connection.execute("delete from storage.objects where id = %s", (row["id"],))
        assert len(await living(db)) == 6  # not before the commit
    assert await living(db) == []
    assert {row["state"] for row in await jobs(db)} == {"cancelled"}
    assert (
        await db.all("select * from pipeline.heartbeat(%s, %s, '1 minute')", [running["id"]], [running["attempt"]])
        == []
    )
    while (await db.one("select pipeline.purge() as n"))["n"]:
        pass
    assert (await db.one("select count(*) as n from pipeline.documents where purged_at is null"))["n"] == 0


async def test_an_emptying_that_fails_half_way_changes_nothing(db, alice):
    for number in range(3):
        await db.upload(alice, f"{number}.txt")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012
        async with service(db) as connection:
            await connection.execute("select set_config('storage.allow_delete_query', 'true', true)")
            await connection.execute("delete from storage.objects where name = %s", (f"{alice}/0.txt",))
            raise ZeroDivisionError
    assert len(await living(db)) == 3
    assert {row["state"] for row in await jobs(db)} == {"available"}


async def test_an_upsert_of_identical_bytes_is_a_new_version_of_the_same_object(db, alice):
    first = await db.upload(alice, "a.txt", b"same")
    before = await db.one("select id, created_at from storage.objects")
    async with person(db, alice, rolled_back=True) as connection:
        await connection.execute(
            "update storage.objects set version = '1', metadata = %s where bucket_id = 'documents' and name = %s",
            (declared(), f"{alice}/a.txt"),
        )
    assert len(await jobs(db)) == 1
    version = str(uuid.uuid4())
    async with service(db) as connection:
        await connection.execute(UPSERT, values(alice, "a.txt", version, whole(b"same"), owner=alice))
    assert await db.one("select id, created_at from storage.objects") == before
    old, new = await jobs(db)
    assert (old["state"], new["state"]) == ("cancelled", "available")
    assert (old["object_id"], old["etag"]) == (new["object_id"], new["etag"])
    assert (old["object_version"], new["object_version"]) == (first["version"], version)
    assert [row["object_version"] for row in await living(db)] == [version]


async def test_a_move_is_checked_with_its_final_version_and_counts_once(db, alice):
    await db.upload(alice, "a.txt", b"text")
    version = str(uuid.uuid4())
    async with person(db, alice, rolled_back=True) as connection:
        await connection.execute(
            "update storage.objects set name = %s, version = %s where bucket_id = 'documents' and name = %s",
            (f"{alice}/b.txt", version, f"{alice}/a.txt"),
        )
    assert [row["name"] for row in await living(db)] == [f"{alice}/a.txt"]
    async with service(db) as connection:
        await connection.execute(
            "update storage.objects set name = %s, version = %s, metadata = %s where name = %s",
            (f"{alice}/b.txt", version, whole(b"text"), f"{alice}/a.txt"),
        )
    old, new = await jobs(db)
    assert (old["state"], new["state"], new["object_version"]) == ("cancelled", "available", version)
    assert old["object_id"] == new["object_id"]
    assert [row["name"] for row in await living(db)] == [f"{alice}/b.txt"]


async def test_a_move_by_the_service_into_another_folder_makes_another_owners_document(db, alice):
    bob = await db.sign_up()
    await db.upload(alice, "a.txt", b"text")
    async with service(db) as connection:
        await connection.execute(
            "update storage.objects set name = %s, version = %s where name = %s",
            (f"{bob}/a.txt", str(uuid.uuid4()), f"{alice}/a.txt"),
        )
    assert [(row["owner_id"], row["state"]) for row in await jobs(db)] == [(alice, "cancelled"), (bob, "available")]
    assert [row["owner_id"] for row in await living(db)] == [bob]


async def test_a_move_out_of_the_bucket_is_its_end_and_a_move_back_its_beginning(db, alice):
    await db.run("insert into storage.buckets (id, name) values ('attic', 'attic')")
    await db.upload(alice, "a.txt", b"text")
    for bucket, states in (("attic", ["cancelled"]), ("documents", ["cancelled", "available"])):
        async with service(db) as connection:
            await connection.execute(
                "update storage.objects set bucket_id = %s, version = %s where name = %s",
                (bucket, str(uuid.uuid4()), f"{alice}/a.txt"),
            )
        assert [row["state"] for row in await jobs(db)] == states
    assert len(await living(db)) == 1


async def test_a_copy_is_another_document_with_a_job_of_its_own(db, alice):
    await db.upload(alice, "a.txt", b"text")
    async with person(db, alice, rolled_back=True) as connection:
        await connection.execute(INSERT, values(alice, "b.txt", "1", declared(), owner=alice))
    assert len(await jobs(db)) == 1
    async with service(db) as connection:
        await connection.execute(UPSERT, values(alice, "b.txt", str(uuid.uuid4()), whole(b"text"), owner=alice))
    first, second = await jobs(db)
    assert {first["state"], second["state"]} == {"available"}
    assert first["object_id"] != second["object_id"]
    assert len(await living(db)) == 2


async def test_access_times_and_metadata_alone_make_no_job(db, alice):
    await db.upload(alice, "a.txt", b"text")
    async with service(db) as connection:
        await connection.execute("update storage.objects set last_accessed_at = now()")
        await connection.execute("update storage.objects set user_metadata = '{\"a\": 1}', updated_at = now()")
    assert len(await jobs(db)) == 1
