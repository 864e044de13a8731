"""Storage as clients use it: limits, names, downloads, signed URLs, lists and buckets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4
from xml.etree import ElementTree

import pytest
from storage3.exceptions import StorageApiError
from storage_world import Person, World, open_world

from supabase import acreate_client


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with open_world() as world:
        yield world


async def bucket(world: World, name: str, **options: Any) -> Person:
    """A service key, and a bucket made with it."""
    service = world.service()
    await service.client.create_bucket(name, options=options)  # type: ignore[arg-type]
    return service


async def chunked(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


TOO_LARGE = {
    "statusCode": "413",
    "error": "Payload too large",
    "code": "EntityTooLarge",
    "message": "The object exceeded the maximum allowed size",
}


async def test_a_bucket_limits_the_size_of_a_form_and_of_a_body_with_a_length(world: World) -> None:
    service = await bucket(world, "small", file_size_limit=1000)
    files = service.client.from_("small")
    before = world.blobs()
    with pytest.raises(StorageApiError) as refusal:
        await files.upload("form", b"x" * 1001)
    assert (refusal.value.status, refusal.value.code) == ("413", "Payload too large")
    answer = await service.send("POST", "/object/small/raw", content=b"x" * 1001)
    assert (answer.status_code, answer.json()) == (400, TOO_LARGE)
    assert world.blobs() == before
    assert await world.rows("raw") == []

    await files.upload("form", b"x" * 1000)
    assert (await service.send("POST", "/object/small/raw", content=b"x" * 1000)).status_code == 200


async def test_a_bucket_does_not_limit_a_chunked_body(world: World) -> None:
    """Nor does the real server: what holds there is what the final write refuses."""
    service = await bucket(world, "lax", file_size_limit=1000)
    answer = await service.send("POST", "/object/lax/parts", content=chunked(b"x" * 600, b"x" * 401))
    assert answer.status_code == 200


async def test_a_large_refused_body_is_read_so_that_the_client_sees_the_refusal(world: World) -> None:
    service = await bucket(world, "tiny", file_size_limit=10)
    answer = await service.send("POST", "/object/tiny/a", content=b"x" * 30_000_000)
    assert answer.json() == TOO_LARGE
    answer = await world.person().send("POST", "/object/documents/x/b", content=chunked(*[b"x" * 65536] * 100))
    assert answer.json()["statusCode"] == "403"
    assert (await service.send("GET", "/bucket")).status_code == 200, "the connection can be used again"
    answer = await world.person().send("POST", f"/object/tiny/{'a' * 36}/b", content=b"x" * 5_000_000)
    assert answer.json() == TOO_LARGE


@pytest.mark.parametrize("key", [True, False])
async def test_a_client_that_waits_to_send_its_body_is_not_misunderstood(world: World, key: bool) -> None:
    """A refusal comes before the body; the next request on the connection must not be taken for it."""
    user = world.person()
    host = world.project.api_url.removeprefix("http://")
    head = [
        f"POST /storage/v1/object/documents/x/y HTTP/1.1\r\nHost: {host}",
        "Expect: 100-continue",
        "Content-Length: 1",
    ]
    head += [f"{name}: {value}" for name, value in user.headers.items()] if key else []
    reader, writer = await asyncio.open_connection(*host.split(":"))
    writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
    writer.write(f"GET /storage/v1/version HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    answered = await asyncio.wait_for(reader.read(), timeout=10)
    writer.close()
    assert answered.count(b"HTTP/1.1") == 1
    assert answered.startswith(b"HTTP/1.1 400" if key else b"HTTP/1.1 401")


async def test_a_bucket_takes_the_declared_types_that_it_allows(world: World) -> None:
    service = await bucket(world, "typed", allowed_mime_types=["application/pdf", "image/*"])
    files = service.client.from_("typed")
    await files.upload("a", b"anything", {"content-type": "application/pdf"})
    await files.upload("b", b"anything", {"content-type": "image/png"})
    with pytest.raises(StorageApiError) as refusal:
        await files.upload("c", b"%PDF", {"content-type": "text/plain"})
    assert (refusal.value.status, refusal.value.code) == ("415", "invalid_mime_type")
    assert refusal.value.message == "mime type text/plain is not supported"


async def test_a_large_file_arrives_whole_and_is_read_in_ranges(world: World) -> None:
    user = world.person()
    content = bytes(range(256)) * 8192
    await user.files.upload(f"{user.folder}/a", content)
    assert await user.files.download(f"{user.folder}/a") == content
    answer = await user.send("GET", f"/object/documents/{user.folder}/a", headers={"range": "bytes=1000000-1999999"})
    assert (answer.status_code, answer.content) == (206, content[1000000:2000000])


@pytest.mark.parametrize("name", ["é", "日本", "a#b", "a[b]", "a%0Ab", "a%5Cb", "a%00b", "~a"])
async def test_names_that_storage_refuses(world: World, name: str) -> None:
    user = world.person()
    path = f"/object/documents/{user.folder}/" + name.replace("#", "%23")
    answer = await user.send("POST", path, content=b"x")
    assert answer.status_code == 400
    body = answer.json()
    assert (body["statusCode"], body["code"], body["error"]) == ("400", "InvalidKey", "InvalidKey")
    assert body["message"].startswith("Invalid key: ")


@pytest.mark.parametrize("name", ["it's & 'x'.txt", "a..b", "$@=;:+,!*()", "with space", "UPPER_lower-1"])
async def test_names_that_storage_takes(world: World, name: str) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/{name}", b"x")
    [row] = await world.rows(user.folder)
    assert row["name"] == f"{user.folder}/{name}"
    assert await user.files.download(f"{user.folder}/{name}") == b"x"
    assert UUID(row["version"]).hex in world.blobs(), "stored by its version, not by its name"


async def test_a_name_is_never_a_path_on_this_machine(world: World) -> None:
    service = world.service()
    path = "/object/documents/%2E%2E/%2E%2E/%2E%2E/escaped"
    assert (await service.send("POST", path, content=b"x")).json()["Key"] == "documents/../../../escaped"
    assert not list(world.blob_dir.parent.rglob("escaped"))
    assert (await service.send("GET", path)).content == b"x"


async def test_what_was_declared_comes_back_with_the_download(world: World) -> None:
    user = world.person()
    options = {"content-type": "text/csv", "cache-control": "60", "metadata": {"source": "scan", "pages": 3}}
    await user.files.upload(f"{user.folder}/a.csv", b"1,2", options)  # type: ignore[arg-type]
    answer = await user.send("GET", f"/object/documents/{user.folder}/a.csv?download=my list.csv")
    assert answer.headers["content-type"] == "text/csv"
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers["content-disposition"] == "attachment; filename=my%20list.csv; filename*=UTF-8''my%20list.csv"
    info = await user.files.info(f"{user.folder}/a.csv")
    assert (info["size"], info["content_type"], info["metadata"]) == (3, "text/csv", {"source": "scan", "pages": 3})
    assert info["etag"] == answer.headers["etag"]
    assert await user.files.exists(f"{user.folder}/a.csv")
    assert not await user.files.exists(f"{user.folder}/b.csv")


async def test_a_page_is_served_as_text(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"<script>", {"content-type": "text/html"})
    answer = await user.send("GET", f"/object/documents/{user.folder}/a")
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=5-500", 206, b"56789"),
    ],
)
async def test_ranges(world: World, asked: str, status: int, content: bytes) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"0123456789")
    answer = await user.send("GET", f"/object/documents/{user.folder}/a", headers={"range": asked})
    assert (answer.status_code, answer.content) == (status, content)
    if status == 206:
        assert answer.headers["content-range"].endswith("/10")


@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=4-2", "bytes=0-1,4-5", "lines=1", "bytes=-", "bytes=٣-"])
async def test_what_is_no_single_range_within_the_file_is_refused(world: World, asked: str) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"0123456789")
    header = {"range": asked.encode()}
    answer = await user.send("GET", f"/object/documents/{user.folder}/a", headers=header)
    assert (answer.status_code, answer.json()["statusCode"], answer.json()["code"]) == (416, "416", "InvalidRange")


async def test_an_unchanged_object_is_not_sent_again(world: World) -> None:
    user = world.person()
    path = f"/object/documents/{user.folder}/a"
    await user.files.upload(f"{user.folder}/a", b"one")
    first = await user.send("GET", path)
    same = await user.send("GET", path, headers={"if-none-match": first.headers["etag"]})
    assert (same.status_code, same.content) == (304, b"")
    since = await user.send("GET", path, headers={"if-modified-since": first.headers["last-modified"]})
    assert since.status_code == 304
    await user.files.update(f"{user.folder}/a", b"two")
    assert (await user.send("GET", path, headers={"if-none-match": first.headers["etag"]})).content == b"two"


async def test_head_tells_of_an_object_without_sending_it(world: World) -> None:
    user, stranger = world.person(), world.person()
    await user.files.upload(f"{user.folder}/a", b"123")
    answer = await user.send("HEAD", f"/object/documents/{user.folder}/a")
    assert (answer.status_code, answer.headers["content-length"], answer.content) == (200, "3", b"")
    for person, name in ((user, "b"), (stranger, "a")):
        assert (await person.send("HEAD", f"/object/documents/{user.folder}/{name}")).status_code == 400


async def test_another_users_object_is_not_found(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    for other in (world.person(), world.anon()):
        with pytest.raises(StorageApiError) as refusal:
            await other.files.download(f"{user.folder}/a")
        assert (refusal.value.status, refusal.value.code) == ("404", "not_found")
        with pytest.raises(StorageApiError):
            await other.files.create_signed_url(f"{user.folder}/a", 60)
        with pytest.raises(StorageApiError):
            await other.files.move(f"{user.folder}/a", f"{other.folder}/a")
        with pytest.raises(StorageApiError):
            await other.files.copy(f"{user.folder}/a", f"{other.folder}/a")
    with pytest.raises(StorageApiError) as refusal:
        await user.client.from_("nowhere").upload(f"{user.folder}/a", b"x")
    assert (refusal.value.status, refusal.value.code) == ("404", "Bucket not found")


async def test_a_move_does_not_replace_what_is_there(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"one")
    await user.files.upload(f"{user.folder}/b", b"two")
    with pytest.raises(StorageApiError) as refusal:
        await user.files.move(f"{user.folder}/a", f"{user.folder}/b")
    assert refusal.value.status == "409"
    assert await user.files.download(f"{user.folder}/b") == b"two"
    await user.files.move(f"{user.folder}/a", f"{user.folder}/a")
    assert await user.files.download(f"{user.folder}/a") == b"one"


async def test_a_public_bucket_is_read_without_a_key_and_a_private_one_is_not(world: World) -> None:
    user = world.person()
    await user.client.from_("open").upload(f"{user.folder}/a", b"x")
    await user.files.upload(f"{user.folder}/a", b"x")
    url = await user.client.from_("open").get_public_url(f"{user.folder}/a")
    assert (await world.http.get(url)).content == b"x"
    private = await world.http.get(f"{world.url}/object/public/documents/{user.folder}/a")
    assert (private.status_code, private.json()["error"]) == (400, "Bucket not found")


async def test_a_signed_url_opens_one_object_for_a_time(world: World) -> None:
    user = world.person()
    for name in ("a", "b"):
        await user.files.upload(f"{user.folder}/{name}", name.encode())
    signed = (await user.files.create_signed_url(f"{user.folder}/a", 60, {"download": "x.txt"}))["signedURL"]
    assert signed is not None
    answer = await world.http.get(signed)
    assert answer.content == b"a"
    assert "expires" in answer.headers
    assert "x.txt" in answer.headers["content-disposition"]
    other = await world.http.get(signed.replace(f"{user.folder}/a", f"{user.folder}/b"))
    assert (other.status_code, other.json()["code"]) == (400, "InvalidSignature")
    forged = await world.http.get(signed.replace("token=", "token=x"))
    assert (forged.status_code, forged.json()["code"]) == (400, "InvalidJWT")

    late = world.signer.sign_download("documents", f"{user.folder}/a", -1)
    expired = await world.http.get(f"{world.url}/object/sign/documents/{user.folder}/a?token={late}")
    assert (expired.json()["code"], expired.json()["message"]) == ("InvalidJWT", '"exp" claim timestamp check failed')


async def test_a_token_serves_the_purpose_that_it_was_signed_for(world: World) -> None:
    user = world.person()
    name = f"{user.folder}/a"
    up = (await user.files.create_signed_upload_url(name))["token"]
    await user.files.upload_to_signed_url(name, up, b"x")
    read = await world.http.get(f"{world.url}/object/sign/documents/{name}?token={up}")
    assert read.json()["code"] == "InvalidSignature"
    down = world.signer.sign_download("documents", name, 60)
    written = await world.http.put(f"{world.url}/object/upload/sign/documents/{name}?token={down}", content=b"y")
    assert written.json()["code"] == "InvalidSignature"
    again = await world.http.put(f"{world.url}/object/upload/sign/documents/{name}?token={up}", content=b"y")
    assert again.json()["statusCode"] == "409", "the URL was not made for replacing"


async def test_many_urls_are_signed_at_once(world: World) -> None:
    user = world.person()
    await user.files.upload(f"{user.folder}/a", b"x")
    found, missing = await user.files.create_signed_urls([f"{user.folder}/a", f"{user.folder}/b"], 60)
    assert found["signedURL"] is not None
    assert (await world.http.get(found["signedURL"])).content == b"x"
    assert missing["signedURL"] is None
    assert missing["error"] == "Either the object does not exist or you do not have access to it"


async def test_a_folder_is_listed_in_pages(world: World) -> None:
    user, stranger = world.person(), world.person()
    for name in ("b.txt", "A.txt", "sub/x", "sub/deep/y", "c.pdf"):
        await user.files.upload(f"{user.folder}/{name}", b"x")
    listed = await user.files.list(user.folder)
    assert [entry["name"] for entry in listed] == ["A.txt", "b.txt", "c.pdf", "sub"]
    assert listed[3]["id"] is None
    assert listed[3]["metadata"] is None
    assert listed[0]["metadata"]["size"] == 1
    page = await user.files.list(user.folder, {"limit": 2, "offset": 1})
    assert [entry["name"] for entry in page] == ["b.txt", "c.pdf"]
    newest = await user.files.list(user.folder, {"sortBy": {"column": "created_at", "order": "desc"}})
    assert [entry["name"] for entry in newest] == ["sub", "c.pdf", "A.txt", "b.txt"]
    backwards = await user.files.list(user.folder, {"sortBy": {"column": "name", "order": "desc"}})
    assert [entry["name"] for entry in backwards] == ["sub", "c.pdf", "b.txt", "A.txt"]
    assert [entry["name"] for entry in await user.files.list(user.folder, {"search": "a"})] == ["A.txt"]
    assert [entry["name"] for entry in await user.files.list(f"{user.folder}/sub")] == ["deep", "x"]
    assert [entry["name"] for entry in await user.files.list()] == [user.folder]
    assert await stranger.files.list(user.folder) == []
    refused = await user.send("POST", "/object/list/documents", json={"prefix": "", "sortBy": {"column": "1;drop"}})
    assert refused.json()["statusCode"] == "400"


async def test_objects_are_listed_by_cursor(world: World) -> None:
    user = world.person()
    for name in ("a", "b", "sub/c"):
        await user.files.upload(f"{user.folder}/{name}", b"x")
    prefix = f"{user.folder}/"
    first = await user.files.list_v2({"prefix": prefix, "limit": 2})
    assert first.hasNext
    assert first.nextCursor is not None
    rest = await user.files.list_v2({"prefix": prefix, "limit": 2, "cursor": first.nextCursor})
    assert not rest.hasNext
    names = [entry.name for entry in (*first.objects, *rest.objects)]
    assert names == [prefix + name for name in ("a", "b", "sub/c")]
    folded = await user.files.list_v2({"prefix": prefix, "with_delimiter": True})
    assert [entry.name for entry in folded.folders] == [prefix + "sub/"]
    assert len(folded.objects) == 2


async def test_a_bucket_s_life(world: World) -> None:
    service = await bucket(world, "life", public=True, file_size_limit="2MB", allowed_mime_types=["text/plain"])
    client = service.client
    made = await client.get_bucket("life")
    assert (made.public, made.file_size_limit, made.allowed_mime_types) == (True, 2_000_000, ["text/plain"])
    with pytest.raises(StorageApiError) as refusal:
        await client.create_bucket("life")
    assert (refusal.value.status, refusal.value.code) == ("409", "Duplicate")
    await client.update_bucket("life", {"public": False})
    changed = await client.get_bucket("life")
    assert (changed.public, changed.file_size_limit) == (False, 2_000_000), "what is left out stays"
    assert "life" in [entry.id for entry in await client.list_buckets()]
    await client.from_("life").upload("a", b"x", {"content-type": "text/plain"})
    with pytest.raises(StorageApiError) as refusal:
        await client.delete_bucket("life")
    assert (refusal.value.status, refusal.value.code) == ("409", "ResourceNotEmpty")
    await client.empty_bucket("life")
    await client.delete_bucket("life")
    with pytest.raises(StorageApiError) as refusal:
        await client.get_bucket("life")
    assert (refusal.value.status, refusal.value.code) == ("404", "Bucket not found")


async def test_a_user_sees_only_the_buckets_that_a_policy_shows_and_makes_none(world: World) -> None:
    user = world.person()
    assert {entry.id for entry in await user.client.list_buckets()} == {"documents", "open"}
    with pytest.raises(StorageApiError) as refusal:
        await user.client.create_bucket("mine")
    assert refusal.value.status == "403"
    for attempt in (user.client.delete_bucket("documents"), user.client.update_bucket("documents", {"public": True})):
        with pytest.raises(StorageApiError):
            await attempt
    assert not (await world.service().client.get_bucket("documents")).public


@pytest.mark.parametrize(
    "path",
    ["/render/image/public/open/a", "/vector/ListIndexes", "/iceberg/v1"],
)
async def test_what_is_not_supported_is_refused_by_name(world: World, path: str) -> None:
    answer = await world.service().send("POST", path, content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (501, "NotSupported")
    assert "not supported by the embedded Supabase" in answer.json()["message"]


@pytest.mark.parametrize(("body", "status", "message"), [
    ({"prefix": "x" * 1024 * 1024}, 413, "Request body is too large"),
    ({"prefix": {}}, 400, "body/prefix must be string"),
    ({"prefix": "", "limit": 1.5}, 400, "body/limit must be integer"),
    ({"prefix": "", "limit": "1e3"}, 400, "body/limit must be integer"),
    ({"prefix": "", "limit": None}, 400, "body/limit must be >= 1"),
    ({"prefix": "", "sortBy": 1}, 400, "body/sortBy must be object"),
    ([], 400, "body must be object"),
    (7, 400, "body must be object"),
    (None, 400, "body must be object"),
])  # fmt: skip
async def test_a_body_that_is_not_as_it_should_be(world: World, body: Any, status: int, message: str) -> None:
    headers = {"content-type": "application/json"}
    content = json.dumps(body).encode()
    answer = await world.person().send("POST", "/object/list/documents", content=content, headers=headers)
    assert (answer.status_code, answer.json()["statusCode"], answer.json()["message"]) == (status, str(status), message)


@pytest.mark.parametrize(
    "body", [b"{" * 100_000, b"[" * 100_000, b"\xff", b'{"prefix": "\\ud800"}', b'{"prefix": NaN}']
)
async def test_a_body_that_breaks_parsers_is_refused(world: World, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = await world.person().send("POST", "/object/list/documents", content=body, headers=headers)
    assert answer.status_code in (200, 400)


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE"])
async def test_s3_is_refused_in_words_that_its_clients_show(world: World, method: str) -> None:
    headers = {"authorization": "AWS4-HMAC-SHA256 Credential=x/20261128/local/s3/aws4_request, Signature=x"}
    answer = await world.http.request(method, world.url + "/s3/documents/a", headers=headers)
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/xml")
    error = ElementTree.fromstring(answer.text)
    assert error.tag == "Error" and error.findtext("Code") == "NotImplemented"
    assert "the S3 protocol is not supported by the embedded Supabase" in (error.findtext("Message") or "")


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"nonsense"),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n'),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name=""; filename="f"\r\n\r\n123'),
    ],
)
async def test_a_broken_form_is_refused_and_leaves_nothing(world: World, content_type: str, content: bytes) -> None:
    user = world.person()
    before = world.blobs()
    path = f"/object/documents/{user.folder}/a"
    answer = await user.send("POST", path, content=content, headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["statusCode"]) == (400, "400")
    assert world.blobs() == before
    assert await world.rows(user.folder) == []


async def test_a_form_as_supabase_js_sends_it(world: World) -> None:
    """The file's field has an empty name, and its type stands with the part."""
    user = world.person()
    form = {"": ("blob", b"%PDF", "application/pdf")}
    fields = {"cacheControl": "60", "metadata": '{"a": 1}'}
    answer = await user.send("POST", f"/object/documents/{user.folder}/a", files=form, data=fields)
    assert answer.json()["Key"] == f"documents/{user.folder}/a"
    [row] = await world.rows(user.folder)
    assert (row["metadata"]["mimetype"], row["metadata"]["cacheControl"]) == ("application/pdf", "max-age=60")
    assert row["user_metadata"] == {"a": 1}


@pytest.mark.parametrize("odd", ["a\0b", "\ud800"])
async def test_text_that_postgres_cannot_store_is_a_400(world: World, odd: str) -> None:
    user = world.person()
    body = json.dumps({"prefix": odd, "prefixes": [odd], "paths": [odd], "expiresIn": 60, "bucketId": odd})
    body = body[:-1] + ', "sourceKey": "a", "destinationKey": "b"}'
    kind = {"content-type": "application/json"}
    for method, path in (
        ("POST", "/object/list/documents"),
        ("DELETE", "/object/documents"),
        ("POST", "/object/sign/documents"),
        ("POST", "/object/copy"),
        ("POST", "/object/move"),
    ):
        assert (await user.send(method, path, content=body, headers=kind)).status_code in (200, 400), path
    assert (await user.send("GET", "/bucket/a%00")).status_code == 400


async def test_a_refused_key_is_told_after_a_large_body(world: World) -> None:
    user = world.person()
    headers = {"authorization": "Bearer x.y.z"}
    path = f"/object/documents/{user.folder}/a"
    answer = await user.send("POST", path, content=b"x" * 5_000_000, headers=headers)
    assert (answer.status_code, answer.json()["statusCode"]) == (400, "403")


async def test_a_private_bucket_is_closed_without_a_key(world: World) -> None:
    for path in ("/object/documents/a", "/bucket", "/object/info/documents/a"):
        assert (await world.http.get(world.url + path)).status_code == 401
    for path in ("/object/sign/documents/a", "/object/upload/sign/documents/a"):
        answer = await world.http.post(world.url + path, json={"expiresIn": 60})
        assert (answer.status_code, answer.json()["statusCode"]) == (400, "403")
    assert (await world.http.get(world.url + "/status")).status_code == 200


async def test_the_whole_of_supabase_py(world: World) -> None:
    """Signed up through Auth, with a key of either kind."""
    project = world.project
    for key in (project.anon_key, project.publishable_key):
        client = await acreate_client(project.api_url, key)
        answer = await client.auth.sign_up({"email": f"{uuid4()}@example.com", "password": "correct horse"})
        assert answer.user is not None
        files = client.storage.from_("documents")
        await files.upload(f"{answer.user.id}/a.txt", b"hello", {"content-type": "text/plain"})
        assert await files.download(f"{answer.user.id}/a.txt") == b"hello"
        [row] = await world.rows(answer.user.id)
        assert row["owner_id"] == answer.user.id
    admin = await acreate_client(project.api_url, project.secret_key)
    await admin.storage.from_("documents").upload("anywhere/a", b"x")
    [row] = await world.rows("anywhere/")
    assert row["owner_id"] is None


async def test_a_row_without_bytes_is_told_as_missing(world: World) -> None:
    user = world.person()
    await world.sql(
        "insert into storage.objects (bucket_id, name, version) values ('documents', %s, '../../etc/passwd')",
        f"{user.folder}/a",
    )
    with pytest.raises(StorageApiError) as refusal:
        await user.files.download(f"{user.folder}/a")
    assert (refusal.value.status, refusal.value.message) == ("404", "The resource was not found")
