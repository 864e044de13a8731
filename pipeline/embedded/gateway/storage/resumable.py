"""Resumable uploads: the handlers that speak TUS at /upload/resumable.

An upload is created, and then its bytes come in parts, each behind the offset that the server has. The permission is
tried when it is created and again at every part, and each request says by itself, in `x-upsert`, whether it may
replace an object: what a user may do can change in between. The last part ends with the one final write, as
service_role, that every upload ends with. HEAD asks for no permission: whoever has the URL may know the offset.

Under /upload/resumable/sign, a signed upload URL's token in `x-signature` takes the place of the permission.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pipeline.embedded.gateway.storage import errors, names, objects, rows, tus
from pipeline.embedded.gateway.storage.database import SERVICE, Caller
from pipeline.embedded.gateway.storage.incoming import content_length
from pipeline.embedded.gateway.storage.service import Handler, Storage
from pipeline.embedded.gateway.storage.tus import TusError, answer
from pipeline.embedded.gateway.storage.uploads import Upload

_SECONDS = re.compile(r"-?\d+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Uploader:
    """On whose behalf a request uploads. With a signed URL the permission was tried when it was signed."""

    caller: Caller
    owner: str | None
    upsert: bool
    is_signed: bool = False


FindUploader = Callable[[str, str], Uploader]
"""Who uploads to (bucket, name)."""
Work = Callable[[Storage, Request, FindUploader], Awaitable[Response]]


def by_token(work: Work) -> Handler:
    """The work as the bearer of the request's token. One that does not hold is refused as elsewhere in Storage."""

    async def handle(storage: Storage, request: Request) -> Response:
        caller = storage.identify(request)
        uploader = Uploader(caller, caller.owner, request.headers.get("x-upsert") == "true")
        return await tus.speak(request, lambda: work(storage, request, lambda bucket, name: uploader))

    return handle


def by_signature(work: Work) -> Handler:
    """The work for whoever signed the upload URL."""

    async def handle(storage: Storage, request: Request) -> Response:
        def uploader(bucket: str, name: str) -> Uploader:
            token = request.headers.get("x-signature")
            if not token:
                raise errors.invalid_signature("Missing x-signature header")
            grant = storage.signer.verify(token, bucket, name, "upload")
            return Uploader(SERVICE, grant.owner, grant.upsert, is_signed=True)

        return await tus.speak(request, lambda: work(storage, request, uploader))

    return handle


async def options(storage: Storage, request: Request) -> Response:
    headers = {
        "tus-version": tus.VERSION,
        "tus-extension": tus.EXTENSIONS,
        "tus-max-size": str(storage.size_limit),
    }
    return answer(204, headers=headers)


async def create(storage: Storage, request: Request, find_uploader: FindUploader) -> Response:
    """POST: a new upload, whose URL is in `Location`; with a body of the protocol's type, its first part too."""
    if "upload-concat" in request.headers:
        raise TusError(tus.NO_CONCATENATION)
    length = tus.number(request, "upload-length")
    if (length is None) == ("upload-defer-length" not in request.headers):
        raise TusError(tus.INVALID_LENGTH)
    metadata = tus.parse_metadata(request.headers.get("upload-metadata", ""))
    if metadata is None:
        raise TusError(tus.METADATA_REQUIRED)
    bucket = names.check_bucket_name(metadata.get("bucketName") or "")
    name = names.check_object_name(metadata.get("objectName") or "")
    limit, allowed_types = await objects.bucket_rules(storage, bucket)
    if length is not None and length > limit:
        raise TusError(tus.TOO_LARGE)
    uploader = find_uploader(bucket, name)
    upload = Upload(bucket, name, length, metadata)
    await _try(storage, uploader, upload, "create")
    if media_type := metadata.get("contentType"):
        names.check_media_type(media_type, allowed_types)
    names.check_length(name)
    seconds = metadata.get("cacheControl") or ""
    metadata["cacheControl"] = f"max-age={seconds}" if _SECONDS.fullmatch(seconds) else "no-cache"

    headers = {
        "location": f"{str(request.url.replace(query='')).rstrip('/')}/{tus.encode_id(bucket, name, upload.version)}"
    }
    async with storage.uploads.turn(upload.version) as wanted:
        storage.uploads.create(upload)
        offset = 0
        if request.headers.get("content-type") == tus.BODY_TYPE:
            offset = await _receive(storage, request, upload, 0, limit, wanted)
            headers["upload-offset"] = str(offset)
        if offset == upload.length:
            await storage.finish(_complete(storage, upload, uploader.owner))
    return answer(201, headers=headers | _expiry(storage, upload, offset))


async def patch(storage: Storage, request: Request, find_uploader: FindUploader) -> Response:
    """PATCH: the part that begins at `Upload-Offset`. When the last byte is there, the object is written."""
    place = _place(request)
    offset = tus.number(request, "upload-offset")
    if offset is None:
        raise TusError(tus.MISSING_OFFSET)
    if "content-type" not in request.headers:
        raise TusError(tus.MISSING_CONTENT_TYPE)
    uploader = find_uploader(*place[:2])
    await _try(storage, uploader, storage.uploads.get(*place), "part")
    limit, _ = await objects.bucket_rules(storage, place[0])
    async with storage.uploads.turn(place[2]) as wanted:
        upload = storage.uploads.get(*place)
        if storage.uploads.offset(upload) != offset:
            raise TusError(tus.OFFSET_CONFLICT)
        length = tus.number(request, "upload-length")
        if length is not None:
            if upload.length is not None or length < offset:
                raise TusError(tus.INVALID_LENGTH)
            if length > limit:
                raise TusError(tus.TOO_LARGE)
            upload.length = length
            storage.uploads.save(upload)
        offset = await _receive(storage, request, upload, offset, limit, wanted)
        if offset == upload.length:
            await storage.finish(_complete(storage, upload, uploader.owner))
    return answer(204, headers={"upload-offset": str(offset)} | _expiry(storage, upload, offset))


async def head(storage: Storage, request: Request, find_uploader: FindUploader) -> Response:
    """HEAD: how far the upload has come. An earlier request that still holds it is told to stop first."""
    place = _place(request)
    find_uploader(*place[:2])
    async with storage.uploads.turn(place[2]):
        upload = storage.uploads.get(*place)
        offset = storage.uploads.offset(upload)
    headers = {"cache-control": "no-store", "upload-offset": str(offset)}
    headers |= {"upload-defer-length": "1"} if upload.length is None else {"upload-length": str(upload.length)}
    headers["upload-metadata"] = tus.format_metadata(upload.metadata)
    return answer(200, headers=headers)


async def terminate(storage: Storage, request: Request, find_uploader: FindUploader) -> Response:
    """DELETE: an upload that is not complete, with the permission that a part would need."""
    place = _place(request)
    await _try(storage, find_uploader(*place[:2]), storage.uploads.get(*place), "delete")
    async with storage.uploads.turn(place[2]):
        upload = storage.uploads.get(*place)
        if storage.uploads.offset(upload) == upload.length:
            raise TusError(tus.INVALID_TERMINATION)
        storage.uploads.remove(upload.version)
    return answer(204)


def _place(request: Request) -> tuple[str, str, str]:
    """Bucket, name and version in the upload's URL."""
    bucket, name, version = tus.decode_id(request.path_params["upload"])
    return names.check_bucket_name(bucket), names.check_object_name(name), version


async def _try(storage: Storage, uploader: Uploader, upload: Upload, operation: str) -> None:
    """The permission dry run, as of an upload in one piece."""
    if uploader.is_signed:
        return
    declared: dict[str, Any] = {}
    if media_type := upload.metadata.get("contentType"):
        declared["mimetype"] = media_type
    if upload.length is not None:
        declared["contentLength"] = upload.length
    trial = rows.Row(
        upload.bucket, upload.name, objects.DRY_RUN_VERSION, uploader.owner, declared, _user_metadata(upload)
    )
    await objects.try_write(storage, uploader.caller, trial, f"tus.upload.{operation}", upsert=uploader.upsert)


async def _receive(
    storage: Storage, request: Request, upload: Upload, offset: int, limit: int, wanted: asyncio.Event
) -> int:
    """Append the request's body, and return the offset behind it."""
    declared = content_length(request)
    end = limit if upload.length is None else upload.length
    if offset + (declared or 0) > end:
        raise TusError(tus.LENGTH_EXCEEDED)
    room = end - offset if declared is None else declared
    if not await storage.uploads.append(upload, tus.body(request, wanted), room):
        raise TusError(tus.TOO_LARGE)
    return storage.uploads.offset(upload)


async def _complete(storage: Storage, upload: Upload, owner: str | None) -> None:
    """The final write: the row of an upload whose bytes are all there. Refused, it leaves no bytes."""
    stored = await storage.uploads.finish(upload)
    media_type = upload.metadata.get("contentType") or "application/octet-stream"
    cache_control = upload.metadata.get("cacheControl") or "no-cache"
    metadata = objects.object_metadata(stored, media_type, cache_control)
    row = rows.Row(upload.bucket, upload.name, stored.version, owner, metadata, _user_metadata(upload))
    await objects.final_write(storage, row)


def _user_metadata(upload: Upload) -> dict[str, Any] | None:
    try:
        value = json.loads(upload.metadata.get("metadata") or "null")
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _expiry(storage: Storage, upload: Upload, offset: int) -> dict[str, str]:
    if offset == upload.length:
        return {}
    return {"upload-expires": tus.http_date(storage.uploads.expires(upload))}
