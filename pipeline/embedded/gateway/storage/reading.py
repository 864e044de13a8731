"""Reading objects: download, HEAD, info, and the URLs that stand for a permission to download.

A download is by name. A private bucket is read as the caller, under row-level security; a public one by anybody.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from pipeline.embedded.gateway.storage import errors, names, rows
from pipeline.embedded.gateway.storage.database import ANON, SERVICE, Caller
from pipeline.embedded.gateway.storage.requests import json_body, query
from pipeline.embedded.gateway.storage.rows import iso
from pipeline.embedded.gateway.storage.service import Storage

_COLUMNS = (
    f"id::text, name, version, bucket_id, metadata::text, user_metadata::text, {iso('updated_at')}, {iso('created_at')}"
)
_CHUNK = 256 * 1024
_LAST_DATE = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Found:
    """An object that the caller may read."""

    id: str
    name: str
    version: str | None
    bucket: str
    metadata: dict[str, Any]
    user_metadata: dict[str, Any] | None
    updated_at: str
    created_at: str


def place(request: Request) -> tuple[str, str]:
    """The bucket and the object's name in the path. A name that Storage would not take is just not there."""
    return names.check_bucket_name(request.path_params["bucket"]), request.path_params["name"]


async def _find(storage: Storage, caller: Caller | None, bucket: str, name: str) -> Found:
    """What the caller sees under that name; without one, what anybody may see."""
    found = await storage.database.read(
        ("select public from storage.buckets where id = %s", (bucket,)),
        rows.find(bucket, name, _COLUMNS),
        (caller or SERVICE).scope("object.get"),
        rows.find(bucket, name, _COLUMNS),
    )
    if not found[0]:
        # whoever needs no token is told the same of an object that is missing and of a bucket that is
        raise errors.no_such_key() if caller is None else errors.no_such_bucket()
    public = bool(found[0][0][0])
    if caller is None and not public:
        raise errors.no_such_bucket()
    seen = found[1] if public else found[3]
    if not seen:
        raise errors.no_such_key()
    id_, name, version, bucket, metadata, user_metadata, updated_at, created_at = seen[0]
    user = json.loads(user_metadata) if user_metadata else None
    return Found(id_, name, version, bucket, json.loads(metadata or "{}"), user, updated_at, created_at)


async def download(storage: Storage, request: Request) -> Response:
    """GET and HEAD with a token: ranges, ETag and If-None-Match; `?download=` names an attachment."""
    return await _serve(storage, request, storage.identify(request))


async def download_plain(storage: Storage, request: Request) -> Response:
    """GET and HEAD under an object's own path: with a token, or of a public bucket without one."""
    anonymous = "authorization" not in request.headers and "apikey" not in request.headers
    return await _serve(storage, request, ANON if anonymous else storage.identify(request))


async def download_public(storage: Storage, request: Request) -> Response:
    return await _serve(storage, request, None)


async def download_signed(storage: Storage, request: Request) -> Response:
    bucket, name = place(request)
    grant = storage.signer.verify(query(request).text("token"), bucket, name, "download")
    expires = format_datetime(datetime.fromtimestamp(min(grant.expires_at, _LAST_DATE), UTC), usegmt=True)
    return await _serve(storage, request, SERVICE, expires)


async def info(storage: Storage, request: Request) -> Response:
    return _describe(await _find(storage, storage.identify(request), *place(request)))


async def info_public(storage: Storage, request: Request) -> Response:
    return _describe(await _find(storage, None, *place(request)))


def _describe(found: Found) -> Response:
    metadata = found.metadata
    body = {
        "id": found.id,
        "name": found.name,
        "version": found.version,
        "bucket_id": found.bucket,
        "size": metadata.get("size"),
        "content_type": metadata.get("mimetype"),
        "cache_control": metadata.get("cacheControl"),
        "etag": metadata.get("eTag"),
        "metadata": found.user_metadata,
        "last_modified": found.updated_at,
        "created_at": found.created_at,
    }
    headers = {"cache-control": metadata.get("cacheControl"), "etag": metadata.get("eTag")}
    headers["last-modified"] = _http_date(modified) if (modified := _modified(found)) else None
    return JSONResponse(body, headers=_sendable(headers))


async def sign_one(storage: Storage, request: Request) -> Response:
    """POST {expiresIn}: a URL under which the object can be downloaded for so many seconds."""
    seconds = (await json_body(request)).integer("expiresIn", minimum=1)
    bucket, name = place(request)
    caller = storage.identify(request)
    if not (await storage.database.read(caller.scope("object.sign"), rows.find(bucket, name)))[1]:
        raise errors.no_such_key()
    return JSONResponse({"signedURL": _signed_url(storage, bucket, name, seconds)})


async def sign_many(storage: Storage, request: Request) -> Response:
    """POST {expiresIn, paths}: one entry for each path, with a URL or with the reason why there is none."""
    body = await json_body(request)
    body.require("expiresIn", "paths")
    seconds, paths = body.integer("expiresIn", minimum=1), body.texts("paths")
    bucket = request.path_params["bucket"]
    statement = "select name from storage.objects where bucket_id = %s and name = any(%s)"
    asked = [path for path in paths if "\0" not in path]
    scope = storage.identify(request).scope("object.sign_many")
    seen = {name for (name,) in (await storage.database.read(scope, (statement, (bucket, asked))))[1]}
    missing = "Either the object does not exist or you do not have access to it"
    entries = [
        {"error": None, "path": path, "signedURL": _signed_url(storage, bucket, path, seconds)}
        if path in seen
        else {"error": missing, "path": path, "signedURL": None}
        for path in paths
    ]
    return JSONResponse(entries)


def _signed_url(storage: Storage, bucket: str, name: str, seconds: int) -> str:
    # not percent-encoded: both SDKs encode what they get
    return f"/object/sign/{bucket}/{name}?token={storage.signer.sign_download(bucket, name, seconds)}"


async def _serve(storage: Storage, request: Request, caller: Caller | None, expires: str | None = None) -> Response:
    """The object's bytes as the caller may read them; `expires` is the time until which a signed URL holds."""
    bucket, name = place(request)
    for attempt in range(3):
        found = await _find(storage, caller, bucket, name)
        headers = _headers(found, request, expires)
        if _unchanged(found, request):
            return Response(status_code=304, headers=headers | {"content-length": "0"})
        try:
            file = storage.blobs.open(found.version)
        except FileNotFoundError:
            # replaced between the row and its file, or the bytes are lost
            if attempt < 2:
                continue
            break
        return await _send(file, request, headers)
    raise errors.StorageError(404, "NoSuchKey", "The resource was not found", error="Not found")


def _headers(found: Found, request: Request, expires: str | None) -> dict[str, str]:
    metadata = found.metadata
    media_type = str(metadata.get("mimetype") or "application/octet-stream")
    headers = {
        "accept-ranges": "bytes",
        # a page that ran in this origin could use the keys of whoever opens it
        "content-type": "text/plain" if "text/html" in media_type else media_type,
        "etag": metadata.get("eTag"),
        "x-robots-tag": "none",
        "expires": expires,
    }
    if expires is None:
        cache_control = str(metadata.get("cacheControl") or "no-cache")
        known = request.headers.get("if-none-match", metadata.get("eTag"))
        stale = "" if known == metadata.get("eTag") else ", stale-while-revalidate=30"
        headers["cache-control"] = cache_control + stale
    if modified := _modified(found):
        headers["last-modified"] = _http_date(modified)
    wanted = request.query_params.get("download")
    if wanted is not None:
        file_name = quote(wanted, safe="!'()*-._~")
        named = f" filename={file_name}; filename*=UTF-8''{file_name}" if wanted else ""
        headers["content-disposition"] = f"attachment;{named}"
    return _sendable(headers)


def _sendable(headers: dict[str, Any]) -> dict[str, str]:
    """Header values are latin-1, and a declared type can be anything; what cannot be sent is left out."""
    texts = {key: str(value) for key, value in headers.items() if value}
    return {key: value for key, value in texts.items() if value.isascii() and value.isprintable()}


def _http_date(time: datetime) -> str:
    return format_datetime(time, usegmt=True)


def _modified(found: Found) -> datetime | None:
    try:
        return datetime.fromisoformat(found.metadata["lastModified"]).astimezone(UTC).replace(microsecond=0)
    except (KeyError, TypeError, ValueError):
        return None


def _unchanged(found: Found, request: Request) -> bool:
    etag = found.metadata.get("eTag")
    if (asked := request.headers.get("if-none-match")) is not None:
        # `*` matches nothing here: the real server compares texts
        return etag in [tag.strip().removeprefix("W/") for tag in asked.split(",")]
    modified, since = _modified(found), request.headers.get("if-modified-since")
    if modified is None or since is None:
        return False
    try:
        return modified <= parsedate_to_datetime(since)
    except (TypeError, ValueError):
        return False


async def _send(file: BinaryIO, request: Request, headers: dict[str, str]) -> Response:
    size = os.fstat(file.fileno()).st_size
    try:
        span = _span(request.headers.get("range"), size)
    except errors.StorageError:
        file.close()
        raise
    status = 200
    first, length = 0, size
    if span is not None:
        first, length = span
        status = 206
        headers["content-range"] = f"bytes {first}-{first + length - 1}/{size}"
    headers["content-length"] = str(length)
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers)
    if length <= _CHUNK:
        with file:
            file.seek(first)
            return Response(file.read(length), status_code=status, headers=headers)
    return StreamingResponse(_pieces(file, first, length), status_code=status, headers=headers)


async def _pieces(file: BinaryIO, first: int, length: int) -> AsyncIterator[bytes]:
    with file:
        file.seek(first)
        while length > 0:
            piece = await asyncio.to_thread(file.read, min(_CHUNK, length))
            if not piece:
                return
            length -= len(piece)
            yield piece


def _span(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and length of the one range that is wanted, None for the whole; raises InvalidRange for any other."""
    if header is None:
        return None
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        raise errors.invalid_range()
    if match[1]:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
    else:
        first, last = max(size - int(match[2]), 0), size - 1
    if first > last:
        raise errors.invalid_range()
    return first, last - first + 1
