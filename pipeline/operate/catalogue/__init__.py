"""The catalogue: all that a release makes in a database, and what a database has of it.

    supabase/catalogue.sql   what the migrations make, part by part; `make catalogue` writes it
    parts.sql                reads the same from a database
    compare                  names what is missing, changed or extra
    mend.py                  puts back what can be put back without losing anything
    adopt.py                 a schema that was restored without the record of its migrations

A part has a kind, a name, what it says (one line, the same on Postgres 15 to 18) and the statements that make it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import tuple_row

from pipeline.errors import SetupError
from pipeline.operate.migrate import MIGRATIONS

CATALOGUE = MIGRATIONS.parent / "catalogue.sql"
_QUERY = (Path(__file__).parent / "parts.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Row:
    """Rows that a release cannot do without: SQL for their names, for what they say, and for the statement that makes
    them."""

    table: str
    name: str
    says: str
    make: str
    where: str = "true"

    @property
    def query(self) -> str:
        return f"select {self.name}, {self.says}, {self.make} from {self.table} where {self.where}"  # noqa: S608


ROWS = (
    Row("pipeline.settings", "'the settings'", "'is there'", "'insert into pipeline.settings default values'"),
    Row(
        "pipeline.limits",
        "'the limits of everybody'",
        "'is there'",
        "'insert into pipeline.limits default values'",
        where="owner_id is null",
    ),
    Row(
        "pipeline.job_states",
        "'job state ' || state",
        "concat_ws(', ', meaning, case when final then 'final' end)",
        "format('insert into pipeline.job_states values (%L, %L, %L)', state, final, meaning)",
    ),
    Row(
        "pipeline.job_transitions",
        "format('job transition %s to %s', from_state, to_state)",
        "meaning",
        "format('insert into pipeline.job_transitions values (%L, %L, %L)', from_state, to_state, meaning)",
    ),
    Row(
        "pipeline.retention",
        "'retention of ' || hand",
        "'is there'",
        "format('insert into pipeline.retention (hand) values (%L)', hand)",
    ),
    Row(
        "pipeline.healing",
        "'healing of ' || hand",
        "'is there'",
        "format('insert into pipeline.healing (hand, every) values (%L, %L)', hand, every)",
    ),
    Row(
        "pipeline.pseudonym_key",
        "'the key of pseudonyms'",
        "'is there'",
        "'insert into pipeline.pseudonym_key (key) "
        "values (sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())))'",
    ),
    # With its id, since its index is named by that.
    Row(
        "pipeline.spaces",
        "'space ' || name",
        "format('%s, %s dimensions, %s', model, dimensions, input_format)",
        "format('insert into pipeline.spaces (id, name, model, dimensions, input_format, latin_only) overriding system "
        "value values (%L, %L, %L, %L, %L, %L); select setval(pg_get_serial_sequence(''pipeline.spaces'', ''id''), "
        "(select max(id) from pipeline.spaces))', id, name, model, dimensions, input_format, latin_only)",
    ),
    Row(
        "pipeline.spaces",
        "'an active space'",
        "'is there'",
        "format('select pipeline.activate_space(%L)', name)",
        where="active",
    ),
)

_WITHOUT_REALTIME = " on realtime.messages"
_SPACE_INDEX = "pipeline.embeddings_space_"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a schema."""

    kind: str
    name: str
    says: str
    make: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Difference:
    """`wanted` is None for what is extra, `found` for what is missing."""

    what: Literal["missing", "changed", "extra"]
    wanted: Part | None
    found: Part | None

    @property
    def part(self) -> Part:
        part = self.wanted or self.found
        assert part is not None
        return part

    def __str__(self) -> str:
        return f"{self.what}: {self.part}"


Parts = dict[tuple[str, str], Part]


async def read(connection: psycopg.AsyncConnection[Any]) -> Parts:
    """All parts that the database has, by kind and name. The connection is the operators', as the role postgres."""
    async with connection.transaction():
        # For this transaction: a name is then written out wherever it is not Postgres's own.
        await connection.execute("select set_config('search_path', '', true)")
        cursor = await connection.cursor(row_factory=tuple_row).execute(_QUERY.encode())
        found: list[tuple[str, ...]] = list(await cursor.fetchall())
        for row in ROWS:
            try:
                async with connection.transaction():
                    cursor = await connection.cursor(row_factory=tuple_row).execute(row.query.encode())
                    found += [("row", *values) for values in await cursor.fetchall()]
            except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName):
                continue  # the table itself is missing, or a column: that is a difference of its own
    return {(kind, name): Part(kind, name, says, (make or "").rstrip("; \n")) for kind, name, says, make in found}


async def has_realtime(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the project has what a policy of ours hangs on there."""
    cursor = connection.cursor(row_factory=tuple_row)
    row = await (
        await cursor.execute(
            "select to_regclass('realtime.messages') is not null and to_regprocedure('realtime.topic()') is not null"
        )
    ).fetchone()
    return bool(row and row[0])


async def compare(connection: psycopg.AsyncConnection[Any], wanted: Parts | None = None) -> list[Difference]:
    """What the database lacks of this release, has otherwise, or has besides; changes nothing.

    Raises SetupError where this installation's catalogue does not belong to its migrations.
    """
    wanted = golden() if wanted is None else wanted
    found = await read(connection)
    realtime = await has_realtime(connection)
    differences: list[Difference] = []
    for key, part in wanted.items():
        there = found.get(key)
        if there is None:
            if realtime or not part.name.endswith(_WITHOUT_REALTIME):
                differences.append(Difference("missing", part, None))
        elif there.says != part.says or not await _same_tree(connection, part, there):
            differences.append(Difference("changed", part, there))
    for key, part in found.items():
        # The index of a space that was made later belongs to its row.
        if key not in wanted and part.kind != "row" and not part.name.startswith(_SPACE_INDEX):
            differences.append(Difference("extra", None, part))
    return differences


async def _same_tree(connection: psycopg.AsyncConnection[Any], wanted: Part, found: Part) -> bool:
    """Whether a view or a function that is kept as a parse tree is the wanted one.

    The text that Postgres makes of a tree differs from version to version. So where the two texts differ, a temporary
    twin is made of the wanted one, and this server writes out both. It is rolled back.
    """
    if wanted.make == found.make or not _is_tree(wanted):
        return True
    head = "create or replace view " if wanted.kind == "view" else "FUNCTION "
    schema, _, name = wanted.name.partition(".")
    twin = wanted.make.replace(f"{head}{schema}.", f"{head}pg_temp.", 1)
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute("select set_config('search_path', '', true)")
            await connection.execute(twin.encode())
            cursor = connection.cursor(row_factory=tuple_row)
            if wanted.kind == "view":
                query = "select pg_get_viewdef(%s::regclass) = pg_get_viewdef(%s::regclass)"
                parameters = (f"pg_temp.{name}", wanted.name)
            else:
                query = (
                    "select pg_get_function_sqlbody(t.oid) = pg_get_function_sqlbody(o.oid) from pg_proc o, pg_proc t "
                    "where o.oid = %s::regprocedure and t.proname = o.proname and t.pronamespace = pg_my_temp_schema()"
                )
                parameters = (wanted.name,)
            row = await (await cursor.execute(query.encode(), parameters)).fetchone()
            return bool(row and row[0])
    except psycopg.Error:
        return False  # what the wanted one refers to is not there


def _is_tree(part: Part) -> bool:
    return part.kind == "view" or (part.kind == "function" and ", body " not in part.says)


def golden() -> Parts:
    """What this release makes. Raises SetupError where the file is not that of the installed migrations."""
    try:
        text = CATALOGUE.read_text("utf-8")
    except FileNotFoundError:
        text = ""
    if _stamp() not in text.partition("\n\n")[0]:
        raise SetupError(
            f"{CATALOGUE.name} does not belong to the migrations beside it. In a checkout run `make catalogue`; "
            "otherwise install the release again."
        )
    return {(part.kind, part.name): part for part in parse(text)}


def _stamp() -> str:
    digest = hashlib.sha256()
    for path in sorted(MIGRATIONS.glob("*.sql")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"-- migrations {digest.hexdigest()[:16]}"


def write(parts: Iterable[Part]) -> str:
    """The text of catalogue.sql: a part is two lines of comment and its statements."""
    blocks = [
        "-- All that the migrations make, part by part: what `pipeline check` compares a database with, and what\n"
        "-- `pipeline migrate` puts back. Written by `make catalogue`; a change of the schema is read here as a diff.\n"
        f"{_stamp()}\n"
    ]
    for part in sorted(parts, key=lambda part: (part.kind, part.name)):
        # A function's body keeps its lines as they are.
        blocks.append(f"--: {part.kind} {part.name}\n--= {json.dumps(part.says, ensure_ascii=False)}\n{part.make}\n")
    return "\n".join(blocks)


def parse(text: str) -> Sequence[Part]:
    """The parts that `write` wrote."""
    parts = []
    for block in text.split("\n\n--: ")[1:]:
        head, says, make = block.split("\n", 2)
        kind, _, name = head.partition(" ")
        parts.append(Part(kind, name, json.loads(says.removeprefix("--= ")), make.rstrip("\n")))
    return parts
