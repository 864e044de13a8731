"""LlamaParse against a wire-faithful fake, and the table that says what each provider's answer means for a job."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta

import pytest
from pydantic import SecretStr

from pipeline.embedded.fakes.llamaparse import FakeLlamaParse, Plan
from pipeline.embedded.fakes.server import Fault
from pipeline.errors import LeaseLost, Misconfigured, Permanent, SetupError, Throttled, Transient
from pipeline.job import FetchedFile
from pipeline.providers.answers import Refused, answered, job_error, retry_after
from pipeline.providers.limiter import asked
from pipeline.providers.llamaparse import LlamaParseParser
from pipeline.settings import Settings
from tests import documents


class Calls:
    """What the parser told its caller."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.fractions: list[float] = []
        self.progressed = asyncio.Event()

    async def remember(self, job_id: str) -> None:
        self.ids.append(job_id)

    async def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)
        self.progressed.set()


@pytest.fixture
async def fake():
    service = FakeLlamaParse()
    async with service.serve() as url:
        service.url = url
        yield service


@pytest.fixture
async def parser(fake):
    client = make(fake)
    yield client
    await client.close()


def make(
    fake, *, poll: float = 0.01, longest_poll: float | None = None, request_timeout: float = 20.0, **changes
) -> LlamaParseParser:
    values = {"llamaparse_api_key": SecretStr(fake.key), "llamaparse_base_url": fake.url, "parser": "llamaparse"}
    settings = Settings(_env_file=None, **(values | changes))
    return LlamaParseParser(settings, poll=poll, longest_poll=longest_poll or poll, request_timeout=request_timeout)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "fetched"
    path.write_bytes(b"# Plan\n\nThe deductible is 500 dollars.\f# Dental\n\nTwo visits a year.")
    return FetchedFile(path, path.stat().st_size, b"\0" * 32, "text/plain", ".txt")


async def test_a_file_of_too_many_pages_is_not_sent_and_one_of_too_much_text_not_kept(fake, file, tmp_path):
    pdf = tmp_path / "long"
    pdf.write_bytes(documents.pdf_pages(4))
    parser = make(fake, max_pages=3, max_text_bytes=30)
    with pytest.raises(Permanent, match="4 pages; 3 are allowed"):
        await run(parser, FetchedFile(pdf, 1, b"", "application/pdf", ".pdf"))
    assert not fake.jobs
    with pytest.raises(Permanent, match="more text than one document"):
        await run(parser, file)
    await parser.close()


async def test_what_no_reader_sees_is_gone_from_the_services_pages_too(fake, parser, tmp_path):
    path = tmp_path / "hidden"
    path.write_bytes("de\u200bduc\u00adtible \u202e500".encode())
    parsed = await run(parser, FetchedFile(path, 1, b"", "text/plain", ".txt"))
    assert parsed.pages[0].markdown == "deductible 500"


async def run(parser, file, *, resume=None, calls=None):
    calls = calls or Calls()
    return await parser.parse(file, resume=resume, remember=calls.remember, progress=calls.progress)


# ── LlamaParse ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_file_becomes_numbered_markdown_pages_and_is_paid_for_once(fake, parser, file):
    calls = Calls()
    fake.plan(Plan(polls=3))
    parsed = await run(parser, file, calls=calls)
    assert [page.number for page in parsed.pages] == [1, 2]
    assert parsed.pages[0].markdown.startswith("# Plan")
    (job,) = fake.jobs.values()
    assert calls.ids == [job.id]
    assert calls.fractions == sorted(calls.fractions)
    assert all(0 <= fraction < 1 for fraction in calls.fractions)
    assert (job.filename, job.media_type, job.tier, job.version) == (
        "document.txt",
        "text/plain",
        "cost_effective",
        "latest",
    )
    assert (fake.bill.uploads, fake.bill.pages, fake.bill.credits) == (1, 2, 6)


async def test_the_job_id_is_remembered_before_any_waiting_so_that_a_crash_does_not_pay_twice(fake, parser, file):
    fake.plan(Plan(end="hang"))
    calls = Calls()
    crashed = asyncio.create_task(run(parser, file, calls=calls))
    await calls.progressed.wait()
    crashed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await crashed
    (job_id,) = calls.ids
    fake.jobs[job_id].plan = Plan()
    again = Calls()
    parsed = await run(parser, file, resume=job_id, calls=again)
    assert len(parsed.pages) == 2
    assert (fake.bill.uploads, again.ids) == (1, [])


async def test_a_failure_to_remember_stops_the_attempt(fake, parser, file):
    async def remember(job_id: str) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        await parser.parse(file, resume=None, remember=remember, progress=Calls().progress)


async def test_a_lost_lease_told_by_progress_is_let_through(fake, parser, file):
    async def progress(fraction: float) -> None:
        raise LeaseLost

    with pytest.raises(LeaseLost):
        await parser.parse(file, resume=None, remember=Calls().remember, progress=progress)


@pytest.mark.parametrize("plan", [Plan(end="FAILED", polls=0, error="INTERNAL"), Plan(end="CANCELLED", polls=0)])
async def test_a_job_that_ended_at_the_provider_is_tried_again_with_a_new_upload(fake, parser, file, plan):
    fake.plan(plan)
    calls = Calls()
    with pytest.raises(Transient):
        await run(parser, file, calls=calls)
    parsed = await run(parser, file, resume=calls.ids[0], calls=calls)
    assert len(parsed.pages) == 2
    assert fake.bill.uploads == 2


async def test_a_forgotten_job_is_uploaded_again(fake, parser, file):
    assert len((await run(parser, file, resume="pjb-unknown")).pages) == 2
    assert fake.bill.uploads == 1


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        ("PDF_IS_PROTECTED", "password"),
        ("The document is password-protected", "password"),
        ("PDF_IS_BROKEN", "damaged"),
        ("NO_DATA_FOUND_IN_FILE", "No text"),
        ("UNSUPPORTED_FILE_TYPE", "kind"),
    ],
)
async def test_a_fault_of_the_file_is_told_to_its_owner_in_their_words(fake, parser, file, error, sentence):
    fake.plan(Plan(end="FAILED", error=error))
    with pytest.raises(Permanent, match=sentence):
        await run(parser, file)


async def test_a_failed_job_never_shows_what_the_provider_wrote(fake, parser, file):
    fake.plan(Plan(end="FAILED", error="cannot read 'Patient Doe has a broken knee'"))
    with pytest.raises(Permanent) as failed:
        await run(parser, file)
    assert "Doe" not in failed.value.message + failed.value.detail


async def test_pages_that_failed_are_named_and_the_others_are_kept(fake, parser, file):
    fake.plan(Plan(pages=["# One", "# Three"], failed={2: "secret internal text"}))
    parsed = await run(parser, file)
    assert [page.number for page in parsed.pages] == [1, 3]
    assert list(parsed.failed_pages) == [2]
    assert parsed.page_count == 3
    assert "secret" not in parsed.failed_pages[2]


@pytest.mark.parametrize("plan", [Plan(pages=[], failed={1: "x", 2: "y"}), Plan(pages=[]), Plan(pages=["", "  \n"])])
async def test_a_result_without_any_text_is_final(fake, parser, file, plan):
    fake.plan(plan)
    with pytest.raises(Permanent):
        await run(parser, file)


async def test_the_fast_tier_is_read_as_text(fake, file):
    parser = make(fake, llamaparse_tier="fast", llamaparse_version="2026-06-15")
    assert parser.fingerprint == "llamaparse fast 2026-06-15"
    assert (await run(parser, file)).pages[1].markdown.startswith("# Dental")
    await parser.close()


async def test_a_job_that_hangs_is_cancelled_at_its_deadline(fake, file):
    parser = make(fake, llamaparse_timeout_seconds=0.3)
    fake.plan(Plan(end="hang"))
    calls = Calls()
    with pytest.raises(Transient):
        await run(parser, file, calls=calls)
    assert fake.jobs[calls.ids[0]].cancelled
    await parser.close()


async def test_the_deadline_counts_from_the_upload_and_not_from_this_attempt(fake, parser, file):
    fake.plan(Plan(end="hang", age=timedelta(hours=2)))
    calls = Calls()
    with pytest.raises(Transient):
        await run(parser, file, calls=calls)
    old = calls.ids[0]
    fake.jobs[old].cancelled = False
    start = time.monotonic()
    assert len((await run(parser, file, resume=old, calls=calls)).pages) == 2
    assert time.monotonic() - start < 10
    assert fake.bill.uploads == 2


async def test_a_job_is_asked_for_ever_more_seldom(fake, file):
    parser = make(fake, poll=0.05, longest_poll=10)
    fake.plan(Plan(takes=1, webhook="lost"))
    assert len((await run(parser, file)).pages) == 2
    (job,) = fake.jobs.values()
    assert 4 <= job.looks <= 9  # twenty, were it asked each time
    await parser.close()


async def test_a_hint_ends_the_wait_at_once(fake, file):
    parser = make(fake, poll=300)
    calls = Calls()
    parsing = asyncio.create_task(run(parser, file, calls=calls))
    await calls.progressed.wait()
    assert not parser.hint("pjb-of-somebody-else")
    assert parser.hint(calls.ids[0])
    parsed = await asyncio.wait_for(parsing, 10)
    assert len(parsed.pages) == 2
    assert not parser.hint(calls.ids[0])
    await parser.close()


async def test_a_few_polls_may_fail(fake, parser, file):
    class Outage(Calls):
        async def remember(self, job_id: str) -> None:
            fake.script.add(Fault(status=502, times=3))

    assert len((await run(parser, file, calls=Outage())).pages) == 2
    assert fake.bill.uploads == 1


async def test_an_outage_while_waiting_pauses_the_stage_and_the_job_is_resumed(fake, parser, file):
    fake.plan(Plan(end="hang"))
    calls = Calls()
    job = asyncio.create_task(run(parser, file, calls=calls))
    await calls.progressed.wait()
    fake.script.add(Fault(status=503, times=50))
    with pytest.raises(Throttled):
        await job
    assert fake.bill.uploads == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(status=401, body={"detail": "Invalid API Key"}), Misconfigured),
        (Fault(status=403, body={"detail": "Forbidden"}), Misconfigured),
        (Fault(status=402, body={"detail": "You have used all credits of your plan"}), Misconfigured),
        (Fault(status=404, body={"detail": "Not Found"}), Misconfigured),
        (Fault(status=429, body={"detail": "Too many requests"}, headers={"retry-after": "9"}), Throttled),
        (Fault(status=500, body={"detail": "x"}), Throttled),
        (Fault(status=503, body=None), Throttled),
        (Fault("truncated"), Throttled),
        (Fault("garbage"), Transient),
        (Fault(status=400, body={"detail": "File type is not supported"}), Permanent),
        (Fault(status=413, body={"detail": "Too large"}), Permanent),
    ],
)
async def test_an_upload_that_goes_wrong_costs_what_the_table_says(fake, parser, file, fault, kind):
    fake.script.add(fault)
    with pytest.raises(kind) as raised:
        await run(parser, file)
    assert type(raised.value) is kind
    if fault.status == 429:
        assert raised.value.retry_after == 9
    assert fake.bill.requests == 1


@pytest.mark.parametrize("changes", [{"llamaparse_version": ""}])
async def test_a_wrong_tier_or_version_is_a_setting_and_kills_no_file(fake, file, changes):
    parser = make(fake, **changes)
    with pytest.raises(Misconfigured):
        await run(parser, file)
    await parser.close()


@pytest.mark.parametrize("kind", ["hang", "slow"])
async def test_an_upload_that_hangs_ends_in_time(fake, file, kind):
    parser = make(fake, request_timeout=0.4)
    fake.script.add(Fault(kind))
    with pytest.raises(Throttled):
        await run(parser, file)
    await parser.close()


@pytest.mark.parametrize(
    "body",
    [
        {"job": {"id": "x", "project_id": "p", "status": "DONE"}},
        {"job": None},
        {},
        [],
    ],
)
async def test_a_status_that_makes_no_sense_is_tried_again(fake, parser, file, body):
    upload = asyncio.create_task(run(parser, file, resume="pjb-1"))
    fake.script.add(Fault(status=200, body=body))
    with pytest.raises(Transient):
        await upload


@pytest.mark.parametrize(
    "markdown",
    [
        None,
        {"pages": None},
        {"pages": [{"page_number": 1, "success": True}]},
        {"pages": [{"page_number": 1, "markdown": "a", "success": True}] * 2},
        {"pages": [{"markdown": "a", "success": True}]},
        *({"pages": [{"page_number": n, "markdown": "a", "success": True}]} for n in (0, -1, 2**40, "one", True)),
        {"pages": ["a"]},
        "a",
    ],
)
async def test_a_result_that_makes_no_sense_is_tried_again_and_nothing_of_it_is_kept(fake, parser, file, markdown):
    done = {"job": {"id": "x", "project_id": "p", "status": "COMPLETED"}}
    fake.script.add(Fault(status=200, body=done), Fault(status=200, body={**done, "markdown": markdown}))
    with pytest.raises(Transient):
        await run(parser, file, resume="pjb-1")


@pytest.mark.parametrize("body", [None, [], "<html>", {"markdown": None}])
async def test_a_result_that_is_none_is_tried_again(fake, parser, file, body):
    fake.script.add(Fault(status=200, body={"job": {"id": "x", "status": "COMPLETED"}}), Fault(status=200, body=body))
    with pytest.raises(Transient):
        await run(parser, file, resume="pjb-1")


async def test_a_result_is_not_read_further_than_a_document_may_be_long(fake, file):
    parser = make(fake, max_text_bytes=1_000)
    done = {"job": {"id": "x", "status": "COMPLETED"}}
    fake.script.add(Fault(status=200, body=done), Fault("endless"))
    with pytest.raises(Permanent, match="more text than one document"):
        await run(parser, file, resume="pjb-1")
    await parser.close()


async def test_pages_come_in_their_order_however_they_are_sent(fake, parser, file):
    pages = [{"page_number": n, "markdown": f"# {n}", "success": True} for n in (3, 1, 2)]
    done = {"job": {"id": "x", "status": "COMPLETED"}}
    fake.script.add(Fault(status=200, body=done), Fault(status=200, body={**done, "markdown": {"pages": pages}}))
    assert [page.number for page in (await run(parser, file, resume="pjb-1")).pages] == [1, 2, 3]


@pytest.mark.parametrize("usage", [None, "much", {}, *({"credits": c} for c in (-3, "many", float("nan"), 1e300))])
async def test_a_bill_that_makes_no_sense_is_no_bill_and_the_pages_are_kept(fake, parser, file, usage):
    job = {"id": "x", "status": "COMPLETED", "usage": usage}
    pages = [{"page_number": 1, "markdown": "a", "success": True}]
    body = json.dumps({"job": job, "markdown": {"pages": pages}})
    fake.script.add(Fault(status=200, body={"job": job | {"usage": None}}), Fault("raw", body=body))
    assert (await run(parser, file, resume="pjb-1")).credits is None


@pytest.mark.parametrize("job_id", ["", "a/../b", "a\0b", "x" * 201, 7, None])
async def test_a_job_id_that_is_none_is_tried_again(fake, parser, file, job_id):
    fake.script.add(Fault(status=200, body={"id": job_id, "status": "PENDING"}))
    calls = Calls()
    with pytest.raises(Transient):
        await run(parser, file, calls=calls)
    assert calls.ids == []


async def test_a_file_is_not_sent_on_to_where_a_redirect_points(fake, parser, file):
    fake.script.add(Fault(status=307, headers={"location": fake.url + "/api/v2/parse/upload"}))
    with pytest.raises(Misconfigured, match="settings"):
        await run(parser, file)
    assert fake.bill.requests == 1 and not fake.jobs


async def test_no_key_is_shown(fake, file):
    parser = make(fake, llamaparse_api_key=SecretStr("llx-very-secret"))
    with pytest.raises(Misconfigured) as waiting:
        await run(parser, file)
    assert "llx-very-secret" not in waiting.value.message + waiting.value.detail + repr(waiting.value)
    await parser.close()
    with pytest.raises(SetupError, match="UPLOAD_PIPELINE_LLAMAPARSE_API_KEY"):
        LlamaParseParser(Settings(_env_file=None, parser="llamaparse"))


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "3", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "999999"}, 3600),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
        ({"x-ratelimit-remaining-tokens": "10", "x-ratelimit-reset-tokens": "6m0s"}, None),
    ],
)
def test_the_rest_that_a_provider_asks_for_is_read_without_this_machines_clock(headers, seconds):
    assert retry_after(headers) == (pytest.approx(seconds) if seconds is not None else None)


def test_the_free_text_of_an_error_never_travels():
    body = {"error": {"message": "the secret passage", "code": "the secret passage", "type": "invalid_request_error"}}
    found = answered("openai", 400, {"x-request-id": "req_1"}, body)
    assert isinstance(found, Refused)
    assert found.detail == "openai answered 400 invalid_request_error, request req_1"
    assert "secret" not in found.message
    body = {"param": "the secret passage"}
    assert "secret" not in answered("openai", 404, {"x-request-id": "the secret passage"}, body).detail


@pytest.mark.parametrize(
    "body",
    [
        *(None, "<html>", [], 7, {"error": "no"}, {"error": [1]}, {"error": {"code": {}, "param": []}}, {"detail": 3}),
        *({"detail": [fault]} for fault in (None, [], {"loc": None}, {"loc": 3}, {"loc": [["tier"], None, {}]})),
    ],
)
def test_an_error_of_any_shape_is_read(body):
    assert type(answered("llamaparse", 422, {}, body)) is Refused


@pytest.mark.parametrize("provider", ["openai", "llamaparse"])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(401, Misconfigured), (402, Misconfigured), (404, Misconfigured), (405, Misconfigured), (302, Misconfigured)]
    + [(status, Throttled) for status in (408, 409, 425, 429, 500, 502, 503, 504, 520, 529)]
    + [(status, Refused) for status in (400, 413, 415, 422)],
)
def test_every_status_has_one_meaning(provider, status, kind):
    assert type(answered(provider, status, {}, None)) is kind


def test_an_outage_without_a_retry_after_rests_a_little_and_a_rate_limit_lets_the_queue_choose():
    assert answered("openai", 503, {}, None).retry_after == 10  # type: ignore[union-attr]
    assert answered("openai", 429, {}, None).retry_after is None  # type: ignore[union-attr]


def test_what_is_a_job_error_already_stays_what_it_is():
    error = Permanent("x")
    assert job_error("openai", error) is error
    assert isinstance(job_error("openai", TimeoutError()), Throttled)
    assert isinstance(job_error("openai", ConnectionResetError()), Throttled)
    assert isinstance(job_error("openai", ValueError("content")), Transient)
    assert "content" not in job_error("openai", ValueError("content")).detail


def test_a_refusal_tells_the_limits_that_its_headers_name():
    told = {f"x-ratelimit-{what}": "7" for what in ("limit-tokens", "remaining-tokens", "limit-requests")}
    found = answered("openai", 429, told | {"x-ratelimit-remaining-requests": "soon"}, None)
    assert isinstance(found, Throttled)
    assert found.limits == {"limit-tokens": 7, "remaining-tokens": 7, "limit-requests": 7}


async def test_a_provider_that_gives_nothing_but_refusals_is_left_to_the_queue(monkeypatch):
    monkeypatch.setattr("pipeline.providers.limiter.BUSY_SECONDS", 0.05)
    asks = 0

    async def ask() -> None:
        nonlocal asks
        asks += 1
        await asyncio.sleep(0.01)
        raise Throttled("busy", provider="openai")

    with pytest.raises(Throttled):
        await asked(ask)
    assert asks > 2
