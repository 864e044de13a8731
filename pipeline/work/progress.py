"""How a running job tells the queue how far it is, and hears whether it is still ours."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from pipeline.db.queries import Queries
from pipeline.job import Job, Stage

_REPORT_SECONDS = 1.0
"""Progress within a stage is written at most this often: each report is a broadcast to the owner."""


class Progress:
    """Tells the queue how far the job is, and learns from its answer whether the job is still ours."""

    def __init__(self, queries: Queries, job: Job) -> None:
        self._queries = queries
        self._job = job
        self._stage = Stage.FETCH
        self._fraction = 0.0
        self._reported_at = time.monotonic()

    async def enter(self, stage: Stage) -> None:
        """Raises LeaseLost."""
        self._stage, self._fraction = stage, 0.0
        self._reported_at = time.monotonic()
        await self._queries.report(self._job, stage, 0.0)

    def within(self, stage: Stage) -> Callable[[float], Awaitable[None]]:
        """What is called with the fraction of the stage that is done, as often as one likes."""

        async def report(fraction: float) -> None:
            self._fraction = min(max(fraction, 0.0), 1.0)
            if time.monotonic() - self._reported_at >= _REPORT_SECONDS:
                self._reported_at = time.monotonic()
                await self._queries.report(self._job, stage, self._fraction)

        return report

    async def still_ours(self) -> None:
        """Raises LeaseLost."""
        await self._queries.report(self._job, self._stage, self._fraction)


async def patiently(progress: Progress) -> AsyncIterator[None]:
    """Go round while another job buys the same thing: at once, then ever more slowly, as long as the lease holds."""
    delay = 0.1
    while True:
        yield
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, 2.0)
        await progress.still_ours()
