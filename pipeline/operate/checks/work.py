"""What the jobs and the content say: what has died and why, what waits and for what, what lacks a vector or is broken.

Each question is bounded in rows and in time: this runs on live projects.
"""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.rows import tuple_row

from pipeline.operate.checks.finding import Finding

_REASONS = 3
_ROWS = 10_000
_LATE_SECONDS = 900
_PATIENCE = "10s"

_DEAD = f"""
select d.error_class, d.error, count(*), sum(count(*)) over ()::bigint
  from (select error_class, error from pipeline.dead_jobs order by id desc limit {_ROWS}) d
 group by 1, 2 order by 3 desc, 1, 2 limit {_REASONS}
"""  # noqa: S608 (numbers of ours)
_STUCK = f"""
select j.error, count(*), sum(count(*)) over ()::bigint
  from (select i.error from pipeline.queue q join pipeline.jobs i on i.id = q.job_id
         where i.error_class = 'configuration' limit {_ROWS}) j
 group by 1 order by 2 desc limit {_REASONS}
"""  # noqa: S608
_DUE = """
select q.due_at, extract(epoch from pipeline.now() - q.due_at)
  from pipeline.queue q where q.due_at <= pipeline.now() order by q.due_at limit 1
"""
_VECTORS = f"""
select count(*)
  from (select from pipeline.documents d
          join pipeline.chunks c on c.document_id = d.id and c.job_id = d.published_job_id
         where d.deleted_at is null
           and (select true from pipeline.embeddings e
                 where e.owner_id = c.owner_id and e.space_id = (select s.id from pipeline.spaces s where s.active)
                   and e.input_sha256 = c.input_sha256 limit 1) is null
         limit {_ROWS}) c
"""  # noqa: S608
_BROKEN = """
select v.invariant, count(*) from (select invariant from pipeline.invariant_violations limit 1000) v group by 1
"""
_QUOTAS = """
select coalesce(u.email, l.owner_id::text, 'everybody'), l.max_file_bytes, b.file_size_limit
  from pipeline.limits l left join auth.users u on u.id = l.owner_id, storage.buckets b
 where b.id = 'documents' and l.max_file_bytes > b.file_size_limit
 order by l.owner_id nulls first limit 20
"""


async def look(connection: psycopg.AsyncConnection[Any], max_file_bytes: int) -> list[Finding]:
    """Look at jobs, vectors, invariants and quotas. `connection` is the operators'; `max_file_bytes` is what listeners
    with these settings take."""
    return [
        await _dead(connection),
        await _due(connection),
        *await _stuck(connection),
        await _vectors(connection),
        await _invariants(connection),
        *await _quotas(connection, max_file_bytes),
    ]


async def _dead(connection: psycopg.AsyncConnection[Any]) -> Finding:
    rows = await _rows(connection, _DEAD)
    if not rows:
        return Finding("dead jobs", True, "none")
    total = rows[0][3]
    reasons = "; ".join(f"{count} × {error_class}: {error}" for error_class, error, count, _ in rows)
    more = f"{total:,}" if total < _ROWS else f"{_ROWS:,} or more"
    remedy = "`pipeline jobs list --state dead` names them; `pipeline jobs retry` sends one again."
    return Finding("dead jobs", None, f"{more}. {reasons}", remedy)


async def _due(connection: psycopg.AsyncConnection[Any]) -> Finding:
    rows = await _rows(connection, _DUE)
    if not rows:
        return Finding("oldest due job", True, "nothing waits")
    since, seconds = rows[0]
    if seconds < _LATE_SECONDS:
        return Finding("oldest due job", True, f"due for {seconds:.0f} s")
    return Finding(
        "oldest due job",
        None,
        f"due since {since:%Y-%m-%d %H:%M:%S}",
        "Its owner may have many files; else start more listeners, or see `pipeline providers list`.",
    )


async def _stuck(connection: psycopg.AsyncConnection[Any]) -> list[Finding]:
    rows = await _rows(connection, _STUCK)
    if not rows:
        return []
    reasons = "; ".join(f"{count} × {error}" for error, count, _ in rows)
    remedy = "Mend the key or setting that `pipeline providers list` and the listeners' logs name; they then go on."
    return [Finding("jobs waiting for a mended configuration", False, f"{rows[0][2]:,}. {reasons}", remedy)]


async def _vectors(connection: psycopg.AsyncConnection[Any]) -> Finding:
    try:
        [(chunks,)] = await _rows(connection, _VECTORS)
    except psycopg.errors.QueryCanceled:
        remedy = "`pipeline doctor` looks in small steps."
        return Finding("vectors", None, f"not looked through in {_PATIENCE}", remedy)
    if not chunks:
        return Finding("vectors", True, "every chunk has one in the active space")
    more = f"{chunks:,}" if chunks < _ROWS else f"{_ROWS:,} or more"
    remedy = "Semantic search does not find them. Run `pipeline doctor --fix`, which has them embedded."
    return Finding("vectors", False, f"{more} chunks have none in the active space", remedy)


async def _invariants(connection: psycopg.AsyncConnection[Any]) -> Finding:
    try:
        rows = await _rows(connection, _BROKEN)
    except psycopg.errors.QueryCanceled:
        remedy = "`pipeline doctor` looks in small steps."
        return Finding("invariants", None, f"not looked through in {_PATIENCE}", remedy)
    if not rows:
        return Finding("invariants", True, "all hold")
    broken = "; ".join(f"{count} × {invariant}" for invariant, count in rows)
    return Finding("invariants", False, broken, "Run `pipeline doctor --fix`.")


async def _quotas(connection: psycopg.AsyncConnection[Any], max_file_bytes: int) -> list[Finding]:
    findings = []
    rows = await _rows(connection, _QUOTAS)
    if rows:
        owners = ", ".join(f"{owner} {limit:,}" for owner, limit, _ in rows)
        findings.append(
            Finding(
                "quotas",
                None,
                f"max_file_bytes is more than the bucket takes ({rows[0][2]:,}): {owners}",
                "It has no effect. Raise the file size limit of the bucket documents (Storage, in the dashboard), or "
                "lower the quota: `pipeline limits set --max-file-bytes`.",
            )
        )
    rows = await _rows(connection, "select file_size_limit from storage.buckets where id = 'documents'")
    if rows and rows[0][0] is not None and rows[0][0] > max_file_bytes:
        findings.append(
            Finding(
                "quotas",
                None,
                f"the bucket takes {rows[0][0]:,} bytes a file, listeners with these settings {max_file_bytes:,}",
                "What is larger ends dead. Raise UPLOAD_PIPELINE_MAX_FILE_SIZE_BYTES at the listeners, or lower the "
                "bucket's limit.",
            )
        )
    return findings


async def _rows(connection: psycopg.AsyncConnection[Any], query: str) -> list[tuple[Any, ...]]:
    async with connection.transaction():
        await connection.execute("select set_config('statement_timeout', %s, true)", (_PATIENCE,))
        return await (await connection.cursor(row_factory=tuple_row).execute(query.encode())).fetchall()
