"""An embedding service with limits, as a process of its own: `python -m bench.limited_provider`.

It is the fake OpenAI, whose tokens and requests a minute are refilled once a second. `/_state` says what it has seen,
and takes new limits.
"""

from __future__ import annotations

import asyncio
import sys
import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from pipeline.embedded.fakes.limits import Bucket, Limits, by_the_second
from pipeline.embedded.fakes.openai import FakeOpenAI
from pipeline.embedded.fakes.server import serve

LATENCY_SECONDS = 0.3


def limited_provider(key: str, requests: float, tokens: float) -> Starlette:
    """The application."""
    fake = FakeOpenAI(key=key)
    fake.limits = Limits(Bucket(requests, by_the_second), Bucket(tokens, by_the_second), latency=LATENCY_SECONDS)

    async def state(request: Request) -> Response:
        fake.bill.texts.clear()  # hours of them would fill the memory
        limits = fake.limits
        if request.method == "POST":
            wanted = await request.json()
            limits.tells = wanted["tells"]
            limits.requests.per_minute, limits.tokens.per_minute = wanted["requests"], wanted["tokens"]
        return JSONResponse(
            {
                "calls": limits.calls,
                "refused": limits.refused,
                "tokens": limits.taken,
                "level": limits.tokens.level,
                "at": time.monotonic(),
            }
        )

    return Starlette(routes=[Route("/_state", state, methods=["GET", "POST"]), Mount("/", fake.app)])


async def main(key: str, requests: str, tokens: str) -> None:
    """Serve until standard input is closed; the first line on standard output is the URL."""
    async with serve(limited_provider(key, float(requests), float(tokens))) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
