"""Attacks on Storage over HTTP: other folders, paths that fold, moves, copies, lists, and signed URLs."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.access.wire import MARK, TEXT, Street
from tests.world import new_user


async def test_anothers_file_is_read_written_and_removed(street: Street) -> None:
    """The attacker names another's file in every way that Storage has: she gets, changes and removes nothing."""
    name, put = street.alices_name, {"content": b"x", "headers": {"content-type": "text/plain", "x-upsert": "true"}}
    for who in (street.mallory, None):
        for method, path, options in (
            ("GET", f"object/documents/{name}", {}),
            ("GET", f"object/authenticated/documents/{name}", {}),
            ("GET", f"object/public/documents/{name}", {}),
            ("HEAD", f"object/documents/{name}", {}),
            ("GET", f"object/info/documents/{name}", {}),
            ("POST", f"object/documents/{name}", put),
            ("PUT", f"object/documents/{name}", put),
            ("POST", f"object/sign/documents/{name}", {"json": {"expiresIn": 60}}),
            ("POST", f"object/upload/sign/documents/{name}", {"headers": {"x-upsert": "true"}}),
            ("POST", f"object/upload/sign/documents/{street.alice.id}/new.md", {}),
            (
                "POST",
                "object/copy",
                {"json": {"bucketId": "documents", "sourceKey": name, "destinationKey": f"{street.mallory.id}/c.md"}},
            ),
            (
                "POST",
                "object/move",
                {"json": {"bucketId": "documents", "sourceKey": name, "destinationKey": f"{street.mallory.id}/c.md"}},
            ),
            (
                "POST",
                "object/move",
                {
                    "json": {
                        "bucketId": "documents",
                        "sourceKey": f"{street.mallory.id}/own.md",
                        "destinationKey": f"{street.alice.id}/planted.md",
                    }
                },
            ),
            (
                "POST",
                "object/copy",
                {
                    "json": {
                        "bucketId": "documents",
                        "sourceKey": f"{street.mallory.id}/own.md",
                        "destinationKey": f"{street.alice.id}/planted.md",
                    },
                    "headers": {"x-upsert": "true"},
                },
            ),
            (
                "POST",
                "object/move",
                {
                    "json": {
                        "bucketId": "documents",
                        "sourceKey": f"{street.mallory.id}/own.md",
                        "destinationBucket": {"id": "documents"},
                        "destinationKey": f"{street.alice.id}/planted.md",
                    }
                },
            ),
            ("DELETE", f"object/documents/{name}", {}),
        ):
            answer = await street.send(method, f"/storage/v1/{path}", who, **options)
            assert 400 <= answer.status_code < 500, (method, path, answer.text)
            assert TEXT not in answer.text
        answer = await street.send("DELETE", "/storage/v1/object/documents", who, json={"prefixes": [name]})
        assert answer.status_code >= 400 or answer.json() == []
        answer = await street.send(
            "POST", "/storage/v1/object/sign/documents", who, json={"expiresIn": 60, "paths": [name]}
        )
        assert "token=" not in answer.text
        for prefix in ("", street.alice.id, f"{street.alice.id}/", "..", f"../{street.alice.id}", "%"):
            answer = await street.send(
                "POST", "/storage/v1/object/list/documents", who, json={"prefix": prefix, "limit": 100, "search": MARK}
            )
            street.nothing_of_alice(answer)
    assert await street.alice.client.storage.from_("documents").download(name) == TEXT.encode()
    assert await street.sql("select name from storage.objects where name like %s", f"{street.alice.id}/%") == [(name,)]


async def test_an_answer_tells_whether_another_has_a_file(street: Street) -> None:
    """The attacker compares what she is told of a file that another has, and of one that is not there: the same. Only
    the removal of a single file tells, on the platform too."""
    put = {"content": b"x", "headers": {"content-type": "text/plain"}}
    own = f"{street.mallory.id}/own.md"
    for method, path, options in (
        ("GET", "object/documents/{}", {}),
        ("HEAD", "object/documents/{}", {}),
        ("GET", "object/info/documents/{}", {}),
        ("POST", "object/documents/{}", put),
        ("PUT", "object/documents/{}", put),
        ("POST", "object/sign/documents/{}", {"json": {"expiresIn": 60}}),
        ("POST", "object/upload/sign/documents/{}", {}),
        ("POST", "object/upload/sign/documents/{}", {"headers": {"x-upsert": "true"}}),
        ("POST", "object/copy", {"sourceKey": "{}", "destinationKey": f"{street.mallory.id}/copy.md"}),
        ("POST", "object/move", {"sourceKey": "{}", "destinationKey": f"{street.mallory.id}/moved.md"}),
        ("POST", "object/copy", {"sourceKey": own, "destinationKey": "{}"}),
        ("POST", "object/move", {"sourceKey": own, "destinationKey": "{}"}),
        ("DELETE", "object/documents", {"prefixes": ["{}"]}),
    ):
        told = []
        for name in (street.alices_name, f"{street.alice.id}/nothing.md"):
            if "{}" in path:
                asked = dict(options)
            else:
                body = json.dumps(options | {"bucketId": "documents"}).replace("{}", name)
                asked = {"content": body.encode(), "headers": {"content-type": "application/json"}}
            answer = await street.send(method, f"/storage/v1/{path.format(name)}", street.mallory, **asked)
            told.append((answer.status_code, answer.text))
        assert told[0] == told[1], (method, path)


@pytest.mark.parametrize(
    "path",
    [
        "{mallory}/../{alice}/{mark}.md",
        "{mallory}/%2e%2e/{alice}/{mark}.md",
        "{mallory}/..%2f{alice}/{mark}.md",
        "{mallory}%2f..%2f{alice}%2f{mark}.md",
        "{mallory}/..%5c{alice}/{mark}.md",
        "./{alice}/{mark}.md",
        "/{alice}/{mark}.md",
        "{mallory}/%252e%252e/{alice}/{mark}.md",
        "{mallory}/.;/../{alice}/{mark}.md",
        "{alice}%00/{mark}.md",
        "{mallory}//../{alice}/{mark}.md",
        "..%2fdocuments%2f{alice}/{mark}.md",
        "{upper}/{mark}.md",
        "{alice}/{mark}.md%00.txt",
        "{mallory}/%EF%BC%8E%EF%BC%8E/{alice}/{mark}.md",
    ],
)
async def test_a_path_folds_into_anothers_folder(street: Street, path: str) -> None:
    """The attacker writes a path that a server may fold, decode or cut into another's: no byte is read or planted."""
    known = {"alice": street.alice.id, "mallory": street.mallory.id, "mark": MARK, "upper": street.alice.id.upper()}
    target = path.format(**known)
    for bucket in ("documents", "documents/../documents", "x/../documents"):
        url = f"/storage/v1/object/{bucket}/{target}"
        for method, options in (
            ("GET", {}),
            ("DELETE", {}),
            ("POST", {"content": b"planted", "headers": {"content-type": "text/plain"}}),
            ("PUT", {"content": b"planted", "headers": {"content-type": "text/plain"}}),
        ):
            answer = await street.send(method, url, street.mallory, **options)
            assert TEXT not in answer.text
    rows = await street.sql(
        "select name from storage.objects where owner_id = %s or name like %s",
        street.mallory.id,
        f"%{street.alice.id}%",
    )
    for (name,) in rows:
        assert name == street.alices_name or name.startswith(f"{street.mallory.id}/"), name
        assert not {".", ".."} & set(name.split("/")), name
    assert await street.alice.client.storage.from_("documents").download(street.alices_name) == TEXT.encode()
    assert (await street.alice.search(MARK))[0]["content"].strip() == TEXT


async def test_a_signed_url_is_used_for_something_else(street: Street) -> None:
    """The attacker has a URL that was signed for one thing, and wants another object, another purpose, or more time."""
    files = street.mallory.client.storage.from_("documents")
    down = (await files.create_signed_url(f"{street.mallory.id}/own.md", 60))["signedURL"].split("token=")[1]
    up = (await files.create_signed_upload_url(f"{street.mallory.id}/later.md"))["token"]
    anothers = (await street.alice.client.storage.from_("documents").create_signed_url(street.alices_name, 60))[
        "signedURL"
    ].split("token=")[1]
    user_token = street.mallory.token
    for token, method, path in (
        (down, "GET", f"object/sign/documents/{street.alices_name}"),
        (up, "GET", f"object/sign/documents/{street.alices_name}"),
        (up, "PUT", f"object/upload/sign/documents/{street.alice.id}/planted.md"),
        (up, "PUT", f"object/upload/sign/documents/{street.mallory.id}/../{street.alice.id}/planted.md"),
        (down, "PUT", f"object/upload/sign/documents/{street.mallory.id}/own.md"),
        (up, "GET", f"object/sign/documents/{street.mallory.id}/own.md"),
        (anothers, "PUT", f"object/upload/sign/documents/{street.alices_name}"),
        (anothers, "GET", f"object/sign/documents/{street.mallory.id}/../{street.mallory.id}/own.md"),
        (user_token, "GET", f"object/sign/documents/{street.alices_name}"),
        ("", "GET", f"object/sign/documents/{street.alices_name}"),
        (down[:-4] + "AAAA", "GET", f"object/sign/documents/{street.mallory.id}/own.md"),
    ):
        options = {"content": b"planted", "headers": {"content-type": "text/plain"}} if method == "PUT" else {}
        answer = await street.send(method, f"/storage/v1/{path}?token={token}", **options)
        assert 400 <= answer.status_code < 500, (method, path, answer.text)
    # nor is it a token for anything else
    for path in ("/rest/v1/documents", f"/storage/v1/object/documents/{street.mallory.id}/own.md", "/auth/v1/user"):
        for token in (down, up, anothers):
            answer = await street.send("GET", path, token)
            assert 400 <= answer.status_code < 500, (path, answer.text)
    assert await street.sql("select 1 from storage.objects where name like %s", "%planted%") == []


async def test_a_signed_upload_counts_for_the_owner_of_the_folder_and_is_used_once(street: Street) -> None:
    """The attacker uses a URL that was signed for an upload twice, or once the day's quota is used up: refused, and
    what was uploaded with it is the folder owner's."""
    name = f"{street.mallory.id}/later.md"
    token = (await street.mallory.client.storage.from_("documents").create_signed_upload_url(name))["token"]
    put = {"content": b"# Later", "headers": {"content-type": "text/plain"}}
    used = "select uploads from pipeline.upload_days where owner_id = %s"
    before = (await street.sql(used, street.mallory.id))[0][0]
    url = f"/storage/v1/object/upload/sign/documents/{name}?token={token}"
    assert (await street.send("PUT", url, **put)).status_code == 200
    assert (await street.sql(used, street.mallory.id))[0][0] == before + 1
    assert await street.sql("select owner_id::text from pipeline.jobs where name = %s", name) == [(street.mallory.id,)]
    answer = await street.send("PUT", url, **put)
    assert answer.status_code >= 400 and "Duplicate" in answer.text, answer.text
    second = (
        await street.mallory.client.storage.from_("documents").create_signed_upload_url(f"{street.mallory.id}/2.md")
    )["token"]
    await street.sql("insert into pipeline.limits (owner_id, uploads_per_day) values (%s, 0)", street.mallory.id)
    answer = await street.send(
        "PUT", f"/storage/v1/object/upload/sign/documents/{street.mallory.id}/2.md?token={second}", **put
    )
    assert answer.status_code >= 400 and "limit of uploads for today" in answer.text, answer.text


async def test_a_signed_url_outlives_what_it_was_signed_for(street: Street) -> None:
    """The attacker keeps a URL until it expired, or the file was moved or deleted, or whoever signed it: it is dead."""
    person = await new_user(street.project)
    files = person.client.storage.from_("documents")
    put = {"content": b"# Late", "headers": {"content-type": "text/plain"}}

    async def signed(name: str, seconds: int = 60) -> str:
        answer = await files.create_signed_url(f"{person.id}/{name}", seconds)
        return f"/storage/v1/object/sign/documents/{person.id}/{name}?{answer['signedURL'].split('?')[1]}"

    for name in ("stays.md", "moved.md", "deleted.md"):
        await person.upload(name, b"# Text")
    short, moved, deleted = await signed("stays.md", 1), await signed("moved.md"), await signed("deleted.md")
    for url in (moved, deleted):
        assert (await street.send("GET", url)).status_code == 200
    await files.move(f"{person.id}/moved.md", f"{person.id}/elsewhere.md")
    await files.remove([f"{person.id}/deleted.md"])
    elsewhere = moved.replace("/moved.md?", "/elsewhere.md?")
    for url in (moved, elsewhere, deleted):
        answer = await street.send("GET", url)
        assert 400 <= answer.status_code < 500, (url, answer.text)
    async with asyncio.timeout(10):
        while (answer := await street.send("GET", short)).status_code == 200:
            await asyncio.sleep(0.1)
    assert 400 <= answer.status_code < 500, answer.text

    name = f"{person.id}/late.md"
    late = (await files.create_signed_upload_url(name))["token"]
    await street.sql("delete from auth.users where id = %s", person.id)
    answer = await street.send("PUT", f"/storage/v1/object/upload/sign/documents/{name}?token={late}", **put)
    assert 400 <= answer.status_code < 500, answer.text
    assert await street.sql("select 1 from storage.objects where name = %s", name) == []


async def test_the_buckets_are_changed(street: Street) -> None:
    """The attacker makes a bucket, opens ours, or empties it: buckets are the operator's."""
    for method, path, body in (
        ("POST", "bucket", {"id": "mine", "name": "mine", "public": True}),
        ("PUT", "bucket/documents", {"public": True}),
        ("POST", "bucket/documents/empty", {}),
        ("DELETE", "bucket/documents", None),
        ("GET", "bucket/documents", None),
    ):
        for who in (street.mallory, None):
            answer = await street.send(
                method, f"/storage/v1/{path}", who, **({"json": body} if body is not None else {})
            )
            assert 400 <= answer.status_code < 500, (path, answer.text)
    assert await street.sql("select public from storage.buckets where id = 'documents'") == [(False,)]
