"""Each figure of a queue, measured from outside."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from typing import Any

from bench.queue.contestant import Contestant
from bench.queue.processes import PATIENCE, Child, Server

WARM = 20
"""Wake-ups before any is timed."""
LATENCY_SECONDS = 15.0
"""No more wake-ups are timed after so long: a queue that waits for its poll needs no more of them."""
IDLE_LISTENERS = 8
IDLE_SECONDS = 5.0
_INSERTER = 3
"""Statements of whoever enqueues: begin, insert, commit."""


@dataclass(frozen=True, slots=True)
class Drain:
    """How one drain went."""

    enqueued_per_second: float
    """Of the bulk enqueue before it."""
    per_second: float
    statements_per_job: float
    cpu_seconds_per_1000: float | None


async def empty(server: Server, contestant: Contestant) -> None:
    """Empty the queue's tables."""
    await server.quiet(contestant)
    await server.database(contestant).execute(contestant.clear.encode())


async def enqueue(server: Server, contestant: Contestant, mode: str, jobs: int) -> float:
    """Jobs a second of an enqueue in the mode single or bulk."""
    async with server.child(contestant, mode, jobs) as child:
        child.say("go")
        return jobs / (await child.answer() / 1e9)


async def drain(server: Server, contestant: Contestant, jobs: int, processes: int) -> Drain:
    """Enqueue jobs, then time so many processes from `go` until the last job is acknowledged."""
    jobs = max(1, int(jobs * contestant.share))
    await empty(server, contestant)
    enqueued = await enqueue(server, contestant, "bulk", jobs)
    await server.database(contestant).execute("vacuum analyze")
    await server.admin.execute("checkpoint")
    async with server.children(contestant, "count", processes) as children:
        statements, cpu = await server.statements(), server.cpu_seconds(children)
        began = time.perf_counter()
        for child in children:
            child.say("go")
        async with asyncio.timeout(PATIENCE):
            while (ran := sum(child.last for child in children)) < jobs:
                await _any_grew(children)
            while await server.busy(contestant):
                await asyncio.sleep(0.001)
        seconds = time.perf_counter() - began
        spent = server.cpu_seconds(children)
        sent = await server.statements() - statements
        if ran != jobs:
            raise RuntimeError(f"{contestant.name} ran {ran} jobs of {jobs}")
    return Drain(
        enqueued,
        jobs / seconds,
        sent / jobs,
        None if cpu is None or spent is None else (spent - cpu) / jobs * 1000,
    )


async def _any_grew(children: list[Child]) -> None:
    waiting = [asyncio.create_task(child.grew.wait()) for child in children]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for child, task in zip(children, waiting, strict=True):
        child.check()
        child.grew.clear()
        task.cancel()


async def latency(server: Server, contestant: Contestant, runs: int) -> list[float]:
    """Seconds from the COMMIT being sent to the start of the no-op, on an idle queue with one listener."""
    await empty(server, contestant)
    durations: list[float] = []
    async with server.child(contestant, "stamp") as listener, server.child(contestant, "insert") as inserter:
        listener.say("go")
        inserter.say("go")
        await asyncio.sleep(1)  # it connects and looks at the queue
        stop = time.perf_counter() + LATENCY_SECONDS
        for run in range(WARM + runs):
            if durations and time.perf_counter() > stop:
                break
            inserter.say("one")
            sent, began = await inserter.answer(), await listener.answer()
            if run >= WARM:
                durations.append((began - sent) / 1e9)
            await asyncio.sleep(random.uniform(0.02, 0.04))  # it finishes, and is idle again
    return durations


async def idle(server: Server, contestant: Contestant, wakes: int) -> dict[str, Any]:
    """What eight idle listeners ask the database, and what one job costs with all of them listening."""
    await empty(server, contestant)
    async with (
        server.children(contestant, "stamp", IDLE_LISTENERS) as listeners,
        server.child(contestant, "insert") as inserter,
    ):
        for child in (*listeners, inserter):
            child.say("go")
        await asyncio.sleep(2)
        statements, cpu = await server.statements(), server.cpu_seconds(listeners)
        await asyncio.sleep(IDLE_SECONDS)
        at_rest = await server.statements() - statements
        rested = server.cpu_seconds(listeners)

        statements, began = await server.statements(), time.perf_counter()
        stop = time.perf_counter() + LATENCY_SECONDS
        made = 0
        while made < wakes and (not made or time.perf_counter() < stop):
            made += 1
            inserter.say("one")
            await inserter.answer()
            done = [asyncio.create_task(child.told.get()) for child in listeners]
            await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
            for task in done:
                task.cancel()
            await asyncio.sleep(0.02)
        woken, seconds = await server.statements() - statements, time.perf_counter() - began
        spent = server.cpu_seconds(listeners)
    result: dict[str, Any] = {
        "statements_per_second_at_rest": round(at_rest / IDLE_SECONDS, 1),
        "statements_per_job": round((woken - at_rest / IDLE_SECONDS * seconds) / made - _INSERTER, 1),
    }
    if cpu is not None and rested is not None and spent is not None:
        quiet = (rested - cpu) / IDLE_SECONDS
        result["cpu_ms_per_second_at_rest"] = round(quiet * 1000, 1)
        result["cpu_ms_per_job"] = round((spent - rested - quiet * seconds) / made * 1000, 1)
    return result
