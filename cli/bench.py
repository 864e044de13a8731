"""`pipeline bench`: figures that anyone can reproduce, from the functions in `bench/` of the checkout."""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import typer

from cli.common import JsonOption, notice, print_json, run, say
from pipeline.errors import SetupError

FOLDER = Path(__file__).resolve().parent.parent / "bench"

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Measure latency, gateway, uploads, retrieval, queue, providers and parsing, without touching any project.\n\n"
    "Example: `pipeline bench latency`",
)

RunsOption = Annotated[int, typer.Option("--runs", min=1, help="So many measured runs.")]


def _module(name: str) -> ModuleType:
    """The module of the checkout's bench/; it is not installed with the command."""
    if not (FOLDER / name).exists() and not (FOLDER / f"{name}.py").exists():
        raise SetupError(
            f"{FOLDER / name} is not there: `pipeline bench` measures from a checkout of the project, not from a wheel."
        )
    if str(FOLDER.parent) not in sys.path:
        sys.path.insert(0, str(FOLDER.parent))
    try:
        return importlib.import_module(f"bench.{name}")
    except ModuleNotFoundError as error:
        raise SetupError(f"Measuring needs {error.name}: pip install -e '.[dev]'") from None


def _measure(name: str, json: bool, markdown: bool = False, **options: Any) -> None:
    module = _module(name)
    result = module.measure(**options)
    figures = run(result) if inspect.isawaitable(result) else result  # type: ignore[arg-type]
    if json:
        print_json(figures)
    elif markdown:
        say(module.markdown(figures))
    else:
        _table(figures)


def _table(figures: Any, indent: str = "") -> None:
    for key, value in figures.items() if isinstance(figures, dict) else enumerate(figures):
        if isinstance(value, dict | list) and value:
            say(f"{indent}{key}")
            _table(value, indent + "  ")
        else:
            say(f"{indent}{key}: {round(value, 3) if isinstance(value, float) else value}")


@app.command("latency")
def latency(runs: RunsOption = 50, json: JsonOption = False) -> None:
    """From the commit of a one-page upload to its claim, and to its first search hit; beside the floor.

    Example: `pipeline bench latency --runs 200`
    """
    _measure("latency", json, runs=runs)


@app.command("gateway")
def gateway(
    seconds: Annotated[float, typer.Option(min=0.2, help="Seconds for each figure.")] = 5, json: JsonOption = False
) -> None:
    """One-row selects and 10 KB uploads a second on the embedded Supabase, with one client and with eight.

    Example: `pipeline bench gateway --seconds 10`
    """
    _measure("gateway", json, seconds=seconds)


@app.command("retrieval")
def retrieval(
    own: Annotated[
        list[int] | None,
        typer.Option(min=1, help="Time searches of an owner of so many passages too; may be given again."),
    ] = None,
    others: Annotated[int, typer.Option(min=0, help="So many passages of other owners beside them.")] = 0,
    space: Annotated[
        str | None, typer.Option(help="The embedding space of the timed searches; the local model's without.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """How well search ranks judged questions (nDCG@10), by recipe; with --own also how long it takes.

    Example: `pipeline bench retrieval --own 2000 --others 20000`
    """
    _measure("retrieval", json, own=own or [], others=others, space=space)


@app.command("queue")
def queue(
    jobs: Annotated[int, typer.Option(min=1, help="So many jobs in each drain.")] = 20_000,
    rounds: Annotated[int, typer.Option(min=1, help="Each figure is the median of so many rounds.")] = 5,
    wakes: Annotated[int, typer.Option(min=1, help="So many timed wake-ups of an idle listener.")] = 300,
    only: Annotated[
        list[str] | None, typer.Option(help="Only queues with this in their name; repeat it for more.")
    ] = None,
    off: Annotated[bool, typer.Option(help="Drain once more with fsync and synchronous_commit off.")] = True,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print tables for a document.")] = False,
    json: JsonOption = False,
) -> None:
    """How many jobs a second the queue hands out and ends, and how soon it begins, beside other queues on Postgres.

    The others come with `pip install -e '.[peers]'`; what is not installed is left out and named.

    Example: `pipeline bench queue --rounds 1 --only pipeline --only bare`
    """
    _measure("queue", json, markdown, jobs=jobs, rounds=rounds, wakes=wakes, only=tuple(only or ()), off=off)


@app.command("providers")
def providers(
    seconds: Annotated[float, typer.Option(min=5, help="Seconds for each figure, after the opening burst.")] = 300,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a document.")] = False,
    json: JsonOption = False,
) -> None:
    """How much of a provider's limit one listener and three use, and how often they are refused; beside a naive loop.

    Example: `pipeline bench providers --seconds 30`
    """
    _measure("providers", json, markdown, seconds=seconds)


@app.command("growth")
def growth(
    most: Annotated[
        int, typer.Option("--max", min=1000, help="So many queued jobs (a million at most) and completed ones.")
    ] = 1_000_000,
    claims: Annotated[int, typer.Option(min=1, help="So many timed claims of each kind.")] = 50,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a document.")] = False,
    json: JsonOption = False,
) -> None:
    """How long a claim takes as jobs, owners and history grow.

    Example: `pipeline bench growth --max 10000000`
    """
    _measure("growth", json, markdown, most=most, claims=claims)


@app.command("upload")
def upload(
    seconds: Annotated[float, typer.Option(min=1, help="Seconds for each figure.")] = 5,
    rounds: Annotated[int, typer.Option(min=1, help="Each figure is the median of so many rounds.")] = 5,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a document.")] = False,
    json: JsonOption = False,
) -> None:
    """What an upload pays for our triggers: uploads a second into our bucket, and into one with policies alone.

    Example: `pipeline bench upload --rounds 3`
    """
    _measure("upload", json, markdown, seconds=seconds, rounds=rounds)


@app.command("policies")
def policies(
    owners: Annotated[int, typer.Option(min=1, help="So many owners.")] = 10_000,
    chunks: Annotated[int, typer.Option(min=1, help="So many passages of all owners together.")] = 1_000_000,
    runs: RunsOption = 300,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table and the plans for a document.")] = False,
    json: JsonOption = False,
) -> None:
    """What row-level security costs: upload, select and search under the policies, and with the filter written by hand.

    Example: `pipeline bench policies --owners 100 --chunks 10000`
    """
    _measure("policies", json, markdown, owners=owners, chunks=chunks, runs=runs)


@app.command("parse")
def parse(
    folders: Annotated[
        list[Path], typer.Argument(metavar="FOLDER...", exists=True, help="Folders of files of any kind, or files.")
    ],
    worst: Annotated[int, typer.Option(min=0, help="List so many of the files that lose most.")] = 20,
    before: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="The --json of an earlier run: what is read better and worse?"),
    ] = None,
    others: Annotated[
        bool, typer.Option(help="Measure all other readers that are installed, not the judge alone.")
    ] = True,
    json: JsonOption = False,
) -> None:
    """How many of the words in any files the local parser finds, beside other readers; its time and its memory.

    The judge of PDFs is poppler's pdftotext; what is not installed is left out.

    Example: `pipeline bench parse ~/Documents --worst 50`
    """

    def progress(number: int, total: int, name: str) -> None:
        if number % 50 == 0 or number == total:
            notice(f"{number} of {total}: {name}")

    _measure("parse", json, True, folders=folders, worst=worst, before=before, others=others, progress=progress)
