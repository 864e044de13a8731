"""A listener that is told to stop stops."""

from __future__ import annotations

import asyncio

from pipeline.app import end


async def test_a_cancellation_that_a_library_loses_is_repeated():
    answer = asyncio.Event()

    async def helper() -> None:
        while True:
            await asyncio.wait_for(answer.wait(), timeout=60)
            answer.clear()

    task = asyncio.create_task(helper())
    await asyncio.sleep(0)
    answer.set()
    await asyncio.wait_for(end([task]), timeout=10)
    assert task.cancelled()
