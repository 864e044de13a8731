"""`pipeline providers`: the keys of the paid services, how they are, and how many calls at once they get."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import DatabaseOption, JsonOption, operator_url, out, print_json, run, say
from pipeline.errors import SetupError
from pipeline.operate.money import Money, Row
from pipeline.providers.answers import SERVICE
from pipeline.settings import load

app = typer.Typer(
    help="See how the paid services are, and bound the calls to them.\n\nExample: `pipeline providers list`",
    no_args_is_help=True,
)


@app.command("list")
def list_providers(db_url: DatabaseOption = None, json: JsonOption = False) -> None:
    """List each key, that of Storage too, by its fingerprint: its state, since when and why, its pace, how it is used.

    Example: `pipeline providers list`
    """

    async def work() -> list[Row]:
        async with Money.open(operator_url(load(), db_url)) as money:
            return await money.providers()

    rows = run(work())
    if json:
        print_json({"providers": rows})
        return
    if not rows:
        say("No service has been called yet.")
        return
    table = Table(box=None, pad_edge=False)
    for column in ("provider", "key", "state", "since", "why"):
        table.add_column(column, overflow="fold")
    for column in ("requests a minute", "tokens a minute", "at once", "of at most", "listeners"):
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(
            row["provider"],
            row["fingerprint"],
            row["state"],
            f"{row['since']:%Y-%m-%d %H:%M:%S}",
            escape(row["reason"] or ""),
            f"{row['requests_last_minute']:,} of {_limit(row['requests_per_minute'])}",
            f"{row['tokens_last_minute']:,} of {_limit(row['tokens_per_minute'])}",
            str(row["in_flight"]),
            _limit(row["max_in_flight"]),
            str(row["listeners"]),
        )
    out().print(table)


@app.command("set")
def set_provider(
    provider: Annotated[str, typer.Argument(help=f"One of {', '.join(SERVICE)}.")],
    max_in_flight: Annotated[
        str,
        typer.Option(metavar="NUMBER|none", help="So many calls at once with each key; none: as many as there are."),
    ],
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Bound the calls at once to a paid service, of all listeners together. It holds from the next call on.

    Example: `pipeline providers set llamaparse --max-in-flight 8`
    """
    if provider not in SERVICE:
        raise SetupError(f"There is no provider {provider!r}; there are {' and '.join(SERVICE)}.")
    if max_in_flight != "none" and not (max_in_flight.isdecimal() and 0 < int(max_in_flight) < 2**31):
        raise SetupError(f"--max-in-flight takes a number from 1 on, or `none`, not {max_in_flight!r}.")
    most = None if max_in_flight == "none" else int(max_in_flight)

    async def work() -> None:
        async with Money.open(operator_url(load(), db_url)) as money:
            await money.set_in_flight(provider, most)

    run(work())
    if json:
        print_json({"provider": provider, "max_in_flight": most})
    else:
        say(f"At most {most} calls to {provider} at once." if most else f"Calls to {provider} are not bounded.")


def _limit(value: float | None) -> str:
    return "no limit" if value is None else f"{value:,.0f}"
