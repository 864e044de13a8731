"""Buckets: made, listed, changed, emptied and deleted as the caller, so that row-level security decides."""

from __future__ import annotations

from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.embedded.gateway.storage import errors, names
from pipeline.embedded.gateway.storage.requests import json_body, query
from pipeline.embedded.gateway.storage.rows import iso, uuid_or_none
from pipeline.embedded.gateway.storage.service import Storage

# `owner` is a text that is never null on the wire; storage3 refuses a bucket otherwise.
_AS_JSON = f"""jsonb_build_object('id', id, 'name', name, 'owner', coalesce(owner::text, ''), 'public', public,
    'created_at', {iso("created_at")}, 'updated_at', {iso("updated_at")}, 'file_size_limit', file_size_limit,
    'allowed_mime_types', allowed_mime_types)"""
_SORTABLE = ("id", "name", "created_at", "updated_at")
_CHANGEABLE = ("public", "file_size_limit", "allowed_mime_types")


async def create(storage: Storage, request: Request) -> Response:
    """POST {name, id?, public?, file_size_limit?, allowed_mime_types?}."""
    body = await json_body(request)
    name = names.check_bucket_name(body.text("name"))
    bucket = names.check_bucket_name(body.text("id", "") or name)
    if body.one_of("type", ("STANDARD", "ANALYTICS"), "STANDARD") == "ANALYTICS":
        raise errors.not_supported("an analytics bucket")
    caller = storage.identify(request)
    statement = (
        "insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types) "
        "values (%s, %s, %s::uuid, %s, %s, %s, %s)"
    )
    limit = names.parse_size(body.values.get("file_size_limit"), storage.size_limit)
    allowed = names.check_allowed_types(body.values.get("allowed_mime_types"))
    values = (bucket, name, uuid_or_none(caller.owner), caller.owner, body.boolean("public"), limit, allowed)
    try:
        await storage.database.write(caller.scope("bucket.create"), (statement, values))
    except psycopg.errors.UniqueViolation:
        raise errors.already_exists("BucketAlreadyExists") from None
    return JSONResponse({"name": name})


async def list_all(storage: Storage, request: Request) -> Response:
    """GET ?limit&offset&sortColumn&sortOrder&search."""
    asked = query(request)
    column = asked.one_of("sortColumn", _SORTABLE, "name")
    direction = asked.one_of("sortOrder", ("asc", "desc"), "asc")
    statement = (
        f"select ({_AS_JSON} || jsonb_build_object('type', type))::text from storage.buckets "  # noqa: S608
        f"where strpos(name, %s) > 0 or %s = '' order by {column} {direction} limit %s offset %s"
    )
    search = asked.text("search", "").replace("\0", "")
    limit = asked.integer("limit", minimum=1) if "limit" in asked else None
    offset = asked.integer("offset", 0, minimum=0)
    scope = storage.identify(request).scope("bucket.list")
    found = await storage.database.read(scope, (statement, (search, search, limit, offset)))
    return Response("[" + ",".join(row for (row,) in found[1]) + "]", media_type="application/json")


async def get(storage: Storage, request: Request) -> Response:
    statement = f"select {_AS_JSON}::text from storage.buckets where id = %s"  # noqa: S608
    scope = storage.identify(request).scope("bucket.get")
    found = await storage.database.read(scope, (statement, (request.path_params["bucket"],)))
    if not found[1]:
        raise errors.no_such_bucket()
    return Response(found[1][0][0], media_type="application/json")


async def update(storage: Storage, request: Request) -> Response:
    """PUT {public?, file_size_limit?, allowed_mime_types?}: what is left out stays."""
    body = await json_body(request)
    changes: dict[str, Any] = {}
    if body.values.get("public") is not None:
        changes["public"] = body.boolean("public")
    if "file_size_limit" in body:
        changes["file_size_limit"] = names.parse_size(body.values["file_size_limit"], storage.size_limit)
    if "allowed_mime_types" in body:
        changes["allowed_mime_types"] = names.check_allowed_types(body.values["allowed_mime_types"])
    if not changes:
        missing = (f"body must have required property '{key}'" for key in _CHANGEABLE)
        raise errors.invalid(", ".join((*missing, "body must match a schema in anyOf")))
    assignments = ", ".join(f"{column} = %s" for column in changes)
    statement = f"update storage.buckets set {assignments}, updated_at = now() where id = %s returning id"  # noqa: S608
    scope = storage.identify(request).scope("bucket.update")
    changed = await storage.database.write(scope, (statement, (*changes.values(), request.path_params["bucket"])))
    if not changed[1]:
        raise errors.no_such_bucket()
    return JSONResponse({"message": "Successfully updated"})


async def empty(storage: Storage, request: Request) -> Response:
    """POST with a service key: remove every object in one transaction.

    The real server queues this and answers at once, so that is what its answer says; here it is done by then.
    """
    bucket = request.path_params["bucket"]
    caller = storage.identify(request)
    if caller.role != "service_role":
        raise errors.invalid_role()
    seen = await storage.database.read(
        caller.scope("bucket.empty"), ("select 1 from storage.buckets where id = %s", (bucket,))
    )
    if not seen[1]:
        raise errors.no_such_bucket()
    await storage.finish(_empty(storage, bucket))
    return JSONResponse({"message": "Empty bucket has been queued. Completion may take up to an hour."})


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
