"""OpenAI's `/v1/embeddings` with its real limits, vectors made from the words of a text, and a bill.

    fake = FakeOpenAI()
    async with fake.serve() as base_url:      # http://127.0.0.1:…/v1
        fake.script.add(Fault(status=429, body=rate_limited(), headers={"retry-after": "3"}))
        fake.poison.add("a sentence that is refused wherever it stands")
        …
        fake.limits.tokens.per_minute = 1_000_000
        fake.bill.inputs, fake.bill.bought("a text")

Kinds of Fault of its own: `short` (one vector too few), `zero`, `nan`, `dimension` (one number too few), `shuffled`
(right vectors in another order, with right indices), `duplicate` (an index twice), `not-base64`.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import toktok
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.embedded.fakes.limits import Limits
from pipeline.embedded.fakes.server import Fault, Script, scripted, serve


def error_body(message: str, *, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None):
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def rate_limited() -> dict[str, Any]:
    return error_body("Rate limit reached for requests", kind="requests", code="rate_limit_exceeded")


def out_of_quota() -> dict[str, Any]:
    return error_body("You exceeded your current quota", kind="insufficient_quota", code="insufficient_quota")


@functools.lru_cache(maxsize=20_000)
def _direction(word: str, dimensions: int) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimensions)


def vector(text: str, dimensions: int) -> np.ndarray:
    """The unit vector of a text, the same everywhere; texts that share words point in similar directions."""
    words = sorted(set(re.findall(r"\w+", text.lower())))
    total = sum((_direction(word, dimensions) for word in words), start=np.zeros(dimensions))
    total = total + 0.1 * _direction("\0" + hashlib.sha256(text.encode()).hexdigest(), dimensions)
    return (total / np.linalg.norm(total)).astype(np.float32)


@dataclass
class Bill:
    """What was asked for and what was bought; a refused request buys nothing."""

    requests: int = 0
    inputs: int = 0
    tokens: int = 0
    texts: list[str] = field(default_factory=list)
    """Every input that was paid for, in order: a text twice in it was bought twice."""
    times: Counter[bytes] = field(default_factory=Counter)
    """How often each input was bought, by its SHA-256."""

    def add(self, texts: Sequence[str], tokens: int) -> None:
        self.inputs += len(texts)
        self.tokens += tokens
        self.texts += texts
        self.times.update(hashlib.sha256(text.encode()).digest() for text in texts)

    def bought(self, text: str) -> int:
        """How often."""
        return self.times[hashlib.sha256(text.encode()).digest()]


class FakeOpenAI:
    """The service. `native` is the model's full dimension, which `dimensions` may shorten."""

    def __init__(
        self, *, key: str = "sk-fake-key", models: tuple[str, ...] = ("text-embedding-3-small",), native: int = 1536
    ):
        self.key, self.models, self.native = key, models, native
        self.script, self.bill, self.poison, self.limits = Script(), Bill(), set[str](), Limits()
        handler = scripted(self.script, self._embeddings, self._spoil)

        async def counted(request: Request) -> Response:
            self.bill.requests += 1
            return await handler(request)

        # the second is where Azure has it
        paths = ("/v1/embeddings", "/openai/v1/embeddings")
        self.app = Starlette(routes=[Route(path, counted, methods=["POST"]) for path in paths])

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        """Give the `base_url` for the SDK."""
        async with serve(self.app, self.script) as url:
            yield f"{url}/v1"

    async def _embeddings(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse(error_body("Incorrect API key provided", code="invalid_api_key"), 401)
        body = await request.json()
        texts = [body["input"]] if isinstance(body.get("input"), str) else body.get("input")
        counts = toktok.batch_count(texts, threads=1) if isinstance(texts, list) else []
        if refusal := self._refusal(body, texts, counts):
            status, content = refusal
            return JSONResponse(content, status)
        dimensions = body.get("dimensions") or self.native
        if not self.limits.admit(sum(counts)):
            return JSONResponse(rate_limited(), 429, headers=self.limits.refusal(sum(counts)))
        # as they are when the call is let in, not when it is answered
        told = self.limits.headers()
        self.limits.running += 1
        try:
            if self.limits.latency:
                await asyncio.sleep(self.limits.latency)
        finally:
            self.limits.running -= 1
        self.bill.add(texts, sum(counts))
        data = []
        for index, text in enumerate(texts):
            row = vector(text, dimensions)
            as_text = body.get("encoding_format") == "base64"
            wire = base64.b64encode(row.astype("<f4").tobytes()).decode() if as_text else row.tolist()
            data.append({"object": "embedding", "index": index, "embedding": wire})
        usage = {"prompt_tokens": sum(counts), "total_tokens": sum(counts)}
        answer = {"object": "list", "data": data, "model": body["model"], "usage": usage}
        return JSONResponse(answer, headers=told)

    def _refusal(self, body: dict[str, Any], texts: Any, counts: list[int]) -> tuple[int, dict[str, Any]] | None:
        if body.get("model") not in self.models:
            return 404, error_body("The model does not exist", code="model_not_found")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            return 400, error_body("'$.input' is invalid.", param=None)
        if len(texts) > 2048:
            return 400, error_body("'$.input' is invalid: at most 2048 inputs")
        if (body.get("dimensions") or self.native) > self.native:
            return 400, error_body("Invalid value for 'dimensions'", param="dimensions")
        if max(counts) > 8192:
            return 400, error_body(f"This model's maximum context length is 8192 tokens, you requested {max(counts)}")
        # The service was seen to count a quarter of the bytes; the sterner of the two rules is enforced.
        asked = max(sum(counts), int(sum(len(text.encode()) for text in texts) * 0.25))
        if asked > 300_000:
            kind = "max_tokens_per_request"
            return 400, error_body(f"Requested {asked} tokens, max 300000 tokens per request", kind=kind, code=kind)
        if any(poison in text for poison in self.poison for text in texts):
            return 400, error_body("The input could not be processed")
        return None

    def _spoil(self, fault: Fault, answer: dict[str, Any]) -> dict[str, Any]:
        data = answer["data"]
        first = np.frombuffer(base64.b64decode(data[0]["embedding"]), dtype="<f4").copy()
        match fault.kind:
            case "short":
                data.pop()
            case "shuffled":
                data.reverse()
            case "duplicate":
                data[-1]["index"] = 0
            case "not-base64":
                data[0]["embedding"] = "?" * 16
            case "zero":
                first[:] = 0
            case "nan":
                first[3] = np.nan
            case "dimension":
                first = first[:-1]
            case _:
                raise ValueError(f"no such fault: {fault.kind}")
        if fault.kind in ("zero", "nan", "dimension"):
            data[0]["embedding"] = base64.b64encode(first.tobytes()).decode()
        return answer
