"""`pipeline estimate`: what an upload would cost, before it is made."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from cli.common import DatabaseOption, JsonOption, notice, operator_url, out, print_json, run, say
from cli.costs import dollars
from cli.ingest import collect
from pipeline.app import accounts
from pipeline.operate.money import Money, Quote, quotes
from pipeline.settings import load


def estimate(
    paths: Annotated[list[Path], typer.Argument(exists=True, help="Files, or folders with all that is below them.")],
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """What it would cost to upload files, with the parser and embedder of the settings and the prices of the database.

    The files are read here by the local parser; nothing is uploaded. What is kept already costs less, pictures of text
    are not read, and a paid parser may find more text than the local one.

    Example: `pipeline estimate contracts/`
    """
    settings = load()
    parse, embed = accounts(settings)
    files = [file.path for file in collect(paths, "")]

    async def work() -> list[tuple[Quote, Decimal | None]]:
        found = []
        async with Money.open(operator_url(settings, db_url)) as money:
            async for quote in quotes(settings, files):
                notice(f"read {quote.path}")
                parts = [Decimal(0)]
                if parse:
                    parts.append(await money.price(parse.provider, parse.model, pages=quote.pages))  # type: ignore[arg-type]
                if embed:
                    parts.append(await money.price(embed.provider, embed.model, tokens=quote.tokens))  # type: ignore[arg-type]
                found.append((quote, None if None in parts else sum(parts)))
        return found

    rows = run(work())
    known: list[Any] = [amount for _, amount in rows if amount is not None]
    total = sum(known, start=Decimal(0))
    if json:
        listed = [
            {"path": q.path, "pages": q.pages, "passages": q.passages, "tokens": q.tokens, "amount": amount}
            | ({"problem": q.problem} if q.problem else {})
            for q, amount in rows
        ]
        print_json({"files": listed, "amount": total})
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("file")
    for column in ("pages", "passages", "tokens", "US dollars"):
        table.add_column(column, justify="right")
    table.add_column("")
    for quote, amount in rows:
        price = "unpriced" if amount is None else dollars(amount)
        table.add_row(
            escape(str(quote.path)),
            str(quote.pages),
            str(quote.passages),
            f"{quote.tokens:,}",
            price,
            escape(quote.problem),
        )
    out().print(table)
    say(f"Together about {dollars(total)} US dollars.")
