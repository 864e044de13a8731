"""Prices, the ledger and budgets: exact under any number of calls at once, and kept when a user is erased."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from tests.sql.conftest import Database
from tests.sql.test_limiter import Clock, a_job, a_listener, reserve, settle

PAGE = Decimal("0.00375")


async def parse(db: Database, job: dict[str, Any], pages: int) -> dict[str, Any]:
    """A reservation for so many pages."""
    return await db.one(
        "select * from pipeline.reserve('test', %s, %s, 'llamaparse', 'key', 'parse', 'cost_effective', %s)",
        job["id"],
        job["attempt"],
        pages,
    )


async def spent(db: Database, owner: Any = None) -> Decimal:
    row = await db.one(
        "select coalesce(sum(amount), 0) as s from pipeline.spent_days where owner_id is not distinct from %s", owner
    )
    return row["s"]


async def test_a_purchase_costs_the_price_of_its_day(db):
    clock, job = await Clock.of(db), await a_job(db)
    await db.run("insert into pipeline.prices values ('llamaparse', 'cost_effective', 'page', 0.01, '2026-11-03')")
    for seconds in (0, 86400):
        await clock.set(seconds)
        await settle(db, (await parse(db, job, 2))["call_id"], "bought")
    amounts = [row["amount"] for row in await db.all("select amount from pipeline.ledger order by id")]
    assert amounts == [2 * PAGE, Decimal("0.02")]


async def test_what_was_estimated_is_settled_by_the_providers_own_bill(db):
    job = await a_job(db)
    by_pages, by_credits, refused = [(await parse(db, job, 10))["call_id"] for _ in range(3)]
    assert await spent(db) == 30 * PAGE
    await settle(db, by_pages, "bought", pages=4)
    await settle(db, by_credits, "bought", pages=4, credits=9)
    await settle(db, refused, "declined")
    rows = await db.all("select state, pages, amount from pipeline.ledger order by id")
    assert [(r["state"], r["pages"], r["amount"]) for r in rows] == [
        ("confirmed", 4, 4 * PAGE),
        ("confirmed", 4, Decimal("0.01125")),
    ]
    assert await spent(db) == await spent(db, job["owner_id"]) == 4 * PAGE + Decimal("0.01125")


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
async def test_what_is_no_amount_is_never_added_up(db, amount):
    call = (await parse(db, await a_job(db), 2))["call_id"]
    for statement in (
        "update pipeline.ledger set amount = %s",
        "insert into pipeline.budgets values ('all', null, 'month', %s)",
        "insert into pipeline.prices values ('openai', 'x', 'token', %s, '2026-01-01')",
    ):
        with pytest.raises(psycopg.errors.CheckViolation):
            await db.run(statement, Decimal(amount))
    await settle(db, call, "bought")
    assert await spent(db) == 2 * PAGE


async def test_without_a_price_a_call_is_made_and_says_so(db):
    job = await a_job(db)
    await db.run("delete from pipeline.prices")
    assert (await parse(db, job, 10))["status"] == "go"
    assert (await db.one("select without_price from pipeline.costs"))["without_price"] == 1


@pytest.mark.parametrize("scope", ["all", "owner", "each"])
async def test_a_budget_and_no_price_is_refused_until_there_is_one(db, scope):
    job = await a_job(db)
    await db.run("delete from pipeline.prices where unit = 'page'")
    owner = job["owner_id"] if scope == "owner" else None
    await db.run(
        "insert into pipeline.budgets values (%s, %s, 'month', 5)", "all" if scope == "all" else "owner", owner
    )
    answer = await parse(db, job, 10)
    assert (answer["status"], answer["reason"]) == ("unpriced", "llamaparse cost_effective page")
    assert await db.all("select * from pipeline.ledger") == []
    assert (await reserve(db, job, tokens=10))["status"] == "go"  # that one has its price
    await db.run(
        "select pipeline.fail(%s, %s, 'configuration', 'why', null, interval '1 hour')", job["id"], job["attempt"]
    )
    assert await db.claim() == []
    await db.run("insert into pipeline.prices values ('llamaparse', 'cost_effective', 'page', 0, '2026-01-01')")
    [job] = await db.claim()
    assert (await parse(db, job, 10))["status"] == "go"
    assert (await db.one("select failures from pipeline.jobs"))["failures"] == 0


async def test_a_budget_of_another_or_one_without_an_amount_asks_for_no_price(db):
    job, other = await a_job(db), await a_job(db)
    await db.run("delete from pipeline.prices")
    await db.run(
        "insert into pipeline.budgets values ('all', null, 'month', null), ('owner', %s, 'day', 1)", other["owner_id"]
    )
    assert (await parse(db, job, 10))["status"] == "go"
    assert (await parse(db, other, 10))["status"] == "unpriced"


@pytest.mark.parametrize("scope", ["all", "owner", "each"])
async def test_a_budget_holds_to_the_cent_however_many_ask_at_once(db, scope):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    await db.run(
        "insert into pipeline.budgets values (%s, %s, 'month', %s)",
        "all" if scope == "all" else "owner",
        job["owner_id"] if scope == "owner" else None,
        50 * PAGE,
    )

    async def ask() -> str:
        async with await db.connect("pipeline_worker") as connection:
            cursor = await connection.execute(
                "select status from pipeline.reserve"
                "('test', %s, %s, 'llamaparse', 'key', 'parse', 'cost_effective', 10)",
                (job["id"], job["attempt"]),
            )
            row = await cursor.fetchone()
            assert row is not None
            return row["status"]

    answers = await asyncio.gather(*(ask() for _ in range(12)))
    assert sorted(answers) == ["budget"] * 7 + ["go"] * 5
    assert await spent(db) == 50 * PAGE


async def test_a_spent_budget_names_its_date_and_ends_with_its_period(db):
    clock, job = await Clock.of(db), await a_job(db)
    await db.run("insert into pipeline.budgets values ('owner', null, 'month', 0.01), ('all', null, 'day', 100)")
    answer = await parse(db, job, 10)
    assert answer["status"] == "budget"
    assert answer["reason"] == (
        "The monthly budget for processing your files is used up; this file continues by itself on 1 December 2026."
    )
    assert answer["wait"] == 28.5 * 86400
    await db.run("insert into pipeline.budgets values ('owner', %s, 'month', null)", job["owner_id"])
    assert (await parse(db, job, 10))["status"] == "go"
    await db.run("delete from pipeline.budgets where owner_id is not null")
    assert (await parse(db, job, 1))["status"] == "budget"
    await clock.set(29 * 86400)
    assert (await parse(db, job, 1))["status"] == "go"


@pytest.mark.parametrize("scope", ["all", "owner"])
async def test_what_is_only_set_aside_for_others_is_waited_for_and_not_for_the_next_month(db, scope):
    owner = await db.sign_up()
    for name in ("huge.pdf", "small.pdf"):
        await db.upload(owner, name)
    huge, small = await db.claim(2)
    await db.run("insert into pipeline.budgets values (%s, null, 'month', %s)", scope, 5_000 * PAGE)
    call = (await parse(db, huge, 5_000))["call_id"]  # as it says itself
    answer = await parse(db, small, 2)
    assert (answer["status"], round(answer["wait"])) == ("budget", 60)
    assert "is set aside for files at work" in answer["reason"]
    await settle(db, call, "bought", pages=3)
    assert (await parse(db, small, 2))["status"] == "go"
    assert "is used up" in (await parse(db, small, 5_000))["reason"]


async def test_another_owners_budget_is_another_owners(db):
    one, two = await a_job(db), await a_job(db)
    await db.run("insert into pipeline.budgets values ('owner', %s, 'day', 0)", one["owner_id"])
    assert (await parse(db, one, 1))["status"] == "budget"
    assert (await parse(db, two, 1))["status"] == "go"


async def test_a_raised_budget_lets_waiting_jobs_go_on(db):
    job = await a_job(db)
    await db.run(
        "select pipeline.fail(%s, %s, 'budget', 'The budget is used up.', null, interval '9 days')",
        job["id"],
        job["attempt"],
    )
    assert await db.claim() == []
    await db.run("insert into pipeline.budgets values ('all', null, 'month', 5)")
    [again] = await db.claim()
    assert (again["id"], again["attempt"]) == (job["id"], 2)
    assert (await db.one("select failures from pipeline.jobs"))["failures"] == 0


async def test_a_dead_listeners_call_is_booked_as_unconfirmed_and_confirmed_when_another_collects_it(db):
    clock = await Clock.of(db)
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim(lease="10 seconds")
    [begun] = await db.all("select * from pipeline.begin_parse(%s, %s, sha256('x'), 'p')", job["id"], job["attempt"])
    await db.run(
        "select pipeline.reserve('test', %s, %s, 'llamaparse', 'key', 'parse', 'cost_effective', 10, 0, 0, %s)",
        job["id"],
        job["attempt"],
        begun["parse_id"],
    )
    await clock.set(20)
    await a_listener(db, "another", "key")
    row = await db.one("select id, state, amount from pipeline.ledger")
    assert (row["state"], row["amount"]) == ("unconfirmed", 10 * PAGE)
    assert await spent(db) == 10 * PAGE
    assert await db.claim() == []  # its lease is over, and the backoff begins
    await clock.set(3620)
    [job] = await db.claim(lease="100 seconds")
    resumed = await db.one(
        "select pipeline.resume_call(%s, %s, %s) as id", job["id"], job["attempt"], begun["parse_id"]
    )
    assert resumed["id"] == row["id"]
    await settle(db, row["id"], "bought", pages=8)
    row = await db.one("select state, pages, amount, attempt from pipeline.ledger")
    assert (row["state"], row["pages"], row["amount"], row["attempt"]) == ("confirmed", 8, 8 * PAGE, 2)


async def test_a_job_says_what_it_bought_reused_and_saved(db):
    job = await a_job(db)
    await settle(db, (await reserve(db, job, inputs=3, tokens=600))["call_id"], "bought", tokens=600)
    await db.run(
        "select pipeline.note_work(%s, %s, 'embed', 'openai', 'text-embedding-3-small', 0, 10, 2000)",
        job["id"],
        job["attempt"],
    )
    await db.run(
        "select pipeline.note_work(%s, %s, 'parse', 'llamaparse', 'cost_effective', 4, 0, 0)", job["id"], job["attempt"]
    )
    row = await db.one("select * from pipeline.job_costs")
    assert (row["inputs_bought"], row["bought"]) == (3, Decimal("0.000012"))
    assert (row["pages_reused"], row["inputs_reused"]) == (4, 7)
    assert row["saved"] == 4 * PAGE + 1400 * Decimal("0.00000002")


async def test_the_ledger_keeps_its_sums_when_an_owner_is_forgotten(db):
    job = await a_job(db)
    owner = job["owner_id"]
    await settle(db, (await parse(db, job, 10))["call_id"], "bought")
    await db.run("insert into pipeline.budgets values ('owner', %s, 'day', 1)", owner)
    changed = await db.one("select pipeline.forget_costs(%s, pipeline.pseudonym(%s), 100) as n", owner, owner)
    assert changed["n"] == 1
    assert await spent(db) == 10 * PAGE
    assert await db.all("select * from pipeline.spent_days where owner_id = %s", owner) == []
    assert await db.all("select * from pipeline.budgets") == []
    assert await db.all("select * from pipeline.ledger where owner_id = %s or document_id is not null", owner) == []


async def test_clients_see_none_of_it(db):
    job = await a_job(db)
    async with db.as_user(job["owner_id"]) as connection:
        for name in ("ledger", "budgets", "prices", "provider_keys", "provider_health", "costs", "job_costs"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(f"select * from pipeline.{name}".encode())


async def test_what_costs_and_budgets_cost_does_not_grow_with_the_ledger(db):
    await Clock.of(db)
    job = await a_job(db)
    await db.run("insert into pipeline.budgets values ('all', null, 'month', 1), ('owner', null, 'day', 1)")

    async def buy(calls: int, days: int) -> None:
        """So many calls of as many owners, a quarter of an hour apart, before the last so many days."""
        await db.run(
            "insert into pipeline.ledger (state, at, sends_at, settled_at, owner_id, job_id, attempt, provider, "
            "fingerprint, stage, model, amount) "
            "select 'confirmed', t, t, t, md5(n::text)::uuid, 0, 1, 'openai', 'key', 'embed', 'm', 1 "
            "from (select n, pipeline.now() - n * interval '15 minutes' - %s * interval '1 day' as t "
            "from generate_series(1, %s) n) i",
            days,
            calls,
        )
        # as many owners as calls in this month: what a budget sums are the days of one
        await db.run(
            "insert into pipeline.spent_days (day, owner_id, amount) "
            "select (pipeline.now() at time zone 'utc')::date, md5('more' || n || %s)::uuid, 1 "
            "from generate_series(1, %s) n",
            str(days),
            calls,
        )
        await db.run("vacuum analyze pipeline.ledger, pipeline.spent_days")

    async def read() -> list[int]:
        """Pages that each query reads, when it has been planned before."""
        pages = []
        for query in (
            "select * from pipeline.costs where day >= (pipeline.now() at time zone 'utc')::date - 2",
            "select * from pipeline.provider_health",
            f"select * from pipeline.budgets_of('{job['owner_id']}')",
        ):
            for _ in range(2):
                row = await db.one("explain (analyze, buffers, format json) " + query)
            plan = row["QUERY PLAN"][0]["Plan"]
            pages.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
        return pages

    await buy(300, 0)
    before = await read()
    await buy(50_000, 3)
    assert [b - a for a, b in zip(before, await read(), strict=True) if b - a > 20] == []
