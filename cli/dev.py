"""`pipeline dev`: a Supabase on this machine, with the pipeline in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.panel import Panel

from cli.common import JsonOption, err, out, print_json, run, stop_on_signals
from pipeline import logs
from pipeline.settings import load


def dev(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Keep the project here; default: a temporary one, removed at the end.",
            show_default=False,
            file_okay=False,
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The API's port; default: the one of the last start, if free.")
    ] = None,
    no_listener: Annotated[bool, typer.Option("--no-listener", help="Do not work on jobs.")] = False,
    fake_providers: Annotated[
        bool, typer.Option("--fake-providers", help="Read and embed by LlamaParse and OpenAI, both faked here.")
    ] = False,
    env_file: Annotated[
        Path | None,
        typer.Option(help="Write the settings for other commands here, as a .env file.", show_default=False),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start Supabase without Docker, migrated, with a listener, until Ctrl-C. Needs no network and no keys.

    With --json exactly one line is printed when all is ready: URLs and keys.

    Example: `pipeline dev --env-file .env`
    """
    logs.set_up(load().log_level)
    run(_dev(data_dir, port, no_listener, fake_providers, env_file, json))


async def _dev(
    folder: Path | None, port: int | None, no_listener: bool, fake: bool, env_file: Path | None, json: bool
) -> None:
    from cli.local_project import LOCAL, SPACE, Local, listener, local_project

    space, providers = SPACE, LOCAL

    def announce(local: Local) -> None:
        if env_file is not None:
            _write_env(env_file, local.environment(providers))
        if json:
            print_json(asdict(local))
            return
        facts = [
            f"[bold]API[/]       {local.api_url}",
            f"[bold]project[/]   {escape(str(folder)) if folder else 'temporary, removed at the end'}",
            f"[bold]providers[/] {'LlamaParse and OpenAI, faked: nothing is paid for' if fake else 'local'}",
            f"[bold]listener[/]  {'none: start one with `pipeline listen`' if no_listener else 'at work'}",
        ]
        title = "Supabase on this machine"
        out().print(Panel("\n".join(facts), title=title, title_align="left", subtitle="Ctrl-C stops it", expand=False))
        # Outside of the frame and on one line each: they are there to be copied.
        for key, value in (
            local.environment(providers) | {"publishable_key": local.publishable_key, "secret_key": local.secret_key}
        ).items():
            typer.echo(f"{key}={value}")

    async with contextlib.AsyncExitStack() as stack:
        stop = stack.enter_context(stop_on_signals(forgive=True))
        if not json:
            err().print("[dim]Starting…[/]")
        if fake:
            from cli import fake_providers

            space, providers = fake_providers.SPACE, await stack.enter_async_context(fake_providers.fake_providers())
        async with local_project(folder, port=port, space=space) as local:
            if no_listener:
                announce(local)
                await stop.wait()
                return
            async with listener(local.settings(providers), stop) as working:
                announce(local)
                await asyncio.wait({working})


def _write_env(file: Path, environment: dict[str, str]) -> None:
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:
        stream.writelines(f"{key}={value}\n" for key, value in environment.items())
