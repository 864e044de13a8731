"""`pipeline jobs`: an operator looks at the queue and mends it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cli.common import (
    DatabaseOption,
    JsonOption,
    err,
    notice,
    operator_url,
    out,
    print_json,
    run,
    say,
    stop_on_signals,
)
from cli.costs import dollars
from cli.names import readable
from cli.tables import health_line, jobs_table, warnings
from pipeline.errors import SetupError
from pipeline.job import State
from pipeline.operate.operations import Operations, Row
from pipeline.settings import load

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look at jobs, retry and cancel them, as an operator.\n\nExample: `pipeline jobs list --state dead`",
)

StateOption = Annotated[State | None, typer.Option("--state", help="Only jobs in this state.", show_default=False)]
OwnerOption = Annotated[str | None, typer.Option("--owner", help="Only this user's: id or address.")]
ClassOption = Annotated[
    str | None, typer.Option("--error-class", help="Only these failures: transient, permanent, lease_expired, …")
]
LimitOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="So many at most, the newest.")]


@app.command("list")
def list_jobs(
    state: StateOption = None,
    owner: OwnerOption = None,
    error_class: ClassOption = None,
    limit: LimitOption = 50,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """List jobs, the newest first, and say when nobody works.

    Example: `pipeline jobs list --state dead --owner ada@example.com`
    """

    async def work() -> tuple[list[Row], Row]:
        async with Operations.open(operator_url(load(), db_url)) as operations:
            rows = await operations.list_jobs(
                states=[state] if state else None,
                owner=await operations.owner(owner) if owner else None,
                error_class=error_class,
                limit=limit,
            )
            return rows, await operations.queue_health()

    rows, health = run(work())
    if json:
        print_json({"jobs": rows, "health": health})
        return
    out().print(jobs_table(rows) if rows else "No jobs.")
    notice(health_line(health))
    _warn(health)


@app.command("show")
def show(
    job_id: Annotated[int, typer.Argument(help="The job's number.")],
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Show one job with its whole history.

    Example: `pipeline jobs show 42`
    """

    async def work() -> Row:
        async with Operations.open(operator_url(load(), db_url)) as operations:
            job = await operations.show(job_id)
        if job is None:
            raise SetupError(f"There is no job {job_id}.")
        return job

    job = run(work())
    if json:
        print_json(job)
        return
    facts = Table(box=None, show_header=False, pad_edge=False)
    for key, value in job.items():
        if key not in ("events", "costs") and value is not None:
            facts.add_row(f"[dim]{key}[/]", escape(readable(value) if key == "name" else str(value)))
    cost = job["costs"]
    facts.add_row(
        "[dim]bought[/]",
        f"{cost['pages_bought']} pages, {cost['inputs_bought']} passages, {dollars(cost['bought'])} US dollars"
        + (f" and {cost['without_price']} unpriced calls" if cost["without_price"] else "")
        + (f", of which {dollars(cost['unconfirmed'])} unconfirmed" if cost["unconfirmed"] else ""),
    )
    facts.add_row(
        "[dim]reused[/]",
        f"{cost['pages_reused']} pages, {cost['inputs_reused']} passages, {dollars(cost['saved'])} US dollars saved",
    )
    history = Table(box=None, pad_edge=False, title="history", title_justify="left")
    for column in ("at", "from", "to", "try", "failures", "stage", "listener", "why"):
        history.add_column(column)
    for event in job["events"]:
        history.add_row(
            f"{event['at']:%Y-%m-%d %H:%M:%S}",
            event["from_state"] or "",
            event["to_state"],
            str(event["attempt"]),
            str(event["failures"]),
            event["stage"] or "",
            escape(event["claimed_by"] or ""),
            escape(event["error"] or ""),
        )
    out().print(Group(facts, "", history))


@app.command("retry")
def retry(
    job_ids: Annotated[list[int] | None, typer.Argument(help="Numbers of jobs.", show_default=False)] = None,
    state: StateOption = None,
    owner: OwnerOption = None,
    error_class: ClassOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All that match, not one named job.")] = False,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Run dead or cancelled jobs again, named or by filter.

    Example: `pipeline jobs retry --state dead --error-class lease_expired --all`
    """
    states = _chosen(job_ids, state, all_, allowed=(State.DEAD, State.CANCELLED), default=State.DEAD)

    async def work(operations: Operations, job_id: int) -> str | None:
        return await operations.retry(job_id)

    _each(job_ids, states, owner, error_class, db_url, json, work, done="available")


@app.command("cancel")
def cancel(
    job_ids: Annotated[list[int] | None, typer.Argument(help="Numbers of jobs.", show_default=False)] = None,
    state: StateOption = None,
    owner: OwnerOption = None,
    error_class: ClassOption = None,
    all_: Annotated[bool, typer.Option("--all", help="All that match, not one named job.")] = False,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Cancel jobs that have not ended, named or by filter.

    Example: `pipeline jobs cancel 42`
    """
    states = _chosen(job_ids, state, all_, allowed=(State.AVAILABLE, State.RUNNING), default=State.AVAILABLE)

    async def work(operations: Operations, job_id: int) -> str | None:
        return await operations.cancel(job_id)

    _each(job_ids, states, owner, error_class, db_url, json, work, done="cancelled")


def _chosen(
    job_ids: list[int] | None, state: State | None, all_: bool, *, allowed: tuple[State, ...], default: State
) -> list[State]:
    if bool(job_ids) == all_:
        raise typer.BadParameter("Name jobs, or choose them by filter with --all.", param_hint="JOB_IDS")
    if state is not None and state not in allowed:
        raise typer.BadParameter(f"only jobs that are {' or '.join(allowed)}", param_hint="--state")
    return [state or default]


def _each(
    job_ids: list[int] | None,
    states: list[State],
    owner: str | None,
    error_class: str | None,
    db_url: str | None,
    json: bool,
    work: Callable[[Operations, int], Awaitable[str | None]],
    *,
    done: str,
) -> None:
    async def all_of_them() -> list[Row]:
        async with Operations.open(operator_url(load(), db_url)) as operations:
            chosen = job_ids
            if not chosen:
                of = await operations.owner(owner) if owner else None
                found = await operations.list_jobs(states=states, owner=of, error_class=error_class, limit=None)
                chosen = [row["id"] for row in reversed(found)]
            results = []
            for job_id in chosen:
                try:
                    now = await work(operations, job_id)
                    why = None if now == done else f"There is no job {job_id}." if now is None else f"It is {now}."
                except SetupError as error:
                    now, why = None, str(error)
                results.append({"id": job_id, "state": now, "refused": why})
            return results

    results = run(all_of_them())
    if json:
        print_json(results)
    else:
        for result in results:
            say(f"job {result['id']}: {result['refused'] or result['state']}")
        if not results:
            say("No job matches.")
    if any(result["refused"] for result in results):
        raise typer.Exit(1)


@app.command("watch")
def watch(
    state: StateOption = None,
    owner: OwnerOption = None,
    limit: LimitOption = 20,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks.")] = 1.0,
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End when no job is due or running.")] = False,
    db_url: DatabaseOption = None,
    json: JsonOption = False,
) -> None:
    """Watch jobs move until Ctrl-C. With --json, or into a pipe: a line for each change.

    Example: `pipeline jobs watch --owner ada@example.com`
    """
    run(_watch(operator_url(load(), db_url), state, owner, limit, every, until_idle, json))


async def _watch(
    url: str, state: State | None, owner: str | None, limit: int, every: float, until_idle: bool, json: bool
) -> None:
    live = Live(console=out(), auto_refresh=False, transient=False) if sys.stdout.isatty() and not json else None
    shown: dict[int, tuple[object, ...]] = {}
    with stop_on_signals() as stop:
        async with Operations.open(url) as operations:
            of = await operations.owner(owner) if owner else None
            if live:
                live.start()
            else:
                _warn(await operations.queue_health())
            try:
                while not stop.is_set():
                    rows = await operations.list_jobs(states=[state] if state else None, owner=of, limit=limit)
                    health = await operations.queue_health()
                    if live:
                        lines = [health_line(health), *(f"[bold yellow]{escape(line)}[/]" for line in warnings(health))]
                        live.update(Group(jobs_table(rows), "", *lines), refresh=True)
                    else:
                        _changes(rows, shown, json)
                    if until_idle and not health["due"] and not health["running"]:
                        return
                    try:
                        async with asyncio.timeout(every):
                            await stop.wait()
                    except TimeoutError:
                        continue
            finally:
                if live:
                    live.stop()


def _changes(rows: list[Row], shown: dict[int, tuple[object, ...]], json: bool) -> None:
    for row in reversed(rows):
        now = (row["state"], row["stage"], row["attempt"], row["error"])
        if shown.get(row["id"]) == now:
            continue
        shown[row["id"]] = now
        if json:
            print_json(row)
        else:
            why = f": {row['error']}" if row["error"] else ""
            step = f" ({row['stage']})" if row["stage"] and row["state"] == "running" else ""
            say(f"job {row['id']} {row['state']}{step} {readable(row['name'].partition('/')[2])}{why}")


def _warn(health: Row) -> None:
    for line in warnings(health):
        err().print(escape(line), style="bold yellow")
