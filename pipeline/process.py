"""One job's journey: fetch, parse, chunk, embed, publish."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import faults
from pipeline.chunking import chunk
from pipeline.embedding import Embedder
from pipeline.errors import LeaseLost, Permanent, Transient
from pipeline.job import Chunk, FetchedFile, Job, Parsed, Stage
from pipeline.parsing import Parser
from pipeline.queries import Queries
from pipeline.storage import Storage

_REPORT_SECONDS = 1.0
"""Progress within a stage is written at most this often: each report is a broadcast to the owner."""
_FOLDER = "pipeline-job-"


def sweep_leftovers() -> int:
    """Remove downloads of listeners on this machine that were killed, whose process is gone; returns how many."""
    removed = 0
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*-*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if not pid.isdigit() or folder.is_symlink() or folder.stat().st_uid != os.getuid():
            continue
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
        except OSError:
            continue
    return removed


@dataclass(frozen=True, slots=True)
class Processor:
    """What a job needs on its way. The same for all jobs of a listener."""

    queries: Queries
    storage: Storage
    parser: Parser
    embedder: Embedder
    space_id: int
    chunk_tokens: int
    chunk_overlap: float

    async def run(self, job: Job) -> int:
        """Take the job from its bytes to its published chunks; returns their number.

        Raises LeaseLost, Superseded or a JobError. Nothing is visible to the owner's search before the end.
        """
        progress = _Progress(self.queries, job)
        with tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-") as folder:
            file = await self.storage.fetch(job, Path(folder))
            await faults.point("fetch.done")
            await progress.enter(Stage.PARSE)
            parsed = await self._parse(job, file, progress)
            await progress.enter(Stage.CHUNK)
            chunks = await self._chunk(parsed)
            await faults.point("chunk.done")
            inputs = [hashlib.sha256(c.embedding_input.encode()).digest() for c in chunks]
            await progress.enter(Stage.EMBED)
            await self._embed(job, chunks, inputs, progress)
            await progress.enter(Stage.PUBLISH)
            await faults.point("publish.begun")
            published = await self.queries.publish(
                job, self.space_id, file, parsed, self.parser.fingerprint, chunks, inputs
            )
            await faults.point("publish.done")
            return published

    async def _parse(self, job: Job, file: FetchedFile, progress: _Progress) -> Parsed:
        async for _ in _patiently(progress):
            purchase = await self.queries.begin_parse(job, file.sha256, self.parser.fingerprint)
            if purchase.parsed is not None:
                return purchase.parsed
            if purchase.status == "wait" or purchase.parse_id is None:
                continue
            parse_id = purchase.parse_id
            await faults.point("parse.claimed")

            async def remember(provider_job_id: str, parse_id: int = parse_id) -> None:
                await faults.point("parse.uploaded")
                await self.queries.remember_parse(job, parse_id, provider_job_id)
                await faults.point("parse.remembered")

            try:
                parsed = await self.parser.parse(
                    file, resume=purchase.provider_job_id, remember=remember, progress=progress.within(Stage.PARSE)
                )
            except Permanent:
                await self.queries.drop_parse(job, parse_id)
                raise
            if not any(page.markdown.strip() for page in parsed.pages):
                await self.queries.drop_parse(job, parse_id)
                raise Permanent("No text was found in this file.")
            await faults.point("parse.bought")
            await self.queries.store_parse(job, parse_id, parsed)
            await faults.point("parse.stored")
            return parsed
        raise LeaseLost

    async def _chunk(self, parsed: Parsed) -> list[Chunk]:
        limit = self.embedder.max_tokens
        chunks = await asyncio.to_thread(
            chunk,
            parsed,
            count_tokens=self.embedder.count_tokens,
            max_tokens=min(self.chunk_tokens, limit),
            overlap=self.chunk_overlap,
            input_limit=limit,
        )
        if not chunks:
            raise Permanent("No text was found in this file.")
        return chunks

    async def _embed(self, job: Job, chunks: Sequence[Chunk], inputs: Sequence[bytes], progress: _Progress) -> None:
        text_of = {sha: c.embedding_input for sha, c in zip(inputs, chunks, strict=True)}
        report = progress.within(Stage.EMBED)
        async for _ in _patiently(progress):
            status = await self.queries.begin_embeddings(job, self.space_id, list(text_of))
            await faults.point("embed.claimed")
            to_buy = [sha for sha in text_of if status[sha] == "buy"]
            done = sum(1 for s in status.values() if s == "kept")
            for start in range(0, len(to_buy), self.embedder.batch_size):
                batch = to_buy[start : start + self.embedder.batch_size]
                await report(done / len(text_of))
                vectors = await self.embedder.embed([text_of[sha] for sha in batch])
                await faults.point("embed.bought")
                kept = await self.queries.store_embeddings(job, self.space_id, batch, vectors)
                await faults.point("embed.stored")
                if kept != len(batch):
                    await progress.still_ours()
                    raise Transient("The file could not be finished; it is tried again.", detail="vectors were refused")
                done += len(batch)
            if "wait" not in status.values():
                return


async def _patiently(progress: _Progress):
    """Go round while another job buys the same thing: at once, then ever more slowly, as long as the lease holds."""
    delay = 0.1
    while True:
        yield
        await asyncio.sleep(delay)
        delay = min(delay * 1.5, 2.0)
        await progress.still_ours()


class _Progress:
    """Tells the queue how far the job is, and learns from its answer whether the job is still ours."""

    def __init__(self, queries: Queries, job: Job) -> None:
        self._queries = queries
        self._job = job
        self._stage = Stage.FETCH
        self._fraction = 0.0
        self._reported_at = time.monotonic()

    async def enter(self, stage: Stage) -> None:
        """Raises LeaseLost."""
        self._stage, self._fraction = stage, 0.0
        self._reported_at = time.monotonic()
        await self._queries.report(self._job, stage, 0.0)

    def within(self, stage: Stage) -> Callable[[float], Awaitable[None]]:
        async def report(fraction: float) -> None:
            self._fraction = min(max(fraction, 0.0), 1.0)
            if time.monotonic() - self._reported_at >= _REPORT_SECONDS:
                self._reported_at = time.monotonic()
                await self._queries.report(self._job, stage, self._fraction)

        return report

    async def still_ours(self) -> None:
        """Raises LeaseLost."""
        await self._queries.report(self._job, self._stage, self._fraction)
