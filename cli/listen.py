"""`pipeline listen`: the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.common import run, stop_on_signals
from pipeline import logs
from pipeline.settings import Settings, load


def listen(
    concurrency: Annotated[
        int | None, typer.Option(min=1, max=256, help="Jobs at once; default: UPLOAD_PIPELINE_CONCURRENCY, or 4.")
    ] = None,
) -> None:
    """Work on jobs until Ctrl-C or SIGTERM, then finish what runs.

    Logs are JSON lines on standard error. Start as many as you like, on as many machines.

    Example: `pipeline listen --concurrency 8`
    """
    settings = load(**({"concurrency": concurrency} if concurrency else {}))
    logs.set_up(settings.log_level)
    from pipeline.app import event_loop

    run(_listen(settings), event_loop)


async def _listen(settings: Settings) -> None:
    from pipeline.app import run_listener

    with stop_on_signals() as stop:
        await run_listener(settings, stop=stop)
