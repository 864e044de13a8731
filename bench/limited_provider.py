"""An embedding service with limits, as a process of its own: `python -m bench.limited_provider`.

Tokens and requests a minute are buckets of a minute's worth that refill once a second. While it `tells`, every answer
carries the limits in OpenAI's headers. `/_state` says what it has seen, and takes new limits.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from dataclasses import dataclass

import toktok
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from pipeline.embedded.fakes.openai import FakeOpenAI, rate_limited
from pipeline.embedded.fakes.server import serve

LATENCY_SECONDS = 0.3


@dataclass
class Bucket:
    """A limit a minute."""

    per_minute: float
    level: float
    second: int

    def refill(self) -> None:
        now = math.floor(time.monotonic())
        self.level = min(self.per_minute, self.level + self.per_minute / 60 * (now - self.second))
        self.second = now


class LimitedProvider:
    """The fake behind limits; only what is let through reaches it."""

    def __init__(self, key: str, requests: float, tokens: float) -> None:
        self.fake = FakeOpenAI(key=key)
        now = math.floor(time.monotonic())
        self.requests, self.tokens = Bucket(requests, requests, now), Bucket(tokens, tokens, now)
        self.tells = True
        self.seen = {"calls": 0, "refused": 0, "tokens": 0}
        self.app = Starlette(
            routes=[
                Route("/v1/embeddings", self._limited, methods=["POST"]),
                Route("/_state", self._state, methods=["GET", "POST"]),
                Mount("/behind", self.fake.app),
            ]
        )

    async def _limited(self, request: Request) -> Response:
        body = await request.body()
        texts = json.loads(body)["input"]
        cost = sum(await asyncio.to_thread(toktok.batch_count, texts, threads=1))
        for bucket in (self.requests, self.tokens):
            bucket.refill()
        self.seen["calls"] += 1
        if self.requests.level < 1 or self.tokens.level < cost:
            self.seen["refused"] += 1
            return JSONResponse(rate_limited(), 429, headers=self._headers())
        self.requests.level -= 1
        self.tokens.level -= cost
        self.seen["tokens"] += cost
        headers = self._headers()
        began = time.monotonic()
        answer = await self.fake.app.router.routes[0].endpoint(request)  # type: ignore[attr-defined]
        await asyncio.sleep(max(0.0, LATENCY_SECONDS - (time.monotonic() - began)))
        self.fake.bill.texts.clear()  # hours of them would fill the memory
        answer.headers.update(headers)
        return answer

    def _headers(self) -> dict[str, str]:
        if not self.tells:
            return {}
        return {
            f"x-ratelimit-{what}-{kind}": str(math.floor(value))
            for kind, bucket in (("requests", self.requests), ("tokens", self.tokens))
            for what, value in (("limit", bucket.per_minute), ("remaining", bucket.level))
        }

    async def _state(self, request: Request) -> Response:
        if request.method == "POST":
            wanted = await request.json()
            self.tells = wanted["tells"]
            for bucket, most in ((self.requests, wanted["requests"]), (self.tokens, wanted["tokens"])):
                bucket.per_minute = most
                bucket.level = min(bucket.level, most)
        for bucket in (self.requests, self.tokens):
            bucket.refill()
        return JSONResponse(self.seen | {"level": self.tokens.level, "at": time.monotonic()})


async def main(key: str, requests: str, tokens: str) -> None:
    """Serve until standard input is closed; the first line on standard output is the URL."""
    async with serve(LimitedProvider(key, float(requests), float(tokens)).app) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
