"""Statements run as the caller: role, claims and request settings for one transaction, in one round trip.

Sessions log in as `authenticator`. The settings and the statement go out as one pipeline without a Sync between them,
which Postgres takes as one transaction; both stay prepared. Only a change that must be looked at before it is committed
takes a second trip.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg_pool import AsyncConnectionPool

from pipeline.embedded.gateway.rest import catalog
from pipeline.embedded.gateway.rest.catalog import Catalog, CatalogCache
from pipeline.embedded.gateway.rest.errors import RestError, from_postgres
from pipeline.embedded.gateway.rest.headers import EXPOSED_SCHEMA
from pipeline.embedded.gateway.rest.render import Statement

ANON = "anon"

_SCOPE = """
select set_config('role', %(role)s, true), set_config('request.jwt.claims', %(claims)s, true),
       set_config('request.method', %(method)s, true), set_config('request.path', %(path)s, true),
       set_config('request.headers', %(headers)s, true), set_config('statement_timeout', %(timeout)s, true),
       set_config('transaction_read_only', %(read_only)s, true)
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whom a request speaks for, and what its functions may read of it; claims and headers are JSON text."""

    role: str = ANON
    claims: str = ""
    method: str = ""
    path: str = ""
    headers: str = "{}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement came to. `total` is None when nobody counted; `body` is JSON text."""

    rows: int
    total: int | None
    body: str | None
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())


class RestDatabase:
    """Pooled sessions and the catalogue, opened at the first use. `url` logs in as authenticator."""

    def __init__(self, url: str, *, sessions: int = 8) -> None:
        self._url = url
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=sessions,
            open=False,
            timeout=10,
            configure=_configure,
            name="rest",
            kwargs={"autocommit": True, "application_name": "rest"},
        )
        self._opening = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self.catalog = CatalogCache(self._load)

    async def close(self) -> None:
        """Let go of the sessions."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._pool.close()

    async def run(
        self,
        caller: Caller,
        statement: Statement,
        *,
        read_only: bool = False,
        statement_timeout: str | None = None,
        check: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """Run one statement as the caller; what `check` raises rolls it back.

        Raises RestError for whatever Postgres raises.
        """
        timeouts = (await self.catalog.get()).timeouts
        scope = {
            "role": caller.role,
            "claims": caller.claims,
            "method": caller.method,
            "path": caller.path,
            "headers": caller.headers,
            "timeout": statement_timeout or timeouts.get(caller.role) or timeouts.get("authenticator") or "0",
            "read_only": "on" if read_only else "off",
        }
        try:
            await self._open()
            async with self._pool.connection() as connection:
                if check is None:
                    return await _execute(connection, scope, statement)
                async with connection.transaction():
                    answer = await _execute(connection, scope, statement)
                    check(answer)
                    return answer
        except psycopg.Error as error:
            raise from_postgres(error, anonymous=caller.role == ANON) from error

    async def _open(self) -> None:
        if self._watcher is None:
            async with self._opening:
                if self._watcher is None:
                    await self._pool.open()
                    self._watcher = asyncio.create_task(self.catalog.watch(self._url), name="rest schema watcher")

    async def _load(self) -> Catalog:
        try:
            await self._open()
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute("set local search_path = ''")  # so that every type comes with its schema
                return await catalog.read(connection, EXPOSED_SCHEMA)
        except psycopg.Error as error:
            details = "Could not query the database for the schema cache. Retrying."
            raise RestError(503, "PGRST002", details, details=str(error)) from error


async def _configure(connection: psycopg.AsyncConnection[Any]) -> None:
    connection.prepared_max = 500
    await connection.execute("set search_path = public, extensions")


async def _execute(connection: psycopg.AsyncConnection[Any], scope: dict[str, str], statement: Statement) -> Answer:
    async with connection.pipeline():
        await connection.execute(_SCOPE, scope, prepare=True)
        cursor = await connection.execute(statement.text, statement.parameters)  # type: ignore[arg-type]
    row = await cursor.fetchone()
    if row is None:
        raise RestError(500, "PGRSTX00", "The statement answered no row")
    rows, total, body, status, headers = row
    return Answer(rows, total, body, _status(status), _headers(headers))


def _status(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 100 <= int(text) <= 599:
        raise RestError(500, "PGRST112", "response.status guc must be a valid status code")
    return int(text)


def _headers(text: str | None) -> tuple[tuple[str, str], ...]:
    """`response.headers` is a JSON array of objects with one header each."""
    if text is None:
        return ()
    try:
        return tuple((name, str(value)) for one in json.loads(text) for name, value in one.items())
    except (ValueError, TypeError, AttributeError):
        message = "response.headers guc must be a JSON array composed of objects with a single key and a string value"
        raise RestError(500, "PGRST111", message) from None


@dataclass(frozen=True, slots=True)
class Session:
    """The database on behalf of one request's caller."""

    database: RestDatabase
    caller: Caller

    @property
    def catalog(self) -> CatalogCache:
        """What the exposed schema holds."""
        return self.database.catalog

    async def run(
        self,
        statement: Statement,
        *,
        read_only: bool = False,
        statement_timeout: str | None = None,
        check: Callable[[Answer], None] | None = None,
    ) -> Answer:
        """`RestDatabase.run` as this caller."""
        return await self.database.run(
            self.caller, statement, read_only=read_only, statement_timeout=statement_timeout, check=check
        )
