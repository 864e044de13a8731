"""What the exposed schema holds: tables with their columns, functions with their arguments, roles with their limits.

Read once in a single statement, again on `notify pgrst, 'reload schema'` and when a request names something unknown.
It decides how a request becomes SQL, never whether it is allowed: that is left to Postgres, as the caller's role.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import psycopg

_SQL = """
select jsonb_build_object(
  'tables', coalesce((
    select jsonb_agg(jsonb_build_object(
      'name', c.relname,
      'columns', (
        select jsonb_object_agg(a.attname, format_type(a.atttypid, a.atttypmod))
        from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped),
      'defaults', (
        select coalesce(jsonb_object_agg(a.attname, pg_get_expr(d.adbin, d.adrelid)), '{}')
        from pg_attribute a
        join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attgenerated = ''),
      'key', (
        select coalesce(jsonb_agg(a.attname order by array_position(i.indkey::int2[], a.attnum)), '[]')
        from pg_index i
        join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
        where i.indrelid = c.oid and i.indisprimary)))
    from pg_class c
    where c.relnamespace = s.oid and c.relkind in ('r', 'p', 'v', 'm', 'f') and not c.relispartition), '[]'),
  'functions', coalesce((
    select jsonb_agg(jsonb_build_object(
      'name', p.proname,
      'arguments', (
        select coalesce(jsonb_agg(jsonb_build_object(
          'name', coalesce(p.proargnames[t.position], ''),
          'type', format_type(t.type, null),
          'mode', coalesce(p.proargmodes[t.position]::text, 'i')) order by t.position), '[]')
        from unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) with ordinality t (type, position)),
      'optional', p.pronargdefaults,
      'volatile', p.provolatile = 'v',
      'set', p.proretset,
      'void', p.prorettype = 'pg_catalog.void'::regtype,
      'composite', r.typtype = 'c' or coalesce(p.proargmodes::text[] && '{t,b,o}'::text[], false),
      'timeout', (
        select split_part(o, '=', 2) from unnest(p.proconfig) o where o like 'statement_timeout=%%' limit 1)))
    from pg_proc p
    join pg_type r on r.oid = p.prorettype
    where p.pronamespace = s.oid and p.prokind = 'f'
      and p.prorettype not in ('pg_catalog.trigger'::regtype, 'pg_catalog.event_trigger'::regtype)), '[]'),
  'timeouts', coalesce((
    select jsonb_object_agg(r.rolname, split_part(o, '=', 2))
    from pg_db_role_setting d
    join pg_roles r on r.oid = d.setrole and d.setdatabase = 0
    cross join unnest(d.setconfig) o
    where o like 'statement_timeout=%%'), '{}'))
from pg_namespace s
where s.nspname = %s
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view: the SQL type of each column, the default's text where it has one, its primary key."""

    name: str
    columns: dict[str, str]
    defaults: dict[str, str]
    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Argument:
    """An input argument of a function."""

    name: str
    type: str
    required: bool
    variadic: bool


@dataclass(frozen=True, slots=True)
class Function:
    """One function: how it is called, and what shape comes back."""

    name: str
    arguments: tuple[Argument, ...]
    returns_set: bool
    returns_composite: bool
    returns_void: bool
    volatile: bool
    timeout: str | None

    @property
    def takes_body(self) -> bool:
        """Whether its one unnamed argument takes the whole request body."""
        return (
            len(self.arguments) == 1
            and not self.arguments[0].name
            and self.arguments[0].type in ("json", "jsonb", "text", "bytea")
        )


@dataclass(frozen=True, slots=True)
class Catalog:
    """The exposed schema at one moment, and each role's statement_timeout, which `set role` does not bring."""

    tables: dict[str, Table]
    functions: dict[str, tuple[Function, ...]]
    timeouts: dict[str, str]

    def table_like(self, name: str) -> str | None:
        """The nearest table name, for a hint."""
        return next(iter(difflib.get_close_matches(name, self.tables, n=1)), None)

    def function_like(self, name: str) -> str | None:
        """The nearest function name, for a hint."""
        return next(iter(difflib.get_close_matches(name, self.functions, n=1)), None)


async def read(connection: psycopg.AsyncConnection[Any], schema: str) -> Catalog:
    """Read the catalogue of one schema."""
    cursor = await connection.execute(_SQL, (schema,))
    row = await cursor.fetchone()
    content: dict[str, Any] = row[0] if row else {"tables": [], "functions": [], "timeouts": {}}
    tables = {
        one["name"]: Table(one["name"], one["columns"] or {}, one["defaults"], tuple(one["key"]))
        for one in content["tables"]
    }
    functions: dict[str, tuple[Function, ...]] = {}
    for one in content["functions"]:
        functions[one["name"]] = (*functions.get(one["name"], ()), _function(one))
    return Catalog(tables, functions, content["timeouts"])


def _function(row: dict[str, Any]) -> Function:
    inputs = [argument for argument in row["arguments"] if argument["mode"] in ("i", "b", "v")]
    required = len(inputs) - row["optional"]
    return Function(
        name=row["name"],
        arguments=tuple(
            Argument(one["name"], one["type"], position < required, one["mode"] == "v")
            for position, one in enumerate(inputs)
        ),
        returns_set=row["set"],
        returns_composite=row["composite"],
        returns_void=row["void"],
        volatile=row["volatile"],
        timeout=row["timeout"],
    )


class CatalogCache:
    """The current catalogue; `load` reads it from the database."""

    def __init__(self, load: Callable[[], Awaitable[Catalog]]) -> None:
        self._load = load
        self._lock = asyncio.Lock()
        self._catalog: Catalog | None = None
        self._started = 0
        self._forgotten = 0

    async def get(self) -> Catalog:
        """The cached catalogue, read first when there is none."""
        return self._catalog or await self.reload()

    async def reload(self) -> Catalog:
        """Read it again; those who wait together share one reading, provided that it began after they asked."""
        asked = self._started
        async with self._lock:
            if self._started > asked and self._catalog is not None:
                return self._catalog
            self._started += 1
            forgotten = self._forgotten
            catalog = await self._load()
            self._catalog = catalog if forgotten == self._forgotten else None
            return catalog

    def forget(self) -> None:
        """Let the next request read it."""
        self._forgotten += 1
        self._catalog = None

    async def watch(self, url: str) -> None:
        """Follow `notify pgrst` for ever on a connection of its own; a lost connection is made again."""
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                    await connection.execute("listen pgrst")
                    self.forget()  # whatever was notified while nobody listened
                    async for _ in connection.notifies():
                        self.forget()
            await asyncio.sleep(1)
