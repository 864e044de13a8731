"""The doctor: reconciles the database with what Storage and Auth hold, step by step.

Every step is one call of a function in the migration `doctor`, or `healing`, and a transaction of its own: it looks at
the next so many rows behind a place. Looking changes nothing; fixing mends what it finds in the same step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.rows import tuple_row

from pipeline.db.connection import again
from pipeline.errors import SetupError

FIXES = {
    "a file without a document": "gets one, and a job",
    "a document that is behind its file": "says what the file says, and gets a job",
    "a file without a job": "gets one",
    "a document whose file is gone": "is hidden, and purged by a listener",
    "a user who is gone": "is erased by a listener, with all files",
    "a document that lacks vectors": "has its job done again, which buys what is missing",
    "a document that lacks vectors, and whose newer version failed": "stays: retry its job, or upload the file again",
    "a file of nobody": "stays: its first folder is no user's id; move or remove it with Storage",
    "a row that is in use": "stays: somebody held it for long; run the command again",
}
"""What may be found, and what `fix` does about it; what the healing finds is mended by it."""
LEFT = (
    "a document that lacks vectors, and whose newer version failed",
    "a file of nobody",
    "a row that is in use",
)
"""Problems that stay."""
_GONE = ("a document whose file is gone", "a user who is gone")
_MANY = 20
"""So many documents have to be gone before it looks like a restore that is not over."""
_EXAMPLES = 5
_PATIENCE = "10s"

_WALKS = (("files", "examine_files", 500), ("documents", "examine_documents", 500), ("vectors", "examine_vectors", 100))
_HANDS = (("jobs", "bigint", 1000), ("queue", "jsonb", 1000), ("owners", "uuid", 500), ("waiting", "uuid", 500))

Step = tuple[str | None, int, list[str], list[str]]
"""Where to go on (None: nowhere), how many rows were looked at, what was found, and where."""
Progress = Callable[[str, int], None]
"""Is told of the walk and how many rows it has looked at."""


@dataclass(slots=True)
class Report:
    """What was found: how often each problem, some examples, and how many rows of each walk were looked at."""

    found: Counter[str] = field(default_factory=Counter[str])
    examples: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    looked_at: dict[str, int] = field(default_factory=dict[str, int])
    documents_gone: int = 0
    chunks_without_vector: int = 0
    users_gone: set[str] = field(default_factory=set[str])

    def add(self, problem: str, subject: str) -> None:
        self.found[problem] += 1
        examples = self.examples.setdefault(problem, [])
        if len(examples) < _EXAMPLES:
            examples.append(subject)


class Doctor:
    """Works over a connection of the operators'."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], progress: Progress = lambda *_: None) -> None:
        self._connection = connection
        self._progress = progress

    async def look(self) -> Report:
        """Look at everything, and change nothing."""
        return await self._round(fix=False)

    async def fix(self, seen: Report, *, even_most: bool = False) -> Report:
        """Look at everything again and mend it; returns what was mended, and what is left.

        Raises SetupError where `seen`, what `look` found, would hide most of the documents or erase most of the users
        whose files or documents there are, unless `even_most`.
        """
        if 2 * len(seen.users_gone) > len(seen.users_gone) + await self._users(len(seen.users_gone)) and not even_most:
            raise SetupError(
                f"{len(seen.users_gone)} users who have files or documents here are not in auth.users, which is most "
                "of them. Are the rows of Auth restored? Do that first: whoever is erased loses the files in Storage "
                "too. If they are gone for good: `pipeline doctor --fix --even-most`."
            )
        if seen.documents_gone >= _MANY and 2 * seen.documents_gone > seen.looked_at["documents"] and not even_most:
            raise SetupError(
                f"{seen.documents_gone} of {seen.looked_at['documents']} documents have lost their file or their user. "
                "Are the rows of Storage and Auth restored? Do that first: what is hidden is purged, and its vectors "
                "were paid for. If the files are gone for good: `pipeline doctor --fix --even-most`."
            )
        return await self._round(fix=True)

    async def _users(self, at_most: int) -> int:
        """How many users there are, counted no further than that."""
        cursor = self._connection.cursor(row_factory=tuple_row)
        row = await (
            await cursor.execute(
                "select count(*) from (select from auth.users u where u.deleted_at is null limit %s) u", (at_most,)
            )
        ).fetchone()
        return row[0] if row else 0

    async def _round(self, *, fix: bool) -> Report:
        report = Report()
        await self._connection.execute("select set_config('lock_timeout', %s, false)", (_PATIENCE,))
        for name, function, rows in _WALKS:
            await self._walk(report, name, function, rows, fix=fix)
        for hand, kind, rows in _HANDS:
            await self._heal(report, hand, kind, rows, fix=fix)
        return report

    async def _walk(self, report: Report, name: str, function: str, rows: int, *, fix: bool) -> None:
        place: str | None = None
        while True:
            place, looked_at, problems, subjects = await self._step(report, function, place, rows, fix=fix)
            report.looked_at[name] = report.looked_at.get(name, 0) + looked_at
            for problem, subject in zip(problems, subjects, strict=True):
                report.documents_gone += name == "documents" and problem in _GONE
                if problem == "a user who is gone":
                    if subject in report.users_gone:
                        continue
                    report.users_gone.add(subject)
                elif problem.startswith("a document that lacks vectors"):
                    subject, _, chunks = subject.partition(" ")
                    report.chunks_without_vector += int(chunks)
                report.add(problem, subject)
            self._progress(name, report.looked_at[name])
            if place is None:
                return

    async def _step(self, report: Report, function: str, place: str | None, rows: int, *, fix: bool) -> Step:
        """One step. What has to be mended is mended row by row, each in a transaction of its own, so that uploads wait
        for one file at most. A row that somebody holds for long is left out."""
        page = await self._call(function, place, rows, fix=False)
        if not fix or not page[2]:
            return page
        problems: list[str] = []
        subjects: list[str] = []
        looked_at = 0
        for _ in range(rows):
            try:
                place, seen, found, at = await self._call(function, place, 1, fix=fix)
            except psycopg.errors.LockNotAvailable:
                place, seen, found, at = await self._call(function, place, 1, fix=False)
                report.add("a row that is in use", at[0] if at else "")
                found, at = [], []
            looked_at += seen
            problems += found
            subjects += at
            if place is None:
                break
        return place, looked_at, problems, subjects

    async def _call(self, function: str, place: str | None, rows: int, *, fix: bool) -> Step:
        query = f"select place, looked_at, problems, subjects from pipeline.{function}(%s, %s, %s)"  # noqa: S608 (ours)
        place, looked_at, problems, subjects = await self._one(query, (place, rows, fix))
        return place, looked_at, problems or [], subjects or []

    async def _heal(self, report: Report, hand: str, kind: str, rows: int, *, fix: bool) -> None:
        """What listeners mend by themselves, now; to look, it is mended and undone."""
        place: str | None = None
        query = f"select healed, \"position\"::text from pipeline.heal_{hand}((%s::jsonb #>> '{{}}')::{kind}, %s)"  # noqa: S608
        looked_at = 0
        while True:
            try:
                async with self._connection.transaction(force_rollback=not fix):
                    healed, place = await self._one(query, (place, rows))
            except psycopg.errors.UndefinedFunction:
                return  # a database of an older release
            for problem, count in healed.items():
                if count:
                    report.found[problem] += count
            looked_at += rows
            self._progress(hand, looked_at)
            if place is None:
                return

    async def _one(self, query: str, parameters: tuple[Any, ...]) -> Any:
        cursor = self._connection.cursor(row_factory=tuple_row)

        async def ask() -> Any:
            return await (await cursor.execute(query.encode(), parameters)).fetchone()

        return await ask() if self._connection.info.transaction_status else await again(ask)


async def chunks_without_vector(
    connection: psycopg.AsyncConnection[Any], space: str, progress: Progress = lambda *_: None
) -> tuple[int, int]:
    """How many chunks of how many documents semantic search would not find in the space.

    Raises SetupError where there is no such space.
    """
    query = "select place, looked_at, subjects from pipeline.examine_vectors(%s, 100, false, %s)"
    place: str | None = None
    chunks = documents = looked_at = 0
    while True:
        cursor = connection.cursor(row_factory=tuple_row)
        try:
            row = await (await cursor.execute(query, (place, space))).fetchone()
        except psycopg.errors.UndefinedObject as error:
            raise SetupError(error.diag.message_primary or f"There is no embedding space {space}.") from None
        assert row is not None
        place, seen, subjects = row
        looked_at += seen
        documents += len(subjects or ())
        chunks += sum(int(subject.partition(" ")[2]) for subject in subjects or ())
        progress("documents", looked_at)
        if place is None:
            return chunks, documents
