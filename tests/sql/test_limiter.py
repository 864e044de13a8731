"""The limiter against a provider that is a token bucket, in a time that the test moves: minutes pass in seconds."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.sql.conftest import Database

CALL = 16_000
LATENCY = 0.3


@dataclass
class Provider:
    """Tokens a minute, refilled evenly up to a minute's worth; `told` puts the limits into the answers."""

    per_minute: float = 1_000_000
    told: bool = True
    told_by: str = ""
    """The only outcome whose answers tell them; empty: all do."""
    level: float = 1_000_000
    at: float = 0
    taken: float = 0
    calls: int = 0
    refused: int = 0

    def ask(self, now: float, tokens: float) -> bool:
        self.level = min(self.level + self.per_minute / 60 * (now - self.at), self.per_minute)
        self.at = now
        self.calls += 1
        if self.level < tokens:
            self.refused += 1
            return False
        self.level -= tokens
        self.taken += tokens
        return True


class Clock:
    """pipeline.now() as the test says, in seconds from its start."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @classmethod
    async def of(cls, db: Database) -> Clock:
        await db.run("create table public.clock (now timestamptz not null)")
        await db.run("alter table public.clock enable row level security")
        await db.run("insert into public.clock values ('2026-11-02 12:00+00')")
        await db.run(
            "create or replace function pipeline.now() returns timestamptz language sql stable set search_path = '' "
            "as $$ select now from public.clock $$"
        )
        return cls(db)

    async def set(self, seconds: float) -> None:
        await self._db.run(
            "update public.clock set now = timestamptz '2026-11-02 12:00+00' + make_interval(secs => %s)", seconds
        )


async def a_job(db: Database) -> dict[str, Any]:
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim(lease="100 days")
    return job


async def reserve(db: Database, job: dict[str, Any], key: str = "key", listener: str = "test", **more: Any) -> dict:
    asked = {"pages": 0, "inputs": 1, "tokens": 0, "stage": "embed", "provider": "openai"} | more
    return await db.one(
        "select * from pipeline.reserve(%s, %s, %s, %s, %s, %s, 'text-embedding-3-small', %s, %s, %s)",
        listener,
        job["id"],
        job["attempt"],
        asked["provider"],
        key,
        asked["stage"],
        asked["pages"],
        asked["inputs"],
        asked["tokens"],
    )


async def settle(db: Database, call_id: int, outcome: str, *, tokens: int | None = None, **more: Any) -> None:
    told = {
        "may_be_bought": False,
        "pages": None,
        "credits": None,
        "limit": None,
        "left": None,
        "retry_after": None,
        "reason": "because",
    } | more
    await db.run(
        "select pipeline.settle(%s, %s, %s, %s, %s, %s, null, null, %s, %s, %s::interval, %s)",
        call_id,
        outcome,
        told["may_be_bought"],
        told["pages"],
        told["credits"],
        tokens,
        told["limit"],
        told["left"],
        told["retry_after"],
        told["reason"],
    )


async def drive(
    db: Database, clock: Clock, job: dict[str, Any], provider: Provider, start: float, end: float, *, hands: int = 12
) -> None:
    """So many hands of any listeners ask, call and settle, from `start` to `end` in seconds."""
    # (when, order, what, call)
    agenda: list[tuple[float, int, str, int]] = [(start, number, "ask", 0) for number in range(hands)]
    order, cost = hands, dict[int, int]()
    while agenda and agenda[0][0] < end:
        now, _, what, call = heapq.heappop(agenda)
        order += 1
        if what == "ask":
            await clock.set(now)
            tokens = CALL
            while (answer := await reserve(db, job, inputs=tokens // 100, tokens=tokens))["status"] == "smaller":
                tokens //= 2
            cost[answer["call_id"]] = tokens
            following = (
                (answer["wait"], "send", answer["call_id"]) if answer["status"] == "go" else (answer["wait"], "ask", 0)
            )
        elif what == "send":
            accepted = provider.ask(now, cost[call])
            following = (LATENCY, "bought" if accepted else "limited", call)
        else:
            await clock.set(now)
            tells = provider.told and provider.told_by in ("", what)
            told = {"limit": provider.per_minute, "left": max(provider.level, 0)} if tells else {}
            await settle(db, call, what, tokens=cost[call] if what == "bought" else None, **told)
            following = (0.05, "ask", 0)
        wait, what, call = following
        heapq.heappush(agenda, (now + float(wait), order, what, call or 0))
    await clock.set(end)
    for _, _, what, call in agenda:
        if what != "ask":
            await settle(db, call, "declined")


@contextlib.asynccontextmanager
async def measured(provider: Provider) -> AsyncIterator[dict[str, float]]:
    """The share of what was allowed, and of calls that were refused, within the block."""
    taken, calls, refused, at = provider.taken, provider.calls, provider.refused, provider.at
    figures: dict[str, float] = {}
    yield figures
    figures["share"] = (provider.taken - taken) / (provider.per_minute / 60 * (provider.at - at))
    figures["refused"] = (provider.refused - refused) / (provider.calls - calls)


async def test_a_limit_that_is_told_is_used_up_and_not_exceeded(db):
    clock, job, provider = await Clock.of(db), await a_job(db), Provider()
    await drive(db, clock, job, provider, 0, 60)
    async with measured(provider) as figures:
        await drive(db, clock, job, provider, 60, 360)
    assert figures["share"] > 0.95
    assert figures["refused"] < 0.01
    assert provider.refused == 0


async def test_a_clock_that_is_set_back_stops_no_calls(db):
    clock, job, provider = await Clock.of(db), await a_job(db), Provider()
    await drive(db, clock, job, provider, 86_400, 86_460)
    provider.at = 0
    async with measured(provider) as figures:
        await drive(db, clock, job, provider, 0, 300)
    assert figures["share"] > 0.95, figures
    assert figures["refused"] < 0.02, figures


async def test_a_limit_that_is_halved_in_silence_is_found_and_held(db):
    clock, job, provider = await Clock.of(db), await a_job(db), Provider()
    await drive(db, clock, job, provider, 0, 120)
    provider.per_minute, provider.told = 500_000, False
    provider.level = min(provider.level, 500_000)
    await drive(db, clock, job, provider, 120, 240)
    async with measured(provider) as figures:
        await drive(db, clock, job, provider, 240, 540)
    assert figures["share"] > 0.9, figures
    assert figures["refused"] < 0.02, figures


async def test_a_limit_that_is_never_told_is_found(db):
    clock, job, provider = await Clock.of(db), await a_job(db), Provider(per_minute=200_000, level=200_000, told=False)
    await drive(db, clock, job, provider, 0, 240)
    async with measured(provider) as figures:
        await drive(db, clock, job, provider, 240, 540)
    assert figures["share"] > 0.9, figures
    assert figures["refused"] < 0.05, figures  # of some sixty calls


async def test_a_limit_that_is_raised_again_is_found(db):
    clock, job, provider = await Clock.of(db), await a_job(db), Provider(per_minute=300_000, level=0, told=False)
    await drive(db, clock, job, provider, 0, 240)
    provider.per_minute = 450_000
    await drive(db, clock, job, provider, 240, 1440)
    async with measured(provider) as figures:
        await drive(db, clock, job, provider, 1440, 1740)
    assert figures["share"] > 0.8, figures


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("per_minute", [5_000, 40_000])
async def test_a_limit_that_is_small_beside_a_call_is_used_up_all_the_same(db, per_minute, told):
    clock, job, provider = await Clock.of(db), await a_job(db), Provider(per_minute, told, level=per_minute)
    await drive(db, clock, job, provider, 0, 240, hands=4)
    async with measured(provider) as figures:
        await drive(db, clock, job, provider, 240, 1440, hands=4)
    assert figures["share"] > (0.95 if told else 0.7), figures
    assert figures["refused"] < (0.01 if told else 0.3), figures  # of few calls, where it must be found


async def test_a_call_of_one_input_is_let_through_however_small_the_limit(db):
    clock, job = await Clock.of(db), await a_job(db)
    call = await reserve(db, job, tokens=100)
    await settle(db, call["call_id"], "bought", tokens=100, limit=1_000, left=900)
    assert (await reserve(db, job, inputs=2, tokens=8_000))["status"] == "smaller"
    await clock.set(60)
    assert (await reserve(db, job, tokens=8_000))["status"] == "go"
    assert (await reserve(db, job, tokens=100))["wait"] > 400  # until it is paid off


async def test_a_refusal_is_believed_about_its_limits(db):
    clock, job = await Clock.of(db), await a_job(db)
    call = await reserve(db, job, tokens=CALL)
    await settle(db, call["call_id"], "limited", limit=600_000, left=1_000)
    key = await db.one(
        "select (tokens).told, (tokens).per_minute, (tokens).available, cooling_until from pipeline.provider_keys"
    )
    assert (key["told"], key["per_minute"], key["available"], key["cooling_until"]) == (True, 594_000, 1_000, None)
    # what is missing, and a margin, is refilled in three seconds
    assert (await reserve(db, job, tokens=CALL))["wait"] == pytest.approx((CALL - 1_000 + 594_000 / 40) / 9_900)
    await clock.set(60)
    assert (await reserve(db, job, tokens=CALL))["wait"] == 0


@pytest.mark.parametrize("pause", [None, "2 seconds"])
async def test_a_refusal_that_its_own_limits_do_not_explain_slows_all_the_same(db, pause):
    clock, job = await Clock.of(db), await a_job(db)
    told = {"limit": 600_000, "left": 500_000}
    await settle(db, (await reserve(db, job, tokens=CALL))["call_id"], "bought", tokens=CALL, **told)
    assert (await reserve(db, job, tokens=CALL))["wait"] == 0
    await settle(db, (await reserve(db, job, tokens=CALL))["call_id"], "limited", retry_after=pause, **told)
    wait = (await reserve(db, job, tokens=CALL))["wait"]
    assert wait == pytest.approx(2 if pause else (CALL + 594_000 / 40) / 9_900)
    await clock.set(10)
    assert (await reserve(db, job, tokens=CALL))["wait"] == 0


async def test_limits_that_refusals_tell_are_used_up_and_not_exceeded(db):
    # nothing but the refusals tells them
    clock, job, provider = await Clock.of(db), await a_job(db), Provider(level=0, told_by="limited")
    await drive(db, clock, job, provider, 0, 60)
    async with measured(provider) as figures:
        await drive(db, clock, job, provider, 60, 360)
    assert figures["share"] > 0.95, figures
    assert figures["refused"] < 0.01, figures


# one purchase, many requests


async def a_parse(db: Database, job: dict[str, Any]) -> int:
    return (await reserve(db, job, provider="llamaparse", stage="parse", inputs=0, pages=3))["call_id"]


async def ask_again(db: Database, call_id: int, *, let_through: bool = True) -> float:
    return (await db.one("select pipeline.ask_again(%s, %s) as wait", call_id, let_through))["wait"]


async def test_a_purchase_under_way_rests_when_another_is_asked_to(db):
    clock, job = await Clock.of(db), await a_job(db)
    one, two = await a_parse(db, job), await a_parse(db, job)
    assert [await ask_again(db, call) for call in (one, two)] == [0, 0]
    await settle(db, one, "limited", may_be_bought=True, retry_after="8 seconds")
    assert await ask_again(db, two) == 8
    await clock.set(20)
    assert await ask_again(db, two) < 1
    await settle(db, one, "limited", may_be_bought=True, retry_after="80 seconds")
    before = await db.one("select (requests).available as n from pipeline.provider_keys")
    assert await ask_again(db, two) == 80  # too long: the job goes back to the queue, and takes nothing with it
    assert await db.one("select (requests).available as n from pipeline.provider_keys") == before


async def test_the_requests_of_a_purchase_find_the_limit_of_requests(db):
    clock, job, provider = await Clock.of(db), await a_job(db), Provider(per_minute=60, level=60, told=False)
    waiting = [(float(number), await a_parse(db, job)) for number in range(4)]
    now = 0.0
    async with contextlib.AsyncExitStack() as stack:
        figures = None
        while now < 540:
            now, call = heapq.heappop(waiting)
            if now > 240 and figures is None:
                figures = await stack.enter_async_context(measured(provider))
            await clock.set(now)
            if (wait := float(await ask_again(db, call))) <= 10:
                await clock.set(now := now + wait)
                if not provider.ask(now, 1):
                    await settle(db, call, "limited", may_be_bought=True)
                    # as it is collected again
                    await db.run("update pipeline.ledger set state = 'reserved', settled_at = null where id = %s", call)
            heapq.heappush(waiting, (now + 0.5, call))
    assert figures is not None
    assert figures["share"] > 0.9, figures
    assert figures["refused"] < 0.02, figures


async def test_keys_of_long_ago_are_forgotten_and_those_in_use_are_not(db):
    clock, job = await Clock.of(db), await a_job(db)
    for key in ("old", "in use", "under way"):
        call = await reserve(db, job, key)
        if key != "under way":
            await settle(db, call["call_id"], "bought")
    await clock.set(91 * 86400)
    await a_listener(db, "one", "in use")
    await a_listener(db, "two", "new")
    assert await keys(db) == ["in use", "under way"]
    assert (await db.one("select count(*) as n from pipeline.ledger"))["n"] == 3  # the ledger stays


async def keys(db: Database) -> list[str]:
    rows = await db.all("select fingerprint from pipeline.provider_keys order by fingerprint")
    return [row["fingerprint"] for row in rows]


# the circuit


async def a_listener(db: Database, name: str, key: str) -> None:
    await db.run("select pipeline.listener_seen(%s, '1', 'local', 'space', false, array[%s])", name, key)


async def shut(db: Database, listener: str) -> list[str]:
    return (await db.one("select pipeline.shut_stages(%s) as stages", listener))["stages"]


async def test_a_refused_key_is_shut_for_that_key_alone_and_probed_by_one_listener(db):
    clock, job = await Clock.of(db), await a_job(db)
    for name, key in (("one", "wrong"), ("two", "wrong"), ("three", "right")):
        await a_listener(db, name, key)
    first = await reserve(db, job, "wrong")
    await settle(db, first["call_id"], "refused", reason="openai answered 401")
    assert [await shut(db, name) for name in ("one", "two", "three")] == [["embed"], ["embed"], []]
    assert (await reserve(db, job, "wrong"))["status"] == "refused"
    assert (await reserve(db, job, "right"))["status"] == "go"
    health = await db.one("select * from pipeline.provider_health where state <> 'ready'")
    assert (health["fingerprint"], health["state"], health["reason"]) == ("wrong", "refused", "openai answered 401")
    assert health["listeners"] == 2

    await clock.set(61)
    await a_listener(db, "one", "wrong")
    await a_listener(db, "two", "wrong")
    assert [await shut(db, name) for name in ("one", "two")] == [[], ["embed"]]
    assert (await reserve(db, job, "wrong", "two"))["status"] == "refused"
    probe = await reserve(db, job, "wrong", "one")
    assert probe["status"] == "go"
    assert (await reserve(db, job, "wrong", "one"))["status"] == "later"
    await settle(db, probe["call_id"], "refused", reason="openai answered 401")
    assert await shut(db, "one") == ["embed"]
    since = await db.one(
        "select extract(epoch from pipeline.now() - since)::int as s from pipeline.provider_health "
        "where fingerprint = 'wrong'"
    )
    assert since["s"] == 61

    await clock.set(122)
    await a_listener(db, "two", "wrong")
    probe = await reserve(db, job, "wrong", "two")
    await settle(db, probe["call_id"], "bought", tokens=1)
    assert await shut(db, "one") == []
    assert (await reserve(db, job, "wrong", "one"))["status"] == "go"


async def test_an_outage_opens_the_circuit_after_a_few_calls_and_heals(db):
    clock, job = await Clock.of(db), await a_job(db)
    await a_listener(db, "one", "key")
    for _ in range(3):
        assert await shut(db, "one") == []
        await settle(db, (await reserve(db, job))["call_id"], "down", reason="openai answered 503")
    assert await shut(db, "one") == ["embed"]
    assert (await reserve(db, job))["status"] == "down"
    await clock.set(10)
    await a_listener(db, "one", "key")
    probe = await reserve(db, job, listener="one")
    await settle(db, probe["call_id"], "bought")
    assert await shut(db, "one") == []


async def test_a_cooldown_holds_for_all_listeners(db):
    clock, job = await Clock.of(db), await a_job(db)
    for name in ("one", "two"):
        await a_listener(db, name, "key")
    await settle(db, (await reserve(db, job))["call_id"], "limited", retry_after="30 seconds")
    assert [await shut(db, name) for name in ("one", "two")] == [["embed"], ["embed"]]
    answer = await reserve(db, job, listener="two")
    assert (answer["status"], round(answer["wait"])) == ("cooling", 30)
    await clock.set(31)
    assert await shut(db, "two") == []
    assert (await reserve(db, job, listener="two"))["status"] == "go"


async def test_calls_at_once_are_as_many_as_allowed_and_a_dead_listener_frees_its_own(db):
    clock = await Clock.of(db)
    await db.upload(await db.sign_up(), "a.txt")
    await db.upload(await db.sign_up(), "b.txt")
    one, two = [(await db.claim(lease=lease))[0] for lease in ("10 seconds", "100 seconds")]
    await reserve(db, one)
    await db.run("insert into pipeline.provider_limits values ('openai', 1)")
    assert (await reserve(db, two))["status"] == "later"
    await clock.set(11)
    assert (await reserve(db, two))["status"] == "go"
    await a_listener(db, "two", "key")
    states = await db.all("select state from pipeline.ledger order by id")
    assert [row["state"] for row in states] == ["unconfirmed", "reserved"]


async def test_what_is_no_lease_buys_nothing(db):
    job = await a_job(db)
    assert (await reserve(db, job | {"attempt": 9}))["status"] == "lost"
    assert await db.all("select * from pipeline.ledger") == []


async def test_a_claim_leaves_out_what_needs_a_shut_key_and_goes_on_with_the_rest(db):
    clock = await Clock.of(db)
    owners = [await db.sign_up() for _ in range(2)]
    for owner in owners:
        await db.upload(owner, "a.txt")
    begun, fresh = await db.claim(2)
    await db.run("select pipeline.report(%s, %s, 'embed', 0)", begun["id"], begun["attempt"])
    await a_listener(db, "one", "wrong")
    await a_listener(db, "two", "right")
    await settle(db, (await reserve(db, begun, "wrong"))["call_id"], "refused")
    for job in (begun, fresh):
        await db.run("select pipeline.release(%s, %s)", [job["id"]], [job["attempt"]])
    assert [job["id"] for job in await db.claim(9, listener="one")] == [fresh["id"]]
    assert [job["id"] for job in await db.claim(9, listener="two")] == [begun["id"]]
    [again] = await db.all("select id, attempt from pipeline.jobs where id = %s", begun["id"])
    await db.run("select pipeline.report(%s, %s, 'embed', 0)", again["id"], again["attempt"])
    await db.run("select pipeline.release(%s, %s)", [again["id"]], [again["attempt"]])
    assert await db.claim(9, listener="one") == []
    await clock.set(61)
    await a_listener(db, "one", "wrong")  # takes on the probe
    assert [job["id"] for job in await db.claim(9, listener="one")] == [begun["id"]]
