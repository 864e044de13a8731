"""What row-level security costs: the same statement under the policies, and as the service role with the owner's filter
written by hand.

Made-up owners with text, vectors and files, loaded straight into the tables. Each run takes another owner and does
both, now the one first and now the other, so that whatever else the machine does falls on both. A write is rolled back.
"""

from __future__ import annotations

import json
import random
import statistics
import time
import uuid
from typing import Any

import psycopg

from bench import common
from bench.search_timing import SETTINGS, Generator
from pipeline.embedded.postgres import SUPERUSER

_DOCUMENTS = 5
_BASE = 2000
_WORDS = 25
_SPACE = "all-MiniLM-L6-v2-int8-384"

_LOAD = """
set session_replication_role = replica;
set maintenance_work_mem = '1GB';
drop index pipeline.chunks_by_lexeme;

create temp table people as select n, gen_random_uuid() as id from generate_series(0, {owners} - 1) n;
insert into auth.users (id, aud, role, email, created_at)
select id, 'authenticated', 'authenticated', id || '@example.org', now() from people;
insert into storage.objects (bucket_id, name, owner_id, version, metadata)
select 'documents', p.id || '/file ' || d || '.txt', p.id, 'v', '{{"size": 1000}}'
  from people p, generate_series(0, {documents} - 1) d;
insert into pipeline.documents (owner_id, object_id, object_version, bucket_id, name, size, published_version,
                                published_at, published_job_id, content_sha256, chunk_count)
select o.owner_id::uuid, o.id, 'v', 'documents', o.name, 1000, 'v', now(), row_number() over (), sha256(o.name::bytea),
       {each}
  from storage.objects o;
create temp table homes as
select d.id, d.owner_id, d.published_job_id as job_id, p.n,
       row_number() over (partition by d.owner_id order by d.name) - 1 as d
  from pipeline.documents d join people p on p.id = d.owner_id;
insert into pipeline.chunks (document_id, job_id, owner_id, ordinal, page, content, input_sha256, lexemes)
select h.id, h.job_id, h.owner_id, i, 1, b.content, sha256(b.n::text::bytea),
       replace(b.lexemes, pipeline.owner_token('{none}'), pipeline.owner_token(h.owner_id))::tsvector
  from homes h, generate_series(0, {each} - 1) i
  join lateral (select * from base b where b.n = (h.n * 37 + h.d * {each} + i) % {base}) b on true;
insert into pipeline.embeddings (owner_id, space_id, input_sha256, embedding, document_id)
select p.id, (select id from pipeline.spaces where active), sha256(b.n::text::bytea), b.embedding, gen_random_uuid()
  from people p, generate_series(0, {documents} * {each} - 1) i
  join lateral (select * from base b where b.n = (p.n * 37 + i) % {base}) b on true;
create index chunks_by_lexeme on pipeline.chunks using gin (lexemes) with (fastupdate = off);
vacuum analyze;
"""

_CHUNKS = """
select c.id, c.document_id, d.name, c.ordinal, c.page, c.heading, c.content, d.parser, d.embedding_model
  from pipeline.chunks c
  join pipeline.documents d on d.id = c.document_id and d.published_job_id = c.job_id
 where d.deleted_at is null and c.owner_id = '{owner}' and d.owner_id = '{owner}'
"""
_INSERT = (
    "insert into storage.objects (bucket_id, name, owner_id, version, metadata) values "
    "('documents', '{owner}/new.txt', '{owner}', gen_random_uuid()::text, '{{\"size\": 1000, \"eTag\": \"e\"}}')"
)


async def measure(owners: int = 10_000, chunks: int = 1_000_000, runs: int = 300) -> dict[str, Any]:
    """Medians in ms of each statement under the policies and by hand, how far they are apart, and both plans."""
    async with common.database(_SPACE, SETTINGS) as server:
        root = await psycopg.AsyncConnection.connect(server.url(SUPERUSER), autocommit=True)
        async with root:
            each = max(1, chunks // owners // _DOCUMENTS)
            people, questions = await _load(root, owners, each)
            await _by_hand(root)
            figures: dict[str, Any] = {"owners": owners, "chunks": owners * _DOCUMENTS * each}
            chosen = random.Random(7)
            # Planned anew each time on both sides: one of them has the owner in its text, and could not be prepared.
            client, service = [
                await psycopg.AsyncConnection.connect(
                    server.url("authenticator"), autocommit=True, prepare_threshold=None
                )
                for _ in range(2)
            ]
            async with client, service:
                await service.execute("set role service_role")
                await client.execute("set role authenticated")
                for name, policies, by_hand, writes in (
                    ("upload", _INSERT, _INSERT, True),
                    ("select of one's own chunks", "select * from public.chunks", _CHUNKS, False),
                    (
                        "search by words",
                        "select * from public.search('{question}')",
                        "select * from bench.search('{question}')",
                        False,
                    ),
                    (
                        "hybrid search",
                        "select * from public.search('{question}', '{vector}')",
                        "select * from bench.search('{question}', '{vector}')",
                        False,
                    ),
                ):
                    taken: tuple[list[float], list[float]] = ([], [])
                    for run in range(-20, runs):
                        owner = chosen.choice(people)
                        question, vector = chosen.choice(questions)
                        values = {"owner": owner, "question": question, "vector": vector}
                        both = [(client, policies, taken[0]), (service, by_hand, taken[1])]
                        for connection, statement, seconds in both if run % 2 else both[::-1]:
                            spent = await _time(connection, statement.format(**values), owner, writes)
                            if run >= 0:
                                seconds.append(spent)
                    first, second = (statistics.median(seconds) * 1000 for seconds in taken)
                    figures[name] = {
                        "policies_ms": round(first, 3),
                        "by_hand_ms": round(second, 3),
                        "apart_percent": round((first / second - 1) * 100, 1),
                    }
                owner = people[0]
                figures["plans"] = {
                    "select of one's own chunks, policies": await _plan(client, "select * from public.chunks", owner),
                    "select of one's own chunks, by hand": await _plan(service, _CHUNKS.format(owner=owner), owner),
                    "upload, policies": await _plan(client, _INSERT.format(owner=owner), owner),
                }
            return figures


async def _load(root: psycopg.AsyncConnection, owners: int, each: int) -> tuple[list[uuid.UUID], list[tuple[str, str]]]:
    """The owners, and questions with their vectors."""
    made = Generator(384)
    none = uuid.UUID(int=0)
    await root.execute("set statement_timeout = 0")
    [index] = await _row(root, "select 'embeddings_space_' || id from pipeline.spaces where active")
    await root.execute(f"drop index pipeline.{index}".encode())  # owners of so few vectors are never looked up there
    await root.execute("create temp table texts (n int, content text, embedding extensions.halfvec)")
    async with root.cursor().copy("copy texts from stdin") as copy:
        for n, vector in enumerate(made.vectors(_BASE).tolist()):
            await copy.write_row((n, made.text(_WORDS), json.dumps(vector)))
    await root.execute(
        f"create temp table base as select n, content, embedding, pipeline.lexemes('{none}', null, "
        f"content)::text as lexemes "
        "from texts".encode()
    )
    await root.execute("create unique index on base (n)")
    script = _LOAD.format(owners=owners, documents=_DOCUMENTS, each=each, base=_BASE, none=none)
    for statement in script.split(";"):
        if statement.strip():
            await root.execute(statement.encode())
    await root.execute("set session_replication_role = origin")
    people = [row[0] for row in await (await root.execute("select id from people order by n")).fetchall()]
    vectors = made.vectors(200).tolist()
    return people, [(made.text(4), json.dumps(vector)) for vector in vectors]


async def _by_hand(root: psycopg.AsyncConnection) -> None:
    """What an application would write that reads with the service key: no policy, no caller, the owner as a value."""
    await root.execute("grant usage on schema pipeline to service_role")
    await root.execute("grant select on all tables in schema pipeline to service_role")
    await root.execute("create schema bench")
    await root.execute("grant usage on schema bench to service_role")
    await root.execute("set search_path = ''")  # or types are printed without their schema
    [text] = await _row(root, "select pg_get_functiondef('pipeline.search'::regproc)")
    text = text.replace("pipeline.search(", "bench.search(", 1)
    text = text.replace("pipeline.caller()", "current_setting('bench.owner')::uuid")
    for name, default in (
        ("query_embedding extensions.vector", "null"),
        ("space text", "null"),
        ("match_count integer", "10"),
        ("path_prefix text", "null"),
    ):
        text = text.replace(name, f"{name} default {default}", 1)
    await root.execute(text.encode())
    await root.execute("alter function bench.search owner to postgres")


async def _time(connection: psycopg.AsyncConnection, statement: str, owner: uuid.UUID, writes: bool) -> float:
    claims = json.dumps({"role": "authenticated", "sub": str(owner)})
    async with connection.transaction(force_rollback=writes):
        await connection.execute(
            "select set_config('request.jwt.claims', %s, true), set_config('bench.owner', %s, true)",
            (claims, str(owner)),
        )
        start = time.perf_counter()
        cursor = await connection.execute(statement.encode())
        if not writes:
            await cursor.fetchall()
        return time.perf_counter() - start


async def _plan(connection: psycopg.AsyncConnection, statement: str, owner: uuid.UUID) -> list[str]:
    claims = json.dumps({"role": "authenticated", "sub": str(owner)})
    async with connection.transaction(force_rollback=True):
        await connection.execute("select set_config('request.jwt.claims', %s, true)", (claims,))
        rows = await connection.execute(
            f"explain (analyze, costs off, timing off, summary off, buffers off) {statement}".encode()
        )
        return [row[0] for row in await rows.fetchall()]


async def _row(connection: psycopg.AsyncConnection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row


def markdown(figures: dict[str, Any]) -> str:
    """What `measure` returned, as a table and plans."""
    lines = ["| what | under the policies | by hand | apart |", "|---|---|---|---|"]
    for name, row in figures.items():
        if isinstance(row, dict) and "apart_percent" in row:
            lines.append(f"| {name} | {row['policies_ms']} ms | {row['by_hand_ms']} ms | {row['apart_percent']} % |")
    for name, plan in figures["plans"].items():
        lines += ["", f"{name}:", "", "```", *plan, "```"]
    return "\n".join(lines)
