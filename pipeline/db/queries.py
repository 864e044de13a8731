"""The only place with query text of the listener: one method for each SQL function, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from pgvector import HalfVector
from psycopg.rows import dict_row, tuple_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool

from pipeline.db.connection import STATEMENT_SECONDS, again
from pipeline.errors import LeaseLost, SetupError, Transient
from pipeline.job import Chunk, FetchedFile, Job, Page, Parsed, Space, Stage
from pipeline.providers.embedder import Vectors
from pipeline.providers.limiter import Account, Admission, Call

SCHEMA_VERSION = 1
"""The version of the queue's contract that this release speaks; see pipeline.settings.schema_version."""

_LONG_SECONDS = STATEMENT_SECONDS + 30.0
"""For statements that grow with the file: longer than the statement_timeout, so that the server ends first."""

_CLAIM = b"select id, attempt, document_id::text, bucket_id, name, size, etag from pipeline.claim(%s, %s, %s, %s)"
"""Its columns are the fields of Job, in their order."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """What the database knows of a job's file; see the SQL function `stored_file`."""

    stands: bool
    object_id: str
    object_version: str
    others: list[str]
    """Names of other files; none where there is no other."""


@dataclass(frozen=True, slots=True)
class ParsePurchase:
    """What `begin_parse` found: `kept` with the result, `buy`, or `wait`."""

    status: str
    parse_id: int | None
    provider_job_id: str | None
    parsed: Parsed | None


class Queries:
    """The queue and the content, as pipeline_worker may use them.

    Methods raise psycopg.Error when the database fails, and psycopg.OperationalError when it does not answer in time.
    """

    def __init__(self, pool: AsyncConnectionPool, listener_id: str, lease_seconds: float) -> None:
        self._pool = pool
        self._listener_id = listener_id
        self._lease = timedelta(seconds=lease_seconds)
        # short enough that a heartbeat that hangs leaves time for another one
        self._patience = min(15.0, max(3.0, lease_seconds / 4))

    async def _fetch(
        self,
        query: bytes,
        params: Sequence[Any],
        *,
        seconds: float | None = None,
        binary: bool | None = None,
        row_factory: Any = tuple_row,
    ) -> list[Any]:
        """The rows of one statement, which is one transaction. A pooler or a firewall may keep a connection open that
        leads nowhere: when no answer comes in time, it is taken for lost, and its neighbours with it."""

        async def attempt() -> list[Any]:
            async with self._pool.connection() as connection, asyncio.timeout(seconds or self._patience):
                cursor = connection.cursor(binary=bool(binary), row_factory=row_factory)
                await cursor.execute(query, params, binary=binary)
                return await cursor.fetchall()

        try:
            return await again(attempt)
        except TimeoutError:
            await self._pool.drain()
            raise psycopg.OperationalError("The database does not answer.") from None
        except psycopg.errors.ReadOnlySqlTransaction as error:
            # as the platform makes it when the disk is full: it passes like any other outage
            raise psycopg.OperationalError(f"The database takes no writes: {error}") from None

    async def _rows(self, query: str, *params: Any, seconds: float | None = None) -> list[tuple[Any, ...]]:
        return await self._fetch(query.encode(), params, seconds=seconds)

    # the queue

    async def claim(self, max_jobs: int) -> list[Job]:
        params = (self._listener_id, max_jobs, self._lease, SCHEMA_VERSION)
        return await self._fetch(_CLAIM, params, binary=True, row_factory=lambda _: Job._make)

    async def heartbeat(self, jobs: Sequence[Job]) -> set[int]:
        """Renew the leases of `jobs`; returns the ids of those still held."""
        rows = await self._rows(
            "select * from pipeline.heartbeat(%s, %s, %s)", [j.id for j in jobs], [j.attempt for j in jobs], self._lease
        )
        return {row[0] for row in rows}

    async def report(self, job: Job, stage: Stage, progress: float) -> None:
        """Raises LeaseLost."""
        rows = await self._rows(
            "select pipeline.report(%s, %s, %s, %s::real)", job.id, job.attempt, stage.value, progress
        )
        if not rows[0][0]:
            raise LeaseLost

    async def fail(
        self, job: Job, error_class: str, message: str, detail: str, retry_after: float | None = None
    ) -> str | None:
        """Returns the job's new state, or None when the lease was lost."""
        rows = await self._rows(
            "select pipeline.fail(%s, %s, %s, %s, %s, %s)",
            job.id,
            job.attempt,
            error_class,
            message,
            detail,
            None if retry_after is None else timedelta(seconds=retry_after),
        )
        return rows[0][0]

    async def release(self, jobs: Sequence[Job]) -> None:
        await self._rows("select pipeline.release(%s, %s)", [j.id for j in jobs], [j.attempt for j in jobs])

    async def supersede(self, job: Job) -> None:
        await self._rows("select pipeline.supersede(%s, %s)", job.id, job.attempt)

    # Storage

    async def stored_file(self, job: Job) -> StoredFile:
        """Raises LeaseLost."""
        rows = await self._rows("select * from pipeline.stored_file(%s, %s)", job.id, job.attempt)
        if not rows:
            raise LeaseLost
        return StoredFile(*rows[0])

    async def other_files(self) -> list[str]:
        """Names of some files, by which to see whether Storage hands out bytes."""
        rows = await self._rows("select pipeline.other_files()")
        return rows[0][0]

    async def mark_bucket(self) -> datetime | None:
        """Write a new mark into the bucket's row; None where there is no bucket."""
        rows = await self._rows("select pipeline.mark_bucket()")
        return rows[0][0]

    async def bucket_mark(self) -> datetime | None:
        """The mark that stands now."""
        rows = await self._rows("select pipeline.bucket_mark()")
        return rows[0][0]

    async def observe(self, account: Account, outcome: str, retry_after: float | None, reason: str | None) -> None:
        """Tell how a service was found; see the SQL function `observe`."""
        await self._rows(
            "select pipeline.observe(%s, %s, %s, %s, %s, %s)",
            account.provider,
            account.fingerprint,
            account.stage,
            outcome,
            None if retry_after is None else timedelta(seconds=retry_after),
            reason,
        )

    # kept work

    async def begin_parse(self, job: Job, content_sha256: bytes, fingerprint: str) -> ParsePurchase:
        """Raises LeaseLost."""
        rows = await self._fetch(
            b"select * from pipeline.begin_parse(%s, %s, %s, %s)",
            (job.id, job.attempt, content_sha256, fingerprint),
            seconds=_LONG_SECONDS,
            row_factory=dict_row,
        )
        row = rows[0] if rows else None
        if row is None or row["status"] == "lost":
            raise LeaseLost
        parsed = None
        if row["status"] == "kept":
            parsed = Parsed(
                pages=[Page(p["number"], p["markdown"]) for p in row["pages"]],
                failed_pages={int(number): reason for number, reason in row["failed_pages"].items()},
            )
        return ParsePurchase(row["status"], row["parse_id"], row["provider_job_id"], parsed)

    async def remember_parse(self, job: Job, parse_id: int, provider_job_id: str | None) -> None:
        """Raises LeaseLost."""
        rows = await self._rows(
            "select pipeline.remember_parse(%s, %s, %s, %s)", parse_id, job.id, job.attempt, provider_job_id
        )
        if not rows[0][0]:
            raise LeaseLost

    async def store_parse(self, job: Job, parse_id: int, parsed: Parsed) -> None:
        """Raises LeaseLost."""
        pages = [{"number": page.number, "markdown": page.markdown} for page in parsed.pages]
        rows = await self._rows(
            "select pipeline.store_parse(%s, %s, %s, %s, %s)",
            parse_id,
            job.id,
            job.attempt,
            Jsonb(pages),
            Jsonb({str(number): reason for number, reason in parsed.failed_pages.items()}),
            seconds=_LONG_SECONDS,
        )
        if not rows[0][0]:
            raise LeaseLost

    async def drop_parse(self, job: Job, parse_id: int) -> None:
        await self._rows("select pipeline.drop_parse(%s, %s, %s)", parse_id, job.id, job.attempt)

    async def active_space(self) -> tuple[int, Space]:
        """The id and the space that search reads; raises SetupError when none is active."""
        rows = await self._rows("select id, model, dimensions, input_format from pipeline.spaces where active")
        if not rows:
            raise SetupError("No embedding space is active. Run `pipeline migrate --space NAME`.")
        return rows[0][0], Space(*rows[0][1:])

    async def begin_embeddings(self, job: Job, space_id: int, inputs: Sequence[bytes]) -> dict[bytes, str]:
        """SHA-256 of each input to kept, buy or wait; raises LeaseLost."""
        try:
            rows = await self._rows(
                "select * from pipeline.begin_embeddings(%s, %s, %s, %s)",
                job.id,
                job.attempt,
                space_id,
                list(inputs),
                seconds=_LONG_SECONDS,
            )
        except psycopg.Error as error:
            raise _translated(error) from error
        return {bytes(sha): status for sha, status in rows}

    async def store_embeddings(self, job: Job, space_id: int, inputs: Sequence[bytes], vectors: Vectors) -> int:
        """Returns how many were kept: fewer than `inputs` when another attempt took the purchase over."""
        rows = await self._rows(
            "select pipeline.store_embeddings(%s, %s, %s, %s, %s)",
            job.id,
            job.attempt,
            space_id,
            list(inputs),
            [HalfVector(vector) for vector in vectors],
            seconds=_LONG_SECONDS,
        )
        return rows[0][0]

    async def publish(
        self,
        job: Job,
        space_id: int,
        file: FetchedFile,
        parsed: Parsed,
        parser: str,
        chunks: Sequence[Chunk],
        inputs: Sequence[bytes],
    ) -> int:
        """Returns the number of chunks; raises LeaseLost."""
        try:
            rows = await self._rows(
                "select pipeline.publish(%s, %s, %s, %s, %s, %s, %s, %s, "
                "%s::integer[], %s::text[], %s::text[], %s::bytea[])",
                job.id,
                job.attempt,
                space_id,
                file.sha256,
                file.media_type,
                parsed.page_count,
                Jsonb({str(number): reason for number, reason in parsed.failed_pages.items()}),
                parser,
                [chunk.page for chunk in chunks],
                [chunk.heading for chunk in chunks],
                [chunk.content for chunk in chunks],
                list(inputs),
                seconds=_LONG_SECONDS,
            )
        except psycopg.Error as error:
            raise _translated(error) from error
        return rows[0][0]

    # money

    async def reserve(
        self, job: Job, account: Account, *, pages: int, inputs: int, tokens: int, parse_id: int | None
    ) -> Admission:
        """Ask for one call at a provider."""
        rows = await self._rows(
            "select * from pipeline.reserve(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            self._listener_id,
            job.id,
            job.attempt,
            account.provider,
            account.fingerprint,
            account.stage,
            account.model,
            pages,
            inputs,
            tokens,
            parse_id,
        )
        return Admission(*rows[0])

    async def ask_again(self, call: Call) -> float:
        """Seconds to wait before one more request of the call; see the SQL function `ask_again`."""
        rows = await self._rows("select pipeline.ask_again(%s, %s)", call.id, call.let_through)
        return rows[0][0]

    async def resume_call(self, job: Job, parse_id: int) -> int | None:
        """Take over the unfinished call for a parse; None where there is none."""
        rows = await self._rows("select pipeline.resume_call(%s, %s, %s)", job.id, job.attempt, parse_id)
        return rows[0][0]

    async def settle(
        self, call: Call, outcome: str, *, may_be_bought: bool, retry_after: float | None, reason: str | None
    ) -> None:
        """Tell how a call ended; see the SQL function `settle`."""
        await self._rows(
            "select pipeline.settle(%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            call.id,
            outcome,
            may_be_bought,
            call.pages,
            None if call.credits is None else Decimal(str(call.credits)),
            call.tokens,
            *(call.limits.get(name) for name in ("limit-requests", "remaining-requests")),
            *(call.limits.get(name) for name in ("limit-tokens", "remaining-tokens")),
            None if retry_after is None else timedelta(seconds=retry_after),
            reason,
        )

    async def note_work(self, job: Job, account: Account, *, pages: int, inputs: int, tokens: int) -> None:
        """Say what the job's result is made of, bought or reused."""
        await self._rows(
            "select pipeline.note_work(%s, %s, %s, %s, %s, %s, %s, %s)",
            job.id,
            job.attempt,
            account.stage,
            account.provider,
            account.model,
            pages,
            inputs,
            tokens,
        )

    # housekeeping

    async def purge(self) -> int:
        rows = await self._rows("select pipeline.purge()", seconds=_LONG_SECONDS)
        return rows[0][0]

    async def claim_erasure(self) -> int | None:
        """The deleted user whose erasure is due; None when there is none for this listener."""
        rows = await self._rows("select pipeline.claim_erasure(%s)", self._listener_id)
        return rows[0][0]

    async def files_to_erase(self, erasure: int) -> list[str]:
        """Names of files of the deleted user in the bucket; none when all are gone."""
        rows = await self._rows("select pipeline.files_to_erase(%s)", erasure)
        return rows[0][0]

    async def erase(self, erasure: int) -> str:
        """Remove one step of what is in the database: `more`, `files`, `emptied` or `completed`."""
        rows = await self._rows("select pipeline.erase(%s)", erasure, seconds=_LONG_SECONDS)
        return rows[0][0]

    async def postpone_erasure(self, erasure: int, reason: str) -> None:
        await self._rows("select pipeline.postpone_erasure(%s, %s)", erasure, reason)

    async def tidy(self) -> bool:
        """One step of the retention; False when there is nothing to do now."""
        rows = await self._rows("select pipeline.tidy()", seconds=_LONG_SECONDS)
        return rows[0][0]

    async def heal(self) -> dict[str, int] | None:
        """One step of the healing: what was mended, and how often; None when there is nothing to look at now."""
        rows = await self._rows("select pipeline.heal()", seconds=_LONG_SECONDS)
        return rows[0][0]

    async def seen(
        self,
        release: str,
        parser: str,
        space: str,
        *,
        keys: Sequence[str] = (),
        stopped: bool = False,
    ) -> bool:
        """Say that this listener lives; the keys are fingerprints of what it cannot work without.

        Returns whether it is to look if Storage is well again.
        """
        rows = await self._rows(
            "select pipeline.listener_seen(%s, %s, %s, %s, %s, %s)",
            self._listener_id,
            release,
            parser,
            space,
            stopped,
            list(keys),
        )
        return rows[0][0]

    async def detached(self) -> list[str]:
        """What is missing on the platform's tables, without which the project is not whole."""
        rows = await self._rows(
            "select format('%%s %%s on %%s', d.kind, d.name, d.relation) from pipeline.detached() d "
            # without Realtime nobody hears of a job at once, which is no reason to do none
            "where d.relation <> 'realtime.messages'"
        )
        return [row[0] for row in rows]

    async def notify(self, payload: str) -> None:
        """Tell all listeners, this one too; see pipeline.listener."""
        await self._rows("select pg_catalog.pg_notify('pipeline_jobs', %s)", payload)

    async def health(self) -> dict[str, Any]:
        rows = await self._fetch(b"select * from pipeline.health()", (), row_factory=dict_row)
        return rows[0] if rows else {}


def _translated(error: psycopg.Error) -> Exception:
    match error.sqlstate:
        case "PL001":
            return LeaseLost()
        case "PL002":
            return Transient(
                "The file could not be finished; it is tried again.", detail="a passage had no vector at publish"
            )
        case _:
            return error
