"""`pipeline doctor`: what does the database say that Storage and Auth do not, and the other way round?"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import DatabaseOption, JsonOption, notice, operator_url, out, print_json, run, say
from pipeline.operate.doctor import FIXES, LEFT, Doctor, Progress, Report
from pipeline.operate.operations import Operations
from pipeline.settings import load

_SAY_EVERY = 10_000


def doctor(
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is found; its counts are told first.")] = False,
    even_most: Annotated[
        bool, typer.Option("--even-most", help="Hide documents and erase users even where that is most of them.")
    ] = False,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Compare documents, jobs, files, users and vectors with each other; exit 1 when something is wrong.

    It works in small steps, so it can be run while the project is in use: a million documents take some minutes. After
    a restore, run it once `pipeline migrate` is through.

    Example: `pipeline doctor --fix`
    """
    found, mended = run(_work(operator_url(load(), db_url), fix=fix, even_most=even_most))
    shown = found if mended is None else mended
    left = sum(shown.found.values()) if mended is None else sum(shown.found[problem] for problem in LEFT)
    if json:
        print_json({"ok": not left, "found": _plain(found), "fixed": _plain(mended) if mended else None})
    elif mended is None:
        _show(found)
        if left:
            notice("Nothing was changed. `pipeline doctor --fix` mends it.")
    else:
        say("Mended." if not left else "Mended, but for what stays.")
    if left:
        raise typer.Exit(1)


async def _work(url: str, *, fix: bool, even_most: bool) -> tuple[Report, Report | None]:
    async with Operations.open(url) as operations:
        look = Doctor(operations.connection, _told("looked at"))
        found = await look.look()
        if not fix:
            return found, None
        _show(found, console_is_data=False)
        return found, await Doctor(operations.connection, _told("gone through")).fix(found, even_most=even_most)


def _told(done: str) -> Progress:
    said: dict[str, int] = {}

    def tell(walk: str, rows: int) -> None:
        if rows - said.get(walk, 0) >= _SAY_EVERY:
            said[walk] = rows
            notice(f"{walk}: {rows:,} {done}")

    return tell


def _show(report: Report, *, console_is_data: bool = True) -> None:
    if not report.found:
        (say if console_is_data else notice)("Nothing is wrong.")
        return
    if not console_is_data:
        for problem, count in report.found.most_common():
            notice(f"{count:,} × {problem}: {FIXES.get(problem, 'is put right')}")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("count", "what", "with --fix it", "for example"):
        table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
    for problem, count in report.found.most_common():
        examples = report.examples.get(problem, ())
        table.add_row(f"{count:,}", problem, FIXES.get(problem, "is put right"), escape(", ".join(examples[:2])))
    out().print(table)


def _plain(report: Report) -> dict[str, Any]:
    return {
        "problems": dict(report.found.most_common()),
        "examples": report.examples,
        "looked_at": report.looked_at,
        "chunks_without_vector": report.chunks_without_vector,
    }
