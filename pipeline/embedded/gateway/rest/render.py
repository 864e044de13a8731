"""From a parsed query and the catalogue to one SQL statement and its parameters.

Identifiers are quoted by psycopg.sql; keywords come from closed lists; types come from the catalogue or match
`query`'s pattern for a type's name; every other text of the client travels as a parameter. Each statement answers one
row: the number of rows on the page, the total (or null), the body as JSON text, which Postgres makes, and the status
and headers that a function may have set for the response.
"""

# ruff: noqa: S608 (the rules above are what keeps a client's text out of the SQL; tests try to break them)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from psycopg import sql

from pipeline.embedded.gateway.rest.catalog import Argument, Function, Table
from pipeline.embedded.gateway.rest.errors import RestError
from pipeline.embedded.gateway.rest.query import (
    COMPARISONS,
    IS_VALUES,
    TEXT_SEARCH,
    Column,
    Condition,
    Field,
    Group,
    Order,
    Query,
)

_RESPONSE = (
    "nullif(current_setting('response.status', true), ''), nullif(current_setting('response.headers', true), '')"
)
_TEXTUAL = ("text", "character", "json", "jsonb", '"char"', "name")


@dataclass(slots=True)
class Statement:
    """Query text in psycopg's placeholders, and what they stand for."""

    text: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)

    def bind(self, value: Any) -> str:
        """A placeholder for a value; the text may hold it anywhere, and more than once."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"%({name})s"


@dataclass(frozen=True, slots=True)
class Shape:
    """How the body is to look: one object or an array, without null fields, counted or not."""

    single: bool = False
    strip_nulls: bool = False
    count: bool = False


@lru_cache(maxsize=4096)
def identifier(*parts: str) -> str:
    """A quoted, perhaps qualified, name for use in query text with placeholders."""
    if any("\0" in part for part in parts):
        raise RestError(400, "22021", "A name cannot contain a NUL character")
    return sql.Identifier(*parts).as_string(None).replace("%", "%%")


@lru_cache(maxsize=4096)
def array_literal(values: tuple[str, ...]) -> str:
    """Postgres' text form of an array; as one parameter it lets one prepared statement serve any number of values."""
    return "{" + ",".join('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values) + "}"


def select(table: Table, schema: str, query: Query, limit: int | None, shape: Shape) -> Statement:
    """Read a table."""
    out = Statement()
    source = identifier(schema, table.name)
    columns = _columns(out, query.select, source)
    where = _where(out, query.where, source, table.columns)
    page = f"select {columns} from {source}{where}"
    page += _order(out, query.order, source) + _page(out, limit, query.offset)
    out.text = _paged(page, f"select 1 from {source}{where}", shape)
    return out


def insert(
    table: Table,
    schema: str,
    query: Query,
    columns: Sequence[str],
    body: str,
    shape: Shape,
    *,
    resolution: str | None,
    use_defaults: bool,
    representation: bool,
) -> Statement:
    """Insert the rows of a JSON object or array; `resolution` is merge-duplicates, ignore-duplicates or None."""
    out = Statement()
    target = identifier(schema, table.name)
    names = ", ".join(identifier(name) for name in columns)
    if columns:
        rows = _recordset(out, table, columns, body, use_defaults=use_defaults)
        command = f"insert into {target} ({names}) select {names} from {rows}"
    else:
        command = f"insert into {target} default values"
    conflict = query.on_conflict or table.key
    if resolution and conflict:
        arbiters = ", ".join(identifier(name) for name in conflict)
        changes = ", ".join(f"{identifier(name)} = excluded.{identifier(name)}" for name in columns)
        merge = resolution == "merge-duplicates" and changes
        command += f" on conflict ({arbiters}) do " + (f"update set {changes}" if merge else "nothing")
    return _mutation(out, command, target, query, shape, representation=representation)


def update(
    table: Table,
    schema: str,
    query: Query,
    columns: Sequence[str],
    body: str,
    shape: Shape,
    *,
    representation: bool,
) -> Statement:
    """Change the rows that the filters choose; without columns nothing is changed and no row answers."""
    out = Statement()
    target = identifier(schema, table.name)
    if not columns:
        command = f"select {_columns(out, query.select, target)} from {target} where false"
        out.text = f"with pgrst_page as ({command}) {_answer('pgrst_page', None, shape)}"
        return out
    changes = ", ".join(f"{identifier(name)} = pgrst_body.{identifier(name)}" for name in columns)
    rows = _recordset(out, table, columns, body, use_defaults=False)
    command = f"update {target} set {changes} from (select * from {rows} limit 1) pgrst_body"
    command += _where(out, query.where, target, table.columns)
    return _mutation(out, command, target, query, shape, representation=representation)


def delete(table: Table, schema: str, query: Query, shape: Shape, *, representation: bool) -> Statement:
    """Delete the rows that the filters choose."""
    out = Statement()
    target = identifier(schema, table.name)
    command = f"delete from {target}{_where(out, query.where, target, table.columns)}"
    return _mutation(out, command, target, query, shape, representation=representation)


def call(
    function: Function,
    schema: str,
    query: Query,
    arguments: Sequence[Argument],
    body: str,
    limit: int | None,
    shape: Shape,
) -> Statement:
    """Call a function with arguments from a JSON object, typed by json_to_record as the function declares them."""
    out = Statement()
    name = identifier(schema, function.name)
    origin = ""
    if function.takes_body:
        invocation = f"{name}({out.bind(body)}::{_type(function.arguments[0].type)})"
    elif arguments:
        typed = ", ".join(f"{identifier(one.name)} {_type(one.type)}" for one in arguments)
        given = ", ".join(
            f"{'variadic ' if one.variadic else ''}{identifier(one.name)} := pgrst_args.{identifier(one.name)}"
            for one in arguments
        )
        origin = f"json_to_record({out.bind(body)}::json) as pgrst_args({typed})"
        invocation = f"{name}({given})"
    else:
        invocation = f"{name}()"

    if function.returns_composite:
        called = f"{origin}, lateral {invocation} pgrst_result" if origin else f"{invocation} pgrst_result"
        called = f"select pgrst_result.* from {called}"
    else:
        called = f"select {invocation} as pgrst_scalar" + (f" from {origin}" if origin else "")
    if not function.returns_set:
        out.text = f"with pgrst_call as ({called}) {_one_result(out, function, query, shape)}"
        return out
    columns = _columns(out, query.select, "pgrst_call") if function.returns_composite else "*"
    where = _where(out, query.where, "pgrst_call", {})
    page = f"select {columns} from pgrst_call{where}"
    page += _order(out, query.order, "pgrst_call") + _page(out, limit, query.offset)
    item = "pgrst_row" if function.returns_composite else "pgrst_row.pgrst_scalar"
    out.text = _paged(page, f"select 1 from pgrst_call{where}", shape, item, source=f"pgrst_call as ({called}), ")
    return out


def _mutation(
    out: Statement, command: str, target: str, query: Query, shape: Shape, *, representation: bool
) -> Statement:
    columns = _columns(out, query.select, target) if representation else "1"
    total = "pgrst_page" if shape.count else None
    answer = _answer("pgrst_page", total, shape)
    if not representation:
        answer = f"select count(*), {'count(*)' if total else 'null::bigint'}, null::text, {_RESPONSE} from pgrst_page"
    out.text = f"with pgrst_page as ({command} returning {columns}) {answer}"
    return out


def _paged(page: str, everything: str, shape: Shape, item: str = "pgrst_row", source: str = "") -> str:
    ctes = f"{source}pgrst_page as ({page})"
    if shape.count:
        ctes += f", pgrst_all as ({everything})"
    return f"with {ctes} {_answer('pgrst_page', 'pgrst_all' if shape.count else None, shape, item)}"


def _answer(page: str, total: str | None, shape: Shape, item: str = "pgrst_row") -> str:
    """The outermost select: rows on the page, total, body."""
    counted = f"(select count(*) from {total})" if total else "null::bigint"
    value = f"json_agg({item})"
    if shape.strip_nulls:
        value = f"json_strip_nulls({value})"
    value = f"({value} -> 0)::text" if shape.single else f"coalesce({value}, '[]')::text"
    return f"select count(*), {counted}, {value}, {_RESPONSE} from {page} pgrst_row"


def _one_result(out: Statement, function: Function, query: Query, shape: Shape) -> str:
    """The answer of a function that returns no set: the value itself, or null."""
    if function.returns_void:
        return f"select count(*), null::bigint, null::text, {_RESPONSE} from pgrst_call"
    if function.returns_composite:
        source = f"(select {_columns(out, query.select, 'pgrst_call')} from pgrst_call)"
        item = "to_json(pgrst_row)"
    else:
        source, item = "pgrst_call", "to_json(pgrst_row.pgrst_scalar)"
    if shape.strip_nulls:
        item = f"json_strip_nulls({item})"
    value = f"coalesce(min({item}::text), 'null')"
    return f"select 1::bigint, null::bigint, {value}, {_RESPONSE} from {source} pgrst_row"


def _recordset(out: Statement, table: Table, columns: Sequence[str], body: str, *, use_defaults: bool) -> str:
    """The rows of the body, typed by the table; where a key is absent, null or with `use_defaults` the default."""
    typed = ", ".join(f"{identifier(name)} {_type(table.columns[name])}" for name in columns)
    given = f"{out.bind(body)}::json"
    array = f"(select case json_typeof(v) when 'array' then v else json_build_array(v) end from (select {given} v) one)"
    if not use_defaults:
        return f"json_to_recordset({array}) as pgrst_body({typed})"
    defaults = ", ".join(
        f"{out.bind(name)}::text, {table.defaults[name].replace('%', '%%')}"
        for name in columns
        if name in table.defaults
    )
    items = f"select jsonb_build_object({defaults}) || e as item from jsonb_array_elements({array}::jsonb) e"
    return f"(select r.* from ({items}) d, lateral jsonb_to_record(d.item) as r({typed})) pgrst_body"


def _type(name: str) -> str:
    return name.replace("%", "%%")


def _columns(out: Statement, items: Sequence[Column], source: str) -> str:
    return ", ".join(_column(out, item, source) for item in items)


def _column(out: Statement, item: Column, source: str) -> str:
    if item.field is None:
        return f"{source}.*"
    text = _field(out, item.field, source)
    if item.cast:
        text = f"cast({text} as {item.cast})"
    alias = item.alias or (item.field.name if item.cast else None)
    return f"{text} as {identifier(alias)}" if alias else text


def _field(out: Statement, place: Field, source: str) -> str:
    text = f"{source}.{identifier(place.name)}"
    if not place.path:
        return text
    text = f"to_jsonb({text})"
    for as_text, key in place.path:
        kind = "int" if isinstance(key, int) else "text"
        text += f" {'->>' if as_text else '->'} {out.bind(str(key))}::{kind}"
    return f"({text})"


def _where(out: Statement, members: Sequence[Condition | Group], source: str, types: dict[str, str]) -> str:
    if not members:
        return ""
    return " where " + " and ".join(_member(out, member, source, types) for member in members)


def _member(out: Statement, member: Condition | Group, source: str, types: dict[str, str]) -> str:
    if isinstance(member, Group):
        inner = f" {member.joiner} ".join(_member(out, one, source, types) for one in member.members)
        text = f"({inner})"
    else:
        text = _condition(out, member, source, types)
    return f"not {text}" if member.negated else text


def _condition(out: Statement, one: Condition, source: str, types: dict[str, str]) -> str:
    place = _field(out, one.field, source)
    if one.operator == "is":
        return f"({place} {IS_VALUES[str(one.value)]})"
    if isinstance(one.value, tuple):
        operator = "=" if one.operator == "in" else COMPARISONS[one.operator]
        values = tuple(map(_pattern, one.value)) if one.operator in ("like", "ilike") else one.value
        return f"({place} {operator} {one.quantifier or 'any'} ({out.bind(array_literal(values))}))"
    if one.operator in TEXT_SEARCH:
        # The language is a parameter cast by Postgres: it can name nothing but a configuration.
        language = f"{out.bind(one.language)}::regconfig, " if one.language else ""
        if one.field.path or types.get(one.field.name, "").startswith(_TEXTUAL):
            place = f"to_tsvector({language}{place})"
        return f"({place} @@ {TEXT_SEARCH[one.operator]}({language}{out.bind(one.value)}))"
    value = _pattern(one.value) if one.operator in ("like", "ilike") else one.value
    return f"({place} {COMPARISONS[one.operator]} {out.bind(value)})"


def _pattern(value: str) -> str:
    """`*` may stand for `%`, which a URL would have to escape."""
    return value.replace("*", "%")


def _order(out: Statement, keys: Sequence[Order], source: str) -> str:
    if not keys:
        return ""
    parts = [" ".join(filter(None, (_field(out, key.field, source), key.direction, key.nulls))) for key in keys]
    return " order by " + ", ".join(parts)


def _page(out: Statement, limit: int | None, offset: int) -> str:
    text = f" limit {out.bind(limit)}" if limit is not None else ""
    return text + (f" offset {out.bind(offset)}" if offset else "")
