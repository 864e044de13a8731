"""Wrong keys, spent budgets, providers that are down: whose jobs wait, whose go on, and what heals by itself."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from cli.fake_providers import read
from pipeline import app
from pipeline.embedded.fakes.llamaparse import Plan
from pipeline.embedded.fakes.openai import rate_limited
from pipeline.embedded.fakes.server import Fault
from pipeline.local.parser import LocalParser
from pipeline.operate import checks, money
from pipeline.settings import Settings
from tests import documents
from tests.worker.test_many import start_listener
from tests.worker.test_paid_providers import SPACE, Paid, now_done, paid, project, waiting  # noqa: F401 (fixtures)
from tests.world import Watch, new_user

TEXT = b"# Plan\n\nThe deductible is 500 dollars.\f# Dental\n\nCleaning is free."


@pytest.fixture(autouse=True)
async def clean(watch: Watch):
    """Providers and budgets as on the first day; what is shut is probed every second."""
    await watch.connection.execute("update pipeline.settings set probe_every = '1 second'")
    yield
    for table in ("budgets", "provider_keys"):
        await watch.connection.execute(f"delete from pipeline.{table}".encode())


def settings_of(project: Any, values: dict[str, Any]) -> Settings:  # noqa: F811
    """What `pipeline check` would read where such a listener runs."""
    more = {
        "supabase_url": project.api_url,
        "supabase_service_role_key": project.service_role_key,
        "database_url": project.worker_url,
        "migration_database_url": project.db_url,
    }
    return Settings(_env_file=None, **(more | values))  # type: ignore[call-arg]


async def test_a_wrong_key_on_one_of_two_listeners_costs_no_job_anything(listen, watch, paid, project):  # noqa: F811
    wrong = paid.settings | {"openai_api_key": "sk-a-wrong-key"}
    fingerprint = app.accounts(settings_of(project, wrong))[1].fingerprint
    now_done(paid, 20)
    await listen(**wrong)
    users = [await new_user(project) for _ in range(3)]
    await users[0].upload("first.txt", TEXT)
    shut = await watch.until("select * from pipeline.provider_health where state = 'refused'")
    assert (shut["fingerprint"], shut["provider"], shut["listeners"]) == (fingerprint, "openai", 1)
    assert shut["since"] is not None and "401" in shut["reason"]
    findings = await checks.check(settings_of(project, wrong))
    [finding] = [f for f in findings if f.name == f"openai key {fingerprint}"]
    assert finding.ok is False and f"{shut['since']:%Y-%m-%d %H:%M:%S}" in finding.detail
    assert "UPLOAD_PIPELINE_OPENAI_API_KEY" in finding.remedy

    right = await listen(**paid.settings)
    for number, user in enumerate(users):
        await user.upload(f"{number}.txt", TEXT + str(number).encode())
    for name, user in [("first.txt", users[0]), *((f"{n}.txt", u) for n, u in enumerate(users))]:
        job = await watch.ended(user, name)
        assert (job["state"], job["failures"]) == ("completed", 0)
    right.set()

    # the wrong one is alone; then its key is mended at the provider's, and nobody touches anything else
    await users[1].upload("last.txt", TEXT + b"last")
    job = await waiting(watch, users[1], "last.txt", "configuration")
    paid.embedder.key = "sk-a-wrong-key"
    job = await watch.ended(users[1], "last.txt")
    assert (job["state"], job["failures"]) == ("completed", 0)
    healed = await watch.until("select * from pipeline.provider_health where fingerprint = %s", fingerprint)
    assert (healed["state"], healed["reason"]) == ("ready", None)
    text = str(await watch.until("select array_agg(h)::text from pipeline.provider_health h")) + finding.detail
    assert "sk-a-wrong-key" not in text


async def test_a_spent_budget_stops_its_owner_alone_and_a_new_one_lets_go(user, other_user, listen, watch, paid):  # noqa: F811
    await watch.connection.execute("insert into pipeline.budgets values ('owner', %s, 'month', 0)", (user.id,))
    now_done(paid, 2)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    job = await waiting(watch, user, "a.txt", "budget")
    assert job["failures"] == 0
    seen = await user.job("a.txt")
    assert seen["state"] == "available"
    assert "monthly budget" in seen["error"] and "continues by itself on 1 " in seen["error"]
    await other_user.upload("a.txt", TEXT)
    assert (await watch.ended(other_user, "a.txt"))["state"] == "completed"
    assert paid.parser.bill.uploads == 1
    await watch.connection.execute("update pipeline.budgets set amount = 1")
    assert (await watch.ended(user, "a.txt"))["state"] == "completed"


async def test_an_outage_shuts_the_stage_and_everything_drains_when_it_is_over(user, listen, watch, paid):  # noqa: F811
    paid.embedder.script.add(Fault(status=503, headers={"retry-after": "0.2"}, times=4))
    now_done(paid, 3)
    await listen(**paid.settings)
    for number in range(3):
        await user.upload(f"{number}.txt", TEXT + str(number).encode())
    await watch.until("select 1 from pipeline.provider_health where state = 'down'")
    for number in range(3):
        job = await watch.ended(user, f"{number}.txt")
        assert (job["state"], job["failures"]) == ("completed", 0)


async def test_the_fallback_parser_stands_in_and_says_so(user, listen, watch, paid):  # noqa: F811
    await listen(**(paid.settings | {"llamaparse_api_key": "a-wrong-key"}), fallback_parser="local")
    await user.upload("a.txt", TEXT)
    assert (await watch.ended(user, "a.txt"))["state"] == "completed"
    [document] = (await user.client.table("documents").select("parser").execute()).data
    chunks = (await user.client.table("chunks").select("parser, embedding_model").execute()).data
    assert document["parser"].startswith("local") and {c["parser"] for c in chunks} == {document["parser"]}
    assert {c["embedding_model"] for c in chunks} == {"text-embedding-3-small"}
    assert paid.parser.bill.pages == 0


async def test_a_parser_that_is_busy_while_it_is_asked_for_the_result_is_not_paid_again(user, listen, watch, paid):  # noqa: F811
    paid.parser.plan(Plan(end="hang"))
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    parse = await watch.until(
        "select provider_job_id as id from pipeline.parses where owner_id = %s and provider_job_id is not null", user.id
    )
    paid.parser.script.add(Fault(status=429, times=4))
    await watch.until(
        "select 1 from pipeline.provider_keys where provider = 'llamaparse' and (requests).ceiling is not null"
    )
    paid.parser.jobs[parse["id"]].plan = Plan(polls=0)
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["failures"], paid.parser.bill.uploads) == ("completed", 0, 1)
    row = await watch.until("select * from pipeline.job_costs where job_id = %s", job["id"])
    assert (row["pages_bought"], row["unconfirmed"]) == (2, 0)


async def test_a_pause_that_one_look_at_a_parse_is_asked_for_holds_for_all_who_wait(
    user,
    other_user,
    listen,
    watch,
    paid,  # noqa: F811
):
    paid.parser.plan(*[Plan(end="hang")] * 2)
    owners = (user, other_user)
    for owner in owners:
        await listen(**paid.settings, concurrency=1)
        await owner.upload("a.txt", TEXT)
    await watch.until(
        "select 1 from pipeline.parses where provider_job_id is not null and pages is null "
        "and owner_id in (%s, %s) having count(*) = 2",
        *(owner.id for owner in owners),
    )
    paid.parser.script.add(Fault(status=429, headers={"retry-after": "4"}))
    await watch.until("select 1 from pipeline.provider_health where provider = 'llamaparse' and state = 'cooling'")
    asked = paid.parser.bill.requests
    await watch.until(
        "select 1 from pipeline.provider_keys "
        "where provider = 'llamaparse' and cooling_until < now() + interval '0.5 seconds'"
    )
    assert paid.parser.bill.requests <= asked + 1  # one may have been on its way
    for job in paid.parser.jobs.values():
        job.plan = Plan(polls=0)
    for owner in owners:
        job = await watch.ended(owner, "a.txt")
        assert (job["state"], job["attempt"], job["failures"]) == ("completed", 1, 0)
    assert (paid.parser.bill.uploads, paid.parser.bill.pages) == (2, 4)


async def test_a_model_without_a_price_is_bought_freely_until_a_budget_holds(
    user,
    other_user,
    project,  # noqa: F811
    listen,
    watch,
    paid,  # noqa: F811
):
    model = "a-model-of-ones-own"
    paid.embedder.models = (model,)
    await watch.connection.execute("select pipeline.create_space(%s, 1536)", (model,))
    await watch.connection.execute("select pipeline.activate_space(%s)", (f"{model}-1536",))
    values = paid.settings | {"openai_model": model}

    async def found() -> list[checks.Finding]:
        return [f for f in await checks.check(settings_of(project, values)) if f.name == f"openai {model}"]

    try:
        now_done(paid, 4)
        await listen(**values)
        await user.upload("free.txt", TEXT)
        job = await watch.ended(user, "free.txt")
        row = await watch.until("select * from pipeline.job_costs where job_id = %s", job["id"])
        assert (job["state"], row["without_price"], await found()) == ("completed", 1, [])

        await watch.connection.execute("insert into pipeline.budgets values ('owner', %s, 'month', 1)", (user.id,))
        bought = paid.embedder.bill.inputs
        await user.upload("waits.txt", TEXT + b"waits")
        job = await waiting(watch, user, "waits.txt", "configuration")
        assert (job["failures"], paid.embedder.bill.inputs) == (0, bought)
        assert f"pipeline prices set openai {model} token DOLLARS" in job["error_detail"]
        assert "what the embedding service costs" in (await user.job("waits.txt"))["error"]
        [finding] = await found()
        assert finding.ok is False and f"pipeline prices set openai {model} token DOLLARS" in finding.remedy
        # who has no budget is not concerned
        await other_user.upload("a.txt", TEXT)
        assert (await watch.ended(other_user, "a.txt"))["state"] == "completed"

        await watch.connection.execute(
            "insert into pipeline.prices values ('openai', %s, 'token', 0, '2026-01-01')", (model,)
        )
        job = await watch.ended(user, "waits.txt", timeout=20)
        assert (job["state"], job["failures"], await found()) == ("completed", 0, [])
        assert (await watch.until("select bought from pipeline.job_costs where job_id = %s", job["id"]))[
            "bought"
        ] < 0.01
    finally:
        await watch.connection.execute("select pipeline.activate_space(%s)", (SPACE,))


async def test_a_long_file_gives_way_and_goes_on_later(user, listen, watch, paid, monkeypatch):  # noqa: F811
    monkeypatch.setattr("pipeline.work.journey._TURN_SECONDS", 0.0)
    monkeypatch.setattr("pipeline.providers.openai.OpenAIEmbedder.batch_size", 1)
    now_done(paid)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["attempt"], job["failures"]) == ("completed", 2, 0)
    assert (paid.parser.bill.uploads, paid.embedder.bill.inputs) == (1, 2)


async def test_the_ledger_agrees_with_the_bills_and_a_copy_is_free(user, listen, watch, paid):  # noqa: F811
    now_done(paid)
    await listen(**paid.settings)
    await user.upload("a.txt", TEXT)
    first = await watch.ended(user, "a.txt")
    await user.upload("b.txt", TEXT)
    second = await watch.ended(user, "b.txt")
    costs = {
        job["id"]: await watch.until("select * from pipeline.job_costs where job_id = %s", job["id"])
        for job in (first, second)
    }
    bought, reused = costs[first["id"]], costs[second["id"]]
    bill = paid.embedder.bill
    assert (bought["pages_bought"], bought["inputs_bought"], bought["tokens_bought"]) == (2, bill.inputs, bill.tokens)
    assert bought["bought"] == 2 * Decimal("0.00375") + bill.tokens * Decimal("0.00000002") == reused["saved"]
    assert (bought["saved"], bought["unconfirmed"], reused["bought"]) == (0, 0, 0)
    assert (reused["pages_reused"], reused["inputs_reused"]) == (2, bill.inputs)


async def test_what_was_estimated_is_what_the_bill_says(user, listen, watch, paid, project, tmp_path):  # noqa: F811
    files = {
        "plan.md": documents.markdown(),
        "paper.pdf": documents.pdf_flowing(documents.prose(60)),
        "table.html": documents.html(),
    }
    settings = settings_of(project, paid.settings)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    reader = LocalParser(settings)
    paid.parser.read = lambda content, name: read(reader, content, name)
    paid.parser.default = Plan(polls=0)
    parse, embed = app.accounts(settings)
    assert parse is not None and embed is not None
    try:
        async with money.Money.open(project.db_url) as prices:
            quotes = [q async for q in money.quotes(settings, [tmp_path / name for name in files])]
            await listen(**paid.settings)
            for quote in quotes:
                before = (paid.parser.bill.pages, paid.embedder.bill.inputs, paid.embedder.bill.tokens)
                await user.upload(quote.path.name, quote.path.read_bytes())
                job = await watch.ended(user, quote.path.name)
                after = (paid.parser.bill.pages, paid.embedder.bill.inputs, paid.embedder.bill.tokens)
                billed = tuple(a - b for a, b in zip(after, before, strict=True))
                assert (quote.pages, quote.passages, quote.tokens) == billed and quote.problem == ""
                estimated = (
                    await prices.price(parse.provider, parse.model, pages=quote.pages),
                    await prices.price(embed.provider, embed.model, tokens=quote.tokens),
                )
                row = await watch.until("select bought from pipeline.job_costs where job_id = %s", job["id"])
                assert sum(filter(None, estimated)) == row["bought"] > 0
        assert paid.parser.bill.pages > 5
    finally:
        await reader.close()


async def test_a_paragraph_inserted_into_two_hundred_pages_buys_few_passages_again(user, listen, watch, paid):  # noqa: F811
    def paged(paragraphs: list[str]) -> bytes:
        words = " ".join(paragraphs).split(" ")
        return "\f".join(" ".join(words[i : i + 330]) for i in range(0, len(words), 330)).encode()

    paragraphs = documents.prose(1150)
    before = paged(paragraphs)
    after = paged([*paragraphs[:2], documents.prose(1, seed=9)[0], *paragraphs[2:]])
    pages = before.count(b"\f") + 1
    assert pages >= 200
    now_done(paid, 2)
    await listen(**paid.settings)
    await user.upload("a.txt", before)
    await watch.ended(user, "a.txt")
    whole = paid.embedder.bill.inputs
    await user.upload("a.txt", after, upsert=True)
    await watch.until("select 1 from pipeline.jobs where name = %s having count(*) = 2", f"{user.id}/a.txt")
    second = await watch.ended(user, "a.txt")
    assert 0 < paid.embedder.bill.inputs - whole <= 0.02 * whole
    row = await watch.until("select * from pipeline.job_costs where job_id = %s", second["id"])
    assert row["pages_bought"] >= pages and row["inputs_bought"] == paid.embedder.bill.inputs - whole
    assert row["inputs_reused"] >= 0.98 * whole


async def test_no_key_and_no_text_is_in_any_log_line(user, project, watch, paid, tmp_path):  # noqa: F811
    paid.parser.plan(Plan(polls=0), Plan(end="FAILED", polls=0, error="zebra ran away"))
    paid.embedder.script.add(Fault(status=429, body=rate_limited()), Fault(kind="garbage"))
    talkative = {"UPLOAD_PIPELINE_LOG_LEVEL": "DEBUG", "OPENAI_LOG": "debug", "LLAMA_CLOUD_LOG": "debug"}
    right = await start_listener(project, tmp_path, **paid.environment(), **talkative)
    await user.upload("zebra.txt", b"The zebra is left-handed.")
    await watch.ended(user, "zebra.txt")
    await user.upload("zebra-broken.txt", b"The zebra is broken.")
    await waiting(watch, user, "zebra-broken.txt", "transient")
    right.terminate()
    assert await asyncio.to_thread(right.wait, 60) == 0
    keys = {"UPLOAD_PIPELINE_OPENAI_API_KEY": "sk-a-wrong-key", "UPLOAD_PIPELINE_LLAMAPARSE_API_KEY": "llx-a-wrong-key"}
    wrong = await start_listener(project, tmp_path, **(paid.environment() | keys), **talkative)
    await user.upload("zebra-waits.txt", b"The zebra waits.")
    await waiting(watch, user, "zebra-waits.txt", "configuration")
    wrong.terminate()
    assert await asyncio.to_thread(wrong.wait, 60) == 0
    text = "\n".join(path.read_text() for path in tmp_path.glob("listener-*.log"))
    assert '"job failed"' in text
    for secret in (
        paid.parser.key,
        paid.embedder.key,
        *keys.values(),
        "zebra",
        "left-handed",
        project.service_role_key,
    ):
        assert secret not in text
