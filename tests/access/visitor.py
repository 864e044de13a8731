"""The world of the attacks in a project that is not ours: furnished, attacked and gone within one transaction.

Nothing of it is ever committed, so nobody else sees it and nothing has to be cleaned up.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.access.world import World, furnish
from tests.sql.conftest import Database


class _Admin:
    """The one connection, as the asynchronous one that `Database` has."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection

    async def execute(self, query: Any, params: Any = None) -> _Rows:
        return _Rows(self._connection.execute(query, params))

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        with self._connection.transaction():
            yield
            # what is local to a transaction outlives a savepoint
            self._connection.execute("set local role postgres")


class _Rows:
    def __init__(self, cursor: psycopg.Cursor[dict[str, Any]]) -> None:
        self._cursor = cursor

    async def fetchall(self) -> list[dict[str, Any]]:
        return self._cursor.fetchall()


class _Visited(Database):
    """What the platform and a listener do, in the transaction of the one connection."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection
        self.admin = _Admin(connection)  # type: ignore[assignment]

    @contextlib.asynccontextmanager
    async def as_user(self, user: uuid.UUID | None, role: str = "authenticated") -> AsyncIterator[Any]:
        claims = {"role": role} | ({"sub": str(user)} if user else {})
        with self._connection.transaction():
            self._connection.execute(
                "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true)",
                (role, json.dumps(claims)),
            )
            yield self.admin
            self._connection.execute("set local role postgres")


class _VisitedWorld(World):
    @contextlib.contextmanager
    def as_it_was(self) -> Iterator[None]:
        with self.connection.transaction(force_rollback=True):
            yield


@contextlib.asynccontextmanager
async def furnished_for_a_while(url: str) -> AsyncIterator[World]:
    """As `postgres`. Inside, search reads the space that the attacks' vectors are made for, and no other job waits."""
    with psycopg.connect(url, row_factory=dict_row, prepare_threshold=None) as connection:
        connection.execute("set local statement_timeout = 0")
        connection.execute("select pipeline.cancel(id) from pipeline.jobs where state in ('available', 'running')")
        connection.execute("select pipeline.activate_space('text-embedding-3-small-1536')")
        try:
            yield _VisitedWorld(connection, **await furnish(_Visited(connection)))
        finally:
            connection.rollback()
