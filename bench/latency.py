"""How long a user waits: from the commit of a one-page text file to its claim, and until it can be found.

Zero is the moment at which a bare LISTEN connection, in this process, hears the commit of the upload. The claim and the
publish are heard the same way, on the same connection and the same clock, through two triggers that only this
temporary project has. The project with its gateway, and the listener, run in processes of their own.

The floor is what no queue can go below: a bare connection that claims by itself as soon as it hears, and the parser
and the model called one after the other on the same file, with nothing around them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg

from bench import common
from pipeline.app import make_embedder, make_parser
from pipeline.chunks.cutting import chunk
from pipeline.db.connection import LISTENER, connect
from pipeline.job import FetchedFile
from pipeline.settings import Settings

_TRIGGERS = """
create function pipeline.bench_notify() returns trigger language plpgsql set search_path = '' as $$
begin
  perform pg_catalog.pg_notify(tg_argv[0], '');
  return null;
end
$$;
create trigger bench_claimed after update on pipeline.jobs
  for each row when (old.state <> 'running' and new.state = 'running')
  execute function pipeline.bench_notify('bench_claimed');
create trigger bench_published after update on pipeline.documents
  for each row when (old.published_version is distinct from new.published_version)
  execute function pipeline.bench_notify('bench_published');
"""
_WARM = 3
_PATIENCE = 60.0


class Ear:
    """The bare connection: when it first heard each channel since it was last cleared."""

    def __init__(self, connection: psycopg.AsyncConnection) -> None:
        self.connection = connection
        self.heard: dict[str, float] = {}

    async def until(self, channel: str) -> float:
        """The moment at which the channel is heard."""
        async with asyncio.timeout(_PATIENCE):
            while channel not in self.heard:
                async for notification in self.connection.notifies(stop_after=1):
                    self.heard.setdefault(notification.channel, time.perf_counter())
        return self.heard[channel]

    async def clear(self) -> None:
        """Forget all, and what is still under way."""
        async for _ in self.connection.notifies(timeout=0.02):
            pass
        self.heard.clear()


@contextlib.asynccontextmanager
async def _ear(db_url: str) -> AsyncIterator[Ear]:
    async with await connect(db_url) as connection:
        for channel in ("pipeline_jobs", "bench_claimed", "bench_published"):
            await connection.execute(f"listen {channel}".encode())
        yield Ear(connection)


def one_page(seed: int) -> bytes:
    """About 2,000 characters of text that no other run has."""
    words = [
        "agreement", "notice", "delivery", "invoice", "payment", "warranty", "supplier", "customer", "period",
        "written", "within", "after", "before", "shall", "may", "the", "of", "and", "for", "each", "order", "price",
    ]  # fmt: skip
    pick = random.Random(seed)
    sentences, size = [], 0
    while size < 2000:
        sentence = " ".join(pick.choice(words) for _ in range(pick.randint(8, 16))).capitalize() + f" {seed}."
        sentences.append(sentence)
        size += len(sentence)
    return " ".join(sentences).encode()


async def measure(runs: int = 50) -> dict[str, Any]:
    """Durations in milliseconds, p50 and p95."""
    with common.folder() as folder:
        return await _measure(runs, folder)


async def _measure(runs: int, folder: Path) -> dict[str, Any]:
    async with contextlib.AsyncExitStack() as stack:
        line, _ = await stack.enter_async_context(common.dev(folder, "--no-listener"))
        async with await connect(line["db_url"]) as connection:
            await connection.execute(_TRIGGERS.encode())
        user = await common.sign_up(stack, line)
        ear = await stack.enter_async_context(_ear(line["db_url"]))
        bare = await _bare_claims(ear, user, line, runs)
        claims, searchable = await _pipeline(ear, user, line, runs, folder)
        parsing, embedding = await _alone(runs, folder)
    alone = [one + other for one, other in zip(parsing, embedding, strict=True)]
    to_claim, to_search = common.milliseconds(claims), common.milliseconds(searchable)
    floor_claim, floor_work = common.milliseconds(bare), common.milliseconds(alone)
    return {
        "runs": runs,
        "from_commit_heard_to_claim": to_claim,
        "from_commit_heard_to_searchable": to_search,
        "floor_bare_connection_claims": floor_claim,
        "floor_parse_alone": common.milliseconds(parsing),
        "floor_embed_alone": common.milliseconds(embedding),
        "floor_parse_and_embed_alone": floor_work,
        "above_the_floor_of_the_claim_p50_ms": round(to_claim["p50_ms"] - floor_claim["p50_ms"], 2),
        "above_the_floor_of_the_work_p50_ms": round(to_search["p50_ms"] - floor_work["p50_ms"], 2),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


async def _bare_claims(ear: Ear, user: common.User, line: dict[str, str], runs: int) -> list[float]:
    """A loop without a worker around it: hear, claim. The claim is the pipeline's own; the job is then cancelled."""
    durations = []
    async with await connect(line["worker_db_url"], LISTENER) as claimer:
        for run in range(runs + _WARM):
            await ear.clear()
            uploading = asyncio.create_task(user.upload(f"bare-{run}.txt", one_page(1_000_000 + run)))
            began = await ear.until("pipeline_jobs")
            cursor = await claimer.execute("select id from pipeline.claim('bare', 1, interval '1 minute', 1)")
            row = await cursor.fetchone()
            claimed = await ear.until("bench_claimed")
            await uploading
            assert row is not None
            await ear.connection.execute("select pipeline.cancel(%s)", (row[0],))
            if run >= _WARM:
                durations.append(claimed - began)
    return durations


async def _pipeline(
    ear: Ear, user: common.User, line: dict[str, str], runs: int, folder: Path
) -> tuple[list[float], list[float]]:
    claims, searchable = [], []
    environment = {
        "UPLOAD_PIPELINE_SUPABASE_URL": line["api_url"],
        "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY": line["service_role_key"],
        "UPLOAD_PIPELINE_DATABASE_URL": line["worker_db_url"],
        "UPLOAD_PIPELINE_PARSER": "local",
        "UPLOAD_PIPELINE_EMBEDDER": "local",
    }
    (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in environment.items()))
    async with common.command("listen", cwd=folder):
        for run in range(runs + _WARM):
            await ear.clear()
            uploading = asyncio.create_task(user.upload(f"page-{run}.txt", one_page(run)))
            began = await ear.until("pipeline_jobs")
            published = await ear.until("bench_published")
            await uploading
            if run >= _WARM:
                claims.append(ear.heard["bench_claimed"] - began)
                searchable.append(published - began)
    return claims, searchable


async def _alone(runs: int, folder: Path) -> tuple[list[float], list[float]]:
    """Parse, then cut and embed, with nothing around them."""
    settings = Settings(parser="local", embedder="local")
    parser, embedder = make_parser(settings), make_embedder(settings)
    parsing, embedding = [], []

    async def nothing(_: Any) -> None:
        pass

    try:
        for run in range(runs + _WARM):
            path = folder / "alone.txt"
            content = one_page(2_000_000 + run)
            path.write_bytes(content)
            file = FetchedFile(path, len(content), b"\0" * 32, "text/plain", ".txt")
            began = time.perf_counter()
            parsed = await parser.parse(file, resume=None, remember=nothing, progress=nothing)
            parsed_at = time.perf_counter()
            chunks = chunk(
                parsed,
                count_tokens=embedder.count_tokens,
                max_tokens=min(settings.chunk_tokens, embedder.max_tokens),
                overlap=settings.chunk_overlap,
                input_limit=embedder.max_tokens,
            )
            cut_at = time.perf_counter()
            await embedder.embed([one.embedding_input for one in chunks])
            if run >= _WARM:
                parsing.append(parsed_at - began)
                embedding.append(time.perf_counter() - cut_at)
    finally:
        await parser.close()
        await embedder.close()
    return parsing, embedding
