"""The database as Storage uses it: sessions of service_role that step down to the caller for one transaction.

Each transaction is one message of several statements with their values quoted by libpq, so one round trip. (A pipeline
of prepared statements would be one too, but psycopg forgets prepared statements at every rollback.) Role, claims and
request settings of a caller are set for the transaction only; between transactions a session is service_role with no
user, as the real server's final writes are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import AsyncClientCursor, AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool

Step = tuple[Any, Any]
"""A statement and its parameters."""

_SCOPE = (
    "select set_config('role', %s, true), set_config('request.jwt.claims', %s, true), "
    "set_config('request.jwt.claim.sub', %s, true), set_config('request.jwt.claim.role', %s, true), "
    "set_config('request.method', %s, true), set_config('request.path', %s, true), "
    "set_config('request.headers', %s, true), set_config('storage.operation', %s, true), "
    "set_config('storage.allow_delete_query', 'true', true)"
)
_SESSION = (
    'set role service_role; set request.jwt.claims = \'{"role": "service_role"}\'; '
    "set request.jwt.claim.role = 'service_role'; set statement_timeout = '30s'; set lock_timeout = 0; "
    "set storage.allow_delete_query = 'true'"
)
_LOCK = (
    "select set_config('lock_timeout', '5s', true), pg_advisory_xact_lock(hashtextextended(%s, 0)), "
    "set_config('lock_timeout', '0', true)"
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose permissions a request has. `owner` is the token's subject; None for the service and anon keys."""

    role: str
    owner: str | None = None
    claims: str = ""
    method: str = ""
    path: str = ""
    headers: str = ""

    def scope(self, operation: str) -> Step:
        """The statement that makes the rest of a transaction this caller's."""
        owner = self.owner or ""
        return _SCOPE, (
            self.role,
            self.claims,
            owner,
            self.role,
            self.method,
            self.path,
            self.headers,
            f"storage.{operation}",
        )


SERVICE = Caller("service_role", claims='{"role": "service_role"}')
ANON = Caller("anon", claims='{"role": "anon"}')


def object_lock(bucket: str, name: str) -> Step:
    """Waits up to 5 s for the transaction's lock on (bucket, name); then 55P03."""
    return _LOCK, (f"{bucket}/{name}",)


class StorageDatabase:
    """A few pooled sessions, opened at the first use. `url` logs in as a role that may become service_role."""

    def __init__(self, url: str, *, sessions: int = 8) -> None:
        self._pool = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=sessions,
            open=False,
            timeout=30,
            configure=_configure,
            name="storage",
            kwargs={"autocommit": True, "cursor_factory": AsyncClientCursor, "application_name": "storage"},
        )
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        await self._pool.close()

    async def read(self, *steps: Step) -> list[list[tuple[Any, ...]]]:
        """The rows of each step, in a transaction that is rolled back: for reads and for permission dry runs."""
        return await self._run(steps, "rollback")

    async def write(self, *steps: Step) -> list[list[tuple[Any, ...]]]:
        """The rows of each step, committed."""
        return await self._run(steps, "commit")

    async def fetch(self, statement: Any, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement as service_role."""
        async with await self._connection() as connection:
            cursor = await connection.execute(statement, parameters)
            return await cursor.fetchall()

    async def _run(self, steps: Sequence[Step], end: str) -> list[list[tuple[Any, ...]]]:
        async with await self._connection() as connection:
            cursor = connection.cursor()
            statements = [cursor.mogrify(statement, parameters) for statement, parameters in steps]
            try:
                await cursor.execute(";".join(("begin", *statements, end)))
            except psycopg.Error:
                if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
                    await connection.rollback()
                raise
            results = [await cursor.fetchall() if cursor.description else []]
            while cursor.nextset():
                results.append(await cursor.fetchall() if cursor.description else [])
            return results[1:-1]

    async def _connection(self) -> Any:
        if self._pool.closed:
            async with self._opening:
                if self._pool.closed:
                    await self._pool.open()
        return self._pool.connection()


async def _configure(connection: AsyncConnection[Any]) -> None:
    await connection.execute(_SESSION)
