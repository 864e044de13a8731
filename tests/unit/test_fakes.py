"""The fake OpenAI enforces limits and keeps a bill, as its official SDK sees it."""

from __future__ import annotations

import asyncio

import openai
import pytest

from pipeline.embedded.fakes.limits import Bucket
from pipeline.embedded.fakes.openai import FakeOpenAI
from pipeline.providers.openai import OpenAIEmbedder
from pipeline.settings import Settings

MODEL = "text-embedding-3-small"


@pytest.fixture
async def fake():
    service = FakeOpenAI()
    async with (
        service.serve() as url,
        openai.AsyncOpenAI(api_key=service.key, base_url=url, max_retries=0) as client,
    ):
        service.ask = lambda *texts: client.embeddings.with_raw_response.create(model=MODEL, input=list(texts))
        yield service


def test_a_bucket_refills_continuously_and_no_further_than_a_minutes_worth():
    now = [100.0]
    bucket = Bucket(600, lambda: now[0])
    bucket.take(600)
    for at, level in ((100.05, 0.5), (100.1, 1), (103.0, 30), (1000.0, 600)):
        now[0] = at
        assert bucket.level == pytest.approx(level)
    bucket.per_minute = 300
    assert bucket.level == 300


async def test_tokens_over_the_limit_are_refused_and_not_billed(fake):
    fake.limits.tokens.per_minute = 60
    told = (await fake.ask("one two three")).headers
    assert (told["x-ratelimit-limit-tokens"], int(told["x-ratelimit-remaining-tokens"])) == ("60", 57)
    with pytest.raises(openai.RateLimitError) as refused:
        await fake.ask("word " * 59)
    assert 0 < int(refused.value.response.headers["retry-after-ms"]) <= 60_000
    assert (fake.limits.calls, fake.limits.refused, fake.bill.inputs) == (2, 1, 1)


async def test_a_limit_may_be_changed_and_kept_silent(fake):
    fake.limits.requests.per_minute, fake.limits.tells = 1, False
    assert "x-ratelimit-limit-requests" not in (await fake.ask("a")).headers
    with pytest.raises(openai.RateLimitError) as refused:
        await fake.ask("a")
    assert "retry-after-ms" not in refused.value.response.headers
    fake.limits.requests.per_minute = 60_000_000
    await asyncio.sleep(0.001)
    await fake.ask("a")
    assert (fake.bill.bought("a"), fake.bill.bought("b")) == (2, 0)


async def test_calls_at_once_are_bounded_and_take_their_time(fake):
    fake.limits.concurrency, fake.limits.latency = 1, 0.3
    asked = await asyncio.gather(*(fake.ask("a") for _ in range(3)), return_exceptions=True)
    assert sum(isinstance(answer, openai.RateLimitError) for answer in asked) == 2
    assert fake.limits.running == 0


@pytest.mark.parametrize(
    ("path", "key", "model", "dimensions"),
    [("/v1", "any-word", "bge-m3", 1024), ("/openai/v1/", "an-azure-key", MODEL, 1536)],
    ids=["a model server of one's own", "Azure"],
)
async def test_the_services_of_the_readme_are_asked_at_their_address(path, key, model, dimensions):
    fake = FakeOpenAI(key=key, models=(model,), native=dimensions)
    async with fake.serve() as url:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            openai_api_key=key,
            openai_base_url=url.removesuffix("/v1") + path,
            openai_model=model,
            openai_dimensions=dimensions,
        )
        embedder = OpenAIEmbedder(settings)
        assert (await embedder.embed(["a", "b"])).shape == (2, dimensions)
        assert embedder.space.name == f"{model}-{dimensions}"
        await embedder.close()
