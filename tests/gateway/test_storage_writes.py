"""What a trigger on storage.objects sees of each operation: the same as on the real server, write for write."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from storage3.exceptions import StorageApiError
from storage_world import World, any_world, eventually

PDF = {"content-type": "application/pdf"}


@pytest.fixture(scope="module")
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with any_world(request.config) as world:
        yield world


def is_final(write: dict[str, Any], operation: str = "INSERT") -> bool:
    """A final write: by service_role, without a user, a random uuid as version, everything in the metadata."""
    full = {"eTag", "size", "mimetype", "cacheControl", "lastModified", "contentLength", "httpStatusCode"}
    return (
        (write["operation"], write["role"], write["uid"]) == (operation, "service_role", None)
        and UUID(write["version"]).version == 4
        and set(write["metadata"]) == full
    )


def is_trial(write: dict[str, Any], user: str | None, operation: str = "INSERT", role: str = "authenticated") -> bool:
    """A dry run: by the caller, version 1, nothing in the metadata but what was declared."""
    return (
        (write["operation"], write["role"], write["uid"]) == (operation, role, user)
        and write["version"] == "1"
        and set(write["metadata"]) <= {"mimetype", "contentLength"}
    )


async def test_an_upload_is_tried_as_the_user_and_then_written_by_service_role(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a.pdf", b"%PDF", PDF)  # type: ignore[arg-type]
    trial, final = await world.seen(user.folder)
    assert is_trial(trial, user.id)
    assert trial["metadata"]["mimetype"] == "application/pdf"
    assert trial["metadata"]["contentLength"] > 4, "the request's length, the form around the file included"
    assert is_final(final)
    assert (trial["owner_id"], final["owner_id"]) == (user.id, user.id)
    assert (final["metadata"]["eTag"], final["metadata"]["size"]) == (f'"{hashlib.md5(b"%PDF").hexdigest()}"', 4)
    [row] = await world.rows(user.folder)
    assert (row["id"], row["version"]) == (final["object_id"], final["version"])
    assert (str(row["owner"]), row["owner_id"]) == (user.id, user.id)
    assert world.holds(row["version"]) is not False


async def test_a_name_that_is_taken_is_a_409_and_reaches_no_trigger(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"one")
    with pytest.raises(StorageApiError) as refusal:
        await user.files.upload(f"{user.folder}/a", b"two")
    assert (refusal.value.status, refusal.value.code) == ("409", "Duplicate")
    assert refusal.value.message == "The resource already exists"
    assert len(await world.seen(user.folder)) == 2
    assert await user.files.download(f"{user.folder}/a") == b"one"


@pytest.mark.parametrize("who", ["another user", "anon"])
async def test_who_may_not_write_is_a_403_and_reaches_no_trigger(world: World, who: str) -> None:
    owner = world.person()
    stranger = world.person() if who == "another user" else world.anon()
    before = world.blobs()
    answer = await stranger.send("POST", f"/object/{world.bucket}/{owner.folder}/a", content=b"x")
    assert answer.status_code == 400
    assert answer.json() == {
        "statusCode": "403",
        "error": "Unauthorized",
        "code": "AccessDenied",
        "message": "new row violates row-level security policy",
    }
    assert await world.seen(owner.folder) == []
    assert world.blobs() == before


@pytest.mark.parametrize("how", ["upsert", "PUT"])
async def test_an_overwrite_keeps_the_id_and_gets_a_new_version_even_for_the_same_bytes(world: World, how: str) -> None:
    user = world.person()
    name = f"{user.folder}/a"
    await user.files.upload(name, b"same")
    [before] = await world.rows(user.folder)
    if how == "PUT":
        await user.files.update(name, b"same")
    else:
        await user.files.upload(name, b"same", {"upsert": "true"})
    _, _, trial, final = await world.seen(user.folder)
    assert is_trial(trial, user.id, "UPDATE")
    assert is_final(final, "UPDATE")
    [after] = await world.rows(user.folder)
    assert (after["id"], after["created_at"]) == (before["id"], before["created_at"])
    assert after["version"] != before["version"]
    assert world.holds(after["version"]) is not False
    assert world.holds(before["version"]) is not True, "the replaced bytes go after the commit"


async def test_an_upsert_of_a_new_name_is_an_insert(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"x", {"upsert": "true"})
    trial, final = await world.seen(user.folder)
    assert is_trial(trial, user.id)
    assert is_final(final)


async def test_a_move_is_tried_with_its_final_version_and_the_old_metadata(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    [before] = await world.rows(user.folder)
    await user.files.move(f"{user.folder}/a", f"{user.folder}/b")
    _, _, trial, final = await world.seen(user.folder)
    assert (trial["operation"], trial["role"], trial["uid"]) == ("UPDATE", "authenticated", user.id)
    assert trial["metadata"] == before["metadata"]
    assert is_final(final, "UPDATE")
    assert final["version"] == trial["version"] != before["version"]
    [row] = await world.rows(user.folder)
    assert (row["id"], row["name"], row["version"]) == (before["id"], f"{user.folder}/b", final["version"])
    assert await user.files.download(f"{user.folder}/b") == b"x"
    assert world.holds(before["version"]) is not True


async def test_a_copy_is_a_new_object(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    copied = await user.files.copy(f"{user.folder}/a", f"{user.folder}/b")
    assert copied["Key"] == f"{world.bucket}/{user.folder}/b"
    _, _, trial, final = await world.seen(user.folder)
    assert (trial["operation"], trial["role"], trial["version"]) == ("INSERT", "authenticated", "1")
    assert is_final(final)
    first, second = await world.rows(user.folder)
    assert first["id"] != second["id"]
    await user.files.remove([f"{user.folder}/a"])
    assert await user.files.download(f"{user.folder}/b") == b"x"


async def test_a_removal_is_one_write_as_the_user(world: World) -> None:
    user, stranger = world.person(), world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    [row] = await world.rows(user.folder)
    assert await stranger.files.remove([f"{user.folder}/a"]) == []
    [removed] = await user.files.remove([f"{user.folder}/a", f"{user.folder}/never"])
    assert (removed["name"], removed["id"]) == (f"{user.folder}/a", str(row["id"]))
    *_, write = await world.seen(user.folder)
    assert (write["operation"], write["role"], write["uid"]) == ("DELETE", "authenticated", user.id)
    assert len(await world.seen(user.folder)) == 3
    assert await world.rows(user.folder) == []
    assert world.holds(row["version"]) is not True


async def test_a_single_object_is_deleted_as_the_user(world: World) -> None:
    user, stranger = world.person(), world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    path = f"/object/{world.bucket}/{user.folder}/a"
    assert (await stranger.send("DELETE", path)).json()["statusCode"] == "403"
    assert (await user.send("DELETE", path)).json() == {"message": "Successfully deleted"}
    assert (await user.send("DELETE", path)).json()["statusCode"] == "404"
    *_, write = await world.seen(user.folder)
    assert (write["operation"], write["role"]) == ("DELETE", "authenticated")


async def test_emptying_a_bucket_deletes_as_service_role(world: World) -> None:
    service = world.service()
    await service.client.create_bucket("emptied")
    folder = service.folder
    for name in ("a", "b"):
        await service.client.from_("emptied").upload(f"{folder}/{name}", b"x")
    await service.client.empty_bucket("emptied")
    deletes = [write for write in await world.seen(folder) if write["operation"] == "DELETE"]
    assert [(write["role"], write["uid"]) for write in deletes] == [("service_role", None)] * 2
    assert await world.rows(folder) == []
    await service.client.delete_bucket("emptied")


async def test_a_signed_upload_url_is_tried_when_it_is_made_and_again_when_it_is_used(world: World) -> None:
    user, stranger = world.person(), world.person()
    with pytest.raises(StorageApiError) as refusal:
        await stranger.files.create_signed_upload_url(f"{user.folder}/a")
    assert refusal.value.status == "403"
    signed = await user.files.create_signed_upload_url(f"{user.folder}/a")
    [made] = await world.seen(user.folder)
    assert is_trial(made, user.id)
    assert made["metadata"]["contentLength"] == 0
    assert await world.rows(user.folder) == []

    await world.anon().files.upload_to_signed_url(f"{user.folder}/a", signed["token"], b"x")
    _, trial, final = await world.seen(user.folder)
    assert is_trial(trial, None, role="service_role")
    assert is_final(final)
    assert (trial["owner_id"], final["owner_id"]) == (user.id, user.id)


async def test_a_service_key_writes_without_an_owner(world: World) -> None:
    service = world.service()
    await service.files.upload(f"{service.folder}/a", b"x")
    trial, final = await world.seen(service.folder)
    assert is_trial(trial, None, role="service_role")
    assert is_final(final)
    [row] = await world.rows(service.folder)
    assert (row["owner"], row["owner_id"]) == (None, None)


async def test_reading_reaches_no_trigger(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    before = len(await world.seen(user.folder))
    await user.files.download(f"{user.folder}/a")
    await user.files.info(f"{user.folder}/a")
    await user.files.list(user.folder)
    await user.files.create_signed_url(f"{user.folder}/a", 60)
    assert len(await world.seen(user.folder)) == before


async def test_a_deferred_constraint_trigger_fires_in_the_final_write_alone(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    [row] = await world.rows(user.folder)
    fired = await world.sql("select version from seen.deferred where name = %s", f"{user.folder}/a")
    assert [entry["version"] for entry in fired] == [row["version"]]


@pytest.mark.parametrize(
    ("name", "status", "message"),
    [
        ("over-quota", "403", "You may upload 30 files a day."),
        ("no-number", "400", 'invalid input syntax for type integer: "x"'),
        ("broken", "500", "database error, code: P0001"),
    ],
)
async def test_a_trigger_that_raises_rejects_before_the_bytes_move(
    world: World, name: str, status: str, message: str
) -> None:
    user = world.person()
    before = world.blobs()
    answer = await user.send("POST", f"/object/{world.bucket}/{user.folder}/{name}", content=b"x")
    assert answer.status_code == (500 if status == "500" else 400)
    assert (answer.json()["statusCode"], answer.json()["message"]) == (status, message)
    assert world.blobs() == before
    assert await world.rows(user.folder) == []


async def test_bytes_go_when_the_final_write_is_refused_and_the_reason_is_passed_on(world: World) -> None:
    user = world.person()
    before = world.blobs()
    with pytest.raises(StorageApiError) as refusal:
        await user.files.upload(f"{user.folder}/late", b"x")
    assert (refusal.value.status, refusal.value.message) == ("403", "Another upload was faster.")
    assert world.blobs() == before
    assert await world.rows(user.folder) == []


async def test_the_session_is_usable_after_a_refusal(world: World) -> None:
    user = world.person()
    for _ in range(20):
        await user.send("POST", f"/object/{world.bucket}/{user.folder}/broken", content=b"x")
    await user.files.upload(f"{user.folder}/a", b"x")
    final = (await world.seen(user.folder))[-1]
    assert is_final(final), "nothing of a refused caller is left in the session"


async def test_the_upload_is_finished_when_the_client_hangs_up(world: World) -> None:
    user = world.person()
    async with await psycopg.AsyncConnection.connect(world.sql_url) as gate:
        await gate.execute("select pg_advisory_lock(4242)")
        request = asyncio.create_task(user.send("POST", f"/object/{world.bucket}/{user.folder}/slow", content=b"x"))
        await world.until("select 1 from pg_locks where locktype = 'advisory' and objid = 4242 and not granted")
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        await gate.execute("select pg_advisory_unlock(4242)")
    await world.until("select 1 from storage.objects where name = %s", f"{user.folder}/slow")
    assert await user.files.download(f"{user.folder}/slow") == b"x"


@pytest.mark.embedded("nobody can look at the bytes elsewhere")
async def test_nothing_is_left_of_an_upload_that_broke_off(world: World) -> None:
    user = world.person()
    before = world.blobs()
    bytes_moved = asyncio.Event()
    broken_off = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        bytes_moved.set()
        await broken_off.wait()

    request = asyncio.create_task(user.send("POST", f"/object/{world.bucket}/{user.folder}/a", content=half()))
    await bytes_moved.wait()
    await eventually(lambda: world.blobs() != before)
    request.cancel()
    await eventually(lambda: world.blobs() == before)
    assert await world.rows(user.folder) == []


@pytest.mark.embedded("how a server locks a name is its own affair")
async def test_the_final_write_waits_for_the_lock_on_the_name(world: World) -> None:
    user = world.person()
    name = f"{user.folder}/a"
    async with await psycopg.AsyncConnection.connect(world.sql_url) as gate:
        await gate.execute("select pg_advisory_lock(hashtextextended(%s, 0))", (f"documents/{name}",))
        request = asyncio.create_task(user.files.upload(name, b"x"))
        await world.until(
            "select 1 from pg_stat_activity where application_name = 'storage' and wait_event_type = 'Lock' "
            "and query like %s",
            f"%{name}%",
        )
        assert await world.rows(user.folder) == []
        await gate.execute("select pg_advisory_unlock_all()")
    await request
    assert len(await world.rows(user.folder)) == 1


async def test_racing_uploads_of_one_name_leave_one_object_with_its_own_bytes(world: World) -> None:
    user = world.person()
    name = f"{user.folder}/a"
    before = world.blobs()
    await asyncio.gather(
        *(user.files.upload(name, f"version {number}".encode(), {"upsert": "true"}) for number in range(8))
    )
    [row] = await world.rows(user.folder)
    assert len(world.blobs() - before) == (1 if world.folder else 0)
    content = await user.files.download(name)
    assert row["metadata"]["size"] == len(content)
    assert world.holds(row["version"]) is not False
