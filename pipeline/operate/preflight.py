"""What stands in the way of the migrations, looked for before anything is touched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import psycopg

from pipeline.errors import SetupError


@dataclass(frozen=True, slots=True)
class Obstacle:
    """`mend` is the statement, or the sentence, that takes `what` out of the way."""

    what: str
    mend: str

    as_dict = asdict


class NotReady(SetupError):
    """The project cannot be migrated as it is; nothing was changed."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        lines = message.splitlines()
        self.obstacles = [
            Obstacle(what.removeprefix("- "), mend.strip())
            for what, mend in pairwise(lines)
            if what.startswith("- ") and mend.startswith("    ")
        ]


async def look(connection: psycopg.AsyncConnection, foundation: Path) -> None:
    """Run the first statement of the first migration, which changes nothing. Raises NotReady, with all it found."""
    text = foundation.read_text(encoding="utf-8")
    end = "\n$$;\n"
    statement = text[text.index("do $$\n") : text.index(end) + len(end)]
    try:
        await connection.execute(statement.encode())
    except psycopg.errors.ObjectNotInPrerequisiteState as error:
        raise NotReady(said(error)) from None


def said(error: psycopg.Error) -> str:
    """The database's own sentence, and its hint."""
    hint = f"\n{error.diag.message_hint}" if error.diag.message_hint else ""
    return f"{error.diag.message_primary or error}{hint}"
