"""How fast the embedded Supabase answers: selects, calls of a function and uploads of 10 KB, with 1 and with 8 clients.

The project runs in a process of its own, without a listener; the clients run here, each on one connection that is kept
alive. An upload passes the policies and makes its job, as always. On Linux the memory at rest is that of the whole
process tree, shared pages counted once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from bench import common

_CLIENTS = (1, 8)
_SIZE = 10_000
_BESIDE = {
    "ready_after_seconds": 0.5,
    "megabytes_at_rest": 98,
    "selects_with_1": {"per_second": 95, "p50_ms": 10},
    "selects_with_8": {"per_second": 296, "p50_ms": 25},
    "uploads_with_1": {"per_second": 93},
    "uploads_with_8": {"per_second": 238},
}
"""The only other Supabase without Docker, measured in November 2026 on a machine of two cores; machines drift."""


async def measure(seconds: float = 5) -> dict[str, Any]:
    """Requests a second with p50 and p95 of each; seconds until ready; megabytes at rest."""
    figures: dict[str, Any] = {}
    with common.folder() as folder:
        async with common.dev(folder, "--no-listener"):
            pass  # the first start makes the cluster
        began = time.perf_counter()
        async with common.dev(folder, "--no-listener") as (line, process), contextlib.AsyncExitStack() as stack:
            figures["ready_after_seconds"] = round(time.perf_counter() - began, 2)
            figures["megabytes_at_rest"] = _megabytes(process.pid)
            users = [await common.sign_up(stack, line) for _ in range(max(_CLIENTS))]
            for user in users:
                await user.upload("one.txt", b"one")
            for clients in _CLIENTS:
                figures[f"selects_with_{clients}"] = await _load(users[:clients], _select, seconds)
            for clients in _CLIENTS:
                figures[f"rpcs_with_{clients}"] = await _load(users[:clients], _rpc, seconds)
            for clients in _CLIENTS:
                figures[f"uploads_with_{clients}"] = await _load(users[:clients], _upload, seconds)
    figures["beside: @supabase/lite 0.10"] = _BESIDE
    figures["cores"] = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return figures


async def _select(user: common.User, number: int) -> None:
    answer = await user.http.get("/rest/v1/documents", params={"select": "id,name", "limit": "1"})
    if answer.status_code != 200 or len(answer.json()) != 1:
        raise RuntimeError(f"the select was answered with {answer.status_code}")


async def _rpc(user: common.User, number: int) -> None:
    answer = await user.http.post("/rest/v1/rpc/search", json={"query_text": "How much is the deductible?"})
    if answer.status_code != 200:
        raise RuntimeError(f"the rpc was answered with {answer.status_code}")


async def _upload(user: common.User, number: int) -> None:
    await user.upload(f"{time.time_ns()}-{number}.txt", os.urandom(_SIZE // 2).hex().encode())


async def _load(
    users: list[common.User], ask: Callable[[common.User, int], Awaitable[None]], seconds: float
) -> dict[str, float]:
    for user in users:
        await ask(user, -1)
    durations: list[float] = []
    began = time.perf_counter()

    async def client(user: common.User) -> None:
        number = 0
        while (sent := time.perf_counter()) - began < seconds:
            await ask(user, number)
            durations.append(time.perf_counter() - sent)
            number += 1

    await asyncio.gather(*(client(user) for user in users))
    return {"per_second": round(len(durations) / (time.perf_counter() - began), 1), **common.milliseconds(durations)}


def _megabytes(pid: int) -> float | None:
    """Proportional set size of the process and all that it started; None where the system does not tell."""
    if not Path("/proc/self/smaps_rollup").exists():
        return None
    kilobytes = 0
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            for row in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if row.startswith("Pss:"):
                    kilobytes += int(row.split()[1])
    return round(kilobytes / 1024, 1)


def _tree(pid: int) -> list[int]:
    found = [pid]
    for child in _children(pid):
        found += _tree(child)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            children += [int(child) for child in task.read_text().split()]
    return children
