"""`pipeline limits`: what each user may use, and how much of it is used."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import DatabaseOption, JsonOption, operator_url, out, print_json, run, say
from pipeline.errors import SetupError
from pipeline.operate.operations import LIMITS, Operations, Row
from pipeline.settings import load

app = typer.Typer(
    help="See and set what each user may use.\n\nExample: `pipeline limits set --uploads-per-day 100`",
    no_args_is_help=True,
)

OwnerOption = Annotated[
    str | None, typer.Option(help="The user: id or address. Without it: everybody without limits of their own.")
]

_QUOTA = "NUMBER|none"


@app.command("list")
def list_limits(db_url: DatabaseOption = None, json: JsonOption = False) -> None:
    """List the limits: the default first, then users with limits of their own.

    Example: `pipeline limits list`
    """
    rows = run(_list(operator_url(load(), db_url)))
    if json:
        print_json({"limits": rows})
        return
    out().print(_table(rows))


@app.command("show")
def show(
    owner: Annotated[str, typer.Argument(help="The user: id or address.")],
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show what holds for one user, and what is used of it.

    Example: `pipeline limits show ada@example.com`
    """
    row = run(_show(operator_url(load(), db_url), owner))
    if json:
        print_json(row)
        return
    out().print(_table([row]))
    say(
        f"Used: {row['uploads_today']} uploads today, {row['documents']} files, {row['stored_bytes']} bytes, "
        f"{row['running']} jobs running."
    )


@app.command("set")
def set_limits(
    owner: OwnerOption = None,
    max_concurrent_jobs: Annotated[int | None, typer.Option(min=1, help="So many jobs run at once.")] = None,
    priority: Annotated[int | None, typer.Option(min=1, max=1000, help="So many jobs make a turn.")] = None,
    uploads_per_day: Annotated[
        str | None, typer.Option(metavar=_QUOTA, help="So many uploads, overwrites and copies a day, UTC.")
    ] = None,
    max_file_bytes: Annotated[str | None, typer.Option(metavar=_QUOTA, help="The largest file.")] = None,
    max_documents: Annotated[str | None, typer.Option(metavar=_QUOTA, help="So many files at once.")] = None,
    max_stored_bytes: Annotated[
        str | None, typer.Option(metavar=_QUOTA, help="So many bytes in all files together.")
    ] = None,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Set limits of one user, or the default; what is not named stays. `none` lifts a quota.

    Example: `pipeline limits set --owner ada@example.com --uploads-per-day 200`
    """
    quotas = {
        "uploads_per_day": uploads_per_day,
        "max_file_bytes": max_file_bytes,
        "max_documents": max_documents,
        "max_stored_bytes": max_stored_bytes,
    }
    values = {name: _number(name, text) for name, text in quotas.items() if text is not None}
    values |= {"max_concurrent_jobs": max_concurrent_jobs} if max_concurrent_jobs is not None else {}
    values |= {"priority": priority} if priority is not None else {}
    if not values:
        raise SetupError("Name at least one limit, for example --uploads-per-day 200.")
    row = run(_set(operator_url(load(), db_url), owner, values))
    if json:
        print_json(row)
        return
    out().print(_table([row]))


@app.command("reset")
def reset(
    owner: Annotated[str, typer.Argument(help="The user: id or address.")],
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Let the default hold again for a user.

    Example: `pipeline limits reset ada@example.com`
    """
    removed = run(_reset(operator_url(load(), db_url), owner))
    if json:
        print_json({"changed": removed})
    else:
        say("The default holds again." if removed else "This user had no limits of their own.")


def _number(name: str, text: str) -> int | None:
    if text == "none":
        return None
    if not text.isdecimal():
        raise SetupError(f"--{name.replace('_', '-')} takes a number or `none`, not {text!r}.")
    return int(text)


def _table(rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("owner")
    for name in LIMITS:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        owner = "everybody else" if row["owner_id"] is None else str(row["email"] or row["owner_id"])
        table.add_row(escape(owner), *("none" if row[name] is None else str(row[name]) for name in LIMITS))
    return table


async def _list(url: str) -> list[Row]:
    async with Operations.open(url) as operations:
        return await operations.limits()


async def _show(url: str, owner: str) -> Row:
    async with Operations.open(url) as operations:
        return await operations.usage(await operations.owner(owner))


async def _set(url: str, owner: str | None, values: dict[str, int | None]) -> Row:
    async with Operations.open(url) as operations:
        return await operations.set_limits(await operations.owner(owner) if owner is not None else None, values)


async def _reset(url: str, owner: str) -> bool:
    async with Operations.open(url) as operations:
        return await operations.reset_limits(await operations.owner(owner))
