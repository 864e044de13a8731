"""The command line of the pipeline."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import (
    bench,
    check,
    costs,
    demo,
    dev,
    doctor,
    erasures,
    estimate,
    ingest,
    jobs,
    limits,
    listen,
    migrate,
    prices,
    providers,
    queue,
    search,
    session,
)
from cli.failures import Guarded

app = typer.Typer(
    name="pipeline",
    cls=Guarded,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "A document pipeline inside Supabase: uploads become jobs, a listener makes them searchable.\n\n"
        "Example: `pipeline demo`"
    ),
)


def _version(wanted: bool) -> None:
    if wanted:
        from pipeline.app import release

        typer.echo(f"document-pipeline {release()}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of all commands."""


TRY = "Try it"
RUN = "Run it"
USE = "Use it"
WATCH = "Watch it"

app.command("demo", rich_help_panel=TRY)(demo.demo)
app.command("dev", rich_help_panel=TRY)(dev.dev)
app.command("migrate", rich_help_panel=RUN)(migrate.migrate)
app.command("listen", rich_help_panel=RUN)(listen.listen)
app.command("check", rich_help_panel=RUN)(check.check)
app.command("doctor", rich_help_panel=RUN)(doctor.doctor)
app.command("pause", rich_help_panel=RUN)(queue.pause)
app.command("resume", rich_help_panel=RUN)(queue.resume)
app.command("sign-in", rich_help_panel=USE)(session.sign_in)
app.command("sign-out", rich_help_panel=USE)(session.sign_out)
app.command("ingest", rich_help_panel=USE)(ingest.ingest)
app.command("search", rich_help_panel=USE)(search.search)
app.command("estimate", rich_help_panel=USE)(estimate.estimate)
app.command("costs", rich_help_panel=WATCH)(costs.costs)
app.add_typer(jobs.app, name="jobs", rich_help_panel=WATCH)
app.add_typer(limits.app, name="limits", rich_help_panel=RUN)
app.add_typer(costs.app, name="budgets", rich_help_panel=RUN)
app.add_typer(prices.app, name="prices", rich_help_panel=RUN)
app.add_typer(providers.app, name="providers", rich_help_panel=RUN)
app.add_typer(erasures.app, name="erasures", rich_help_panel=WATCH)
app.add_typer(bench.app, name="bench", rich_help_panel=WATCH)

if __name__ == "__main__":
    app()
