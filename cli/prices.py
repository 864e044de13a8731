"""`pipeline prices`: what providers cost, which costs and budgets go by."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import DatabaseOption, JsonOption, operator_url, out, print_json, run, say
from pipeline.errors import SetupError
from pipeline.operate.money import Money, Row
from pipeline.settings import load


class Unit(StrEnum):
    PAGE = "page"
    TOKEN = "token"  # noqa: S105
    CREDIT = "credit"


app = typer.Typer(
    help="See and set what providers cost.\n\nExample: `pipeline prices set openai bge-m3 token 0`",
    no_args_is_help=True,
)


@app.command("list")
def list_prices(db_url: DatabaseOption = None, json: JsonOption = False) -> None:
    """List the prices that hold, and those that did or will.

    Example: `pipeline prices list`
    """

    async def work() -> list[Row]:
        async with Money.open(operator_url(load(), db_url)) as money:
            return await money.prices()

    rows = run(work())
    if json:
        print_json({"prices": rows})
        return
    table = Table(box=None, pad_edge=False)
    for column, justify in (
        ("provider", "left"),
        ("model or tier", "left"),
        ("unit", "left"),
        ("US dollars", "right"),
        ("from", "left"),
        ("", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for row in rows:
        names = (escape(row[name]) for name in ("provider", "model", "unit"))
        table.add_row(*names, f"{row['price'].normalize():f}", str(row["valid_from"]), "holds" if row["holds"] else "")
    out().print(table)


@app.command("set")
def set_price(
    provider: Annotated[str, typer.Argument(help="`openai` for every service that speaks its API, or `llamaparse`.")],
    model: Annotated[str, typer.Argument(help="The embedding model, or the parser's tier.")],
    unit: Annotated[Unit, typer.Argument(help="What is counted.")],
    dollars: Annotated[str, typer.Argument(metavar="DOLLARS", help="Of one unit, in US dollars; 0: it costs nothing.")],
    since: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="The first day that it holds, UTC; today without it."),
    ] = None,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Say what one page, token or credit costs. Jobs that wait for a price go on at once.

    What was bought before keeps the price of its day.

    Example: `pipeline prices set openai bge-m3 token 0`
    """
    try:
        price = Decimal(dollars)
    except InvalidOperation:
        price = Decimal(-1)
    if not (price.is_finite() and price >= 0):
        raise SetupError(f"A price is a number of US dollars, not {dollars!r}.")

    async def work() -> list[Row]:
        async with Money.open(operator_url(load(), db_url)) as money:
            day = since.date() if since else await money.today()
            await money.set_price(provider, model, unit, price, day)
            return await money.prices()

    rows = run(work())
    if json:
        print_json({"prices": rows})
    else:
        say(f"A {unit} of {provider} {model} costs {price:f} US dollars.")
