"""What all commands share: where output goes, how errors end, how an asynchronous command runs and stops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from pipeline.errors import SetupError
from pipeline.settings import Settings

T = TypeVar("T")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text for people.")]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--db-url",
        help="Postgres as the role postgres; default: UPLOAD_PIPELINE_MIGRATION_DATABASE_URL.",
        show_default=False,
    ),
]


def out() -> Console:
    """The console for results. Made anew each time, because tests and pipes replace the stream."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())


def err() -> Console:
    """The console for notices, progress and errors."""
    return Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())


def notice(text: str) -> None:
    """Say something on standard error, where no pipe reads it as data."""
    err().print(escape(text), style="dim")


def say(text: str, *, style: str | None = None) -> None:
    """Print text as it is: names of files may hold what rich would take for markup."""
    out().print(escape(text), style=style)


def print_json(value: object) -> None:
    """Print one line of JSON."""
    typer.echo(json.dumps(value, default=str, ensure_ascii=False))


def run(coroutine: Coroutine[Any, Any, T], loop: Callable[[], asyncio.AbstractEventLoop] | None = None) -> T:
    """Run a command to its end, on a loop that `loop` makes."""
    with asyncio.Runner(loop_factory=loop) as runner:
        return runner.run(coroutine)


@contextlib.contextmanager
def stop_on_signals(*, forgive: bool = False) -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set. A second Ctrl-C interrupts at once.

    With `forgive`, what breaks after that is no failure: Ctrl-C reaches the children of the command as well.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    asked = False

    def ask() -> None:
        nonlocal asked
        if asked and main is not None:
            main.cancel()
        asked = True
        stop.set()

    handled = []
    for number in (signal.SIGINT, signal.SIGTERM):
        try:
            loop.add_signal_handler(number, ask)
            handled.append(number)
        except (NotImplementedError, RuntimeError):  # Windows, or not the main thread
            continue
    try:
        yield stop
    except Exception:
        if forgive and asked:
            raise KeyboardInterrupt from None
        raise
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


def operator_url(settings: Settings, given: str | None) -> str:
    """The operators' database URL: the option, or the setting. Raises SetupError where there is neither."""
    url = given or settings.migration_database_url.get_secret_value()
    if not url:
        raise SetupError(
            "This command works on the database as the role postgres. Give --db-url, or set "
            "UPLOAD_PIPELINE_MIGRATION_DATABASE_URL (Supabase: Project Settings, Database, Connection string)."
        )
    return url


def project(settings: Settings) -> tuple[str, str]:
    """The project's URL and its client key. Raises SetupError where one is missing."""
    key = settings.supabase_anon_key.get_secret_value()
    if not settings.supabase_url or not key:
        missing = "UPLOAD_PIPELINE_SUPABASE_URL" if not settings.supabase_url else "UPLOAD_PIPELINE_SUPABASE_ANON_KEY"
        raise SetupError(f"{missing} is not set; this command works as a client of a Supabase project and needs it.")
    return settings.supabase_url, key
