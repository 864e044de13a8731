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

from pipeline.embedded.gateway.storage import errors, rows
from pipeline.embedded.gateway.storage.database import SERVICE, Caller
from pipeline.embedded.gateway.storage.objects import place
from pipeline.embedded.gateway.storage.service import Storage, json_body, whole_number

_COLUMNS = (
    "id::text, name, version, bucket_id, metadata::text, user_metadata::text, to_jsonb(updated_at) #>> '{}', "
    "to_jsonb(created_at) #>> '{}'"
)
_CHUNK = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


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


async def _find(storage: Storage, caller: Caller | None, bucket: str, name: str) -> Found:
    """What the caller sees under that name; without one, what anybody may see."""
    found = await storage.database.read(
        ("select public from storage.buckets where id = %s", (bucket,)),
        rows.find(bucket, name, _COLUMNS),
        (caller or SERVICE).scope("object.get"),
        rows.find(bucket, name, _COLUMNS),
    )
    if not found[0]:
        raise errors.no_such_bucket()
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
    return await _serve(storage, request, storage.identify(request), {})


async def download_public(storage: Storage, request: Request) -> Response:
    return await _serve(storage, request, None, {})


async def download_signed(storage: Storage, request: Request) -> Response:
    bucket, name = place(request)
    grant = storage.signer.verify(request.query_params.get("token", ""), bucket, name, "download")
    expires = format_datetime(datetime.fromtimestamp(grant.expires_at, UTC), usegmt=True)
    return await _serve(storage, request, SERVICE, {"expires": expires})


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
    return JSONResponse(body)


async def sign_one(storage: Storage, request: Request) -> Response:
    """POST {expiresIn}: a URL under which the object can be downloaded for so many seconds."""
    body = await json_body(request)
    seconds = whole_number(body.get("expiresIn"), "body/expiresIn", None, minimum=1)
    bucket, name = place(request)
    caller = storage.identify(request)
    if not (await storage.database.read(caller.scope("object.sign"), rows.find(bucket, name)))[1]:
        raise errors.no_such_key()
    return JSONResponse({"signedURL": _signed_url(storage, bucket, name, seconds)})


async def sign_many(storage: Storage, request: Request) -> Response:
    """POST {expiresIn, paths}: one entry for each path, with a URL or with the reason why there is none."""
    body = await json_body(request)
    seconds = whole_number(body.get("expiresIn"), "body/expiresIn", None, minimum=1)
    paths = body.get("paths")
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) for path in paths):
        raise errors.invalid_request("body must have required property 'paths'")
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


async def _serve(storage: Storage, request: Request, caller: Caller | None, headers: dict[str, str]) -> Response:
    bucket, name = place(request)
    for attempt in range(3):
        found = await _find(storage, caller, bucket, name)
        headers = _headers(found, request) | headers
        if _unchanged(found, request):
            return Response(status_code=304, headers=headers)
        try:
            file = storage.blobs.open(found.version)
        except FileNotFoundError:
            # replaced between the row and its file, or the bytes are lost
            if attempt < 2:
                continue
            break
        return await _send(file, request, headers)
    raise errors.StorageError(404, "NoSuchKey", "The resource was not found", error="Not found")


def _headers(found: Found, request: Request) -> dict[str, str]:
    metadata = found.metadata
    media_type = str(metadata.get("mimetype") or "application/octet-stream")
    headers = {
        "accept-ranges": "bytes",
        # a page that ran in this origin could use the keys of whoever opens it
        "content-type": "text/plain" if "text/html" in media_type else media_type,
        "etag": str(metadata.get("eTag", "")),
        "cache-control": str(metadata.get("cacheControl") or "no-cache"),
        "x-robots-tag": "none",
    }
    if modified := _modified(found):
        headers["last-modified"] = format_datetime(modified, usegmt=True)
    wanted = request.query_params.get("download")
    if wanted is not None:
        file_name = quote(wanted, safe="!'()*-._~")
        named = f" filename={file_name}; filename*=UTF-8''{file_name}" if wanted else ""
        headers["content-disposition"] = f"attachment;{named}"
    # header values are latin-1; a declared type can be anything
    return {key: value for key, value in headers.items() if value and value.isascii() and value.isprintable()}


def _modified(found: Found) -> datetime | None:
    try:
        return datetime.fromisoformat(found.metadata["lastModified"]).astimezone(UTC).replace(microsecond=0)
    except (KeyError, TypeError, ValueError):
        return None


def _unchanged(found: Found, request: Request) -> bool:
    etag = found.metadata.get("eTag")
    if (asked := request.headers.get("if-none-match")) is not None:
        tags = [tag.strip().removeprefix("W/") for tag in asked.split(",")]
        return "*" in tags or etag in tags
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
    """First byte and length of a single range; None for the whole, and for what is no single range."""
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            return None
    else:
        first, last = max(size - int(match[2]), 0), size - 1
    if first > last:
        raise errors.invalid_range()
    return first, last - first + 1
