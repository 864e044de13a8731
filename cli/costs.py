"""`pipeline costs` and `pipeline budgets`: what was bought, and how much may be."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import DatabaseOption, JsonOption, operator_url, out, print_json, run, say
from cli.names import readable
from pipeline.errors import SetupError
from pipeline.operate.money import Money, Row
from pipeline.settings import load


class Group(StrEnum):
    DAY = "day"
    OWNER = "owner"
    DOCUMENT = "document"
    PROVIDER = "provider"


class Period(StrEnum):
    DAY = "day"
    MONTH = "month"


OwnerOption = Annotated[str | None, typer.Option("--owner", help="Only this user's: id or address.")]


def costs(
    by: Annotated[Group, typer.Option(help="Add up by this.")] = Group.DAY,
    days: Annotated[int, typer.Option(min=1, max=36_500, help="The last so many days, UTC, today among them.")] = 30,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="That day, UTC, and all after it; in place of --days.")
    ] = None,
    owner: OwnerOption = None,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """What was bought from providers, in US dollars.

    Example: `pipeline costs --by owner --days 7`
    """

    async def work() -> tuple[date, list[Row]]:
        async with Money.open(operator_url(load(), db_url)) as money:
            first = since.date() if since else await money.today() - timedelta(days=days - 1)
            return first, await money.costs(by, since=first, owner=await money.owner(owner) if owner else None)

    first, rows = run(work())
    total = sum((row["amount"] for row in rows), start=Decimal(0))
    if json:
        print_json({"by": by, "since": first, "costs": rows, "amount": total})
        return
    table = Table(box=None, pad_edge=False)
    table.add_column(by.value, overflow="fold")  # whole: names of files differ at their ends
    for column in ("calls", "pages", "inputs", "tokens", "US dollars", "of which unconfirmed"):
        table.add_column(column, justify="right")
    for row in rows:
        counts = (f"{row[name]:,}" for name in ("calls", "pages", "inputs", "tokens"))
        amount = cost(row["amount"], row["calls"], row["without_price"])
        table.add_row(escape(readable(row["name"])), *counts, amount, dollars(row["unconfirmed"]))
    out().print(table)
    say(f"Together {dollars(total)} US dollars since {first}.")
    if any(row["without_price"] for row in rows):
        say("Unpriced calls are not in it: set a price with `pipeline prices set`.", style="yellow")


app = typer.Typer(
    help="See and set how much may be spent.\n\nExample: `pipeline budgets set 50 --period month`",
    no_args_is_help=True,
)

ForOption = Annotated[
    str | None, typer.Option("--owner", help="The user: id or address; `each` for every user without one of their own.")
]
PeriodOption = Annotated[Period, typer.Option(help="For each day or month, UTC.")]


@app.command("list")
def list_budgets(db_url: DatabaseOption = None, json: JsonOption = False) -> None:
    """List the budgets, and what is spent of each.

    Example: `pipeline budgets list`
    """
    rows = run(_list(operator_url(load(), db_url)))
    if json:
        print_json({"budgets": rows})
        return
    if not rows:
        say("There are no budgets: everybody may spend without limit.")
        return
    table = Table(box=None, pad_edge=False)
    for column, justify in (("for", "left"), ("each", "left"), ("US dollars", "right"), ("spent", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        amount = "no limit" if row["amount"] is None else dollars(row["amount"])
        spent = "" if row["spent"] is None else dollars(row["spent"])
        table.add_row(escape(_whose(row)), row["period"], amount, spent)
    out().print(table)


@app.command("set")
def set_budget(
    amount: Annotated[str, typer.Argument(metavar="DOLLARS|none", help="So many US dollars; `none`: no limit.")],
    owner: ForOption = None,
    period: PeriodOption = Period.MONTH,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Set the budget of all together, of one user, or of each user. Jobs that wait for it go on at once.

    Example: `pipeline budgets set 2.50 --owner each --period day`
    """
    try:
        value = None if amount == "none" else Decimal(amount)
    except InvalidOperation:
        value = Decimal(-1)
    if value is not None and not (value.is_finite() and value >= 0):
        raise SetupError(f"A budget is a number of US dollars or `none`, not {amount!r}.")

    async def work() -> list[Row]:
        async with Money.open(operator_url(load(), db_url)) as money:
            scope, user = await _scope(money, owner)
            await money.set_budget(scope, user, period, value)
            return await money.budgets()

    rows = run(work())
    if json:
        print_json({"budgets": rows})
    else:
        say("The budget is set." if value is not None else "There is no limit now.")


@app.command("remove")
def remove_budget(
    owner: ForOption = None,
    period: PeriodOption = Period.MONTH,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Remove a budget; for a user, the one for each user holds again.

    Example: `pipeline budgets remove --owner ada@example.com`
    """

    async def work() -> bool:
        async with Money.open(operator_url(load(), db_url)) as money:
            return await money.remove_budget(*await _scope(money, owner), period)

    removed = run(work())
    if json:
        print_json({"changed": removed})
    else:
        say("The budget is removed." if removed else "There was no such budget.")


def dollars(amount: Any) -> str:
    """An amount for people: to the cent, or as fine as it is small."""
    return f"{amount:,.2f}" if amount == 0 or amount >= 1 else f"{amount:,.6f}"


def cost(amount: Any, calls: int, without_price: int) -> str:
    """An amount for people, of so many calls, some of which nobody knows the price."""
    if not without_price:
        return dollars(amount)
    return "unpriced" if without_price == calls else f"{dollars(amount)} and unpriced"


def _whose(row: Row) -> str:
    if row["scope"] == "all":
        return "all together"
    return "each user" if row["owner_id"] is None else str(row["email"] or row["owner_id"])


async def _scope(money: Money, owner: str | None) -> tuple[str, Any]:
    if owner is None:
        return "all", None
    return "owner", None if owner == "each" else await money.owner(owner)


async def _list(url: str) -> list[Row]:
    async with Money.open(url) as money:
        return await money.budgets()
