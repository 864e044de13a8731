"""How much of a provider's limit listeners use, and how often they are refused; beside a loop that just asks again.

Whole listeners, each a process, on documents uploaded through the gateway, against a service with the limits of
OpenAI's first tier: see bench/limited_provider.py. First one listener, then three with a fresh key; then the limit is
halved without a word, and answers carry no headers any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai

from bench.common import PIPELINE, ROOT, User, dev, folder, sign_up
from pipeline.db.connection import connect

REQUESTS, TOKENS = 3_000, 1_000_000
"""A minute."""
DIMENSIONS = 64
SPACE = f"text-embedding-3-small-{DIMENSIONS}"
DOCUMENT_TOKENS = 100_000
HANDS = 12
"""Calls at once: of three listeners, and of the naive loop."""


class Provider:
    """The service, and what it has seen."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key
        self._http = httpx.AsyncClient(base_url=url, timeout=30)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, key: str) -> AsyncIterator[Provider]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.limited_provider",
            key,
            str(REQUESTS),
            str(TOKENS),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            provider = cls((await process.stdout.readline()).decode().strip(), key)
            yield provider
            await provider._http.aclose()
        finally:
            process.stdin.close()
            await process.wait()

    async def state(self) -> dict[str, float]:
        return (await self._http.get("/_state")).json()

    async def halve(self) -> None:
        """Half of the tokens, and no headers."""
        await self._http.post("/_state", json={"tells": False, "requests": REQUESTS, "tokens": TOKENS / 2})

    async def used_up(self, seconds: float) -> None:
        """Until the opening burst is over: less than a twentieth of a minute's tokens is left."""
        async with asyncio.timeout(seconds):
            while (await self.state())["level"] > TOKENS / 20:
                await asyncio.sleep(0.5)

    async def measure(self, seconds: float, limit: float) -> dict[str, float]:
        """Over so many seconds: the part of the allowed tokens that was used, and of the calls that were refused.

        Allowed is what the bucket held and what was refilled.
        """
        before = await self.state()
        await asyncio.sleep(seconds)
        after = await self.state()
        calls = after["calls"] - before["calls"]
        allowed = before["level"] + limit / 60 * (after["at"] - before["at"])
        return {
            "used_percent": round((after["tokens"] - before["tokens"]) / allowed * 100, 1),
            "refused_percent": round((after["refused"] - before["refused"]) / max(calls, 1) * 100, 2),
            "calls": round(calls),
        }


async def measure(seconds: float) -> dict[str, Any]:
    """Used and refused percent of each kind, each over so many seconds after its opening burst."""
    figures: dict[str, Any] = {"seconds": seconds, "requests_a_minute": REQUESTS, "tokens_a_minute": TOKENS}
    async with Provider.start("sk-naive") as provider:
        figures["naive loop"] = await _naive(provider, seconds)
    with folder() as path:
        async with contextlib.AsyncExitStack() as stack:
            line, _ = await stack.enter_async_context(dev(path, "--no-listener"))
            await _prepare(line)
            user = await sign_up(stack, line)
            feeder = asyncio.create_task(_feed(user, line))
            stack.callback(feeder.cancel)
            async with Provider.start("sk-one") as provider, _listeners(path, line, provider, 1):
                await provider.used_up(180)
                figures["one listener"] = await provider.measure(seconds, TOKENS)
            async with Provider.start("sk-three") as provider, _listeners(path, line, provider, 3):
                await provider.used_up(180)
                figures["three listeners"] = await provider.measure(seconds, TOKENS)
                await provider.halve()
                await asyncio.sleep(min(seconds, 60))
                figures["three listeners, the limit halved in silence"] = await provider.measure(seconds, TOKENS / 2)
            if feeder.done():
                feeder.result()
    return figures


async def _prepare(line: dict[str, str]) -> None:
    async with await connect(line["db_url"]) as connection:
        await connection.execute("select pipeline.create_space('text-embedding-3-small', %s)", (DIMENSIONS,))
        await connection.execute("select pipeline.activate_space(%s)", (SPACE,))
        await connection.execute(
            "update pipeline.limits set max_concurrent_jobs = 100, max_documents = null, max_stored_bytes = null"
        )


async def _feed(user: User, line: dict[str, str]) -> None:
    """Upload documents, none like another, so that some thirty always wait."""
    chance = random.Random(1)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(3_000)]
    async with await connect(line["db_url"]) as connection:
        for number in range(100_000):
            await user.upload(f"{number}.txt", _text(chance, words).encode())
            while True:
                row = await (
                    await connection.execute("select count(*) from pipeline.jobs where state = 'available'")
                ).fetchone()
                if row is not None and row[0] < 30:
                    break
                await asyncio.sleep(0.5)


def _text(chance: random.Random, words: list[str]) -> str:
    sentences = (" ".join(chance.choices(words, k=12)).capitalize() + "." for _ in range(DOCUMENT_TOKENS // 32))
    return "\n\n".join(" ".join(group) for group in zip(*[sentences] * 6, strict=False))


@contextlib.asynccontextmanager
async def _listeners(path: Path, line: dict[str, str], provider: Provider, count: int) -> AsyncIterator[None]:
    settings = {
        "SUPABASE_URL": line["api_url"],
        "SUPABASE_SERVICE_ROLE_KEY": line["service_role_key"],
        "DATABASE_URL": line["worker_db_url"],
        "EMBEDDER": "openai",
        "OPENAI_API_KEY": provider.key,
        "OPENAI_BASE_URL": f"{provider.url}/v1",
        "OPENAI_DIMENSIONS": str(DIMENSIONS),
        "DRAIN_SECONDS": "0",
        "LOG_LEVEL": "WARNING",
    }
    environment = {key: value for key, value in os.environ.items() if not key.startswith("UPLOAD_PIPELINE_")}
    environment |= {f"UPLOAD_PIPELINE_{key}": value for key, value in settings.items()} | {"PYTHONPATH": str(ROOT)}
    running = []
    with (path / "listeners.log").open("ab") as log:
        try:
            for _ in range(count):
                running.append(
                    await asyncio.create_subprocess_exec(
                        *PIPELINE, "listen", cwd=path, env=environment, stderr=log, stdout=log
                    )
                )
            yield
        finally:
            for process in running:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)
            await asyncio.gather(*(process.wait() for process in running))


async def _naive(provider: Provider, seconds: float) -> dict[str, float]:
    """So many hands that each ask, and ask again when they are refused, as the SDK does it by itself."""
    chance = random.Random(2)
    texts = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz ", k=800)) for _ in range(200)]
    client = openai.AsyncOpenAI(api_key=provider.key, base_url=f"{provider.url}/v1")

    async def hand() -> None:
        while True:
            with contextlib.suppress(openai.RateLimitError):
                await client.embeddings.create(
                    input=chance.sample(texts, 40), model="text-embedding-3-small", dimensions=DIMENSIONS
                )

    hands = [asyncio.create_task(hand()) for _ in range(HANDS)]
    try:
        await provider.used_up(180)
        return await provider.measure(seconds, TOKENS)
    finally:
        for task in hands:
            task.cancel()
        await asyncio.gather(*hands, return_exceptions=True)
        await client.close()


def markdown(figures: dict[str, Any]) -> str:
    """The table of the benchmark page."""
    rows = [
        f"| {name} | {row['used_percent']} % | {row['refused_percent']} % | {row['calls']} |"
        for name, row in figures.items()
        if isinstance(row, dict)
    ]
    return "\n".join(["| | of the allowed tokens | of its calls refused | calls |", "|---|---|---|---|", *rows])
