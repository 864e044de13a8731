"""`pipeline erasures`: what was removed of users who were deleted."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import DatabaseOption, JsonOption, operator_url, out, print_json, run, say
from cli.tables import age
from pipeline.errors import SetupError
from pipeline.operate.operations import Operations, Row
from pipeline.settings import load

app = typer.Typer(
    help="See what is and was removed of deleted users.\n\nExample: `pipeline erasures list`",
    no_args_is_help=True,
)

_COUNTS = ("files", "bytes", "documents", "passages", "embeddings", "parses", "jobs", "events", "messages", "costs")


@app.command("list")
def list_erasures(
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only those that are not completed.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """List deleted users, each under a pseudonym, with what was removed.

    Example: `pipeline erasures list --unfinished`
    """
    rows = run(_list(operator_url(load(), db_url), unfinished, limit))
    if json:
        print_json({"erasures": rows})
    elif rows:
        out().print(_table(rows))
    else:
        say("No user is being erased." if unfinished else "No user was deleted yet.")


@app.command("show")
def show(
    who: Annotated[UUID, typer.Argument(help="The deleted user's id, or the pseudonym on the receipt.")],
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show the receipt of one deleted user.

    Example: `pipeline erasures show 6ec0bd7f-11c0-43da-975e-2a8ad9ebae0b`
    """
    rows = run(_show(operator_url(load(), db_url), who))
    if not rows:
        raise SetupError(f"No user with the id or pseudonym {who} was deleted since the pipeline is here.")
    if json:
        print_json({"erasures": rows})
        return
    for row in rows:
        table = Table(box=None, pad_edge=False, show_header=False)
        for name in ("pseudonym", "state", "requested_at", "completed_at", *_COUNTS, "last_error"):
            if row[name] is not None:
                table.add_row(name.replace("_", " "), escape(str(row[name])))
        out().print(table)


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("pseudonym", "state", "age"):
        table.add_column(name, no_wrap=True)
    for name in ("files", "bytes", "documents", "passages"):
        table.add_column(name, justify="right")
    table.add_column("error", overflow="fold")
    for row in rows:
        table.add_row(
            str(row["pseudonym"]),
            row["state"],
            age(row["requested_at"]),
            *(str(row[name]) for name in ("files", "bytes", "documents", "passages")),
            escape(row["last_error"] or ""),
        )
    return table


async def _list(url: str, unfinished: bool, limit: int) -> list[Row]:
    async with Operations.open(url) as operations:
        return await operations.erasures(unfinished=unfinished, limit=limit)


async def _show(url: str, who: UUID) -> list[Row]:
    async with Operations.open(url) as operations:
        return await operations.erasure(who)
