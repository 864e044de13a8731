"""Writing objects: upload, move, copy, remove.

The real server writes everything that a client stores twice, and triggers on `storage.objects` see both:

1. the dry run, as the caller: the row is written with what the client declared, and rolled back. It decides who may
   write, and it comes before the bytes move.
2. the bytes go to a file under a new version.
3. the final write, as service_role and without a user, under a lock on (bucket, name). When it raises, the new bytes
   are removed; when it has committed, the replaced ones are. It ends even when the client has hung up.

A removal is one write, as the caller, committed. A refusal is answered at once, while the client may still be sending;
the server reads and drops the rest, so that the client comes to see it.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.embedded.gateway.storage import errors, names, rows
from pipeline.embedded.gateway.storage.blobs import Stored
from pipeline.embedded.gateway.storage.database import SERVICE, Caller, object_lock
from pipeline.embedded.gateway.storage.incoming import content_length, decode_metadata, open_body
from pipeline.embedded.gateway.storage.requests import Fields, json_body, query
from pipeline.embedded.gateway.storage.service import Storage

DRY_RUN_VERSION = "1"
MAX_UNDECLARED_BYTES = 5 * 1024**3
"""Bytes of a chunked body: what S3 takes in one piece. The bucket's limit is not compared, as by the real server."""


async def upload(storage: Storage, request: Request) -> Response:
    """POST: a new object, or with `x-upsert: true` a new version of one."""
    upsert = request.headers.get("x-upsert") == "true"
    return JSONResponse(await _upload(storage, request, upsert=upsert))


async def update(storage: Storage, request: Request) -> Response:
    """PUT: as an upsert."""
    return JSONResponse(await _upload(storage, request, upsert=True))


async def upload_signed(storage: Storage, request: Request) -> Response:
    """PUT with a signed upload URL: as service_role, for the user who signed it."""
    return JSONResponse(await _upload_signed(storage, request))


def place(request: Request) -> tuple[str, str]:
    """The bucket and the object's name in the path; raises InvalidBucketName and InvalidKey."""
    bucket = names.check_bucket_name(request.path_params["bucket"])
    return bucket, names.check_object_name(request.path_params["name"])


async def _upload(storage: Storage, request: Request, *, upsert: bool) -> dict[str, str]:
    caller = storage.identify(request)
    return await _store(storage, request, caller, caller.owner, upsert=upsert)


async def _upload_signed(storage: Storage, request: Request) -> dict[str, str]:
    bucket, name = place(request)
    grant = storage.signer.verify(query(request).text("token"), bucket, name, "upload")
    stored = await _store(storage, request, SERVICE, grant.owner, upsert=grant.upsert)
    return {"Key": stored["Key"]}


async def _store(
    storage: Storage, request: Request, caller: Caller, owner: str | None, *, upsert: bool
) -> dict[str, str]:
    bucket, name = place(request)
    limit, allowed = await bucket_rules(storage, bucket)
    incoming = await open_body(request)
    if names.is_folder_placeholder(name):
        limit = 0
    else:
        names.check_media_type(incoming.media_type, allowed)
    if not incoming.is_form:
        if incoming.declared_length is None:
            # the real server counts nothing here; what the final write finds too large is refused there
            limit = MAX_UNDECLARED_BYTES
        elif incoming.declared_length > limit:
            raise errors.too_large()

    declared: dict[str, Any] = {"mimetype": incoming.media_type}
    if incoming.declared_length is not None:
        declared["contentLength"] = incoming.declared_length
    trial = rows.Row(bucket, name, DRY_RUN_VERSION, owner, declared, incoming.user_metadata)
    await try_write(storage, caller, trial, "object.upload", upsert=upsert)
    names.check_length(name)
    with storage.blobs.write() as blob:
        async for chunk in incoming.chunks:
            if chunk:
                blob.write(chunk)
            if blob.size > limit:
                raise errors.too_large()
        stored = blob.finish()
    metadata = object_metadata(stored, incoming.media_type, incoming.cache_control)
    row = rows.Row(bucket, name, stored.version, owner, metadata, incoming.user_metadata or {})
    object_id, _ = await storage.finish(final_write(storage, row))
    return {"Id": object_id, "Key": f"{bucket}/{name}"}


async def bucket_rules(storage: Storage, bucket: str) -> tuple[int, list[str] | None]:
    """The bytes that a file may have, and the media types that the bucket allows. Raises NoSuchBucket."""
    found = await storage.database.fetch(
        "select file_size_limit, allowed_mime_types from storage.buckets where id = %s", (bucket,)
    )
    if not found:
        raise errors.no_such_bucket()
    limit, allowed = found[0]
    return min(limit or storage.size_limit, storage.size_limit), allowed


async def try_write(storage: Storage, caller: Caller, row: rows.Row, operation: str, *, upsert: bool) -> None:
    """The permission dry run of a row; raises what the final write would be refused with."""
    try:
        await storage.database.read(caller.scope(operation), row.upsert() if upsert else row.insert())
    except psycopg.errors.UniqueViolation:
        raise errors.already_exists() from None


async def final_write(storage: Storage, row: rows.Row) -> tuple[str, str]:
    """The id and the row as JSON. `row.version` has its bytes already; when it is refused, they are removed."""
    try:
        results = await storage.database.write(
            object_lock(row.bucket, row.name),
            rows.find(row.bucket, row.name, "version", lock=True),
            row.upsert(),
        )
    except BaseException as error:
        _drop_unless_committed(storage, row.version, error)
        raise
    # one that was cut off behind its commit is repeated with the version that it wrote
    storage.blobs.remove(*(version for (version,) in results[1] if version != row.version))
    object_id, whole = results[2][0]
    return str(object_id), whole


def _drop_unless_committed(storage: Storage, version: str, error: BaseException) -> None:
    """Remove the bytes of a write that the database refused; a lost connection leaves open whether it did."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P")):
        storage.blobs.remove(version)


def object_metadata(stored: Stored, media_type: str, cache_control: str) -> dict[str, Any]:
    """The column `metadata` of an object whose bytes are there."""
    return {
        "eTag": stored.etag,
        "size": stored.size,
        "mimetype": media_type,
        "cacheControl": cache_control,
        "lastModified": _now(),
        "contentLength": stored.size,
        "httpStatusCode": 200,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def sign_upload(storage: Storage, request: Request) -> Response:
    """POST: a URL under which one object may be uploaded within two hours. INSERT is checked now, and not again.

    Whether the name can be used is found out with the upload.
    """
    bucket, name = request.path_params["bucket"], request.path_params["name"]
    caller = storage.identify(request)
    upsert = request.headers.get("x-upsert") == "true"
    user_metadata = decode_metadata(request.headers.get("x-metadata"))
    declared: dict[str, Any] = {"contentLength": content_length(request) or 0}
    if media_type := request.headers.get("content-type"):
        declared["mimetype"] = media_type
    row = rows.Row(bucket, name, DRY_RUN_VERSION, caller.owner, declared, user_metadata)
    await try_write(storage, caller, row, "object.sign_upload_url", upsert=upsert)
    token = storage.signer.sign_upload(bucket, name, owner=caller.owner, upsert=upsert)
    return JSONResponse({"url": f"/object/upload/sign/{bucket}/{name}?token={token}", "token": token})


async def move(storage: Storage, request: Request) -> Response:
    """POST {bucketId, sourceKey, destinationKey, destinationBucket?}: same id, new name and version."""
    body = await json_body(request)
    source, target = _source_and_target(body)
    caller = storage.identify(request)
    version = str(uuid4())
    tried = await storage.database.read(
        caller.scope("object.move"), rows.find(*source), rows.move(source, target, version, caller.owner)
    )
    if not tried[1] or not tried[2]:
        raise errors.no_such_key()
    names.check_length(target[1])
    if source != target:
        await storage.finish(_move_finally(storage, source, target, version, caller.owner))
    return JSONResponse({"message": "Successfully moved"})


def _source_and_target(body: Fields) -> tuple[tuple[str, str], tuple[str, str]]:
    """Bucket and name of each; raises InvalidKey and InvalidRequest."""
    body.require("bucketId", "sourceKey", "destinationKey")
    source = (body.text("bucketId"), names.check_object_name(body.text("sourceKey")))
    bucket = body.text("destinationBucket", "") or source[0]
    return source, (bucket, names.check_object_name(body.text("destinationKey")))


async def _move_finally(
    storage: Storage, source: tuple[str, str], target: tuple[str, str], version: str, owner: str | None
) -> None:
    found = await storage.database.fetch(*rows.find(*source, columns="version, metadata::text"))
    if not found:
        raise errors.no_such_key()
    old_version, metadata = found[0][0], json.loads(found[0][1] or "{}") | {"lastModified": _now()}
    _duplicate(storage, old_version, version)
    try:
        results = await storage.database.write(
            object_lock(*target),
            rows.find(*source, "version", lock=True),
            rows.move(source, target, version, owner, replaces=old_version, metadata=json.dumps(metadata)),
        )
    except BaseException as error:
        _drop_unless_committed(storage, version, error)
        raise
    if not results[2]:
        # replaced or removed since it was read: what is newer stays
        storage.blobs.remove(version)
        raise errors.resource_locked()
    storage.blobs.remove(*(row[0] for row in results[1]))


def _duplicate(storage: Storage, version: str | None, copy: str) -> None:
    try:
        storage.blobs.duplicate(version, copy)
    except FileNotFoundError:
        raise errors.no_such_key() from None


async def copy(storage: Storage, request: Request) -> Response:
    """POST {bucketId, sourceKey, destinationKey, destinationBucket?, copyMetadata?, metadata?}: a new object."""
    body = await json_body(request)
    source, target = _source_and_target(body)
    caller = storage.identify(request)
    columns = "version, metadata::text, user_metadata::text"
    found = (await storage.database.read(caller.scope("object.copy"), rows.find(*source, columns)))[1]
    if not found:
        raise errors.no_such_key()
    old_version, metadata = found[0][0], json.loads(found[0][1] or "{}")
    user_metadata = json.loads(found[0][2]) if found[0][2] else None
    if body.values.get("copyMetadata", True) in (False, "false", 0):
        asked = body.within("metadata")
        metadata |= {key: asked.text(key) for key in ("cacheControl", "mimetype") if key in asked}
        user_metadata = decode_metadata(request.headers.get("x-metadata"))
    upsert = request.headers.get("x-upsert") == "true"
    trial = rows.Row(*target, DRY_RUN_VERSION, caller.owner, metadata, user_metadata)
    await try_write(storage, caller, trial, "object.copy", upsert=upsert)
    names.check_length(target[1])

    version = str(uuid4())
    _duplicate(storage, old_version, version)
    row = rows.Row(*target, version, caller.owner, metadata | {"lastModified": _now()}, user_metadata)
    object_id, whole = await storage.finish(final_write(storage, row))
    return JSONResponse({"Id": object_id, "Key": "/".join(target), **json.loads(whole)})


async def remove(storage: Storage, request: Request) -> Response:
    """DELETE one object, as the caller; who may not is told 403."""
    bucket, name = place(request)
    caller = storage.identify(request)
    return await storage.finish(_remove_one(storage, caller, bucket, name))


async def _remove_one(storage: Storage, caller: Caller, bucket: str, name: str) -> Response:
    results = await storage.database.write(
        rows.find(bucket, name, "version", lock=True),
        caller.scope("object.delete"),
        ("delete from storage.objects where bucket_id = %s and name = %s returning version", (bucket, name)),
    )
    if not results[0]:
        raise errors.no_such_key()
    if not results[2]:
        raise errors.access_denied()
    storage.blobs.remove(results[2][0][0])
    return JSONResponse({"message": "Successfully deleted"})


async def remove_many(storage: Storage, request: Request) -> Response:
    """DELETE {prefixes: names}: those that the caller may delete, as rows; the others are passed over in silence."""
    prefixes = (await json_body(request)).texts("prefixes")
    bucket = request.path_params["bucket"]
    wanted = [name for name in prefixes if "\0" not in name]
    return await storage.finish(_remove_many(storage, storage.identify(request), bucket, wanted))


async def _remove_many(storage: Storage, caller: Caller, bucket: str, wanted: list[str]) -> Response:
    statement = f"delete from storage.objects where bucket_id = %s and name = any(%s) returning version, {rows.AS_JSON}"  # noqa: S608
    removed = (await storage.database.write(caller.scope("object.delete_many"), (statement, (bucket, wanted))))[1]
    storage.blobs.remove(*(version for version, _ in removed))
    return Response("[" + ",".join(row for _, row in removed) + "]", media_type="application/json")
