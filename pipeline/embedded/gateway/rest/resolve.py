"""From names in a request to the catalogue's tables, columns and functions, with the errors for what is not there."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from pipeline.embedded.gateway.rest.catalog import Argument, Catalog, CatalogCache, Function, Table
from pipeline.embedded.gateway.rest.errors import RestError
from pipeline.embedded.gateway.rest.headers import EXPOSED_SCHEMA


async def find_table(cache: CatalogCache, name: str) -> Table:
    """The table of that name; a miss reads the catalogue anew (PGRST205)."""
    for catalog in (await cache.get(), None):
        catalog = catalog or await cache.reload()
        if table := catalog.tables.get(name):
            return table
    near = (await cache.get()).table_like(name)
    raise RestError(
        404,
        "PGRST205",
        f"Could not find the table '{EXPOSED_SCHEMA}.{name}' in the schema cache",
        hint=f"Perhaps you meant the table '{EXPOSED_SCHEMA}.{near}'" if near else None,
    )


async def find_columns(cache: CatalogCache, table: Table, names: Collection[str]) -> Table:
    """The table, read anew if need be, once every name is a column of it (PGRST204)."""
    if not set(names) <= table.columns.keys():
        table = (await cache.reload()).tables.get(table.name, table)
    for name in names:
        if name not in table.columns:
            raise RestError(
                400, "PGRST204", f"Could not find the '{name}' column of '{table.name}' in the schema cache"
            )
    return table


async def find_function(cache: CatalogCache, name: str, given: Sequence[str]) -> tuple[Function, tuple[Argument, ...]]:
    """The one function that takes exactly these named arguments, and those arguments (PGRST202, PGRST203)."""
    for catalog in (await cache.get(), None):
        catalog = catalog or await cache.reload()
        candidates = [one for one in catalog.functions.get(name, ()) if _accepts(one, given)]
        named = [one for one in candidates if not one.takes_body]
        candidates = named or candidates
        if len(candidates) == 1:
            function = candidates[0]
            return function, tuple(one for one in function.arguments if one.name in given)
        if candidates:
            raise _ambiguous(candidates)
    raise _unknown(await cache.get(), name, given)


def _accepts(function: Function, given: Sequence[str]) -> bool:
    if function.takes_body:
        return True
    names = {one.name for one in function.arguments}
    required = {one.name for one in function.arguments if one.required and not one.variadic}
    return required <= set(given) <= names


def _signature(function: Function) -> str:
    arguments = ", ".join(f"{one.name} => {one.type}" for one in function.arguments)
    return f"{EXPOSED_SCHEMA}.{function.name}({arguments})"


def _ambiguous(candidates: Sequence[Function]) -> RestError:
    return RestError(
        300,
        "PGRST203",
        "Could not choose the best candidate function between: " + ", ".join(map(_signature, candidates)),
        hint="Try renaming the parameters or the function itself in the database "
        "so function overloading can be resolved",
    )


def _unknown(catalog: Catalog, name: str, given: Sequence[str]) -> RestError:
    full = f"{EXPOSED_SCHEMA}.{name}"
    listed = ", ".join(given)
    if given:
        parameters = f"parameter{'s' if len(given) > 1 else ''} {listed}"
        details = f"Searched for the function {full} with {parameters} or with a single unnamed json/jsonb parameter"
    else:
        details = f"Searched for the function {full} without parameters"
    hint = None
    if others := catalog.functions.get(name):
        options = [f"{EXPOSED_SCHEMA}.{name}({', '.join(a.name for a in one.arguments)})" for one in others]
        hint = f"Perhaps you meant to call the function {options[0]}"
    elif near := catalog.function_like(name):
        hint = f"Perhaps you meant to call the function {EXPOSED_SCHEMA}.{near}"
    return RestError(
        404,
        "PGRST202",
        f"Could not find the function {full}({listed}) in the schema cache"
        if given
        else f"Could not find the function {full} without parameters in the schema cache",
        details=f"{details}, but no matches were found in the schema cache.",
        hint=hint,
    )


def parse_body(raw: bytes) -> Any:
    """The request's body as JSON (PGRST102)."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise RestError(400, "PGRST102", "Empty or invalid json") from None


def body_columns(content: Any, chosen: Sequence[str] | None) -> tuple[str, ...]:
    """The columns that a body of one object or an array of objects writes; `chosen` is the query's `columns`."""
    rows = content if isinstance(content, list) else [content]
    if not all(isinstance(row, dict) for row in rows):
        raise RestError(400, "PGRST102", "Empty or invalid json", details="Expected a JSON object or an array of them.")
    if chosen is not None:
        return tuple(dict.fromkeys(chosen))
    keys = tuple(rows[0]) if rows else ()
    if any(row.keys() != set(keys) for row in rows[1:]):
        raise RestError(400, "PGRST102", "All object keys must match")
    return keys
