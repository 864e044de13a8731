"""The webhook is a hint: what it may do at most, and that everything goes on without it."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest
from pydantic import SecretStr

from pipeline.db.connection import open_pool
from pipeline.db.queries import Queries
from pipeline.embedded.fakes.llamaparse import Plan
from pipeline.embedded.fakes.server import serve
from pipeline.errors import SetupError
from pipeline.providers.llamaparse import LlamaParseParser
from pipeline.queue import webhook
from pipeline.queue.notifications import wake_ups
from pipeline.queue.webhook import PATH, bound, create_app, http_port, signature, wake_ups_alone
from pipeline.settings import Settings
from tests.worker.test_paid_providers import TEXT, paid, project  # noqa: F401 (fixtures)
from tests.worker.test_providers import Calls, fake, file, make, run  # noqa: F401 (fixtures)
from tests.world import listener_settings

SECRET = "a secret that nobody guesses"


def body_of(job_id: str) -> bytes:
    data = {"id": job_id, "job_id": job_id}
    return json.dumps({"event_id": "evt-1", "event_type": "parse.success", "data": data}).encode()


def free_port() -> int:
    with bound("127.0.0.1", 0) as found:
        return found.getsockname()[1]


def settings_of(port: int) -> dict[str, object]:
    """Of a listener that hears webhooks."""
    return {
        "http_port": port,
        "llamaparse_webhook_url": f"http://127.0.0.1:{port}{PATH}",
        "llamaparse_webhook_secret": SecretStr(SECRET),
    }


@pytest.fixture
async def port():
    """The port alone: a client for it, and the job ids that it passed on."""
    heard: list[str] = []

    async def hint(job_id: str) -> None:
        heard.append(job_id)

    async with serve(create_app(SECRET, hint)) as url, httpx.AsyncClient(base_url=url, timeout=20) as client:
        yield client, heard


async def send(client: httpx.AsyncClient, body: bytes, signed_by: str | None = SECRET) -> int:
    headers = {"lc-signature": signature(body, signed_by)} if signed_by is not None else {}
    return (await client.post(PATH, content=body, headers=headers)).status_code


async def test_what_is_signed_is_heard_however_often_it_comes(port):
    client, heard = port
    body = body_of("pjb-1")
    assert [await send(client, body) for _ in range(3)] == [202] * 3
    assert await send(client, json.dumps(body.decode()).encode()) == 202  # the service's default: JSON in a string
    assert heard == ["pjb-1"] * 4


@pytest.mark.parametrize("signed_by", [None, "", "another secret of somebody", SECRET + " "])
async def test_what_is_not_signed_by_us_is_refused(port, signed_by):
    client, heard = port
    assert await send(client, body_of("pjb-1"), signed_by) == 401
    assert heard == []


@pytest.mark.parametrize("header", ["sha256=", "sha256=é", "sha1=abc", signature(body_of("pjb-2"), SECRET)])
async def test_a_signature_of_something_else_is_refused(port, header):
    client, heard = port
    answer = await client.post(PATH, content=body_of("pjb-1"), headers={"lc-signature": header.encode()})
    assert (answer.status_code, heard) == (401, [])


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b'"{"', b"null", b"\xff", b'{"data": 1}', b'{"data": {"job_id": 7}}', b"[" * 60_000),
        body_of("a b; select 1"),
        body_of("x" * 201),
    ],
)
async def test_a_signed_body_that_makes_no_sense_has_no_effect(port, body):
    client, heard = port
    assert (await send(client, body), heard) == (202, [])


async def test_a_long_body_is_not_read_to_its_end(port):
    client, heard = port
    sent = 0

    async def endless():
        nonlocal sent
        while sent < 50_000_000:
            sent += 10_000
            yield b" " * 10_000

    with contextlib.suppress(httpx.TransportError):  # the port may hang up before it is asked for the answer
        assert (await client.post(PATH, content=endless())).status_code == 413
    assert (sent < 50_000_000, heard) == (True, [])
    assert await send(client, body_of("pjb-1")) == 202


async def test_a_body_that_does_not_arrive_is_given_up(port, monkeypatch):
    client, _ = port
    monkeypatch.setattr(webhook, "BODY_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{{".encode())
    async with asyncio.timeout(10):
        assert b" 408 " in await reader.read()
    writer.close()
    assert await send(client, body_of("pjb-1")) == 202


@pytest.mark.parametrize(("path", "method"), [("/", "GET"), (PATH, "GET"), ("/docs", "GET"), ("/metrics", "POST")])
async def test_there_is_nothing_else_on_the_port(port, path, method):
    client, _ = port
    assert (await client.request(method, path)).status_code in (404, 405)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"llamaparse_webhook_secret": SecretStr("short")}, "can be guessed"),
        ({"llamaparse_webhook_url": "https://a.example/webhooks/llamaparse"}, "_WEBHOOK_SECRET"),
        (
            {
                "llamaparse_webhook_secret": SecretStr(SECRET),
                "llamaparse_webhook_url": "http://a.example/webhooks/llamaparse",
            },
            "https://",
        ),
        ({"llamaparse_webhook_secret": SecretStr(SECRET), "http_host": "192.0.2.1"}, "UPLOAD_PIPELINE_HTTP_PORT"),
    ],
)
async def test_settings_that_cannot_work_are_told_at_the_start(settings, says):
    with pytest.raises(SetupError, match=says):
        async with http_port(Settings(_env_file=None, **settings), None, None):  # type: ignore[arg-type]
            pass


async def test_a_port_that_is_taken_is_told_with_the_remedy():
    with bound("127.0.0.1", 0) as taken:
        taken.listen()
        settings = Settings(_env_file=None, **settings_of(taken.getsockname()[1]))  # type: ignore[arg-type]
        with pytest.raises(SetupError, match="UPLOAD_PIPELINE_HTTP_PORT"):
            async with http_port(settings, None, None):  # type: ignore[arg-type]
                pass


async def test_without_a_secret_there_is_no_port():
    port = free_port()
    async with http_port(Settings(_env_file=None, http_port=port), None, None):  # type: ignore[arg-type]
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("which", ["this listener", "another listener"])
async def test_a_webhook_ends_the_wait_of_whoever_waits(project, fake, file, which):  # noqa: F811
    """With polls five minutes apart, whichever listener the webhook reaches."""
    port = free_port()
    settings = listener_settings(project, **settings_of(port))
    waits = make(fake, poll=300, **settings_of(port))
    hears = waits if which == "this listener" else make(fake, poll=300)
    url = settings.database_url.get_secret_value()
    connected = asyncio.Event()

    async def follow(parser: LlamaParseParser) -> None:
        async for payload in wake_ups_alone(wake_ups(url), parser):
            assert not payload.startswith("parsed")
            connected.set()

    async with contextlib.AsyncExitStack() as stack:
        pool = open_pool(url, size=2)
        await stack.enter_async_context(pool)
        await stack.enter_async_context(http_port(settings, hears, Queries(pool, "test", 60)))
        following = asyncio.create_task(follow(waits))
        stack.callback(following.cancel)
        await connected.wait()
        fake.plan(Plan(takes=0.3))
        async with asyncio.timeout(20):
            parsed = await run(waits, file)
        assert len(parsed.pages) == 2
        (job,) = fake.jobs.values()
        assert (job.looks, fake.delivered) == (3, [(job.id, 202)])  # before, after, and for the pages
    for parser in {waits, hears}:
        await parser.close()


@pytest.mark.parametrize(
    ("webhook", "answers"),
    [("sent", [202]), ("twice", [202, 202]), ("early", [202]), ("lost", []), ("forged", [401])],
)
async def test_a_file_is_read_once_whatever_becomes_of_the_webhook(user, listen, watch, paid, webhook, answers):  # noqa: F811
    paid.parser.plan(Plan(takes=0.5, webhook=webhook))
    await listen(**paid.settings, **settings_of(free_port()))
    await user.upload("a.txt", TEXT)
    job = await watch.ended(user, "a.txt")
    assert (job["state"], job["attempt"]) == ("completed", 1)
    assert paid.bill() == (1, 2, 2)
    (parse,) = paid.parser.jobs
    assert paid.parser.delivered == [(parse, status) for status in answers]


async def test_a_webhook_of_nobodys_parse_wakes_nobody_and_breaks_nothing(user, listen, watch, paid):  # noqa: F811
    port = free_port()
    await listen(**paid.settings, **settings_of(port))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert [await send(client, body_of("pjb-of-nobody")) for _ in range(20)] == [202] * 20
    paid.parser.plan(Plan(polls=0))
    await user.upload("a.txt", TEXT)
    assert (await watch.ended(user, "a.txt"))["state"] == "completed"
