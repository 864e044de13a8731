"""`pipeline demo`: two users, real documents, through the Supabase SDK alone, on a temporary project."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from typing import Any

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from cli.common import JsonOption, out, print_json, run, stop_on_signals
from cli.demo_user import User, sign_up
from cli.tables import STYLES

_MINUTES = 5


def demo(json: JsonOption = False) -> None:
    """Two users sign up, upload, watch their jobs and ask questions; neither sees anything of the other.

    Starts a temporary Supabase on this machine, with a local parser and a local model: no network, no keys. Exits
    with 1 when a document is missing or anything leaks.

    Example: `pipeline demo`
    """
    report = run(_demo(quiet=json))
    if json:
        print_json(report)
    if report["problems"]:
        for problem in report["problems"]:
            if not json:
                out().print(f"[bold red]{escape(problem)}[/]")
        raise typer.Exit(1)


async def _demo(*, quiet: bool) -> dict[str, Any]:
    from cli.demo_documents import demo_documents, demo_questions
    from cli.local_project import listener, local_project
    from pipeline.app import make_embedder

    # Expected failures of the demo are shown as such; the listener's log would say them twice.
    logging.getLogger("pipeline").setLevel(logging.CRITICAL)
    began = time.monotonic()
    tell = _silent if quiet else _aloud
    documents, questions = demo_documents(), demo_questions()
    with stop_on_signals(forgive=True) as stop:
        tell("[dim]Starting a Supabase on this machine…[/]")
        async with local_project() as local, listener(local.settings(), stop):
            tell(f"[green]Ready[/] at {local.api_url} after {time.monotonic() - began:.1f} s, with a listener.\n")
            embedder = make_embedder(local.settings())
            users: list[User] = []
            try:
                for name in documents:
                    users.append(await sign_up(local, name))
                    how = "Realtime" if users[-1].live else "polling, since Realtime does not answer"
                    tell(f"[bold]{escape(users[-1].email)}[/] signed up; hears of the jobs by {how}.")
                for user in users:
                    await user.upload(documents[user.name])
                    tell(f"[bold]{user.name}[/] uploaded {len(documents[user.name])} documents.")
                await _follow(users, stop, quiet=quiet)
                problems = [problem for user in users for problem in user.missing(list(documents[user.name]))]
                answers = []
                for user in users:
                    tell(f"\n[bold]{user.name}[/] asks:")
                    for question in questions[user.name]:
                        vector = (await embedder.embed([question]))[0].tolist()
                        hits = await user.search(question, vector, embedder.space.name)
                        answers.append({"user": user.name, "question": question, "hits": hits})
                        tell(_answer(question, hits))
                        if not hits:
                            problems.append(f"{user.name} found nothing for “{question}”.")
                        if not any(hit["matched_by"] in ("vector", "both") for hit in hits):
                            problems.append(f"No passage was found by its meaning for “{question}”.")
                leaks = await _leaks(users, questions, embedder)
                problems += leaks
                if not leaks:
                    tell(
                        "\n[green]Neither sees anything of the other:[/] the same questions, asked by the other user, "
                        "find only the other's own\nfiles; tables, passages, downloads and Realtime are closed as well."
                    )
                tell(f"\n[dim]Done after {time.monotonic() - began:.1f} s; everything is removed again.[/]")
                return {
                    "users": [user.summary() for user in users],
                    "answers": answers,
                    "problems": problems,
                    "seconds": round(time.monotonic() - began, 2),
                }
            finally:
                for user in users:
                    await user.close()
                await embedder.close()


async def _follow(users: list[User], stop: asyncio.Event, *, quiet: bool) -> None:
    """Show the jobs until all have ended, or the patience has."""
    deadline = time.monotonic() + _MINUTES * 60
    screen = Live(auto_refresh=False, console=out()) if sys.stdout.isatty() and not quiet else None
    printed: set[tuple[int, str]] = set()
    if screen:
        screen.start()
    silence = True
    try:
        while True:
            for user in users:
                # The table is the truth; it is asked when Realtime is silent, and once more at the end.
                if silence or not user.live or user.settled:
                    await user.look()
            if screen:
                screen.update(_jobs(users), refresh=True)
            elif not quiet:
                _lines(users, printed)
            if all(user.settled for user in users) or time.monotonic() > deadline:
                return
            if stop.is_set():
                raise KeyboardInterrupt
            waiting = [asyncio.create_task(user.changed()) for user in users]
            patience = 1.0 if all(user.live for user in users) else 0.3
            heard, silent = await asyncio.wait(waiting, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
            for task in silent:
                task.cancel()
            silence = not heard
    finally:
        if screen:
            screen.stop()


def _jobs(users: list[User]) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in ("user", "file", "state", "", ""):
        table.add_column(column, overflow="fold")
    for user in users:
        for name, job in sorted(user.newest().items()):
            style = STYLES.get(job["state"], "")
            step = f"{job['stage']} {job['progress']:.0%}" if job["state"] == "running" else ""
            table.add_row(user.name, escape(name), f"[{style}]{job['state']}[/]", step, escape(job["error"] or ""))
    return table


def _lines(users: list[User], printed: set[tuple[int, str]]) -> None:
    for user in users:
        for name, job in sorted(user.newest().items()):
            if (job["id"], job["state"]) not in printed:
                printed.add((job["id"], job["state"]))
                why = f": {job['error']}" if job["error"] else ""
                _aloud(f"  {user.name}  {escape(name)}  [{STYLES.get(job['state'], '')}]{job['state']}[/]{escape(why)}")


def _answer(question: str, hits: list[dict[str, Any]]) -> str:
    lines = [f"  [italic]{escape(question)}[/]"]
    for hit in hits:
        page = f", page {hit['page']}" if hit["page"] else ""
        text = " ".join(hit["content"].split())
        lines.append(
            f"    {hit['score']:.2f} [bold]{escape(hit['file'])}[/]{page} [dim](by {hit['matched_by']})[/]  "
            f"{escape(text[:90] + ('…' if len(text) > 90 else ''))}"
        )
    return "\n".join(lines)


async def _leaks(users: list[User], questions: dict[str, list[str]], embedder: Any) -> list[str]:
    """Everything that one user can reach of another's: must be empty."""
    found = []
    for user in users:
        for other in users:
            if other is user:
                continue
            for question in questions[other.name]:
                vector = (await embedder.embed([question]))[0].tolist()
                for hit in await user.search(question, vector, embedder.space.name, limit=50):
                    if hit["document_id"] not in user.documents or hit["document_id"] in other.documents:
                        found.append(f"{user.name} finds {hit['file']} of another user.")
            found += await user.reaches(other)
    return found


def _aloud(text: str) -> None:
    out().print(text)


def _silent(text: str) -> None:
    pass
