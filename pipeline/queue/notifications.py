"""Listens for notifications and yields wake-ups, never work: a notification is a hint, the queue is the truth."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator

import psycopg

from pipeline import faults
from pipeline.db.connection import WAKE_UPS, open_connection, reason

CHANNEL = "pipeline_jobs"
_ANSWER_SECONDS = 10
_log = logging.getLogger(__name__)


async def wake_ups(database_url: str, *, check_seconds: float = 30) -> AsyncIterator[str]:
    """Yield the payload of each notification, and `connected` after each (re)connect, for ever.

    What was committed while nobody listened is caught by the claim that follows `connected`. A connection that is
    silent for `check_seconds` is asked `select 1`; a dead one is replaced after a delay with jitter.
    """
    failures = 0
    while True:
        try:
            connection = await open_connection(database_url, WAKE_UPS)
            async with connection:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    await connection.execute(f"listen {CHANNEL}".encode())
                failures = 0
                await faults.point("listen.begun")
                yield "connected"
                while True:
                    async for notification in connection.notifies(timeout=check_seconds):
                        yield notification.payload
                    async with asyncio.timeout(min(_ANSWER_SECONDS, check_seconds)):
                        await connection.execute("select 1")
        except (psycopg.OperationalError, TimeoutError) as error:
            failures += 1
            delay = min(30.0, 0.5 * 2 ** min(failures, 6)) * random.uniform(0.5, 1.0)  # noqa: S311 (jitter)
            _log.warning("listen connection lost", extra={"reason": reason(error), "retry_seconds": round(delay, 1)})
            await asyncio.sleep(delay)
