"""`pipeline ingest`: files and folders into Storage, as the SDK does it."""

from __future__ import annotations

import asyncio
import mimetypes
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cli.actor import Actor, signed_in, with_service_key
from cli.common import JsonOption, err, notice, print_json, run, say
from cli.failures import sentence
from cli.names import below, readable
from pipeline.errors import SetupError
from pipeline.job import State
from pipeline.settings import load

BUCKET = "documents"
_UPLOADS_AT_ONCE = 4
_NAMES_IN_ONE_QUESTION = 40
_ENDED = (State.COMPLETED, State.DEAD, State.CANCELLED)


@dataclass(slots=True)
class File:
    """One local file and what became of it."""

    path: Path
    name: str
    """The stored name, without the owner's folder."""
    outcome: str = "waiting"
    """uploaded, there already, refused; then the job's final state where it was waited for."""
    reason: str = ""


def ingest(
    paths: Annotated[
        list[Path], typer.Argument(help="Files, and folders whose files keep their relative path.", exists=True)
    ],
    prefix: Annotated[str, typer.Option(help="Put everything below this folder.")] = "",
    upsert: Annotated[bool, typer.Option("--upsert", help="Replace files of the same name.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all are searchable; exit 1 if one is not.")] = False,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait at most.")] = 600,
    as_user: Annotated[
        str | None,
        typer.Option("--as-user", help="Into this user's folder, id or address, with the service key."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Upload documents. A file that is there already is left alone, so that a second run goes on where one stopped.

    Storage takes no letters beyond ASCII in names: those are stored escaped and shown as they were.

    Example: `pipeline ingest contracts/ --prefix 2026 --wait`
    """
    settings = load()
    files = collect(paths, prefix)
    escaped = sum(readable(file.name) != file.name for file in files)
    if escaped:
        notice(f"{escaped} of {len(files)} names hold letters that Storage refuses; they are escaped (=C3=A4 for ä).")

    async def work() -> None:
        actor = await (with_service_key(settings, as_user) if as_user else signed_in(settings))
        with _progress() as progress:
            bar = progress.add_task("uploading", total=len(files))
            await upload(actor, files, upsert=upsert, done=lambda: progress.advance(bar))
            if wait:
                bar = progress.add_task("processing", total=len(files))
                await follow(actor, files, timeout, done=lambda count: progress.update(bar, completed=count))

    run(work())
    if json:
        print_json([asdict(file) for file in files])
    else:
        for file in files:
            say(f"{file.outcome}  {readable(file.name)}" + (f": {file.reason}" if file.reason else ""))
    good = ("uploaded", "there already", State.COMPLETED) if not wait else (State.COMPLETED,)
    if any(file.outcome not in good for file in files):
        raise typer.Exit(1)


def collect(paths: list[Path], prefix: str) -> list[File]:
    """The files below `paths` with their stored names. Raises SetupError where there are none, or two of one name."""
    files = []
    for given in paths:
        if given.is_dir():
            for folder, folders, names in os.walk(given):
                folders[:] = sorted(name for name in folders if not name.startswith("."))
                for name in sorted(names):
                    path = Path(folder, name)
                    if not name.startswith(".") and path.is_file():
                        relative = PurePosixPath(path.relative_to(given).as_posix())
                        files.append(File(path, below(prefix, relative)))
        else:
            files.append(File(given, below(prefix, PurePosixPath(given.name))))
    if not files:
        raise SetupError("There are no files below what was named.")
    chosen: dict[str, File] = {}
    for file in files:
        other = chosen.setdefault(file.name, file)
        if other.path.resolve() != file.path.resolve():
            raise SetupError(
                f"{other.path} and {file.path} would both be stored as {readable(file.name)}. Upload them one "
                "after the other, with --prefix for one of them."
            )
    return list(chosen.values())


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err(),
        transient=True,
        disable=not err().is_terminal,
    )


async def upload(actor: Actor, files: list[File], *, upsert: bool, done: Callable[[], None]) -> None:
    """Upload all, a few at once; a refusal is the file's outcome and stops no other."""
    from storage3.exceptions import StorageApiError

    bucket = actor.client.storage.from_(BUCKET)
    gate = asyncio.Semaphore(_UPLOADS_AT_ONCE)

    async def one(file: File) -> None:
        async with gate:
            try:
                options: Any = {
                    "content-type": mimetypes.guess_type(file.path.name)[0] or "application/octet-stream",
                    "upsert": "true" if upsert else "false",
                }
                content = await asyncio.to_thread(file.path.read_bytes)
                await bucket.upload(f"{actor.user_id}/{file.name}", content, options)
                file.outcome = "uploaded"
            except StorageApiError as error:
                duplicate = str(error.status) == "409"
                file.outcome = "there already" if duplicate else "refused"
                file.reason = "use --upsert to replace it" if duplicate else str(error.message)
            except OSError as error:
                file.outcome, file.reason = "refused", sentence(error)
            done()

    await asyncio.gather(*(one(file) for file in files))


async def follow(actor: Actor, files: list[File], patience: float, *, done: Callable[[int], None]) -> None:
    """Wait for the newest job of each stored file; it becomes the file's outcome."""
    waiting = {f"{actor.user_id}/{file.name}": file for file in files if file.outcome != "refused"}
    total = len(waiting)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    pause = 0.1
    while waiting:
        names = list(waiting)
        for start in range(0, len(names), _NAMES_IN_ONE_QUESTION):
            for name, job in (await newest_jobs(actor, names[start : start + _NAMES_IN_ONE_QUESTION])).items():
                if job["state"] in _ENDED:
                    file = waiting.pop(name)
                    file.outcome, file.reason = job["state"], job["error"] or ""
        done(total - len(waiting))
        if waiting and loop.time() > deadline:
            for file in waiting.values():
                file.outcome, file.reason = "unfinished", f"not ended after {patience:g} s; is a listener running?"
            err().print(escape(f"Not all files had ended after {patience:g} s."), style="yellow")
            return
        if waiting:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 2.0)


async def newest_jobs(actor: Actor, names: list[str]) -> dict[str, Any]:
    """The newest job of each full name. They are stored names: no quote in them could trip the filter up."""
    answer = await (
        actor.client.table("jobs")
        .select("id,name,state,stage,progress,error")
        .in_("name", names)
        .order("id", desc=True)
        .execute()
    )
    jobs: dict[str, Any] = {}
    for job in answer.data:
        jobs.setdefault(job["name"], job)  # type: ignore[index]
    return jobs
