"""`pipeline pause` and `pipeline resume`: one switch for all listeners."""

from __future__ import annotations

from cli.common import DatabaseOption, JsonOption, operator_url, print_json, run, say
from pipeline.operate.operations import Operations, Row
from pipeline.settings import load


def pause(db_url: DatabaseOption = None, json: JsonOption = False) -> None:
    """Hand out no more jobs; running ones finish, uploads go on.

    Example: `pipeline pause`
    """
    row = run(_pause(operator_url(load(), db_url)))
    if json:
        print_json(row)
    elif row["changed"]:
        say("Paused. Running jobs finish; `pipeline resume` goes on.")
    else:
        say(f"It was paused already, since {row['paused_at']:%Y-%m-%d %H:%M:%S %Z}.")


def resume(db_url: DatabaseOption = None, json: JsonOption = False) -> None:
    """Hand out jobs again.

    Example: `pipeline resume`
    """
    row = run(_resume(operator_url(load(), db_url)))
    if json:
        print_json(row)
    else:
        say("Resumed." if row["changed"] else "It was not paused.")


async def _pause(url: str) -> Row:
    async with Operations.open(url) as operations:
        return await operations.pause()


async def _resume(url: str) -> Row:
    async with Operations.open(url) as operations:
        return await operations.resume()
