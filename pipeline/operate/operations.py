"""What operators ask and do, over a connection as the role postgres."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, Self
from uuid import UUID

import psycopg
from psycopg.rows import dict_row

from pipeline.db.connection import OPERATOR, again, connect
from pipeline.errors import SetupError

Row = dict[str, Any]

_LIST = """
select j.id, j.state, j.stage, j.progress, j.attempt, j.failures, j.name, j.owner_id, u.email, j.error_class, j.error,
       j.available_at, j.created_at, j.started_at, j.finished_at
  from pipeline.jobs j
  left join auth.users u on u.id = j.owner_id
 where (%(states)s::text[] is null or j.state = any (%(states)s))
   and (%(owner)s::uuid is null or j.owner_id = %(owner)s)
   and (%(error_class)s::text is null or j.error_class = %(error_class)s)
   and (%(after)s::bigint is null or j.id > %(after)s)
 order by j.id desc
 limit %(limit)s
"""

LIMITS = ("max_concurrent_jobs", "priority", "uploads_per_day", "max_file_bytes", "max_documents", "max_stored_bytes")
"""The columns of pipeline.limits that an operator may set; None in the last four: no limit."""
_LIMITS = """
select l.owner_id, u.email, l.max_concurrent_jobs, l.priority, l.uploads_per_day, l.max_file_bytes, l.max_documents,
       l.max_stored_bytes
  from pipeline.limits l
  left join auth.users u on u.id = l.owner_id
 order by l.owner_id nulls first
"""
_USAGE = """
select %(owner)s::uuid as owner_id, (select u.email from auth.users u where u.id = %(owner)s) as email,
       l.max_concurrent_jobs, l.priority, l.uploads_per_day, l.max_file_bytes, l.max_documents, l.max_stored_bytes,
       coalesce((select t.uploads from pipeline.upload_days t
                  where t.owner_id = %(owner)s and t.day = (pipeline.now() at time zone 'utc')::date), 0)
         as uploads_today,
       d.documents, d.stored_bytes,
       coalesce((select r.running from pipeline.owners_running r where r.owner_id = %(owner)s), 0) as running
  from pipeline.limits_of(%(owner)s) l
 cross join (select count(*) as documents, coalesce(sum(size), 0)::bigint as stored_bytes
               from pipeline.documents where owner_id = %(owner)s and deleted_at is null) d
"""


class Operations:
    """One operator's connection. Times are UTC; rows are dictionaries by column."""

    def __init__(self, connection: psycopg.AsyncConnection[Row]) -> None:
        self._connection = connection

    @property
    def connection(self) -> psycopg.AsyncConnection[Row]:
        """The connection itself, for what works step by step."""
        return self._connection

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, db_url: str) -> AsyncIterator[Self]:
        """Connect; raises SetupError when the database does not let us in or is not migrated."""
        async with await connect(db_url, OPERATOR) as connection:
            row = await (await connection.execute("select to_regclass('pipeline.jobs') is not null")).fetchone()
            if not row or not row[0]:
                raise SetupError("The database is not migrated. Run `pipeline migrate`.")
            connection.row_factory = dict_row  # type: ignore[assignment]
            yield cls(connection)  # type: ignore[arg-type]

    async def owner(self, name: str) -> UUID:
        """The user whose id or address this is; raises SetupError where there is none."""
        try:
            return UUID(name)
        except ValueError:
            row = await self._one("select id from auth.users where lower(email) = lower(%s)", (name,))
        if row is None:
            raise SetupError(f"There is no user with the address {name}.")
        return row["id"]

    async def list_jobs(
        self,
        *,
        states: Sequence[str] | None = None,
        owner: UUID | None = None,
        error_class: str | None = None,
        after: int | None = None,
        limit: int | None = 50,
    ) -> list[Row]:
        """The newest jobs first; all that are given must hold."""
        parameters = {
            "states": list(states) if states else None,
            "owner": owner,
            "error_class": error_class,
            "after": after,
            "limit": limit,
        }
        return await self._all(_LIST, parameters)

    async def show(self, job_id: int) -> Row | None:
        """One job with all its columns, its history under `events`, and under `costs` what it bought, reused and saved.

        None where there is no such job.
        """
        job = await self._one("select * from pipeline.jobs where id = %s", (job_id,))
        if job is not None:
            job["events"] = await self._all(
                "select at, from_state, to_state, attempt, failures, stage, claimed_by, error_class, error "
                "from pipeline.job_events where job_id = %s order by id",
                (job_id,),
            )
            job["costs"] = await self._one(
                "select pages_bought, inputs_bought, tokens_bought, bought, unconfirmed, without_price, pages_reused, "
                "inputs_reused, saved from pipeline.job_costs where job_id = %s",
                (job_id,),
            )
        return job

    async def retry(self, job_id: int) -> str | None:
        """Make a dead or cancelled job available again and return its state; None where there is no such job.

        Raises SetupError with the database's sentence when the job cannot be retried.
        """
        return await self._call("select pipeline.retry(%s) as state", job_id)

    async def cancel(self, job_id: int) -> str | None:
        """Cancel a job that has not ended and return the state it is in then; None where there is no such job."""
        return await self._call("select pipeline.cancel(%s) as state", job_id)

    async def pause(self) -> Row:
        """Let claims hand out nothing; returns `changed` and `paused_at`."""
        row = await self._one(
            "update pipeline.settings set paused = true, paused_at = pipeline.now() "
            "where not paused returning paused_at"
        )
        if row is not None:
            return {"changed": True, "paused_at": row["paused_at"]}
        row = await self._one("select paused_at from pipeline.settings")
        return {"changed": False, "paused_at": row and row["paused_at"]}

    async def resume(self) -> Row:
        """Let claims hand out jobs again and wake the listeners; returns `changed`."""
        row = await self._one(
            "update pipeline.settings set paused = false, paused_at = null where paused returning true as changed"
        )
        await self._one("select pg_notify('pipeline_jobs', '')")
        return {"changed": row is not None}

    async def limits(self) -> list[Row]:
        """The default (owner_id None) and the owners with limits of their own."""
        return await self._all(_LIMITS)

    async def usage(self, owner: UUID) -> Row:
        """What holds for the owner, and `uploads_today`, `documents`, `stored_bytes` and `running`."""
        row = await self._one(_USAGE, {"owner": owner})
        assert row is not None
        return row

    async def set_limits(self, owner: UUID | None, values: dict[str, int | None]) -> Row:
        """Set columns of LIMITS for the owner, or the default; others stay, or are the default's. Returns the row.

        Raises SetupError for a file size that the bucket does not let through.
        """
        size = values.get("max_file_bytes")
        bucket = await self._one("select file_size_limit from storage.buckets where id = 'documents'")
        if size is not None and bucket and bucket["file_size_limit"] is not None and size > bucket["file_size_limit"]:
            raise SetupError(
                f"The bucket documents takes files of {bucket['file_size_limit']} bytes at most, so that {size} would "
                "have no effect. Raise the bucket's file size limit first (Storage, in the dashboard), and "
                "UPLOAD_PIPELINE_MAX_FILE_SIZE_BYTES at the listeners."
            )
        if owner is not None:
            columns = ", ".join(LIMITS)
            await self._run(
                f"insert into pipeline.limits (owner_id, {columns}) "  # noqa: S608 (names of columns, ours)
                f"select %s, {columns} from pipeline.limits where owner_id is null on conflict do nothing",
                (owner,),
            )
        assignments = ", ".join(f"{name} = %({name})s" for name in values if name in LIMITS)
        await self._run(
            f"update pipeline.limits set {assignments} where owner_id is not distinct from %(owner)s",  # noqa: S608
            {**values, "owner": owner},
        )
        return next(row for row in await self.limits() if row["owner_id"] == owner)

    async def reset_limits(self, owner: UUID) -> bool:
        """Let the default hold for the owner; whether that changed anything."""
        return await self._one("delete from pipeline.limits where owner_id = %s returning true", (owner,)) is not None

    async def erasures(self, *, unfinished: bool = False, limit: int | None = 50) -> list[Row]:
        """The receipts of deleted users, the newest first."""
        return await self._all(
            "select * from pipeline.receipts where not %s or completed_at is null order by id desc limit %s",
            (unfinished, limit),
        )

    async def erasure(self, who: UUID) -> list[Row]:
        """The receipts for a user's id or a pseudonym, the newest first."""
        return await self._all(
            "select * from pipeline.receipts where pseudonym in (%(who)s, pipeline.pseudonym(%(who)s)) "
            "order by id desc",
            {"who": who},
        )

    async def listeners(self) -> list[Row]:
        """The listeners of the last days, the most recently seen first; `alive` within the last minute."""
        return await self._all(
            "select id, started_at, seen_at, stopped_at, release, parser, space, "
            "stopped_at is null and seen_at > pipeline.now() - interval '1 minute' as alive "
            "from pipeline.listeners order by seen_at desc limit 100"
        )

    async def queue_health(self) -> Row:
        """The one row of pipeline.queue_health."""
        row = await self._one("select * from pipeline.queue_health")
        assert row is not None
        return row

    async def violations(self) -> list[Row]:
        """pipeline.invariant_violations: empty, or something is broken. Reads whole tables."""
        return await self._all("select * from pipeline.invariant_violations")

    async def _call(self, query: str, job_id: int) -> str | None:
        try:
            row = await self._one(query, (job_id,))
        except psycopg.Error as error:
            if error.sqlstate == "PT409":
                hint = f" {error.diag.message_hint}" if error.diag.message_hint else ""
                raise SetupError(f"{error.diag.message_primary}{hint}") from None
            raise
        return row["state"] if row else None

    async def _run(self, query: str, parameters: Any) -> None:
        await again(lambda: self._connection.execute(query.encode(), parameters))

    async def _one(self, query: str, parameters: Any = None) -> Row | None:
        return await (await again(lambda: self._connection.execute(query.encode(), parameters))).fetchone()

    async def _all(self, query: str, parameters: Any = None) -> list[Row]:
        return await (await again(lambda: self._connection.execute(query.encode(), parameters))).fetchall()
