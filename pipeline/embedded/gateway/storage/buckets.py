"""Buckets: made, listed, changed, emptied and deleted as the caller, so that row-level security decides."""

from __future__ import annotations

from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.embedded.gateway.storage import errors, names
from pipeline.embedded.gateway.storage.rows import uuid_or_none
from pipeline.embedded.gateway.storage.service import Storage, json_body, text_of, whole_number

# `owner` is a text that is never null on the wire; storage3 refuses a bucket otherwise.
_AS_JSON = """json_build_object('id', id, 'name', name, 'owner', coalesce(owner::text, ''), 'public', public,
    'created_at', created_at, 'updated_at', updated_at, 'file_size_limit', file_size_limit,
    'allowed_mime_types', allowed_mime_types, 'type', type)::text"""
_SORTABLE = ("id", "name", "created_at", "updated_at")


async def create(storage: Storage, request: Request) -> Response:
    """POST {name, id?, public?, file_size_limit?, allowed_mime_types?}."""
    body = await json_body(request)
    name = names.check_bucket_name(text_of(body, "name"))
    bucket = names.check_bucket_name(str(body.get("id") or name))
    if body.get("type") not in (None, "STANDARD"):
        raise errors.not_supported("an analytics bucket")
    caller = storage.identify(request)
    statement = (
        "insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types) "
        "values (%s, %s, %s::uuid, %s, %s, %s, %s)"
    )
    limit = names.parse_size(body.get("file_size_limit"), storage.size_limit)
    allowed = names.check_allowed_types(body.get("allowed_mime_types"))
    values = (bucket, name, uuid_or_none(caller.owner), caller.owner, body.get("public") is True, limit, allowed)
    try:
        await storage.database.write(caller.scope("bucket.create"), (statement, values))
    except psycopg.errors.UniqueViolation:
        raise errors.already_exists("BucketAlreadyExists") from None
    return JSONResponse({"name": name})


async def list_all(storage: Storage, request: Request) -> Response:
    """GET ?limit&offset&sortColumn&sortOrder&search."""
    query = request.query_params
    column, direction = query.get("sortColumn", "name"), query.get("sortOrder", "asc")
    if column not in _SORTABLE or direction not in ("asc", "desc"):
        raise errors.invalid_request("querystring/sortColumn must be equal to one of the allowed values")
    statement = (
        f"select {_AS_JSON} from storage.buckets where strpos(name, %s) > 0 or %s = '' "  # noqa: S608
        f"order by {column} {direction} limit %s offset %s"
    )
    search = query.get("search", "").replace("\0", "")
    limit = whole_number(query["limit"], "limit", None, minimum=1) if "limit" in query else None
    offset = whole_number(query.get("offset"), "offset", 0, minimum=0)
    scope = storage.identify(request).scope("bucket.list")
    found = await storage.database.read(scope, (statement, (search, search, limit, offset)))
    return Response("[" + ",".join(row for (row,) in found[1]) + "]", media_type="application/json")


async def get(storage: Storage, request: Request) -> Response:
    statement = f"select {_AS_JSON} from storage.buckets where id = %s"  # noqa: S608
    scope = storage.identify(request).scope("bucket.get")
    found = await storage.database.read(scope, (statement, (request.path_params["bucket"],)))
    if not found[1]:
        raise errors.no_such_bucket()
    return Response(found[1][0][0], media_type="application/json")


async def update(storage: Storage, request: Request) -> Response:
    """PUT {public?, file_size_limit?, allowed_mime_types?}: what is left out stays."""
    body = await json_body(request)
    changes: dict[str, Any] = {}
    if "public" in body and body["public"] is not None:
        changes["public"] = body["public"] is True
    if "file_size_limit" in body:
        changes["file_size_limit"] = names.parse_size(body["file_size_limit"], storage.size_limit)
    if "allowed_mime_types" in body:
        changes["allowed_mime_types"] = names.check_allowed_types(body["allowed_mime_types"])
    if not changes:
        raise errors.invalid_request("No content provided")
    assignments = ", ".join(f"{column} = %s" for column in changes)
    statement = f"update storage.buckets set {assignments}, updated_at = now() where id = %s returning id"  # noqa: S608
    scope = storage.identify(request).scope("bucket.update")
    changed = await storage.database.write(scope, (statement, (*changes.values(), request.path_params["bucket"])))
    if not changed[1]:
        raise errors.no_such_bucket()
    return JSONResponse({"message": "Successfully updated"})


async def empty(storage: Storage, request: Request) -> Response:
    """POST: remove every object in one transaction, as service_role, for a caller who sees the bucket and one of them.

    The real server queues this and answers at once; here it is done when the answer comes.
    """
    bucket = request.path_params["bucket"]
    seen = await storage.database.read(
        storage.identify(request).scope("bucket.empty"),
        ("select 1 from storage.buckets where id = %s", (bucket,)),
        ("select 1 from storage.objects where bucket_id = %s limit 1", (bucket,)),
    )
    if not seen[1]:
        raise errors.no_such_bucket()
    if seen[2]:
        await storage.finish(_empty(storage, bucket))
    return JSONResponse({"message": "Successfully emptied"})


async def _empty(storage: Storage, bucket: str) -> None:
    statement = "delete from storage.objects where bucket_id = %s and created_at < now() returning version"
    removed = await storage.database.write((statement, (bucket,)))
    storage.blobs.remove(*(version for (version,) in removed[0]))


async def delete(storage: Storage, request: Request) -> Response:
    """DELETE: refused while the bucket holds an object, whoever can see it."""
    bucket = request.path_params["bucket"]
    # an upload in between is safe: the foreign key refuses the delete then
    found = await storage.database.read(
        ("select 1 from storage.buckets where id = %s", (bucket,)),
        ("select 1 from storage.objects where bucket_id = %s limit 1", (bucket,)),
    )
    if not found[0]:
        raise errors.no_such_bucket()
    if found[1]:
        raise errors.bucket_not_empty()
    statement = "delete from storage.buckets where id = %s returning id"
    deleted = await storage.database.write(storage.identify(request).scope("bucket.delete"), (statement, (bucket,)))
    if not deleted[1]:
        raise errors.no_such_bucket()
    return JSONResponse({"message": "Successfully deleted"})
