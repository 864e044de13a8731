"""One job's journey: fetch, parse, chunk, embed, publish."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import faults
from pipeline.chunks.cutting import chunk
from pipeline.db.queries import ParsePurchase, Queries
from pipeline.errors import LeaseLost, Misconfigured, Permanent, Throttled, Transient
from pipeline.job import Chunk, FetchedFile, Job, Parsed, Stage
from pipeline.providers import estimate
from pipeline.providers.answers import PassageRefused
from pipeline.providers.embedder import Embedder, Vectors
from pipeline.providers.limiter import Account, Limiter, asked
from pipeline.providers.parser import Parser
from pipeline.work.filestore import FileStore
from pipeline.work.progress import Progress, patiently

_FOLDER = "pipeline-job-"
_BATCH_TOKENS = 16_000
"""In one paid call: small beside a minute's limit, so that the pace is even, and a crash loses little."""
_TURN_SECONDS = 1_200.0
"""A long file under a slow limit goes back to the queue then: what it bought is kept, others have a turn, and its try
ends before the time that a try has."""
_MORE_LATER = "The file is long and the embedding service slow; it continues by itself."
_log = logging.getLogger(__name__)


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
    files: FileStore
    parser: Parser
    embedder: Embedder
    space_id: int
    chunk_tokens: int
    chunk_overlap: float
    parse_account: Account | None = None
    embed_account: Account | None = None
    """What parser and embedder are paid with; None for what costs nothing."""
    fallback: Parser | None = None
    """Reads the files while the parser's provider is down or refuses us."""
    max_passages: int = 100_000

    async def run(self, job: Job) -> int:
        """Take the job from its bytes to its published chunks; returns their number.

        Raises LeaseLost, Superseded or a JobError. Nothing is visible to the owner's search before the end.
        """
        progress = Progress(self.queries, job)
        with tempfile.TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-") as folder:
            file = await self.files.fetch(job, Path(folder))
            await faults.point("fetch.done")
            await progress.enter(Stage.PARSE)
            parsed, parser = await self._parse(job, file, progress)
            await progress.enter(Stage.CHUNK)
            chunks = await self._chunk(parsed)
            await faults.point("chunk.done")
            inputs = [hashlib.sha256(c.embedding_input.encode()).digest() for c in chunks]
            await progress.enter(Stage.EMBED)
            await self._embed(job, chunks, inputs, progress)
            await progress.enter(Stage.PUBLISH)
            await faults.point("publish.begun")
            published = await self.queries.publish(job, self.space_id, file, parsed, parser, chunks, inputs)
            await faults.point("publish.done")
            return published

    async def _parse(self, job: Job, file: FetchedFile, progress: Progress) -> tuple[Parsed, str]:
        """The pages, and the fingerprint of the parser that made them."""
        try:
            return await self._parse_by(self.parser, self.parse_account, job, file, progress)
        except (Misconfigured, Throttled) as error:
            if self.fallback is None or (isinstance(error, Throttled) and not error.outage):
                raise
            _log.warning("the fallback parser reads a file", extra={"job": job.id, "reason": error.detail})
            return await self._parse_by(self.fallback, None, job, file, progress)

    async def _parse_by(
        self, parser: Parser, account: Account | None, job: Job, file: FetchedFile, progress: Progress
    ) -> tuple[Parsed, str]:
        limiter = Limiter(self.queries, account)
        async for _ in patiently(progress):
            purchase = await self.queries.begin_parse(job, file.sha256, parser.fingerprint)
            if purchase.parsed is not None:
                await limiter.note(job, pages=purchase.parsed.page_count)
                return purchase.parsed, parser.fingerprint
            if purchase.status == "wait" or purchase.parse_id is None:
                continue
            await faults.point("parse.claimed")
            try:
                parsed = await self._buy_parse(parser, limiter, job, file, purchase, progress)
            except Permanent:
                await self.queries.drop_parse(job, purchase.parse_id)
                raise
            await faults.point("parse.bought")
            await self.queries.store_parse(job, purchase.parse_id, parsed)
            await limiter.note(job, pages=parsed.page_count)
            await faults.point("parse.stored")
            return parsed, parser.fingerprint
        raise LeaseLost

    async def _buy_parse(
        self, parser: Parser, limiter: Limiter, job: Job, file: FetchedFile, purchase: ParsePurchase, progress: Progress
    ) -> Parsed:
        parse_id, resume = purchase.parse_id, purchase.provider_job_id
        assert parse_id is not None
        pages = await asyncio.to_thread(estimate.pages, file.path, file.media_type) if limiter.account else 0

        async def buy() -> Parsed:
            nonlocal resume
            async with limiter.spend(job, pages=pages, parse_id=parse_id, resumes=resume is not None) as call:
                await faults.point("parse.reserved")

                async def remember(provider_job_id: str) -> None:
                    nonlocal resume
                    await faults.point("parse.uploaded")
                    await self.queries.remember_parse(job, parse_id, provider_job_id)
                    resume = provider_job_id
                    await limiter.began(job, call, pages=pages, parse_id=parse_id)
                    await faults.point("parse.remembered")

                within = progress.within(Stage.PARSE)
                parsed = await parser.parse(
                    file, resume=resume, remember=remember, progress=within, turn=lambda: limiter.turn(call)
                )
                call.pages, call.credits = len(parsed.pages), parsed.credits
                if not any(page.markdown.strip() for page in parsed.pages):
                    raise Permanent("No text was found in this file.")
                return parsed

        return await asked(buy)

    async def _chunk(self, parsed: Parsed) -> list[Chunk]:
        limit = self.embedder.max_tokens
        chunks = await asyncio.to_thread(
            chunk,
            parsed,
            count_tokens=self.embedder.count_tokens,
            max_tokens=min(self.chunk_tokens, limit),
            overlap=self.chunk_overlap,
            input_limit=limit,
            max_passages=self.max_passages,
        )
        if not chunks:
            raise Permanent("No text was found in this file.")
        return chunks

    async def _embed(self, job: Job, chunks: Sequence[Chunk], inputs: Sequence[bytes], progress: Progress) -> None:
        text_of = {sha: c.embedding_input for sha, c in zip(inputs, chunks, strict=True)}
        tokens_of = await asyncio.to_thread(self._tokens, text_of)
        turn_ends = time.monotonic() + _TURN_SECONDS
        limiter, report = Limiter(self.queries, self.embed_account), progress.within(Stage.EMBED)
        await limiter.note(job, inputs=len(text_of), tokens=sum(tokens_of.values()))
        async for _ in patiently(progress):
            status = await self.queries.begin_embeddings(job, self.space_id, list(text_of))
            await faults.point("embed.claimed")
            to_buy = [sha for sha in text_of if status[sha] == "buy"]
            done = sum(1 for s in status.values() if s == "kept")
            for batch in _batches(to_buy, tokens_of, self.embedder.batch_size):
                await report(done / len(text_of))
                try:
                    await self._buy_embeddings(job, {sha: text_of[sha] for sha in batch}, limiter, progress)
                except PassageRefused as refused:
                    raise _named(chunks[inputs.index(batch[refused.index])], refused) from None
                done += len(batch)
                if self.embed_account and done < len(text_of) and time.monotonic() > turn_ends:
                    raise Throttled(_MORE_LATER, provider=self.embed_account.provider, retry_after=1.0)
            if "wait" not in status.values():
                return

    async def _buy_embeddings(self, job: Job, text_of: dict[bytes, str], limiter: Limiter, progress: Progress) -> None:
        """Buy and store a batch, each request by itself: what one gave is not asked for again, however the next ends.

        Raises PassageRefused with the place in `text_of`.
        """
        left = list(text_of)
        kept: set[bytes] = set()

        async def keep(place: int, vectors: Vectors) -> None:
            inputs = left[place : place + len(vectors)]
            await faults.point("embed.bought")
            stored = await self.queries.store_embeddings(job, self.space_id, inputs, vectors)
            await faults.point("embed.stored")
            if stored != len(inputs):
                await progress.still_ours()
                raise Transient("The file could not be finished; it is tried again.", detail="vectors were refused")
            kept.update(inputs)

        async def buy() -> None:
            nonlocal left
            left = [sha for sha in text_of if sha not in kept]
            await self.embedder.embed([text_of[sha] for sha in left], spend=limiter.of(job), keep=keep)

        try:
            await asked(buy)
        except PassageRefused as refused:
            refused.index = list(text_of).index(left[refused.index])
            raise

    def _tokens(self, text_of: dict[bytes, str]) -> dict[bytes, int]:
        if self.embed_account is None:  # nobody asks what nothing costs
            return dict.fromkeys(text_of, 0)
        return {sha: self.embedder.count_tokens(text) for sha, text in text_of.items()}


def _named(passage: Chunk, refused: PassageRefused) -> Permanent:
    """The end of a file that holds a passage which cannot be embedded."""
    place = f"passage {passage.ordinal + 1}" + (f", on page {passage.page}" if passage.page else "")
    return Permanent(f"{refused.message} It is {place}.", detail=refused.detail)


def _batches(inputs: Sequence[bytes], tokens_of: dict[bytes, int], most: int) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    tokens = 0
    for sha in inputs:
        if batch and (len(batch) == most or tokens + tokens_of[sha] > _BATCH_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(sha)
        tokens += tokens_of[sha]
    if batch:
        yield batch
