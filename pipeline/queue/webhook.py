"""The listener's HTTP port. It hears LlamaParse's webhooks, where a secret for them is set, and nothing else.

A webhook is a hint and never an order: whoever waits for that parse looks at it now instead of at the next poll. So one
that is lost, doubled, replayed, late, or of a parse that nobody here knows, changes nothing; and one that comes before
the upload was answered is not needed, since the first look follows that answer at once.

    answer   when
    202      the signature fits, whatever the body says
    401      it does not
    408      the body did not arrive in BODY_SECONDS
    413      the body is longer than MAX_BODY_BYTES
    503      the other listeners could not be told; the service asks again
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from pipeline.db.queries import Queries
from pipeline.errors import SetupError
from pipeline.providers.parser import Hinted, Parser, is_job_id
from pipeline.settings import Settings

PATH = "/webhooks/llamaparse"
MAX_BODY_BYTES = 65_536
BODY_SECONDS = 10.0
SHORTEST_SECRET = 16
_MOST_CONNECTIONS = 64
_HANG_UP = {"connection": "close"}
"""With an answer to a body that was not read to its end: what comes of it still is nobody's."""
_PARSED = "parsed "
"""Before the provider's job id in a notification: a listener was told of a parse that it does not wait for itself."""
_log = logging.getLogger(__name__)


@contextlib.asynccontextmanager
async def http_port(settings: Settings, parser: Parser, queries: Queries) -> AsyncIterator[None]:
    """Serve the port until the block ends, where the settings ask for it; raises SetupError where that cannot work."""
    secret = _secret(settings)
    if not secret:
        yield
        return

    async def hint(job_id: str) -> None:
        if not (isinstance(parser, Hinted) and parser.hint(job_id)):
            await queries.notify(_PARSED + job_id)

    with bound(settings.http_host, settings.http_port) as listening:
        async with serving(create_app(secret, hint), listening, limit_concurrency=_MOST_CONNECTIONS):
            _log.info("webhooks are heard", extra={"port": listening.getsockname()[1]})
            yield


async def wake_ups_alone(notifications: AsyncIterator[str], parser: Parser) -> AsyncIterator[str]:
    """`notifications` without those that tell of a parse: these go to whoever waits for it here."""
    async for payload in notifications:
        if not payload.startswith(_PARSED):
            yield payload
        elif isinstance(parser, Hinted):
            parser.hint(payload.removeprefix(_PARSED))


def create_app(secret: str, hint: Callable[[str], Awaitable[None]]) -> Starlette:
    """The application; `hint` is awaited with the provider's job id of each webhook that `secret` has signed."""

    async def webhook(request: Request) -> Response:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                body = await _body(request)
        except TimeoutError:
            return Response(status_code=408, headers=_HANG_UP)
        except ClientDisconnect:
            return Response(status_code=400)
        if body is None:
            return Response(status_code=413, headers=_HANG_UP)
        if not signed(body, request.headers.get("lc-signature", ""), secret):
            _log.info("a webhook without our signature was refused")
            return Response(status_code=401)
        if job_id := job_of(body):
            try:
                await hint(job_id)
            except psycopg.OperationalError as error:
                _log.warning("a webhook could not be passed on", extra={"reason": type(error).__name__})
                return Response(status_code=503)
        return Response(status_code=202)

    return Starlette(routes=[Route(PATH, webhook, methods=["POST"])])


def signature(body: bytes, secret: str) -> str:
    """The value of `LC-Signature` for a body, as `llama_cloud.types.parsing_create_params` describes it."""
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def signed(body: bytes, header: str, secret: str) -> bool:
    """Whether the header is the body's signature; takes the same time wherever they differ."""
    return hmac.compare_digest(header.encode("utf-8", "replace"), signature(body, secret).encode())


def job_of(body: bytes) -> str | None:
    """The provider's job id in a webhook's body: JSON, or JSON in a JSON string; None where there is no such id."""
    try:
        event: Any = json.loads(body)
        if isinstance(event, str):
            event = json.loads(event)
    except (ValueError, RecursionError):
        return None
    data = event.get("data") if isinstance(event, dict) else None
    job_id = (data.get("job_id") or data.get("id")) if isinstance(data, dict) else None
    return job_id if is_job_id(job_id) else None


async def _body(request: Request) -> bytes | None:
    """The whole body; None where it is too long, of which no more is read than shows it."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


class _Server(uvicorn.Server):
    """A server in somebody else's process, who keeps the signals, and who is told when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready, self.leave = asyncio.Event(), asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        # As the original, but it ends when it is told to and not at the next tenth of a second.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self.leave.wait()

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def serving(app: ASGIApp, listening: socket.socket, **options: Any) -> AsyncIterator[None]:
    """Serve `app` on a bound socket until the block ends; `options` are uvicorn's."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=1,
        **options,
    )
    server = _Server(config)
    running = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    ready = asyncio.create_task(server.ready.wait())
    try:
        await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield
    finally:
        ready.cancel()
        server.should_exit = True
        server.leave.set()
        await running


def _secret(settings: Settings) -> str:
    """The webhooks' secret, empty where there is none; raises SetupError where it does not fit its URL."""
    secret, url = settings.llamaparse_webhook_secret.get_secret_value(), settings.llamaparse_webhook_url
    if secret and len(secret) < SHORTEST_SECRET:
        raise SetupError(
            f"UPLOAD_PIPELINE_LLAMAPARSE_WEBHOOK_SECRET is shorter than {SHORTEST_SECRET} characters and can be "
            "guessed. `openssl rand -hex 32` makes a good one."
        )
    if url and not secret:
        raise SetupError(
            "UPLOAD_PIPELINE_LLAMAPARSE_WEBHOOK_URL is set without UPLOAD_PIPELINE_LLAMAPARSE_WEBHOOK_SECRET: nobody "
            "could tell a webhook from a forgery. Set both, or neither."
        )
    parts = urlsplit(url)
    if url and parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise SetupError(
            "UPLOAD_PIPELINE_LLAMAPARSE_WEBHOOK_URL must begin with https://; LlamaParse sends webhooks nowhere else."
        )
    return secret


def bound(host: str, port: int) -> socket.socket:
    """A TCP socket that is bound but does not listen yet; raises SetupError where the port cannot be had."""
    try:
        # named as TCP, or asyncio does not turn Nagle's algorithm off
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise SetupError(
            f"The HTTP port {port} on {host} cannot be opened: {error.strerror}. Set UPLOAD_PIPELINE_HTTP_PORT to "
            "another one: it does not matter which listener hears a webhook."
        ) from None
    return listening
