"""How many jobs a second the queue hands out and ends, beside the queues that people trust and a bare loop.

All work on one embedded Postgres in one run, each in a database of its own, with processes of its own, at its best
documented settings: `contestants` has them. Rounds go through all of them in turn, so that a slow minute of the
machine is everybody's; a figure is the median of its rounds. First everything is durable; then the drains are repeated
with fsync and synchronous_commit off.

Ours drains with everything on: the guard, the history, the owners' exact limits and turns, notifications and
broadcasts, each job acknowledged under its own fence.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from statistics import median
from typing import Any

from bench import common
from bench.queue import figures
from bench.queue.contestant import Contestant
from bench.queue.contestants import DRAINING, ENQUEUING
from bench.queue.processes import Server
from bench.queue.table import markdown

__all__ = ["markdown", "measure"]

_ENQUEUED = {"single": 1000, "bulk": 10_000}
"""So many jobs at most for an enqueue's rate."""
_WAKES = 100
_BESIDE = 3
"""Rounds at most of what stands beside the durable drains: the enqueues, and the drains with durability off."""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def measure(
    jobs: int = 20_000, rounds: int = 5, wakes: int = 300, only: tuple[str, ...] = (), off: bool = True
) -> dict[str, Any]:
    """Figures by contestant. `wakes` is the number of timed wake-ups; `only` picks them by part of their name."""
    rows: dict[str, dict[str, Any]] = {}
    contestants: list[Contestant] = []
    for kind in dict.fromkeys((*DRAINING, *ENQUEUING)):
        contestant = kind()
        if only and not any(part.lower() in contestant.name.lower() for part in only):
            continue
        row = rows[contestant.name] = {"version": "", "settings": contestant.settings}
        if reason := contestant.missing():
            row["missing"] = reason
        else:
            row["version"] = contestant.version()
            contestants.append(contestant)

    with common.folder() as folder:
        async with Server.start(folder) as server:
            for contestant in contestants:
                await server.install(contestant)
            draining = [c for c in contestants if isinstance(c, DRAINING) and type(c) in DRAINING]
            enqueuing = [c for c in contestants if type(c) in ENQUEUING]
            await _drains(server, draining, rows, "durable", jobs, rounds, (1, 2))
            await _enqueues(server, enqueuing, rows, jobs, min(rounds, _BESIDE))
            await _wakes(server, [c for c in draining if c.wakes], rows, wakes)
            if off:
                await server.durable(False)
                await _drains(server, draining, rows, "off", jobs, min(rounds, _BESIDE), (2,))
    return {
        "jobs": jobs,
        "rounds": rounds,
        "wakes": wakes,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "contestants": rows,
    }


async def _drains(
    server: Server,
    contestants: list[Contestant],
    rows: dict[str, dict[str, Any]],
    key: str,
    jobs: int,
    rounds: int,
    counts: tuple[int, ...],
) -> None:
    seen: dict[tuple[str, int], list[figures.Drain]] = {}
    for number in range(rounds):
        for contestant in contestants:
            for processes in counts:
                one = await figures.drain(server, contestant, jobs, processes)
                seen.setdefault((contestant.name, processes), []).append(one)
                _say(
                    f"{key}, round {number + 1} of {rounds}: {contestant.name}, {processes} process"
                    f"{'es' * (processes > 1)}: {one.per_second:,.0f} jobs a second"
                )
    for contestant in contestants:
        row = rows[contestant.name][key] = {}
        for processes in counts:
            drains = seen[contestant.name, processes]

            def middle(value: Callable[[figures.Drain], float], drains: list[figures.Drain] = drains) -> float:
                return median(value(one) for one in drains)

            row[f"jobs_per_second_with_{processes}"] = round(middle(lambda one: one.per_second))
            row[f"statements_per_job_with_{processes}"] = round(middle(lambda one: one.statements_per_job), 3)
            if drains[0].cpu_seconds_per_1000 is not None:
                row[f"cpu_seconds_per_1000_with_{processes}"] = round(
                    middle(lambda one: one.cpu_seconds_per_1000 or 0), 3
                )


async def _enqueues(
    server: Server, contestants: list[Contestant], rows: dict[str, dict[str, Any]], jobs: int, rounds: int
) -> None:
    for contestant in contestants:
        rates: dict[str, list[float]] = {"single": [], "bulk": []}
        for _ in range(rounds):
            for mode in rates:
                await figures.empty(server, contestant)
                count = min(jobs, _ENQUEUED[mode])
                rates[mode].append(await figures.enqueue(server, contestant, mode, count))
        row = {f"{mode}_per_second": round(median(values)) for mode, values in rates.items()}
        rows[contestant.name]["enqueue"] = row
        _say(f"enqueue: {contestant.name}: {row['single_per_second']:,} single, {row['bulk_per_second']:,} in bulk")


async def _wakes(server: Server, contestants: list[Contestant], rows: dict[str, dict[str, Any]], wakes: int) -> None:
    for contestant in contestants:
        seconds = sorted(await figures.latency(server, contestant, wakes))
        row = rows[contestant.name]["commit_to_start"] = {
            f"p{part}_ms": round(seconds[min(len(seconds) - 1, int(len(seconds) * part / 100))] * 1000, 2)
            for part in (50, 95, 99)
        }
        _say(f"commit to start: {contestant.name}: {row}")
        idle = rows[contestant.name]["eight_listeners"] = await figures.idle(server, contestant, min(wakes, _WAKES))
        _say(f"eight listeners: {contestant.name}: {idle}")
