"""How well search ranks, on judged questions, and how long it takes for one owner among many.

The questions and passages are in `bench/data`, in English and Japanese, and were written for this: a handbook,
insurance terms and a runbook, with questions in other words than the answers'; and, in English, forms, codes, invoices,
price lists, data sheets, minutes and the like, whose passages are alike but for the number, the year or the name that a
question asks for. `id:2` is the answer, `id:1` helps; a line with # names the kind of the questions below it.

Each passage is published through the database's own functions and asked for through `public.search`, as its owner.
Beside it: a BM25 library on the same tokens, the vectors alone, and the fusion of both ranks that most samples use.
"""

from __future__ import annotations

import hashlib
import json
import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from rank_bm25 import BM25Okapi

from bench import common, search_timing
from pipeline.embedded.postgres import PostgresServer
from pipeline.local.model import LocalEmbedder

DATA = Path(__file__).parent / "data"
AT = 10
_TOKENS = "select array(select t.lexeme from pipeline.tokens(%s, %s) t order by t.position)"


@dataclass(frozen=True, slots=True)
class Judged:
    """Passages as (id, heading, content), and questions with their answers' grades by id, and of what kind each is."""

    passages: list[tuple[str, str, str]]
    questions: list[tuple[str, dict[str, int]]]
    kinds: list[str]

    @classmethod
    def read(cls, language: str) -> Judged:
        passages, questions, kinds, kind = [], [], [], "all"
        for line in (DATA / f"{language}.passages.txt").read_text(encoding="utf-8").splitlines():
            name, heading, content = line.split(" | ")
            passages.append((name, heading, content))
        for line in (DATA / f"{language}.questions.txt").read_text(encoding="utf-8").splitlines():
            if line.startswith("#"):
                kind = line.strip("# ")
                continue
            grades, question = line.split(" | ")
            pairs = (pair.split(":") for pair in grades.split())
            questions.append((question, {name: int(grade) for name, grade in pairs}))
            kinds.append(kind)
        return cls(passages, questions, kinds)

    @property
    def texts(self) -> list[str]:
        """What is indexed and embedded of each passage."""
        return [f"{heading}\n{content}" for _, heading, content in self.passages]


async def measure(own: Sequence[int] = (), others: int = 0, space: str | None = None) -> dict[str, Any]:
    """nDCG@10 and recall@10 of each recipe; if asked for, milliseconds for owners of `own` passages among `others`."""
    embedder = LocalEmbedder()
    figures: dict[str, Any] = {}
    try:
        async with common.database(embedder.space.name) as server:
            for language in ("en", "ja"):
                figures[language] = await _ranking(server, embedder, Judged.read(language))
    finally:
        await embedder.close()
    if own:
        figures["timing"] = await search_timing.measure(own, others, space or embedder.space.name)
    return figures


async def _ranking(server: PostgresServer, embedder: LocalEmbedder, judged: Judged) -> dict[str, Any]:
    stored = await embedder.embed(judged.texts)
    asked = await embedder.embed([question for question, _ in judged.questions])
    names = {content: name for name, _, content in judged.passages}
    async with await psycopg.AsyncConnection.connect(server.url("postgres"), autocommit=True) as connection:
        owner = await _publish(connection, judged, stored)
        library = BM25Okapi([await _tokens(connection, text) for text in judged.texts])
        questions = [await _tokens(connection, question, question=True) for question, _ in judged.questions]
    by_library = [_top(library.get_scores(tokens), judged, above=0) for tokens in questions]
    by_vector = [_top(stored @ vector, judged) for vector in asked]
    by_keyword, hybrid = [], []
    async with await psycopg.AsyncConnection.connect(server.url("authenticator"), autocommit=True) as connection:
        await search_timing.sign_in(connection, owner)
        for (question, _), vector in zip(judged.questions, asked, strict=True):
            for hits, given in ((by_keyword, None), (hybrid, json.dumps(vector.tolist()))):
                rows = await (await connection.execute(
                    "select content from public.search(%s, %s::extensions.vector, match_count => 50)", (question, given)
                )).fetchall()  # fmt: skip
                hits.append([names[content] for (content,) in rows])
    fused = [_fuse(one, other) for one, other in zip(by_keyword, by_vector, strict=True)]
    recipes = {
        "keyword": by_keyword,
        "bm25_library": by_library,
        "vector": by_vector,
        "hybrid": hybrid,
        "ranks_fused": fused,
    }
    gains = {recipe: [ndcg(h, g) for h, (_, g) in _answers(hits, judged)] for recipe, hits in recipes.items()}
    return {
        "passages": len(judged.passages),
        "questions": len(judged.questions),
        **{
            recipe: {
                f"ndcg_at_{AT}": _mean(gains[recipe]),
                f"recall_at_{AT}": _mean(len(g.keys() & set(h[:AT])) / len(g) for h, (_, g) in _answers(hits, judged)),
            }
            for recipe, hits in recipes.items()
        },
        f"ndcg_at_{AT}_by_kind": {
            f"{kind} ({judged.kinds.count(kind)})": {
                recipe: _mean(gain for gain, k in zip(gains[recipe], judged.kinds, strict=True) if k == kind)
                for recipe in recipes
            }
            for kind in dict.fromkeys(judged.kinds)
        },
    }


def _answers(hits: list[list[str]], judged: Judged) -> Iterator[tuple[list[str], tuple[str, dict[str, int]]]]:
    return zip(hits, judged.questions, strict=True)


async def _publish(connection: psycopg.AsyncConnection, judged: Judged, vectors: np.ndarray) -> uuid.UUID:
    """One document of a new user, through what Storage and a listener call."""
    owner = uuid.uuid4()
    await connection.execute(
        "insert into auth.users (id, aud, role, email) values (%s, 'authenticated', 'authenticated', %s)",
        (owner, f"{owner}@example.org"),
    )
    async with connection.transaction():
        await connection.execute("set local role service_role")
        await connection.execute(
            "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
            "values ('documents', %s, %s, %s, %s)",
            (
                f"{owner}/handbook.md",
                str(owner),
                str(uuid.uuid4()),
                '{"size": 1, "mimetype": "text/markdown", "eTag": "\\"0\\""}',
            ),
        )
    job, attempt = await _row(connection, "select id, attempt from pipeline.claim('bench', 1, interval '5 minutes', 1)")
    (space,) = await _row(connection, "select id from pipeline.spaces where active")
    inputs = [hashlib.sha256(text.encode()).digest() for text in judged.texts]
    await connection.execute("select * from pipeline.begin_embeddings(%s, %s, %s, %s)", (job, attempt, space, inputs))
    await connection.execute(
        "select pipeline.store_embeddings(%s, %s, %s, %s, %s::text[]::extensions.halfvec[])",
        (job, attempt, space, inputs, [json.dumps(vector.tolist()) for vector in vectors]),
    )
    await connection.execute(
        "select pipeline.publish(%s, %s, %s, %s, 'text/markdown', 1, '{}', 'bench', "
        "%s::int[], %s::text[], %s::text[], %s)",
        (
            job, attempt, space, hashlib.sha256(str(owner).encode()).digest(), [1] * len(inputs),
            [heading for _, heading, _ in judged.passages], [content for _, _, content in judged.passages], inputs,
        ),
    )  # fmt: skip
    return owner


async def _row(connection: psycopg.AsyncConnection, query: str) -> tuple[Any, ...]:
    row = await (await connection.execute(query.encode())).fetchone()
    assert row is not None
    return row


async def _tokens(connection: psycopg.AsyncConnection, text: str, *, question: bool = False) -> list[str]:
    row = await (await connection.execute(_TOKENS, (text, question))).fetchone()
    assert row is not None
    return list(dict.fromkeys(row[0])) if question else row[0]


def _top(scores: np.ndarray, judged: Judged, *, above: float = -math.inf) -> list[str]:
    order = np.argsort(-scores, kind="stable")[:50]
    return [judged.passages[i][0] for i in order if scores[i] > above]


def _fuse(one: Sequence[str], other: Sequence[str], k: int = 50) -> list[str]:
    """Reciprocal rank fusion."""
    scores: dict[str, float] = {}
    for hits in (one, other):
        for rank, name in enumerate(hits, 1):
            scores[name] = scores.get(name, 0) + 1 / (k + rank)
    return sorted(scores, key=lambda name: -scores[name])


def ndcg(hits: Sequence[str], grades: dict[str, int]) -> float:
    """nDCG@10 with the grades as gains."""
    gained = sum(grades.get(name, 0) / math.log2(rank + 1) for rank, name in enumerate(hits[:AT], 1))
    best = sum(grade / math.log2(rank + 1) for rank, grade in enumerate(sorted(grades.values(), reverse=True)[:AT], 1))
    return gained / best


def _mean(values: Any) -> float:
    return round(float(np.mean(list(values))), 3)
