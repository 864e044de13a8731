"""The whole journey with LlamaParse and OpenAI, against fakes that keep a bill: what is bought, and bought once."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import toktok

from pipeline.embedded import EmbeddedSupabase
from pipeline.embedded.fakes.llamaparse import FakeLlamaParse, Plan
from pipeline.embedded.fakes.openai import FakeOpenAI, error_body, rate_limited, vector
from pipeline.embedded.fakes.server import Fault
from pipeline.operate import migrate
from tests.project import WORKER_PASSWORD, Project
from tests.worker.test_many import start_listener

SPACE = "text-embedding-3-small-1536"
TEXT = b"# Plan\n\nThe deductible for knee surgery is 500 dollars.\f# Dental\n\nCleaning is free twice a year."
QUESTION = "How much is the deductible for knee surgery?"


@pytest_asyncio.fixture(scope="module")
async def project() -> AsyncIterator[Project]:
    """A project of its own, since search reads another space; with delays that a test can wait for."""
    async with EmbeddedSupabase.start() as supabase:
        await migrate.apply(supabase.db_url, worker_password=WORKER_PASSWORD, activate_space=SPACE)
        async with await migrate.connect(supabase.db_url) as connection:
            await connection.execute("update pipeline.settings set backoff_base = '0.1 seconds'")
        yield Project(supabase)


@dataclasses.dataclass
class Paid:
    """Both services, and the settings of a listener that uses them."""

    parser: FakeLlamaParse
    embedder: FakeOpenAI
    settings: dict[str, Any]

    def bill(self) -> tuple[int, int, int]:
        return self.parser.bill.uploads, self.parser.bill.pages, self.embedder.bill.inputs

    def environment(self) -> dict[str, str]:
        return {f"UPLOAD_PIPELINE_{key.upper()}": str(value) for key, value in self.settings.items()}


@pytest.fixture
async def paid():
    parser, embedder = FakeLlamaParse(), FakeOpenAI()
    async with parser.serve() as parser_url, embedder.serve() as embedder_url:
        yield Paid(
            parser,
            embedder,
            {
                "parser": "llamaparse",
                "llamaparse_api_key": parser.key,
                "llamaparse_base_url": parser_url,
                "embedder": "openai",
                "openai_api_key": embedder.key,
                "openai_base_url": embedder_url,
                "poll_seconds": 0.3,
            },
        )


def now_done(paid: Paid, count: int = 1) -> None:
    """The next parses are finished at the first look."""
    paid.parser.plan(*[Plan(polls=0)] * count)


async def make_due(watch, job_id: int) -> None:
    """The wait of a job is over."""
    await watch.connection.execute("update pipeline.jobs set available_at = now() where id = %s", (job_id,))
    await watch.connection.execute("update pipeline.wakeups set due_at = now()")
    await watch.connection.execute("update pipeline.provider_keys set cooling_until = null")


async def waiting(watch, user, name: str, error_class: str) -> dict[str, Any]:
    """The job, once an attempt has ended with that class."""
    return await watch.until(
        "select * from pipeline.jobs where name = %s and state = 'available' and error_class = %s",
        f"{user.id}/{name}",
        error_class,
    )


async def test_a_document_becomes_searchable_through_both_services(user, listen, watch, paid):
    await listen(**paid.settings)
    now_done(paid)
    await user.upload("plan.txt", TEXT)
    job = await watch.ended(user, "plan.txt")
    assert (job["state"], job["error"]) == ("completed", None)
    [document] = (await user.client.table("documents").select("*").execute()).data
    assert document["parser"] == "llamaparse cost_effective latest"
    assert document["embedding_model"].startswith("text-embedding-3-small")
    assert document["page_count"] == 2
    [hit, *_] = await user.search(QUESTION)
    assert (hit["page"], hit["heading"]) == (1, "Plan")
    # no word in common: only the vector can find it
    stored = paid.embedder.bill.texts[-1]
    hits = await user.search("zzzz", query_embedding=vector(stored, 1536).tolist(), space=SPACE)
    assert "Cleaning" in hits[0]["content"]
    uploaded = next(iter(paid.parser.jobs.values()))
    assert (uploaded.content, uploaded.filename) == (TEXT, "document.txt")


async def test_a_copy_a_move_an_overwrite_a_retry_and_a_second_file_of_the_same_bytes_buy_nothing(
    user, listen, watch, paid
):
    await listen(**paid.settings)
    now_done(paid)
    await user.upload("a.txt", TEXT)
    await watch.ended(user, "a.txt")
    before = paid.bill()
    bucket = user.client.storage.from_("documents")
    await bucket.copy(f"{user.id}/a.txt", f"{user.id}/copy.txt")
    await bucket.move(f"{user.id}/a.txt", f"{user.id}/moved.txt")
    await user.upload("again.txt", TEXT)
    for name in ("copy.txt", "moved.txt", "again.txt"):
        assert (await watch.ended(user, name))["state"] == "completed"
    await user.upload("again.txt", TEXT, upsert=True)
    await watch.until("select 1 from pipeline.jobs where name = %s having count(*) = 2", f"{user.id}/again.txt")
    assert (await watch.ended(user, "again.txt"))["state"] == "completed"
    assert paid.bill() == before


async def test_an_edited_document_buys_its_changed_passages_alone(user, listen, watch, paid):
    await listen(**paid.settings)
    now_done(paid, 2)
    await user.upload("a.txt", TEXT)
    await watch.ended(user, "a.txt")
    _, _, before = paid.bill()
    await user.upload("a.txt", TEXT.replace(b"twice", b"thrice"), upsert=True)
    await watch.until("select 1 from pipeline.jobs where name = %s having count(*) = 2", f"{user.id}/a.txt")
    assert (await watch.ended(user, "a.txt"))["state"] == "completed"
    uploads, _, after = paid.bill()
    assert (uploads, after - before) == (2, 1)
    assert "thrice" in paid.embedder.bill.texts[-1]


async def test_two_files_of_the_same_bytes_at_once_buy_once(user, listen, watch, paid):
    for name in ("a.txt", "b.txt"):
        await user.upload(name, TEXT)
    await listen(**paid.settings)
    await listen(**paid.settings)
    for name in ("a.txt", "b.txt"):
        assert (await watch.ended(user, name))["state"] == "completed"
    assert paid.bill() == (1, 2, len(set(paid.embedder.bill.texts)))


async def test_two_owners_of_the_same_bytes_each_buy_their_own(user, other_user, listen, watch, paid):
    await listen(**paid.settings)
    now_done(paid, 2)
    for owner in (user, other_user):
        await owner.upload("a.txt", TEXT)
        assert (await watch.ended(owner, "a.txt"))["state"] == "completed"
    assert paid.parser.bill.uploads == 2


async def test_a_listener_killed_after_the_upload_is_followed_by_one_that_waits_for_the_same_parse(
    user, project, listen, watch, paid, tmp_path
):
    paid.parser.plan(Plan(end="hang"))
    killed = await start_listener(project, tmp_path, **paid.environment())
    try:
        await user.upload("a.txt", TEXT)
        parse = await watch.until(
            "select provider_job_id from pipeline.parses where owner_id = %s and provider_job_id is not null", user.id
        )
    finally:
        killed.kill()
        await asyncio.to_thread(killed.wait, 30)
    paid.parser.jobs[parse["provider_job_id"]].plan = Plan(polls=0)
    await listen(**paid.settings, lease_seconds=2)
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["attempt"], job["failures"]) == ("completed", 2, 1)
    assert paid.parser.bill.uploads == 1


@pytest.mark.parametrize("which", ["llamaparse_api_key", "openai_api_key"])
async def test_a_wrong_key_costs_the_file_nothing_and_a_right_one_continues(user, listen, watch, paid, which):
    now_done(paid)
    stop = await listen(**(paid.settings | {which: "a-wrong-key"}))
    await user.upload("a.txt", TEXT)
    job = await waiting(watch, user, "a.txt", "configuration")
    assert job["failures"] == 0
    seen = await user.job("a.txt")
    assert "operator" in seen["error"] and "a-wrong-key" not in str(seen) + job["error_detail"]
    stop.set()
    await listen(**paid.settings)
    await make_due(watch, job["id"])
    ended = await watch.ended(user, "a.txt")
    assert (ended["state"], ended["failures"], ended["error"]) == ("completed", 0, None)
    assert paid.parser.bill.uploads == 1


@pytest.mark.parametrize("which", ["parser", "embedder"])
async def test_a_provider_over_its_limit_is_left_alone_as_long_as_it_asks(user, listen, watch, paid, which):
    service = getattr(paid, which)
    service.script.add(Fault(status=429, body=rate_limited(), headers={"retry-after": "120"}))
    now_done(paid)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    job = await waiting(watch, user, "a.txt", "throttled")
    row = await watch.until(
        "select failures, extract(epoch from available_at - now())::float as seconds from pipeline.jobs where id = %s",
        job["id"],
    )
    assert row["failures"] == 0
    assert 110 <= row["seconds"] <= 150
    await make_due(watch, job["id"])
    ended = await watch.ended(user, "a.txt")
    assert (ended["state"], ended["failures"], paid.parser.bill.uploads) == ("completed", 0, 1)


async def test_a_parsing_service_that_enforces_its_limit_is_waited_for_and_the_parse_bought_once(
    user, listen, watch, paid
):
    # the upload uses it up, every look at the job is refused
    paid.parser.limits.requests.per_minute = 1
    now_done(paid)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    job = await waiting(watch, user, "a.txt", "throttled")
    row = await watch.until(
        "select failures, extract(epoch from available_at - now())::float as seconds from pipeline.jobs where id = %s",
        job["id"],
    )
    assert row["failures"] == 0
    assert 30 <= row["seconds"] <= 75
    refused = paid.parser.limits.refused
    assert refused == paid.parser.limits.calls - 1 > 0
    paid.parser.limits.requests.per_minute = 60_000
    await make_due(watch, job["id"])
    ended = await watch.ended(user, "a.txt")
    assert (ended["state"], ended["failures"], paid.bill()[:2]) == ("completed", 0, (1, 2))
    assert paid.parser.limits.refused == refused


async def test_a_passage_that_is_refused_ends_the_file_with_a_sentence(user, listen, watch, paid):
    paid.embedder.poison.add("knee surgery")
    now_done(paid, 2)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["attempt"]) == ("dead", 1)
    error = (await user.job("a.txt"))["error"]
    assert error == "The embedding service refuses a passage of this file. It is passage 1, on page 1."
    await user.upload("b.txt", b"The next file is served.")
    assert (await watch.ended(user, "b.txt"))["state"] == "completed"


async def test_what_was_bought_beside_a_refused_passage_is_kept(user, listen, watch, paid):
    pages = [f"# Part {number}\n\nThe sentence of part {number}." for number in range(1, 9)]
    pages[5] += " Poison."
    paid.embedder.poison.add("Poison")
    now_done(paid, 2)
    await listen(**paid.settings)
    await user.upload("a.txt", "\f".join(pages).encode())
    assert (await watch.ended(user, "a.txt"))["state"] == "dead"
    assert "page 6" in (await user.job("a.txt"))["error"]
    before = list(paid.embedder.bill.texts)
    assert len(before) >= 4
    await user.upload("a.txt", "\f".join(pages).replace(" Poison.", "").encode(), upsert=True)
    await watch.until("select 1 from pipeline.jobs where name = %s having count(*) = 2", f"{user.id}/a.txt")
    assert (await watch.ended(user, "a.txt"))["state"] == "completed"
    texts = [text for text in paid.embedder.bill.texts if text != "ping"]
    assert len(texts) == len(set(texts)) == 8


@pytest.mark.parametrize("seconds", ["0.2", "120"], ids=["asked again at once", "tried again later"])
async def test_what_was_bought_of_a_halved_batch_is_kept_when_the_other_half_meets_a_limit(
    user, listen, watch, paid, seconds
):
    pages = [f"# Part {number}\n\nThe sentence of part {number}." for number in range(1, 9)]
    refused, busy = {"status": 400, "body": error_body("no")}, {"status": 429, "body": rate_limited()}
    # the whole is refused, its first half is bought, its second half meets the limit
    paid.embedder.script.add(Fault(**refused), Fault("shuffled"), Fault(**busy, headers={"retry-after": seconds}))
    now_done(paid)
    await listen(**paid.settings)
    await user.upload("a.txt", "\f".join(pages).encode())
    if seconds == "120":
        await make_due(watch, (await waiting(watch, user, "a.txt", "throttled"))["id"])
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["failures"]) == ("completed", 0)
    assert (paid.embedder.bill.inputs, len(set(paid.embedder.bill.texts))) == (8, 8)
    assert paid.embedder.bill.requests == 4


async def test_a_text_longer_than_the_model_reads_is_divided_and_found_to_its_end(user, listen, watch, paid):
    # no sentence and no paragraph ends in it, and the heading comes before each passage
    words = [f"w{number}" for number in range(9_000)]
    text = f"# {'A heading of some length ' * 20}\n\n{' '.join(words)} the zanzibar clause pays {'x' * 30_000} tail"
    assert toktok.batch_count([text])[0] > 3 * 8_192
    now_done(paid)
    await listen(**paid.settings, chunk_tokens=8_192)
    await user.upload("long.txt", text.encode())
    job = await watch.ended(user, "long.txt")
    assert (job["state"], job["failures"]) == ("completed", 0)
    bought = paid.embedder.bill.texts
    lengths = toktok.batch_count(bought)
    assert len(bought) > 3 and 6_000 < max(lengths) <= 8_192, lengths
    chunks = (await user.client.table("chunks").select("content").order("ordinal").execute()).data
    found = set(" ".join(chunk["content"] for chunk in chunks).split())
    assert found >= {*words, "zanzibar", "tail"}
    assert sum(chunk["content"].count("x") for chunk in chunks) >= 30_000
    for question in ("zanzibar clause", "w8999", "tail"):
        assert question.split()[0] in (await user.search(question))[0]["content"]
    # no word in common: its vector finds it
    last = next(place for place, input_ in enumerate(bought) if "zanzibar" in input_)
    [hit] = await user.search("zzzz", query_embedding=vector(bought[last], 1536).tolist(), space=SPACE, match_count=1)
    assert "zanzibar" in hit["content"]


async def test_a_file_that_the_parser_refuses_ends_with_a_sentence(user, listen, watch, paid):
    paid.parser.plan(Plan(end="FAILED", polls=0, error="PDF_IS_PROTECTED"))
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    assert (await watch.ended(user, "a.txt"))["state"] == "dead"
    assert "password" in (await user.job("a.txt"))["error"]


@pytest.mark.parametrize("kind", ["zero", "nan", "dimension", "short", "duplicate"])
async def test_vectors_that_are_none_are_never_stored(user, listen, watch, paid, kind):
    paid.embedder.script.add(Fault(kind=kind))
    now_done(paid)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["failures"], job["attempt"]) == ("completed", 1, 2)
    assert paid.parser.bill.uploads == 1
    row = await watch.until(
        "select count(*) as n, bool_and(extensions.vector_dims(embedding) = 1536) as whole, "
        "bool_and(abs(extensions.l2_norm(embedding) - 1) < 0.01) as unit from pipeline.embeddings where owner_id = %s",
        user.id,
    )
    assert row == {"n": len(set(paid.embedder.bill.texts)), "whole": True, "unit": True}


async def test_vectors_that_are_always_zero_end_the_file_and_publish_nothing(user, listen, watch, paid):
    paid.embedder.script.add(Fault(kind="zero", times=9))
    now_done(paid)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["failures"]) == ("dead", 3)
    assert (await user.client.table("chunks").select("id").execute()).data == []
    assert await user.search(QUESTION) == []
