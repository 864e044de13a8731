"""The query string of a Data API request, parsed: what to select, filter, order and page.

Pure functions from text to frozen values; nothing here knows a table or builds SQL. The grammar is PostgREST's:

    select   = item *("," item)              item = "*" | [alias ":"] field ["::" cast]
    field    = name *(("->" | "->>") key)    name and key may stand in double quotes
    filter   = field "=" ["not."] op "." value
    tree     = ["not."] ("and" | "or") "(" condition *("," condition) ")"
    order    = field [".asc" | ".desc"] [".nullsfirst" | ".nullslast"] *("," ...)

Anything else is refused with PGRST100, resource embedding by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pipeline.embedded.gateway.rest.errors import RestError, unparsable, unsupported

COMPARISONS = {
    "eq": "=",
    "neq": "<>",
    "gt": ">",
    "gte": ">=",
    "lt": "<",
    "lte": "<=",
    "like": "like",
    "ilike": "ilike",
    "match": "~",
    "imatch": "~*",
    "isdistinct": "is distinct from",
    "cs": "@>",
    "cd": "<@",
    "ov": "&&",
    "sl": "<<",
    "sr": ">>",
    "nxr": "&<",
    "nxl": "&>",
    "adj": "-|-",
}
TEXT_SEARCH = {
    "fts": "to_tsquery",
    "plfts": "plainto_tsquery",
    "phfts": "phraseto_tsquery",
    "wfts": "websearch_to_tsquery",
}
IS_VALUES = {
    "null": "is null",
    "not_null": "is not null",
    "true": "is true",
    "false": "is false",
    "unknown": "is unknown",
}
_QUANTIFIABLE = frozenset({"eq", "gt", "gte", "lt", "lte", "like", "ilike", "match", "imatch"})
_OPERATORS = frozenset({*COMPARISONS, *TEXT_SEARCH, "is", "in"})
_OPERATOR = re.compile(r"(not\.)?([a-z]+)(?:\(([^()]*)\))?\.", re.DOTALL)
_RESERVED = frozenset({"select", "order", "limit", "offset", "columns", "on_conflict"})
_LOGIC = {"and": ("and", False), "or": ("or", False), "not.and": ("and", True), "not.or": ("or", True)}
_EMBEDDED_OPTION = re.compile(r"\.(select|order|limit|offset|(not\.)?(and|or))$")
_AGGREGATE = re.compile(r"(?:^|\.)(?:count|sum|avg|min|max)\(\)$")
_TYPE_NAME = re.compile(  # goes into the SQL as it stands, hence no more than this
    r"(?:[a-z_]\w*\.)?[a-z_]\w*(?: precision| varying| with time zone| without time zone)?(?:\[\])?", re.I | re.ASCII
)
_MAX_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Field:
    """A column, or a place inside its JSON; each step of the path is (as text?, key or index)."""

    name: str
    path: tuple[tuple[bool, str | int], ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One item of `select`; `field` None stands for all columns."""

    field: Field | None
    alias: str | None = None
    cast: str | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. `value` is a tuple for `in` and for a quantified operator, else text."""

    field: Field
    operator: str
    value: str | tuple[str, ...]
    negated: bool = False
    quantifier: Literal["any", "all"] | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Conditions joined by `and` or `or`."""

    joiner: str
    members: tuple[Condition | Group, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One sort key, its SQL keywords already chosen from a closed list."""

    field: Field
    direction: Literal["", "asc", "desc"] = ""
    nulls: Literal["", "nulls first", "nulls last"] = ""


@dataclass(frozen=True, slots=True)
class Query:
    """A whole query string. `arguments` are what is neither an option nor a filter: an rpc's named arguments."""

    select: tuple[Column, ...] = (Column(None),)
    where: tuple[Condition | Group, ...] = ()
    order: tuple[Order, ...] = ()
    limit: int | None = None
    offset: int = 0
    columns: tuple[str, ...] | None = None
    on_conflict: tuple[str, ...] | None = None
    arguments: tuple[tuple[str, str], ...] = ()


def parse(pairs: Iterable[tuple[str, str]], *, rpc: bool = False) -> Query:
    """Parse the decoded (key, value) pairs; with `rpc`, a value without an operator is an argument, not an error.

    Raises RestError (PGRST100, PGRST108, PGRST123, PGRST127).
    """
    options: dict[str, str] = {}
    where: list[Condition | Group] = []
    arguments: list[tuple[str, str]] = []
    for key, value in pairs:
        if key in _RESERVED:
            options[key] = value
        elif key in _LOGIC:
            joiner, negated = _LOGIC[key]
            where.append(Group(joiner, _parse_members(key, value), negated))
        elif rpc and not is_filter(value):
            arguments.append((key, value))
        else:
            where.append(_parse_filter(key, value))
    offset = _parse_count("offset", options.get("offset"))
    return Query(
        select=parse_select(options.get("select", "*")),
        where=tuple(where),
        order=parse_order(options.get("order", "")),
        limit=_parse_count("limit", options.get("limit")),
        offset=offset or 0,
        columns=_parse_names("columns", options.get("columns")),
        on_conflict=_parse_names("on_conflict", options.get("on_conflict")),
        arguments=tuple(arguments),
    )


def is_filter(value: str) -> bool:
    """Whether a value begins with an operator, as `eq.3` does."""
    found = _OPERATOR.match(value)
    return found is not None and found[2] in _OPERATORS


def parse_select(text: str) -> tuple[Column, ...]:
    """The items of `select`."""
    if not text.strip():
        return (Column(None),)
    return tuple(_parse_column(item.strip(), text) for item in split(text, ","))


def parse_order(text: str) -> tuple[Order, ...]:
    """The items of `order`."""
    keys: list[Order] = []
    for item in split(text, ",") if text else ():
        field, rest = _read_field(item.strip(), "order", text)
        if rest.startswith("("):
            raise unsupported("ordering by a related table")
        direction: Literal["", "asc", "desc"] = ""
        nulls: Literal["", "nulls first", "nulls last"] = ""
        for word in rest.split(".")[1:] if rest else ():
            if word in ("asc", "desc") and not direction and not nulls:
                direction = "asc" if word == "asc" else "desc"
            elif word in ("nullsfirst", "nullslast") and not nulls:
                nulls = "nulls first" if word == "nullsfirst" else "nulls last"
            else:
                raise unparsable("order", text, f'unexpected "{word}" expecting asc, desc, nullsfirst or nullslast')
        if rest and not rest.startswith("."):
            raise unparsable("order", text, f'unexpected "{rest}"')
        keys.append(Order(field, direction, nulls))
    return tuple(keys)


def split(text: str, separator: str, *, brackets: bool = True) -> list[str]:
    """Cut at a separator outside of quotes and, with `brackets`, outside of any bracket.

    A quote opens only where a name or value begins; a backslash escapes inside of quotes.
    """
    parts: list[str] = []
    depth = start = position = 0
    quoted = False
    while position < len(text):
        char = text[position]
        if quoted:
            if char == "\\":
                position += 1
            elif char == '"':
                quoted = False
        elif char == '"' and (position == start or text[position - 1] in ".,:>({ "):
            quoted = True
        elif brackets and char in "({":
            depth += 1
        elif brackets and char in ")}":
            depth -= 1
        elif char == separator and depth == 0:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return parts


def unquote(text: str) -> str:
    """A value without the double quotes that protected it."""
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)
    return text


def _parse_count(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise unparsable(name, text, f"{name} must be a whole number that is not negative")
    return int(text)


def _parse_names(what: str, text: str | None) -> tuple[str, ...] | None:
    if not text:
        return None
    names = []
    for item in split(text, ","):
        field, rest = _read_field(item.strip(), what, text)
        if rest or field.path:
            raise unparsable(what, text, f'unexpected "{rest or item}"')
        names.append(field.name)
    return tuple(names)


def _parse_column(item: str, whole: str) -> Column:
    if item == "*":
        return Column(None)
    if item.startswith("...") or (item.endswith(")") and not _AGGREGATE.search(item)):
        raise unsupported(
            "resource embedding in select", "Select the related table in a request of its own, or make a view."
        )
    alias = None
    if head := re.match(r'\s*("(?:[^"\\]|\\.)*"|[^":()]+):(?!:)', item, re.DOTALL):
        alias, item = unquote(head[1].strip()), item[head.end() :]
    if _AGGREGATE.search(item):
        raise RestError(400, "PGRST123", "Use of aggregate functions is not allowed")
    field, rest = _read_field(item, "select parameter", whole)
    cast = None
    if rest.startswith("::"):
        cast, rest = rest[2:], ""
        if not _TYPE_NAME.fullmatch(cast):
            raise unparsable("select parameter", whole, f'unexpected "{cast}" expecting the name of a type')
    if rest:
        raise unparsable("select parameter", whole, f'unexpected "{rest}"')
    if alias is None and field.path:
        alias = next((str(key) for _, key in reversed(field.path) if isinstance(key, str)), field.name)
    return Column(field, alias, cast)


def _read_field(text: str, what: str, whole: str) -> tuple[Field, str]:
    """A field at the beginning of `text`, and what follows it. An unquoted name ends at . : ( ) , or ->."""
    name, rest = _read_name(text, r"(?:(?!->)[^\s\".:(),])(?:(?!->)[^\".:(),])*", what, whole)
    path: list[tuple[bool, str | int]] = []
    while rest.startswith("->"):
        as_text = rest.startswith("->>")
        key, rest = _read_name(rest[3 if as_text else 2 :], r"(?:(?!->)[^\".:(),])+", what, whole)
        index = re.fullmatch(r"-?\d{1,9}", key, re.ASCII)
        path.append((as_text, int(key) if index else key))
    return Field(name, tuple(path)), rest


def _read_name(text: str, plain: str, what: str, whole: str) -> tuple[str, str]:
    if quoted := re.match(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL):
        return unquote(quoted[0]), text[quoted.end() :]
    if found := re.match(plain, text):
        return found[0].strip(), text[found.end() :]
    unexpected = f'"{text[0]}"' if text else "end of input"
    raise unparsable(what, whole, f'unexpected {unexpected} expecting field name (* or [a..z0..9_$"])')


def _parse_filter(key: str, value: str) -> Condition:
    if embedded := _EMBEDDED_OPTION.search(key):
        raise _not_embedded(key[: embedded.start()])
    field, rest = _read_field(key, "filter", key)
    if rest.startswith("."):
        raise _not_embedded(field.name)
    if rest:
        raise unparsable("filter", key, f'unexpected "{rest}"')
    return _parse_condition(field, value, value, nested=False)


def _not_embedded(name: str) -> RestError:
    return RestError(
        400,
        "PGRST108",
        f"'{name}' is not an embedded resource in this request",
        hint="The embedded Data API does not support resource embedding.",
    )


def _parse_condition(field: Field, text: str, whole: str, *, nested: bool) -> Condition:
    found = _OPERATOR.match(text)
    if found is None or found[2] not in _OPERATORS:
        raise unparsable("filter", whole, f'unexpected "{text[:1]}" expecting "not" or operator (eq, gt, ...)')
    negated, operator, modifier, value = found[1] is not None, found[2], found[3], text[found.end() :]
    if operator == "is":
        if modifier is not None or value.lower() not in IS_VALUES:
            raise unparsable("filter", whole, f'unexpected "{value}" expecting null, not_null, true, false or unknown')
        return Condition(field, "is", value.lower(), negated)
    if operator == "in":
        if modifier is not None or not (value.startswith("(") and value.endswith(")")):
            raise unparsable("filter", whole, 'expecting "(" and ")" around the values of in')
        return Condition(field, "in", _parse_list(value[1:-1]), negated)
    if operator in TEXT_SEARCH:
        return Condition(field, operator, unquote(value) if nested else value, negated, language=modifier or None)
    if modifier is not None:
        if modifier not in ("any", "all") or operator not in _QUANTIFIABLE:
            raise unparsable("filter", whole, f'unexpected "({modifier})"')
        if not (value.startswith("{") and value.endswith("}")):
            raise unparsable("filter", whole, f'expecting "{{" and "}}" around the values of {operator}({modifier})')
        quantifier = "any" if modifier == "any" else "all"
        return Condition(field, operator, _parse_list(value[1:-1]), negated, quantifier)
    return Condition(field, operator, unquote(value) if nested else value, negated)


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(unquote(item) for item in split(text, ",", brackets=False)) if text else ()


def _parse_members(key: str, text: str, depth: int = 0) -> tuple[Condition | Group, ...]:
    text = text.strip()
    if depth > _MAX_DEPTH or not (text.startswith("(") and text.endswith(")")):
        raise unparsable("logic tree", key + text, 'expecting "(" and ")" around the conditions')
    return tuple(_parse_member(item.strip(), text, depth) for item in split(text[1:-1], ","))


def _parse_member(item: str, whole: str, depth: int) -> Condition | Group:
    if group := re.match(r"(not\.)?(and|or)(?=\()", item):
        return Group(group[2], _parse_members(group[2], item[group.end() :], depth + 1), group[1] is not None)
    field, rest = _read_field(item, "logic tree", whole)
    if not rest.startswith("."):
        raise unparsable("logic tree", whole, f'unexpected "{rest[:1]}" expecting "."')
    return _parse_condition(field, rest[1:], whole, nested=True)
