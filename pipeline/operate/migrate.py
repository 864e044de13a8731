"""Applies supabase/migrations to a project, keeping the same record as `supabase db push`, so that either tool goes on
where the other stopped."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from pipeline.db.connection import MIGRATION, OPERATOR, again, connect
from pipeline.db.queries import SCHEMA_VERSION
from pipeline.errors import SetupError
from pipeline.operate.preflight import look, said

_PACKAGE = Path(__file__).resolve().parents[1]
MIGRATIONS = next(
    # a wheel carries them inside the package; in a checkout they lie where Supabase's tools look for them
    (
        path
        for path in (_PACKAGE / "supabase" / "migrations", _PACKAGE.parent / "supabase" / "migrations")
        if path.is_dir()
    ),
    _PACKAGE / "supabase" / "migrations",
)

_HISTORY = """
create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations (
  version text primary key, statements text[], name text
);
"""


def migrations() -> list[tuple[str, str, Path]]:
    """(version, name, file) of every migration of ours, in order."""
    found = []
    for path in sorted(MIGRATIONS.glob("*.sql")):
        version, _, name = path.stem.partition("_")
        found.append((version, name, path))
    if not found:
        raise SetupError(f"There are no migrations in {MIGRATIONS}: this installation is not whole. Install it again.")
    return found


async def applied(connection: psycopg.AsyncConnection[Any]) -> set[str]:
    """The versions on record, ours and others'."""
    cursor = connection.cursor(row_factory=tuple_row)
    await cursor.execute("select to_regclass('supabase_migrations.schema_migrations') is not null")
    exists = await cursor.fetchone()
    if not exists or not exists[0]:
        return set()
    await cursor.execute("select version from supabase_migrations.schema_migrations")
    return {row[0] for row in await cursor.fetchall()}


async def record(connection: psycopg.AsyncConnection[Any], version: str, name: str, text: str) -> None:
    """Put a migration on record, where `supabase db push` looks for it."""
    await connection.execute(_HISTORY.encode())
    await connection.execute(
        "insert into supabase_migrations.schema_migrations (version, statements, name) values (%s, %s, %s)",
        (version, [text], name),
    )


async def pending(db_url: str) -> list[str]:
    """The names of the migrations that the project does not have yet."""
    async with await connect(db_url, OPERATOR) as connection:
        known = await applied(connection)
    return [f"{version}_{name}" for version, name, _ in migrations() if version not in known]


async def refuse_newer(db_url: str) -> None:
    """Raises SetupError for a database that a later release has migrated: what it made would be put back to ours."""
    async with await connect(db_url, OPERATOR) as connection:
        try:
            row = await (await connection.execute("select schema_version from pipeline.settings")).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.UndefinedColumn):
            return
    if row is not None and row[0] > SCHEMA_VERSION:
        raise SetupError(
            f"The database speaks version {row[0]} of the schema, and this release {SCHEMA_VERSION}. Migrate with the "
            "release that made it."
        )


async def preflight(db_url: str) -> None:
    """Raises NotReady when something stands in the way of what is still to apply; changes nothing."""
    async with await connect(db_url, OPERATOR) as connection:
        await _preflight(connection, await applied(connection))


async def _preflight(connection: psycopg.AsyncConnection, applied: set[str]) -> None:
    ours = migrations()
    if any(version not in applied for version, *_ in ours):
        await look(connection, ours[0][2])


async def apply(db_url: str, *, worker_password: str | None = None, activate_space: str | None = None) -> list[str]:
    """Apply what is missing, each migration in a transaction of its own; returns the names of those applied.

    Then give pipeline_worker its password and make a space the active one, where asked to. Applying twice changes
    nothing. Raises NotReady, before anything is touched, when something stands in the way, and SetupError with the
    database's own sentence when a migration is refused all the same; what came before it stays.
    """
    done = []
    async with await connect(db_url, MIGRATION) as connection:
        # One at a time: two operators who migrate at once must not interleave.
        await connection.execute("select pg_advisory_lock(hashtext('document pipeline migrations'))")
        known = await applied(connection)
        await _preflight(connection, known)
        for version, name, path in migrations():
            if version in known:
                continue
            try:
                await again(partial(_apply_one, connection, version, name, path.read_text(encoding="utf-8")))
            except psycopg.Error as error:
                raise SetupError(f"{said(error)}\n(in {path.name})") from error
            done.append(f"{version}_{name}")
        if worker_password:
            # What Postgres would make of it, since statements are kept in logs and in pg_stat_statements.
            verifier = connection.pgconn.encrypt_password(
                worker_password.encode(), b"pipeline_worker", b"scram-sha-256"
            )
            await connection.execute(
                sql.SQL("alter role pipeline_worker password {}")
                .format(sql.Literal(verifier.decode()))
                .as_string()
                .encode()
            )
        if activate_space:
            await connection.execute("select pipeline.activate_space(%s)", (activate_space,))
    return done


async def _apply_one(connection: psycopg.AsyncConnection[Any], version: str, name: str, text: str) -> None:
    async with connection.transaction():
        await connection.execute(text.encode())
        await record(connection, version, name, text)
