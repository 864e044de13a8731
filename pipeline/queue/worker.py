"""Claims jobs, runs them side by side, keeps their leases, reports how they end, and drains when told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import psycopg

from pipeline import faults
from pipeline.db.queries import Queries
from pipeline.errors import (
    Crashed,
    JobError,
    LeaseLost,
    Lost,
    Misconfigured,
    OverBudget,
    Permanent,
    Superseded,
    Throttled,
    Transient,
)
from pipeline.job import Job
from pipeline.queue.erasure import Eraser
from pipeline.work.journey import Processor

_log = logging.getLogger(__name__)

_CLAIM_AT_MOST = 500
"""Jobs of one claim: a large listener works on some while it claims the next, and no claim holds locks for long."""
_AGAIN_SECONDS = 1.0
_MISSES_SECONDS = 1.0
"""Claims in vain that follow each other faster than this are a race for each job that others win."""
_CALM_SECONDS = 0.25
"""The longest that a listener stands back from such a race."""
_TIDY_SECONDS = 1.0
"""From one round of housekeeping to the next, at least."""
_TIDY_AT_LEAST_SECONDS = 60.0
"""Who deletes something does not wait for a quiet hour."""
_HEAL_AT_MOST = 100
"""Steps of healing in one round: a large table is looked through in many of them."""
_TOO_LONG = "The file could not be finished in the time that one file may take."
_UNKNOWN = "Something went wrong on our side; the file is tried again."


class Worker:
    """One listener's hands."""

    def __init__(
        self,
        queries: Queries,
        processor: Processor,
        *,
        concurrency: int,
        lease_seconds: float,
        poll_seconds: float,
        eraser: Eraser | None = None,
        job_seconds: float = 3600,
    ) -> None:
        self._queries = queries
        self._processor = processor
        self._eraser = eraser
        self._concurrency = concurrency
        self._heartbeat_seconds = lease_seconds / 3
        self._poll_seconds = poll_seconds
        self._job_seconds = job_seconds
        self._running: dict[asyncio.Task[None], Job] = {}
        self._must_end: dict[asyncio.Task[None], float] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._beat = asyncio.Event()
        self._idle = asyncio.Event()
        self._held = False
        self._misses = 0
        self._missed_at = -math.inf

    async def follow(self, wake_ups: AsyncIterator[str]) -> None:
        """Let notifications wake the claim at once; without them the poll does it."""
        async for payload in wake_ups:
            if payload == "cancelled":
                self._beat.set()
            self._wake.set()

    def hold(self, held: bool) -> None:
        """While held, no job is claimed and nothing is tidied away; what runs goes on."""
        if self._held and not held:
            self._wake.set()
        self._held = held

    async def run(self, stop: asyncio.Event) -> None:
        """Claim and work until `stop` is set. Whoever calls then drains."""
        stopping = asyncio.create_task(stop.wait())
        stopping.add_done_callback(lambda _: self._wake.set())
        try:
            while not stop.is_set():
                self._wake.clear()
                for job in await self._claim():
                    task = asyncio.create_task(self._work(job))
                    self._running[task] = job
                    self._must_end[task] = time.monotonic() + self._job_seconds
                    task.add_done_callback(self._ended)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds * random.uniform(0.9, 1.1)):  # noqa: S311 (jitter)
                        await self._wake.wait()
                # One notification wakes all idle listeners, and one of them gets the job. The others stand back a bit
                # longer with each race that they lose, and meanwhile notifications add up to one.
                if self._misses > 1 and not stop.is_set():
                    await asyncio.sleep(random.uniform(0, min(_CALM_SECONDS, 0.002 * 2**self._misses)))  # noqa: S311
        finally:
            stopping.cancel()

    async def _claim(self) -> list[Job]:
        asked = min(self._concurrency - len(self._running), _CLAIM_AT_MOST)
        if asked <= 0 or self._held:
            return []
        try:
            jobs = await self._queries.claim(asked)
            if jobs:
                await faults.point("claim.done")
            if len(jobs) < asked:
                self._idle.set()
            else:
                self._wake.set()  # there may be more
            # Who works comes back by itself when a job ends.
            self._count_miss(missed=not jobs and not self._running)
            return jobs
        except psycopg.OperationalError as error:
            _log.warning("claim failed; trying again", extra={"reason": type(error).__name__})
            # The wake-up that this claim answered is used up: without another one the job would wait for the poll.
            asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._wake.set)
            return []

    def _count_miss(self, *, missed: bool) -> None:
        now = time.monotonic()
        recent = now - self._missed_at < _MISSES_SECONDS
        self._misses = min(self._misses + 1, 10) if missed and recent else int(missed)
        if missed:
            self._missed_at = now

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._must_end.pop(task, None)
        self._late.discard(task)
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            _log.error("job task failed", exc_info=error)

    async def keep_leases(self) -> None:
        """Renew all leases a few times within each, and stop the work on those that are lost.

        A job whose time is over is told to stop, and keeps its lease no longer whether it does or not.
        """
        while True:
            first_end = next(iter(self._must_end.values()), math.inf)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(self._heartbeat_seconds, max(0.0, first_end - time.monotonic()))):
                    await self._beat.wait()
            self._beat.clear()
            now = time.monotonic()
            for task in [task for task, end in self._must_end.items() if end <= now]:
                del self._must_end[task]
                self._late.add(task)
                task.cancel()
            jobs = {task: self._running[task] for task in self._must_end if not task.done()}
            if not jobs:
                continue
            try:
                held = await self._queries.heartbeat(list(jobs.values()))
                await faults.point("lease.renewed")
            except psycopg.OperationalError as error:
                _log.warning("heartbeat failed; trying again", extra={"reason": type(error).__name__})
                asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self._beat.set)
                continue
            for task, job in jobs.items():
                if job.id not in held and not task.done():
                    _log.info("lease lost", extra=_ids(job))
                    task.cancel()

    async def keep_tidy(self) -> None:
        """Erase deleted users, purge deleted documents, forget what is old and mend what is broken, step by step,
        whenever no more jobs are due than this listener can take, and at least every minute."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TIDY_AT_LEAST_SECONDS):
                    await self._idle.wait()
            self._idle.clear()
            if self._held:
                continue
            began = asyncio.get_running_loop().time()
            try:
                while self._eraser is not None and await self._eraser.run():
                    pass
                while await self._queries.purge():
                    await faults.point("purge.step")
                while await self._queries.tidy():
                    pass
                for _ in range(_HEAL_AT_MOST):
                    if (healed := await self._queries.heal()) is None:
                        break
                    if healed:
                        _log.warning("healed", extra={"healed": healed})
            except psycopg.OperationalError as error:
                _log.warning("purge failed; trying again", extra={"reason": type(error).__name__})
            except psycopg.Error as error:
                # One row that cannot be erased or mended must not end the listener, which has jobs to do.
                _log.error("housekeeping failed", extra={"reason": f"{type(error).__name__} {error.sqlstate}"})
            # Every wake-up leaves the listener idle; housekeeping is not for every one of them.
            await asyncio.sleep(max(0.0, began + _TIDY_SECONDS - asyncio.get_running_loop().time()))

    async def drain(self, seconds: float) -> None:
        """Let running jobs finish for so long; give the rest back at once, so that another listener takes them."""
        if self._running:
            await asyncio.wait(self._running, timeout=seconds)
        left = {task: job for task, job in self._running.items() if not task.done()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
            try:
                await faults.point("release.begun")
                await self._queries.release(list(left.values()))
                await faults.point("release.done")
            except psycopg.OperationalError:
                _log.warning("could not release; the leases will expire", extra={"jobs": len(left)})

    async def _work(self, job: Job) -> None:
        _log.info("job started", extra=_ids(job))
        try:
            chunks = await self._processor.run(job)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task not in self._late:
                raise
            task.uncancel()
            await self._fail(job, Transient(_TOO_LONG, detail=f"no end after {self._job_seconds:g} s"))
        except LeaseLost:
            _log.info("lease lost", extra=_ids(job))
        except Superseded:
            _log.info("job superseded", extra=_ids(job))
            await self._tell(job, self._queries.supersede(job))
        except JobError as error:
            await self._fail(job, error)
        except psycopg.OperationalError as error:
            # The database went away: nobody can be told. The lease expires and the job is taken again.
            _log.warning("database lost", extra={**_ids(job), "reason": type(error).__name__})
        except Exception as error:
            # The text of an unknown exception may hold content: its type and place are enough to find it.
            await self._fail(job, Transient(_UNKNOWN, detail=_place(error)))
        else:
            _log.info("job completed", extra={**_ids(job), "chunks": chunks})

    async def _fail(self, job: Job, error: JobError) -> None:
        retry_after = None
        match error:
            case Permanent():
                error_class = "permanent"
            case Lost():
                error_class = "lost"
            case Crashed():
                error_class = "crash"
            case Throttled():
                error_class, retry_after = "throttled", error.retry_after
            case Misconfigured():
                error_class, retry_after = "configuration", error.retry_after
            case OverBudget():
                error_class, retry_after = "budget", error.retry_after
            case _:
                error_class = "transient"
        _log.warning(
            "job failed", extra={**_ids(job), "class": error_class, "error": error.message, "detail": error.detail}
        )
        await self._tell(job, self._queries.fail(job, error_class, error.message, error.detail, retry_after))

    async def _tell(self, job: Job, report: Awaitable[object]) -> None:
        try:
            await faults.point("outcome.begun")
            await report
            await faults.point("outcome.stored")
        except psycopg.OperationalError as error:
            _log.warning(
                "outcome not stored; the lease will expire", extra={**_ids(job), "reason": type(error).__name__}
            )


def _ids(job: Job) -> dict[str, object]:
    return {"job": job.id, "attempt": job.attempt, "document": job.document_id}


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace else "?"
    return f"{type(error).__name__} at {where}"
