"""The requests of the Data API: read, insert, update, delete a table, call a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response

from pipeline.embedded.gateway.rest import render, resolve
from pipeline.embedded.gateway.rest.errors import RestError, unsupported
from pipeline.embedded.gateway.rest.execute import Answer, Session
from pipeline.embedded.gateway.rest.headers import (
    EXPOSED_SCHEMA,
    Media,
    Preferences,
    check_profile,
    content_range,
    media,
    preferences,
    window,
)
from pipeline.embedded.gateway.rest.query import Query, parse

_MOST_PARAMETERS = 1000
_JSON_TYPES = ("application/json", "application/vnd.pgrst.object+json", "application/vnd.pgrst.array+json", "")


async def table(request: Request, session: Session) -> Response:
    """/{table}"""
    name = request.path_params["table"]
    match request.method:
        case "GET" | "HEAD":
            return await _read(request, session, name)
        case "POST":
            return await _insert(request, session, name)
        case "PATCH":
            return await _update(request, session, name)
        case "DELETE":
            return await _delete(request, session, name)
        case "PUT":
            raise unsupported("PUT", "Use POST with Prefer: resolution=merge-duplicates, as .upsert() does.")
        case method:
            raise RestError(405, "PGRST117", f"Unsupported HTTP method: {method}")


async def function(request: Request, session: Session) -> Response:
    """/rpc/{function}"""
    reads = request.method in ("GET", "HEAD")
    if not reads and request.method != "POST":
        raise RestError(405, "PGRST101", f"Cannot use the {request.method} method on RPC")
    check_profile(request.headers, "accept-profile" if reads else "content-profile")
    query, wanted, form = _query(request, rpc=True), preferences(request.headers), media(request.headers)
    if reads:
        content: Any = dict(query.arguments)
        body = json.dumps(content)
    else:
        _check_content_type(request)
        raw = await request.body()
        content = resolve.parse_body(raw) if raw else {}
        body = raw.decode("utf-8", "replace") if raw else "{}"
    given = tuple(content) if isinstance(content, dict) else ()
    chosen, arguments = await resolve.find_function(session.catalog, request.path_params["function"], given)
    if not isinstance(content, dict) and not chosen.takes_body:
        raise RestError(400, "PGRST102", "Empty or invalid json", details="Expected a JSON object of named arguments.")

    limit, offset = window(request.headers, query.limit, query.offset)
    query = _at(query, offset)
    shape = render.Shape(form.single and chosen.returns_set, form.strip_nulls, wanted.count and chosen.returns_set)
    statement = render.call(chosen, EXPOSED_SCHEMA, query, arguments, body, limit, shape)
    check = _check_single if form.single and chosen.returns_set else None
    answer = await session.run(statement, read_only=reads, statement_timeout=chosen.timeout, check=check)
    if chosen.returns_void:
        return _respond(request, answer, 204, wanted, form)
    if chosen.returns_set:
        status, span = content_range(offset, answer.rows, answer.total)
    else:
        status, span = 200, "0-0/*"
    return _respond(request, answer, status, wanted, form, span)


async def _read(request: Request, session: Session, name: str) -> Response:
    check_profile(request.headers, "accept-profile")
    query, wanted, form = _query(request), preferences(request.headers), media(request.headers)
    limit, offset = window(request.headers, query.limit, query.offset)
    found = await resolve.find_table(session.catalog, name)
    shape = render.Shape(form.single, form.strip_nulls, wanted.count)
    statement = render.select(found, EXPOSED_SCHEMA, _at(query, offset), limit, shape)
    answer = await session.run(statement, read_only=True)
    status, span = content_range(offset, answer.rows, answer.total)
    if form.single:
        _check_single(answer)
    return _respond(request, answer, status, wanted, form, span)


async def _insert(request: Request, session: Session, name: str) -> Response:
    check_profile(request.headers, "content-profile")
    query, wanted, form = _query(request), preferences(request.headers), media(request.headers)
    _check_content_type(request)
    raw = await request.body()
    content = resolve.parse_body(raw)
    columns = resolve.body_columns(content, query.columns)
    found = await resolve.find_table(session.catalog, name)
    found = await resolve.find_columns(session.catalog, found, columns)
    if not columns and isinstance(content, list):
        if len(content) > 1:
            raise unsupported("inserting several rows of defaults", "Insert them one by one.")
        if not content:  # nothing to insert
            answer = Answer(0, 0 if wanted.count else None, "[]")
            return _mutated(request, answer, 201, wanted, form, counted_from=None)
    statement = render.insert(
        found,
        EXPOSED_SCHEMA,
        query,
        columns,
        raw.decode("utf-8", "replace"),
        render.Shape(form.single, form.strip_nulls, wanted.count),
        resolution=wanted.resolution,
        use_defaults=wanted.defaults,
        representation=wanted.returning == "representation",
    )
    answer = await session.run(statement, check=_mutation_check(wanted, form, affected=False))
    return _mutated(request, answer, 201, wanted, form, counted_from=None)


async def _update(request: Request, session: Session, name: str) -> Response:
    check_profile(request.headers, "content-profile")
    query, wanted, form = _query(request), preferences(request.headers), media(request.headers)
    _check_whole(query)
    _check_content_type(request)
    raw = await request.body()
    columns = resolve.body_columns(resolve.parse_body(raw), query.columns)
    found = await resolve.find_table(session.catalog, name)
    found = await resolve.find_columns(session.catalog, found, columns)
    statement = render.update(
        found,
        EXPOSED_SCHEMA,
        query,
        columns,
        raw.decode("utf-8", "replace"),
        render.Shape(form.single, form.strip_nulls, wanted.count),
        representation=wanted.returning == "representation",
    )
    answer = await session.run(statement, check=_mutation_check(wanted, form))
    return _mutated(request, answer, 200, wanted, form, counted_from=0)


async def _delete(request: Request, session: Session, name: str) -> Response:
    check_profile(request.headers, "content-profile")
    query, wanted, form = _query(request), preferences(request.headers), media(request.headers)
    _check_whole(query)
    found = await resolve.find_table(session.catalog, name)
    statement = render.delete(
        found,
        EXPOSED_SCHEMA,
        query,
        render.Shape(form.single, form.strip_nulls, wanted.count),
        representation=wanted.returning == "representation",
    )
    answer = await session.run(statement, check=_mutation_check(wanted, form))
    return _mutated(request, answer, 200, wanted, form, counted_from=None)


def _query(request: Request, *, rpc: bool = False) -> Query:
    try:
        pairs = parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        raise RestError(400, "PGRST100", f"The query has more than {_MOST_PARAMETERS} parameters") from None
    return parse((pair for pair in pairs if pair[0] != "apikey"), rpc=rpc)


def _at(query: Query, offset: int) -> Query:
    if query.offset == offset:
        return query
    return Query(query.select, query.where, query.order, query.limit, offset)


def _check_content_type(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in _JSON_TYPES:
        raise RestError(
            415, "PGRST102", f"Content-Type not acceptable: {kind}", hint="The embedded Data API reads JSON only."
        )


def _check_whole(query: Query) -> None:
    if query.limit is not None or query.offset or query.order:
        raise unsupported("limit, offset or order on an update or delete", "Choose the rows by filters.")


def _check_single(answer: Answer) -> None:
    if answer.rows != 1:
        raise RestError(
            406,
            "PGRST116",
            "Cannot coerce the result to a single JSON object",
            details=f"The result contains {answer.rows} rows",
        )


def _mutation_check(wanted: Preferences, form: Media, *, affected: bool = True) -> Callable[[Answer], None] | None:
    """What must hold before a change is committed; None when nothing must."""
    most = wanted.max_affected if affected else None
    single = form.single and wanted.returning == "representation"
    if most is None and not single:
        return None

    def check(answer: Answer) -> None:
        if most is not None and answer.rows > most:
            raise RestError(
                400,
                "PGRST124",
                "Query result exceeds max-affected preference constraint",
                details=f"The query affects {answer.rows} rows",
            )
        if single:
            _check_single(answer)

    return check


def _mutated(
    request: Request, answer: Answer, status: int, wanted: Preferences, form: Media, *, counted_from: int | None
) -> Response:
    total = "*" if answer.total is None else str(answer.total)
    span = "*" if counted_from is None or not answer.rows else f"{counted_from}-{counted_from + answer.rows - 1}"
    if wanted.returning != "representation":
        answer = Answer(answer.rows, answer.total, None, answer.status, answer.headers)
        status = 204 if status == 200 else status
    return _respond(request, answer, status, wanted, form, f"{span}/{total}")


def _respond(
    request: Request, answer: Answer, status: int, wanted: Preferences, form: Media, span: str | None = None
) -> Response:
    headers: dict[str, str] = {}
    if span is not None:
        headers["Content-Range"] = span
    if wanted.applied:
        headers["Preference-Applied"] = wanted.applied
    body = b""
    if answer.body is not None:
        headers["Content-Type"] = form.type
        body = b"" if request.method == "HEAD" else answer.body.encode()
    response = Response(body, answer.status or status, headers)
    if request.method == "HEAD":
        del response.headers["content-length"]
    for name, value in answer.headers:
        response.headers.append(name, value)
    return response
