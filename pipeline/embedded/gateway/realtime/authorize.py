"""Whether a caller may read or write a private topic: asked of the policies on realtime.messages, as Realtime does.

Both questions run in a transaction that is rolled back. Reading: a probe row of the topic is inserted past row level
security, and the caller's role looks for it. Writing: the caller's role tries to insert one.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import psycopg

_CALLER = """
select set_config('role', %(role)s, true), set_config('request.jwt.claims', %(claims)s, true),
       set_config('request.jwt.claim.sub', %(sub)s, true), set_config('request.jwt.claim.role', %(role)s, true),
       set_config('request.headers', '{}', true), set_config('realtime.topic', %(topic)s, true)
"""
_INSERT = "insert into realtime.messages (id, topic, extension, private) values (%s, %s, 'broadcast', true)"


async def may_read(connection: psycopg.AsyncConnection[Any], role: str, claims: dict[str, Any], topic: str) -> bool:
    """Whether the policies let the role see broadcasts of the topic."""
    probe = uuid.uuid4()
    async with connection.transaction(force_rollback=True):
        await connection.execute("set local role service_role")
        await connection.execute(_INSERT, (probe, topic))
        await _become(connection, role, claims, topic)
        try:
            cursor = await connection.execute(
                "select from realtime.messages where id = %s and topic = %s and extension = 'broadcast'", (probe, topic)
            )
        except psycopg.errors.InsufficientPrivilege:
            return False
        return await cursor.fetchone() is not None


async def may_write(connection: psycopg.AsyncConnection[Any], role: str, claims: dict[str, Any], topic: str) -> bool:
    """Whether the policies let the role send broadcasts to the topic."""
    async with connection.transaction(force_rollback=True):
        await _become(connection, role, claims, topic)
        try:
            await connection.execute(_INSERT, (uuid.uuid4(), topic))
        except psycopg.errors.InsufficientPrivilege:
            return False
        return True


async def _become(connection: psycopg.AsyncConnection[Any], role: str, claims: dict[str, Any], topic: str) -> None:
    values = {"role": role, "claims": json.dumps(claims), "sub": str(claims.get("sub", "")), "topic": topic}
    await connection.execute(_CALLER, values)
