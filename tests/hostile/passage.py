"""Sends hostile files through a real listener and watches what becomes of it, of its children and of the jobs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import psutil
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.embedded.fakes.server import serve
from tests.faults.world import World
from tests.hostile.corpus import corpus

SETTINGS: dict[str, Any] = {
    "parser": "local",
    "chunk_tokens": 200,
    "concurrency": 4,
    "lease_seconds": 60,
    "parse_timeout_seconds": 15,
    "parse_memory_bytes": 1_000_000_000,
    "max_text_bytes": 5_000_000,
    "max_passages": 3000,
}
_OWNERS = 6
_AHEAD = 24
"""Files that wait at most, so that memory is that of a steady stream."""


@dataclass(slots=True)
class Passage:
    """What was seen."""

    files: int
    seed: int
    seconds: float = 0
    states: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    unexplained: list[str] = field(default_factory=list)
    """Jobs that ended without a reason in the user's words."""
    leaked: int = 0
    """Passages with a line of /etc/passwd, or with characters that nobody sees."""
    asked_for: int = 0
    """Requests that came to the address that the files name."""
    children: int = 0
    longest: float = 0
    """Seconds of the longest child."""
    largest: int = 0
    """Bytes of address space of the largest child."""
    resident: int = 0
    """Bytes of memory in use by the largest child."""
    most_cpu: float = 0
    """Processor seconds of the hungriest child."""
    memory: dict[int, int] = field(default_factory=dict)
    """The listener's resident bytes after so many files."""
    ended: bool = False
    """Whether the listener ended by itself."""
    left_behind: int = 0
    """Folders of downloads that are still there."""

    def growth(self, first: int) -> float:
        """Of the listener's memory from after `first` files to the end, as a fraction."""
        return self.memory[self.files] / self.memory[first] - 1


# A reason that says nothing of the file: our own code did not expect it.
_OURS = ("our side", "without an answer")


async def send(
    world: World, files: int, *, seed: int, marks: tuple[int, ...] = (), tell: Callable[[str], None] = print
) -> Passage:
    """Send `files` files; `marks` are the counts after which the listener's memory is looked at."""
    seen = Passage(files, seed)
    began = time.monotonic()
    await world.db.run("update pipeline.settings set max_failures = 2, backoff_base = '0.05 seconds'")
    world.settings |= SETTINGS
    owners = [await world.db.sign_up() for _ in range(_OWNERS)]
    async with _canary(seen) as address:
        listener = await world.start()
        watching = asyncio.create_task(_watch(listener.pid, seen))
        try:
            marks = tuple(sorted({*marks, files}))
            for sent, hostile in enumerate(corpus(files, seed=seed, canary=address), 1):
                await world.upload(owners[hostile.number % _OWNERS], hostile.name, hostile.content)
                stop = sent in marks
                await _until_few_are_left(world, 0 if stop else _AHEAD, listener)
                if stop:
                    seen.memory[sent] = await _at_rest(listener.pid)
                    tell(f"{sent} files, {seen.memory[sent] / 1e6:.0f} MB, {time.monotonic() - began:.0f} s")
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        seen.ended = listener.ended.done()
    await _judge(world, seen)
    seen.left_behind = len(list(world.folder.glob("pipeline-job-*")))
    seen.seconds = time.monotonic() - began
    return seen


@contextlib.asynccontextmanager
async def _canary(seen: Passage) -> AsyncIterator[str]:
    """An address that the files name, and that nobody may ask."""

    async def sing(_: Request) -> Response:
        seen.asked_for += 1
        return Response("<!ENTITY out 'fetched'>")

    methods = ["GET", "POST", "HEAD", "PROPFIND"]
    async with serve(Starlette(routes=[Route("/{path:path}", sing, methods=methods)])) as url:
        yield f"{url}/"


async def _until_few_are_left(world: World, few: int, listener: Any) -> None:
    async with asyncio.timeout(900):
        while not listener.ended.done():
            row = await world.db.one("select count(*) as n from pipeline.jobs where finished_at is null")
            if row["n"] <= few:
                return
            await asyncio.sleep(0.05)


async def _at_rest(pid: int) -> int:
    """The listener's resident bytes, the least within a second."""
    process = psutil.Process(pid)
    least = math.inf
    for _ in range(20):
        least = min(least, process.memory_info().rss)
        await asyncio.sleep(0.05)
    return int(least)


async def _watch(pid: int, seen: Passage) -> None:
    """Look at the parsing children, the grandchildren of the listener, some times a second."""
    first: dict[tuple[int, float], float] = {}
    while True:
        with contextlib.suppress(psutil.Error):
            servers = psutil.Process(pid).children()
            for child in [child for server in servers for child in server.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    key = (child.pid, child.create_time())
                    now = time.monotonic()
                    seen.longest = max(seen.longest, now - first.setdefault(key, now))
                    memory, processor = child.memory_info(), child.cpu_times()
                    seen.largest, seen.resident = max(seen.largest, memory.vms), max(seen.resident, memory.rss)
                    seen.most_cpu = max(seen.most_cpu, processor.user + processor.system)
        seen.children = len(first)
        await asyncio.sleep(0.05)


async def _judge(world: World, seen: Passage) -> None:
    for job in await world.db.all("select name, state, error, error_class, error_detail from pipeline.jobs"):
        seen.states[job["state"]] += 1
        if job["state"] == "completed":
            continue
        reason = str(job["error"])
        seen.reasons[reason.rstrip("0123456789")] += 1
        if job["state"] != "dead" or not reason.endswith(".") or any(words in reason for words in _OURS):
            seen.unexplained.append(
                f"{job['name'].partition('/')[2]}: {job['state']}, {reason} ({job['error_detail']})"
            )
    hidden = "[\\u0001-\\u0008\\u200B\\u202A-\\u202E\\u2066-\\u2069\\u00AD\\uFEFF\\U000E0000-\\U000E007F]"
    [row] = await world.db.all(
        "select count(*) as n from pipeline.chunks where content ~ %s or content ~ 'root:x:0:0' or content ~ 'PATH='",
        hidden,
    )
    seen.leaked = row["n"]


def markdown(seen: Passage) -> str:
    """The figures, as they stand in docs/security.md."""
    rows = {
        "jobs": ", ".join(f"{count:,} {state}" for state, count in sorted(seen.states.items())),
        "ended without a reason in the user's words": f"{len(seen.unexplained)}",
        "the listener's memory": ", ".join(
            f"{size / 1e6:.0f} MB after {count:,}" for count, size in sorted(seen.memory.items())
        ),
        "children that were looked at": f"{seen.children:,}",
        "the longest child": f"{seen.longest:.1f} s; {SETTINGS['parse_timeout_seconds']} s are allowed",
        "the most processor time of a child": f"{seen.most_cpu:.1f} s",
        "the largest child's address space": f"{seen.largest / 1e6:.0f} MB; "
        f"{SETTINGS['parse_memory_bytes'] / 1e6:.0f} MB are allowed",
        "the most memory in use by a child": f"{seen.resident / 1e6:.0f} MB",
        "requests to the address that the files name": f"{seen.asked_for}",
        "passages with a local file's text, or with unseen characters": f"{seen.leaked}",
    }
    lines = [
        f"{seen.files:,} files, seed {seen.seed}, {seen.seconds / 60:.1f} minutes on {os.cpu_count()} cores.",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
        "",
        "| why files were refused | times |",
        "|---|---|",
        *(f"| {reason} | {count} |" for reason, count in seen.reasons.most_common()),
    ]
    return "\n".join(lines)
