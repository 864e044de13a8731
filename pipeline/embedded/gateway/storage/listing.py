"""Lists of a bucket's objects, as the caller sees them: one folder at a time (v1), or by prefix and cursor (v2)."""

from __future__ import annotations

import base64
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from pipeline.embedded.gateway.storage import errors
from pipeline.embedded.gateway.storage.service import Storage, json_body, whole_number

_SORTABLE = ("name", "updated_at", "created_at", "last_accessed_at")
_MAX_ROWS = 1500

# A name that goes on behind `prefix || search` with a further slash stands for its folder. Names compare without case.
_ENTRIES = """
with visible as (
    select o.*, length(%(prefix)s) as shown_from, strpos(substr(o.name, length(%(start)s) + 1), '/') as slash
    from storage.objects as o
    where o.bucket_id = %(bucket)s and starts_with(lower(o.name), lower(%(start)s))
), entries as (
    select distinct on (entry) entry as name, null::uuid as id, null::timestamptz as updated_at,
        null::timestamptz as created_at, null::timestamptz as last_accessed_at, null::jsonb as metadata
    from visible, substr(name, shown_from + 1, length(%(start)s) - shown_from + slash - 1) as entry
    where slash > 0
    union all
    select substr(name, shown_from + 1), id, updated_at, created_at, last_accessed_at, metadata
    from visible where slash = 0
), page as (
    select * from entries order by {order} limit %(limit)s offset %(offset)s
)
select coalesce(json_agg(page order by {order}), '[]')::text from page
"""

_FLAT = """
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
    select * from entries order by {order} limit %(limit)s offset %(offset)s
)
select coalesce(json_agg(page order by {order}), '[]')::text from page
"""


async def list_folder(storage: Storage, request: Request) -> Response:
    """POST {prefix, limit, offset, sortBy, search}: the files and folders right under a folder; folders have no id."""
    body = await json_body(request)
    prefix = _text(body, "prefix")
    if prefix and not prefix.endswith("/"):
        prefix += "/"
    column, direction = _sorting(body.get("sortBy"))
    by_name = f'lower(name) collate "C" {direction}, name collate "C" {direction}'
    order = by_name if column == "name" else f"id is not null, {column} {direction}, {by_name}"
    parameters = {
        "bucket": request.path_params["bucket"],
        "prefix": prefix,
        "start": prefix + _text(body, "search"),
        "limit": min(whole_number(body.get("limit"), "body/limit", 100, minimum=1), _MAX_ROWS),
        "offset": whole_number(body.get("offset"), "body/offset", 0, minimum=0),
    }
    scope = storage.identify(request).scope("object.list")
    result = await storage.database.read(scope, (_ENTRIES.format(order=order), parameters))
    return Response(result[1][0][0], media_type="application/json")


async def list_by_cursor(storage: Storage, request: Request) -> Response:
    """POST {prefix, limit, cursor, with_delimiter, sortBy}: full names; `nextCursor` leads to the next page."""
    body = await json_body(request)
    column, direction = _sorting(body.get("sortBy"))
    limit = min(whole_number(body.get("limit"), "body/limit", 1000, minimum=1), 1000)
    offset = _decode_cursor(body.get("cursor"))
    by_name = f'name collate "C" {direction}'
    order = by_name if column == "name" else f"id is not null, {column} {direction}, {by_name}"
    parameters = {
        "bucket": request.path_params["bucket"],
        "prefix": _text(body, "prefix"),
        "folders": bool(body.get("with_delimiter")),
        "limit": limit + 1,
        "offset": offset,
    }
    scope = storage.identify(request).scope("object.list_v2")
    result = await storage.database.read(scope, (_FLAT.format(order=order), parameters))
    entries = json.loads(result[1][0][0])
    more = len(entries) > limit
    folders, objects = [], []
    for entry in entries[:limit]:
        entry["key"] = entry["name"]
        (folders if entry.pop("folder") else objects).append(entry)
    answer: dict[str, Any] = {"hasNext": more, "folders": folders, "objects": objects}
    if more:
        answer["nextCursor"] = base64.b64encode(f"offset:{offset + limit}".encode()).decode()
    return JSONResponse(answer)


def _text(body: dict[str, Any], key: str) -> str:
    value = body.get(key) or ""
    if not isinstance(value, str) or "\0" in value:
        raise errors.invalid_request(f"body/{key} must be string")
    return value


def _sorting(asked: Any) -> tuple[str, str]:
    """Column and direction, each one of ours; an unknown one is refused."""
    asked = asked if isinstance(asked, dict) else {}
    column, direction = asked.get("column") or "name", asked.get("order") or "asc"
    if column not in _SORTABLE:
        raise errors.invalid_request("body/sortBy/column must be equal to one of the allowed values")
    if direction not in ("asc", "desc"):
        raise errors.invalid_request("body/sortBy/order must be equal to one of the allowed values")
    return column, direction


def _decode_cursor(cursor: Any) -> int:
    if not cursor:
        return 0
    try:
        label, _, offset = base64.b64decode(cursor).decode().partition(":")
        if label != "offset":
            raise ValueError(label)
        return whole_number(offset, "cursor", None, minimum=0)
    except (TypeError, ValueError):
        raise errors.invalid_request("Invalid Parameter continuation token") from None
