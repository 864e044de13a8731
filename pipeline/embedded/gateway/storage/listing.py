"""Lists of a bucket's objects, as the caller sees them: one folder at a time (v1), or by prefix and cursor (v2)."""

from __future__ import annotations

import base64
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.embedded.gateway.storage import errors
from pipeline.embedded.gateway.storage.requests import Fields, json_body
from pipeline.embedded.gateway.storage.rows import iso
from pipeline.embedded.gateway.storage.service import Storage

_SORTABLE = ("name", "updated_at", "created_at", "last_accessed_at")
_SORTABLE_BY_CURSOR = ("name", "updated_at", "created_at")
_MAX_ROWS = 1500

_AS_JSON = f"""jsonb_build_object('name', name, 'id', id, 'updated_at', {iso("updated_at")},
    'created_at', {iso("created_at")}, 'last_accessed_at', {iso("last_accessed_at")}, 'metadata', metadata)"""

# A name that goes on behind `prefix || search` with a further slash stands for its folder, which is sorted with that
# slash. Names compare without case.
_ENTRIES = f"""
with visible as (
    select o.*, length(%(prefix)s) as shown_from, strpos(substr(o.name, length(%(start)s) + 1), '/') as slash
    from storage.objects as o
    where o.bucket_id = %(bucket)s and starts_with(lower(o.name), lower(%(start)s))
), entries as (
    select distinct on (entry) entry as name, entry || '/' as path, null::uuid as id, null::timestamptz as updated_at,
        null::timestamptz as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
    from visible, substr(name, shown_from + 1, length(%(start)s) - shown_from + slash - 1) as entry
    where slash > 0
    union all
    select entry, entry, id, updated_at, created_at, last_accessed_at, metadata
    from visible, substr(name, shown_from + 1) as entry where slash = 0
), page as (
    select * from entries order by {{order}} limit %(limit)s offset %(offset)s
)
select coalesce(jsonb_agg({_AS_JSON} order by {{order}}), '[]')::text from page
"""  # noqa: S608

_FLAT = f"""
with entries as (
    select distinct on (case when folder then entry end, case when folder then null else name end)
        entry as name, folder, case when not folder then id end as id,
        case when not folder then updated_at end as updated_at, case when not folder then created_at end as created_at,
        case when not folder then last_accessed_at end as last_accessed_at,
        case when not folder then metadata end as metadata
    from storage.objects,
        strpos(substr(name, length(%(prefix)s) + 1), '/') as slash,
        lateral (select %(folders)s::boolean and slash > 0 as folder) as is_folder,
        lateral (select case when folder then left(name, length(%(prefix)s) + slash) else name end as entry) as shown
    where bucket_id = %(bucket)s and starts_with(name, %(prefix)s)
), page as (
    select * from entries order by {{order}} limit %(limit)s offset %(offset)s
)
select coalesce(jsonb_agg({_AS_JSON} || jsonb_build_object('folder', folder) order by {{order}}), '[]')::text from page
"""  # noqa: S608


async def list_folder(storage: Storage, request: Request) -> Response:
    """POST {prefix, limit, offset, sortBy, search}: the files and folders right under a folder; folders have no id."""
    body = await json_body(request)
    body.require("prefix")
    prefix = _storable(body.text("prefix"))
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    column, direction = _sorting(body, _SORTABLE)
    by_name = f'lower(path) collate "C" {direction}, path collate "C" {direction}'
    order = by_name if column == "name" else f"id is not null, {column} {direction}, {by_name}"
    parameters = {
        "bucket": request.path_params["bucket"],
        "prefix": prefix,
        "start": prefix + _storable(body.text("search", "")),
        "limit": min(body.integer("limit", 100, minimum=1), _MAX_ROWS),
        "offset": body.integer("offset", 0, minimum=0),
    }
    scope = storage.identify(request).scope("object.list")
    result = await storage.database.read(scope, (_ENTRIES.format(order=order), parameters))
    return Response(result[1][0][0], media_type="application/json")


async def list_by_cursor(storage: Storage, request: Request) -> Response:
    """POST {prefix, limit, cursor, with_delimiter, sortBy}: full names; `nextCursor` leads to the next page.

    With a delimiter, what lies under a folder is that folder, and each entry has its name below the prefix as `key`.
    """
    body = await json_body(request)
    column, direction = _sorting(body, _SORTABLE_BY_CURSOR)
    limit = min(body.integer("limit", 1000, minimum=1), 1000)
    offset = _decode_cursor(body.text("cursor", ""))
    prefix, folders = _storable(body.text("prefix", "")), body.boolean("with_delimiter")
    by_name = f'name collate "C" {direction}'
    order = by_name if column == "name" else f"id is not null, {column} {direction}, {by_name}"
    parameters = {
        "bucket": request.path_params["bucket"],
        "prefix": prefix,
        "folders": folders,
        "limit": limit + 1,
        "offset": offset,
    }
    scope = storage.identify(request).scope("object.list_v2")
    result = await storage.database.read(scope, (_FLAT.format(order=order), parameters))
    entries = json.loads(result[1][0][0])
    answer: dict[str, Any] = {"hasNext": len(entries) > limit, "folders": [], "objects": []}
    for entry in entries[:limit]:
        is_folder = entry.pop("folder")
        name = entry["name"]
        if is_folder:
            # a folder whose name is empty keeps no slash of its own
            entry["name"] = name.rstrip("/") + "/"
        if folders:
            entry["key"] = name[len(prefix) :].removesuffix("/")
        answer["folders" if is_folder else "objects"].append(entry)
    if answer["hasNext"]:
        answer["nextCursor"] = base64.b64encode(f"offset:{offset + limit}".encode()).decode()
        answer["nextCursorKey"] = entries[limit - 1]["name"]
    return JSONResponse(answer)


def _storable(text: str) -> str:
    if "\0" in text:
        raise errors.invalid_request("a text holds a character that Postgres cannot store")
    return text


def _sorting(body: Fields, sortable: tuple[str, ...]) -> tuple[str, str]:
    """Column and direction, each one of ours; an unknown one is refused."""
    asked = body.within("sortBy")
    return asked.one_of("column", sortable, "name"), asked.one_of("order", ("asc", "desc"), "asc")


def _decode_cursor(cursor: str) -> int:
    if not cursor:
        return 0
    try:
        label, _, offset = base64.b64decode(cursor).decode().partition(":")
        if label != "offset" or not offset.isascii() or not offset.isdigit():
            raise ValueError(label)
        return min(int(offset[:12]), 2**31 - 1)
    except ValueError:
        raise errors.invalid_parameter("Invalid Parameter continuation token") from None
