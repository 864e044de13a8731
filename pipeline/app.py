"""The composition root: the only place that decides which parts a listener is made of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import uuid
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version

import psycopg

from pipeline import faults
from pipeline.db.connection import LISTENER, open_pool, refusal
from pipeline.db.guard import database_name, database_url, guard, require, whole
from pipeline.db.queries import Queries
from pipeline.errors import JobError, SetupError
from pipeline.providers.embedder import Embedder
from pipeline.providers.limiter import Account, fingerprint
from pipeline.providers.parser import Parser, reads_pictures
from pipeline.queue.erasure import Eraser
from pipeline.queue.notifications import wake_ups
from pipeline.queue.webhook import http_port, wake_ups_alone
from pipeline.queue.worker import Worker
from pipeline.settings import Settings
from pipeline.work.filestore import AnotherProject, FileStore
from pipeline.work.journey import Processor, sweep_leftovers
from pipeline.work.storage import Storage

_log = logging.getLogger(__name__)
_SEEN_SECONDS = 10.0
"""How often a listener says that it lives, and looks for a provider to probe; oftener where it polls oftener."""


def release() -> str:
    """The installed version."""
    try:
        return version("document-pipeline")
    except PackageNotFoundError:
        return "checkout"


def event_loop() -> asyncio.AbstractEventLoop:
    """A new loop for a listener: uvloop's where that is installed (the extra `fast`)."""
    try:
        from uvloop import new_event_loop  # pyright: ignore[reportMissingImports]
    except ImportError:
        return asyncio.new_event_loop()
    return new_event_loop()


def make_embedder(settings: Settings) -> Embedder:
    """The embedder that the settings name; raises SetupError when its key is missing."""
    match settings.embedder:
        case "openai":
            from pipeline.providers.openai import OpenAIEmbedder

            require(settings.openai_api_key.get_secret_value(), "UPLOAD_PIPELINE_OPENAI_API_KEY", "the embedder openai")
            return OpenAIEmbedder(settings)
        case "local":
            from pipeline.local.model import LocalEmbedder

            return LocalEmbedder()


def make_parser(settings: Settings) -> Parser:
    """The parser that the settings name; raises SetupError when its key is missing."""
    match settings.parser:
        case "llamaparse":
            from pipeline.providers.llamaparse import LlamaParseParser

            require(
                settings.llamaparse_api_key.get_secret_value(),
                "UPLOAD_PIPELINE_LLAMAPARSE_API_KEY",
                "the parser llamaparse",
            )
            return LlamaParseParser(settings)
        case "local":
            from pipeline.local.parser import LocalParser

            return LocalParser(settings)


def make_fallback(settings: Settings) -> Parser | None:
    """The parser that stands in for a paid one, where the settings allow it."""
    if settings.fallback_parser == "none" or settings.parser == "local":
        return None
    from pipeline.local.parser import LocalParser

    return LocalParser(settings)


def accounts(settings: Settings) -> tuple[Account | None, Account | None]:
    """What the parser and the embedder are paid with; None for what costs nothing."""
    parse = embed = None
    if settings.parser == "llamaparse":
        used = (settings.llamaparse_url, settings.llamaparse_tier, settings.llamaparse_version)
        key = fingerprint("llamaparse", settings.llamaparse_api_key.get_secret_value(), *used)
        parse = Account("llamaparse", "parse", settings.llamaparse_tier, key)
    if settings.embedder == "openai":
        used = (settings.openai_base_url, settings.openai_model, str(settings.openai_dimensions))
        key = fingerprint("openai", settings.openai_api_key.get_secret_value(), *used)
        embed = Account("openai", "embed", settings.openai_model, key)
    return parse, embed


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks until all have ended, whatever they end with.

    Once is not enough: before Python 3.12 `asyncio.wait_for`, which libraries use, loses a cancellation that comes in
    the same moment as what it waits for.
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=1)
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_listener(settings: Settings, *, stop: asyncio.Event, ready: Callable[[], None] | None = None) -> None:
    """Work until `stop` is set, then drain.

    `ready` is called once, when the listener is about to claim. Raises SetupError, before anything is claimed, when the
    settings cannot work.
    """
    faults.arm(settings.environment)
    url = database_url(settings)
    require(settings.supabase_url, "UPLOAD_PIPELINE_SUPABASE_URL", "the listener")
    key = settings.supabase_service_role_key.get_secret_value()
    require(key, "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY", "the listener")
    await guard(url)
    await whole(url)

    listener_id = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
    if removed := sweep_leftovers():
        _log.info("removed downloads of listeners that were killed", extra={"folders": removed})
    async with contextlib.AsyncExitStack() as stack:
        parser = make_parser(settings)
        stack.push_async_callback(parser.close)
        embedder = make_embedder(settings)
        stack.push_async_callback(embedder.close)
        fallback = make_fallback(settings)
        if fallback is not None:
            stack.push_async_callback(fallback.close)
        storage = Storage(settings.supabase_url, key, settings.max_file_size_bytes, pictures=reads_pictures(settings))
        stack.push_async_callback(storage.close)
        pool = open_pool(url, size=min(settings.concurrency + 2, 10))
        stack.push_async_callback(pool.close)
        try:
            await pool.open(wait=True)
        except psycopg.OperationalError as error:
            raise SetupError(refusal(error, LISTENER)) from None

        queries = Queries(pool, listener_id, settings.lease_seconds)
        space_id, active = await queries.active_space()
        if active != embedder.space:
            raise SetupError(
                f"Search reads the space {active.name}, and this listener would write {embedder.space.name}. Set "
                f"UPLOAD_PIPELINE_EMBEDDER and its model to the active one, or run "
                f"`pipeline migrate --space {embedder.space.name}`."
            )
        files = FileStore(queries, storage, database_name(url))
        try:
            await files.look()
        except AnotherProject as error:
            raise SetupError(error.detail) from None
        except JobError as error:
            # It may pass, and another listener may have a better key: this one waits, and says so.
            _log.warning("no files can be read for now", extra={"reason": error.detail})
        await asyncio.gather(*(part.warm_up() for part in (parser, embedder, fallback) if part is not None))
        parse_account, embed_account = accounts(settings)
        processor = Processor(
            queries,
            files,
            parser,
            embedder,
            space_id,
            settings.chunk_tokens,
            settings.chunk_overlap,
            parse_account,
            embed_account,
            fallback,
            max_passages=settings.max_passages,
        )
        worker = Worker(
            queries,
            processor,
            concurrency=settings.concurrency,
            lease_seconds=settings.lease_seconds,
            poll_seconds=settings.poll_seconds,
            eraser=Eraser(queries, files),
            job_seconds=settings.job_timeout_seconds,
        )

        # with a fallback no job waits for the parser's provider
        needed = (storage.account, parse_account if fallback is None else None, embed_account)
        keys = [account.fingerprint for account in needed if account is not None]

        async def say_seen(*, stopped: bool = False) -> bool:
            return await queries.seen(release(), parser.fingerprint, embedder.space.name, keys=keys, stopped=stopped)

        missing: list[str] = []

        async def look_whole() -> None:
            """Claim nothing in a project that is not whole, and go on when it is again."""
            now = await queries.detached()
            if now != missing:
                worker.hold(bool(now))
                if now:
                    _log.error(
                        "the project is not whole; nothing is claimed until `pipeline migrate` and "
                        "`pipeline doctor --fix` were run",
                        extra={"missing": ", ".join(now)},
                    )
                else:
                    _log.info("the project is whole again")
                missing[:] = now

        async def seen() -> None:
            while True:
                with contextlib.suppress(psycopg.OperationalError, JobError):
                    if await say_seen():
                        await files.look()
                with contextlib.suppress(psycopg.OperationalError):
                    await look_whole()
                await asyncio.sleep(min(_SEEN_SECONDS, settings.poll_seconds * 2))

        await stack.enter_async_context(http_port(settings, parser, queries))
        notifications = wake_ups(url, check_seconds=min(30, settings.lease_seconds / 2))
        helpers = [
            asyncio.create_task(coroutine, name=name)
            for name, coroutine in (
                ("wake-ups", worker.follow(wake_ups_alone(notifications, parser))),
                ("leases", worker.keep_leases()),
                ("tidy", worker.keep_tidy()),
                ("seen", seen()),
            )
        ]
        try:
            await say_seen()
            _log.info("listening", extra={"listener": listener_id, "space": active.name, "parser": parser.fingerprint})
            if ready is not None:
                ready()
            working = asyncio.create_task(worker.run(stop), name="worker")
            # A helper that ends is a fault of ours: better to stop and be restarted than to limp.
            await asyncio.wait({working, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            stop.set()
            await working
            await worker.drain(settings.drain_seconds)
            for helper in helpers:
                if helper.done():
                    helper.result()
        finally:
            await end(helpers)
            with contextlib.suppress(psycopg.Error):
                await say_seen(stopped=True)
            _log.info("stopped", extra={"listener": listener_id})
