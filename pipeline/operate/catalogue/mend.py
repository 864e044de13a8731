"""Puts back what a database lacks of this release, where that loses nothing.

Nobody has to know in which order parts depend on each other: whatever fails is tried again after the others, until a
round gains nothing. Each part is a short transaction of its own, and gives up on a lock before it holds others up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row

from pipeline.operate.catalogue import Difference, Part, Parts, compare, golden

_FIRST = ("role", "schema", "extension", "type", "table", "column", "function", "view", "row")
_CLIENTS = "public, anon, authenticated, service_role, pipeline_worker"
_FROM_A_BACKUP = "what it held is gone: restore it from a backup"
_PATIENCE = "10s"
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Mended:
    """`done` are the names of what was put back and of rights that were revoked; `left` what was not, and why."""

    done: list[str] = field(default_factory=list)
    left: list[tuple[Difference, str]] = field(default_factory=list)


class _Loses(Exception):
    """It cannot be put back by us; the text says why."""


async def mend(connection: psycopg.AsyncConnection[Any], wanted: Parts | None = None) -> Mended:
    """Put back what is missing or changed. The connection is the operators', as the role postgres.

    Raises SetupError where this installation's catalogue does not belong to its migrations.
    """
    wanted = golden() if wanted is None else wanted
    mended = Mended()
    before: list[str] = []
    differences: list[Difference] = []
    async with _settings(connection):
        for _ in range(_ROUNDS):
            differences = sorted(filter(_is_ours, await compare(connection, wanted)), key=_rank)
            if [str(d) for d in differences] == before:
                break
            before = [str(d) for d in differences]
            mended.left.clear()
            for difference in differences:
                try:
                    await _put_back(connection, difference)
                except _Loses as error:
                    mended.left.append((difference, str(error)))
                except psycopg.Error as error:
                    mended.left.append((difference, error.diag.message_primary or str(error)))
                else:
                    name = f"{difference.part}{' (revoked)' if difference.what == 'extra' else ''}"
                    if name not in mended.done:
                        mended.done.append(name)
        named = [difference for difference, _ in mended.left]
        mended.left.extend((difference, "it had no effect") for difference in differences if difference not in named)
    return mended


def _is_ours(difference: Difference) -> bool:
    """Whether it is for us to mend. What is there besides is left alone, but for rights of clients and of the listener:
    Supabase's dump leaves out the revokes of some functions, and each project has default privileges of its own."""
    return difference.what != "extra" or difference.part.kind == "grant"


class _settings:
    """Bodies are not looked into before all is there, and no lock is waited for without end."""

    _NAMES = {"check_function_bodies": "off", "lock_timeout": _PATIENCE, "statement_timeout": "0"}  # noqa: RUF012

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection
        self._before: dict[str, str] = {}

    async def __aenter__(self) -> None:
        for name, value in self._NAMES.items():
            cursor = self._connection.cursor(row_factory=tuple_row)
            row = await (await cursor.execute("select current_setting(%s)", (name,))).fetchone()
            assert row is not None
            self._before[name] = row[0]
            await self._connection.execute("select set_config(%s, %s, false)", (name, value))

    async def __aexit__(self, *_: object) -> None:
        for name, value in self._before.items():
            await self._connection.execute("select set_config(%s, %s, false)", (name, value))


def _rank(difference: Difference) -> tuple[int, str]:
    kind = difference.part.kind
    return (_FIRST.index(kind) if kind in _FIRST else len(_FIRST), kind)


async def _put_back(connection: psycopg.AsyncConnection[Any], difference: Difference) -> None:
    part = difference.part
    if difference.what == "extra":
        target, _, grantee = part.name.removeprefix("on ").rpartition(" to ")
        await _run(connection, f"revoke all on {target} from {grantee}")
    elif difference.what == "missing":
        await _make(connection, part)
    else:
        await _change(connection, part)


async def _make(connection: psycopg.AsyncConnection[Any], part: Part) -> None:
    match part.kind:
        case "table":
            if await _holds_documents(connection):
                raise _Loses(_FROM_A_BACKUP)
        case "column":
            relation, _, _ = part.name.rpartition(".")
            # What is computed of the others is no loss.
            if " generated always as (" not in part.says and await _has_rows(connection, relation):
                raise _Loses(_FROM_A_BACKUP)
        case "index" if connection.info.transaction_status == TransactionStatus.IDLE:
            return await _run(connection, _concurrently(part.make))
        case "constraint" if part.says.startswith(("CHECK", "FOREIGN KEY")):
            # In two steps, of which the long one locks nobody out.
            name, _, relation = part.name.rpartition(" on ")
            await _run(connection, f"{part.make.removesuffix(' NOT VALID')} not valid")
            return await _run(connection, f"alter table {relation} validate constraint {name}")
        case "function" | "view":
            # What a new one is granted by itself differs from project to project; its grants are parts of their own.
            kind = "function" if part.kind == "function" else "table"
            return await _run(connection, f"{part.make};\nrevoke all on {kind} {part.name} from {_CLIENTS}")
        case _:
            pass
    await _run(connection, part.make)


async def _change(connection: psycopg.AsyncConnection[Any], part: Part) -> None:
    match part.kind:
        case "role":
            await _run(connection, "alter role pipeline_worker login noinherit nocreatedb nocreaterole")
        case "column":
            relation, _, column = part.name.rpartition(".")
            if await _has_rows(connection, relation):
                raise _Loses("its type differs, and its table has rows")
            await _run(connection, f"alter table {relation} drop column {column};\n{part.make}")
        case "table":
            await _run(connection, _table_options(part))
        case "index" if connection.info.transaction_status == TransactionStatus.IDLE:
            await _run(connection, f"drop index concurrently {part.name}")
            await _run(connection, _concurrently(part.make))
        case "index":
            await _run(connection, f"drop index {part.name};\n{part.make}")
        case "constraint" | "policy" | "trigger":
            name, _, relation = part.name.rpartition(" on ")
            drop = f"alter table {relation} drop constraint {name}" if part.kind == "constraint" else ""
            await _run(connection, f"{drop or f'drop {part.kind} {part.name}'};\n{part.make}")
        case "grant":
            target, _, grantee = part.name.removeprefix("on ").rpartition(" to ")
            await _run(connection, f"revoke all on {target} from {grantee};\n{part.make}")
        case "view":
            try:
                await _run(connection, part.make)
            except psycopg.errors.InvalidTableDefinition:  # its columns differ
                await _run(connection, f"drop view {part.name};\n{part.make}")
        case "bucket":
            await _run(connection, "update storage.buckets set public = false where id = 'documents'")
        case "function" | "default" | "not-null" | "comment" | "storage":
            await _run(connection, part.make)
        case kind:
            raise _Loses(f"a {kind} that differs is not changed by itself")


def _table_options(part: Part) -> str:
    options = [word for word in part.says.split(", ") if "=" in word]
    statements = [
        f"alter table {part.name} {'enable' if 'row security' in part.says else 'disable'} row level security",
        f"alter table {part.name} {'' if 'forced' in part.says else 'no '}force row level security",
    ]
    if options:
        statements.append(f"alter table {part.name} set ({', '.join(options)})")
    return ";\n".join(statements)


def _concurrently(statement: str) -> str:
    return statement.replace(" INDEX ", " INDEX CONCURRENTLY ", 1)


async def _run(connection: psycopg.AsyncConnection[Any], statements: str) -> None:
    if " concurrently" in statements.lower():
        await connection.execute(statements.encode())
        return
    async with connection.transaction():
        await connection.execute(statements.encode())


async def _has_rows(connection: psycopg.AsyncConnection[Any], relation: str) -> bool:
    async with connection.transaction():
        cursor = connection.cursor(row_factory=tuple_row)
        row = await (await cursor.execute(f"select exists (select from {relation})".encode())).fetchone()  # noqa: S608
        return bool(row and row[0])


async def _holds_documents(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether the project has anything to lose."""
    try:
        return await _has_rows(connection, "pipeline.documents")
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return False
