"""How long a search takes for one owner among many: made-up text and vectors, loaded straight into the tables.

Words follow a Zipf-Mandelbrot law, so that a question has rare and common ones; vectors lie around centres, as those of
real text do. Every other owner's text is as large as the searching owner's or a fixed part of the rest.
"""

from __future__ import annotations

import hashlib
import json
import struct
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import psycopg

from bench import common
from pipeline.embedded.postgres import SUPERUSER

VOCABULARY = 30_000
WORDS_A_PASSAGE = 110
PASSAGES_A_DOCUMENT = 20
SETTINGS = {"shared_buffers": "2GB", "effective_cache_size": "6GB"}
"""For 8 GB of memory, which a hosted project of the size Large has, beside two cores."""
SYLLABLES = [c + v for c in "bdfgklmnprtvz" for v in ("a", "e", "i", "o", "u")]


@dataclass(frozen=True)
class Corpus:
    """What was loaded: who searches, by how many passages they have, and questions with their vectors."""

    owners: dict[int, uuid.UUID]
    questions: list[tuple[str, list[float]]]


def word(rank: int) -> str:
    """A pronounceable word that no stemmer shortens."""
    n, parts = rank + len(SYLLABLES) ** 2, []
    while n:
        n, digit = divmod(n, len(SYLLABLES))
        parts.append(SYLLABLES[digit])
    return "".join(parts) + "k"


class Generator:
    def __init__(self, dimensions: int, seed: int = 7) -> None:
        self.random = np.random.default_rng(seed)
        self.words = [word(rank) for rank in range(VOCABULARY)]
        self.dimensions = dimensions
        self.centres = self.random.normal(size=(500, dimensions)).astype(np.float32)
        self.axes = self.random.normal(size=(48, dimensions)).astype(np.float32)

    def text(self, length: int = WORDS_A_PASSAGE) -> str:
        ranks = 10 * ((VOCABULARY + 10) / 10) ** self.random.random(length) - 10
        return " ".join(self.words[min(int(r), VOCABULARY - 1)] for r in ranks)

    def vectors(self, count: int) -> np.ndarray:
        raw = self.centres[self.random.integers(0, len(self.centres), count)]
        raw = raw + self.random.normal(size=(count, len(self.axes))).astype(np.float32) @ self.axes * 0.12
        return raw / np.linalg.norm(raw, axis=1, keepdims=True)


async def measure(
    own: Sequence[int], others: int, space: str, *, owners: int = 10, questions: int = 100
) -> dict[str, Any]:
    """p50 and p95 in ms, keyword and hybrid, for an owner of each size in `own` among `others` of `owners` more.

    The two search indexes are in memory, as those of a project in use are.
    """
    async with common.database(space, SETTINGS) as server:
        async with await psycopg.AsyncConnection.connect(server.url("postgres"), autocommit=True) as connection:
            corpus = await load(connection, own=own, others=others, owners=owners, questions=2 * questions)
            [index] = await _row(connection, "select 'embeddings_space_' || id from pipeline.spaces where active")
        async with await psycopg.AsyncConnection.connect(server.url(SUPERUSER), autocommit=True) as connection:
            await connection.execute("create extension pg_prewarm")
            for name in (index, "chunks_by_lexeme"):
                await connection.execute("select pg_prewarm(%s::regclass)", (f"pipeline.{name}",))
        figures: dict[str, Any] = {"space": space, "others": others}
        for size, owner in corpus.owners.items():
            figures[f"own_{size}"] = {}
            for name, hybrid in (("keyword", False), ("hybrid", True)):
                async with await psycopg.AsyncConnection.connect(
                    server.url("authenticator"), autocommit=True
                ) as connection:
                    await sign_in(connection, owner)
                    figures[f"own_{size}"][name] = await ask(connection, corpus.questions, hybrid=hybrid)
    return figures


async def sign_in(connection: psycopg.AsyncConnection, owner: uuid.UUID) -> None:
    """Become that user, as the Data API does; `connection` is authenticator's."""
    await connection.execute("set role authenticated")
    await connection.execute(
        "select set_config('request.jwt.claims', %s, false)",
        (json.dumps({"role": "authenticated", "sub": str(owner)}),),
    )


def _field(data: bytes) -> bytes:
    return struct.pack(">i", len(data)) + data


def _embedding_rows(
    owner: bytes, space: int, document: bytes, shas: list[bytes], vectors: np.ndarray
) -> Iterator[bytes]:
    head = struct.pack(">hh", vectors.shape[1], 0)
    for sha, vector in zip(shas, vectors.astype(">f2"), strict=True):
        yield (
            struct.pack(">h", 5)
            + _field(owner)
            + _field(struct.pack(">h", space))
            + _field(sha)
            + _field(head + vector.tobytes())
            + _field(document)
        )


async def load(
    connection: psycopg.AsyncConnection,
    *,
    own: Sequence[int],
    others: int,
    owners: int,
    questions: int,
    say: Callable[[str], None] = lambda _: None,
) -> Corpus:
    """Load an owner for each size in `own`, and `others` passages of `owners` more.

    `connection` is postgres's, in autocommit.
    """
    [space, dimensions] = await _row(connection, "select id, dimensions from pipeline.spaces where active")
    made = Generator(dimensions)
    await connection.execute("set statement_timeout = 0")
    index = f"pipeline.embeddings_space_{space}"
    [definition] = await _row(connection, f"select pg_get_indexdef('{index}'::regclass)")
    await connection.execute(f"drop index {index}".encode())
    await connection.execute("drop index pipeline.chunks_by_lexeme")
    await connection.execute("create temp table texts (n int, content text)")
    await connection.execute("create temp table base (n int primary key, content text, lexemes text)")
    start = time.perf_counter()
    async with connection.cursor().copy("copy texts from stdin") as copy:
        for n in range(max(own)):
            await copy.write_row((n, made.text()))
    searching = {size: uuid.uuid4() for size in own}
    population = [(person, size) for size, person in searching.items()]
    population += [(uuid.uuid4(), others // owners) for _ in range(owners)]
    none = uuid.UUID(int=0)
    await connection.execute(
        "insert into base select n, content, pipeline.lexemes(%s, null, content)::text from texts where n < 20000",
        (none,),
    )
    for person, size in population:
        await connection.execute(
            """insert into pipeline.documents (id, owner_id, object_id, object_version, bucket_id, name,
                 published_version, published_at, published_job_id, content_sha256, chunk_count)
               select gen_random_uuid(), %s, gen_random_uuid(), 'v', 'documents', %s || '/f' || i, 'v', now(), i,
                      sha256(i::text::bytea), %s
                 from generate_series(0, %s - 1) i""",
            (person, str(person), PASSAGES_A_DOCUMENT, size // PASSAGES_A_DOCUMENT),
        )
        source = (
            "select t.n, t.content, pipeline.lexemes(%(person)s, null, t.content) as lexemes "
            "from texts t where t.n < %(size)s"
            if person in searching.values()
            else "select i as n, b.content, replace(b.lexemes, pipeline.owner_token(%(none)s), "
            "pipeline.owner_token(%(person)s))::tsvector as lexemes "
            "from generate_series(0, %(size)s - 1) i join base b on b.n = i %% (select count(*) from base)"
        )
        await connection.execute(
            f"""insert into pipeline.chunks
                  (document_id, job_id, owner_id, ordinal, page, content, input_sha256, lexemes)
                select d.id, d.published_job_id, d.owner_id, t.n %% {PASSAGES_A_DOCUMENT}, 1, t.content,
                       sha256(t.n::text::bytea), t.lexemes
                  from ({source}) t join pipeline.documents d
                    on d.owner_id = %(person)s and d.published_job_id = t.n / {PASSAGES_A_DOCUMENT}""".encode(),
            {"person": person, "none": none, "size": size},
        )
    say(f"text loaded in {time.perf_counter() - start:.0f} s")

    start = time.perf_counter()
    asked: list[list[float]] = made.vectors(questions).tolist()
    async with connection.cursor().copy(
        "copy pipeline.embeddings (owner_id, space_id, input_sha256, embedding, document_id) from stdin (format binary)"
    ) as copy:
        await copy.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0))
        # A thousand at a time from each owner in turn, so that owners' rows lie mixed, as they do in a living project.
        for first in range(0, max(size for _, size in population), 1000):
            for person, size in population:
                count = min(1000, size - first)
                if count > 0:
                    shas = [hashlib.sha256(str(n).encode()).digest() for n in range(first, first + count)]
                    await copy.write(
                        b"".join(_embedding_rows(person.bytes, space, none.bytes, shas, made.vectors(count)))
                    )
        await copy.write(struct.pack(">h", -1))
    say(f"vectors loaded in {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    await connection.execute("set maintenance_work_mem = '3GB'")
    await connection.execute(
        "create index chunks_by_lexeme on pipeline.chunks using gin (lexemes) with (fastupdate = off)"
    )
    say(f"text index built in {time.perf_counter() - start:.0f} s")
    start = time.perf_counter()
    await connection.execute(definition.encode())
    say(f"vector index built in {time.perf_counter() - start:.0f} s")
    await connection.execute("vacuum analyze pipeline.chunks, pipeline.documents, pipeline.embeddings")
    return Corpus(searching, [(made.text(6), vector) for vector in asked])


async def ask(
    connection: psycopg.AsyncConnection, questions: Sequence[tuple[str, list[float]]], *, hybrid: bool
) -> dict[str, float]:
    """p50 and p95 in ms of public.search over the second half of `questions`; the first half warms the caches."""
    took = []
    for text, vector in questions:
        start = time.perf_counter()
        cursor = await connection.execute(
            "select * from public.search(query_text => %s, query_embedding => %s::extensions.vector)",
            (text, json.dumps(vector) if hybrid else None),
        )
        await cursor.fetchall()
        took.append((time.perf_counter() - start) * 1000)
    took = took[len(took) // 2 :]
    return {"p50_ms": round(float(np.percentile(took, 50)), 1), "p95_ms": round(float(np.percentile(took, 95)), 1)}


async def _row(connection: psycopg.AsyncConnection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row
