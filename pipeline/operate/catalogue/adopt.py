"""A database that was restored without the record of its migrations, as Supabase's own dump leaves it."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from pipeline.errors import SetupError
from pipeline.operate.catalogue import compare
from pipeline.operate.migrate import applied, migrations, record

_TELLS = ("table", "column", "type", "function")
"""What a release adds to the one before it; what a restore loses by itself is other kinds."""
_NAMED = 5


async def adoptable(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the schema is this release's and no migration of it is on record.

    Raises SetupError for a schema without a record that is not this release's: nothing tells which migrations it had.
    """
    cursor = connection.cursor(row_factory=tuple_row)
    row = await (await cursor.execute("select to_regclass('pipeline.jobs') is not null")).fetchone()
    if not row or not row[0] or (await applied(connection)) & {version for version, _, _ in migrations()}:
        return False
    lacks = [d.part for d in await compare(connection) if d.what == "missing" and d.part.kind in _TELLS]
    if lacks:
        named = ", ".join(map(str, lacks[:_NAMED])) + (
            f" and {len(lacks) - _NAMED} more" if len(lacks) > _NAMED else ""
        )
        raise SetupError(
            f"The schema pipeline is there without the record of its migrations, and it is not that of this release: "
            f"it lacks {named}. Nothing was changed.\n"
            "Restore the table supabase_migrations.schema_migrations as well, or "
            "run `pipeline migrate` of the release that the dump was made with first."
        )
    return True


async def adopt(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Put all migrations on record where the schema is this release's; whether it was so. Raises as `adoptable`."""
    if not await adoptable(connection):
        return False
    async with connection.transaction():
        for version, name, path in migrations():
            await record(connection, version, name, path.read_text("utf-8"))
    return True
