"""Keyword search for an owner of thousands of passages, where frequencies are sampled and only rare words are read."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from rank_bm25 import BM25Okapi

from tests.sql.conftest import Database
from tests.sql.test_search import found

_LETTERS = str.maketrans("0123456789", "bdfgklmnpr")


@asynccontextmanager
async def published(db: Database, owner: uuid.UUID, folders: dict[str, Sequence[str]]) -> AsyncIterator[None]:
    """One document a folder, written straight into the tables: thousands of vectors would take too long."""
    for folder, texts in folders.items():
        await db.run(
            """with d as (
                 insert into pipeline.documents (owner_id, object_id, object_version, bucket_id, name,
                   published_version, published_at, published_job_id, content_sha256, chunk_count)
                 values (%s, gen_random_uuid(), 'v', 'documents', %s, 'v', now(), 0, sha256('x'), %s) returning *)
               insert into pipeline.chunks (document_id, job_id, owner_id, ordinal, content, input_sha256, lexemes)
               select d.id, 0, d.owner_id, t.n, t.content, sha256(t.content::bytea),
                      pipeline.lexemes(d.owner_id, null, t.content)
                 from d, unnest(%s::text[]) with ordinality as t (content, n)""",
            owner, f"{owner}/{folder}/a.md", len(texts), list(texts),
        )  # fmt: skip
    await db.run("analyze pipeline.chunks, pipeline.documents")
    try:
        yield
    finally:
        await db.run("delete from pipeline.documents where owner_id = %s", owner)


def words(rank: int) -> str:
    """A word that no stemmer shortens."""
    return "x" + str(rank).translate(_LETTERS) + "k"


def zipf(count: int, length: int) -> list[str]:
    random = np.random.default_rng(3)
    ranks = 10 * (400 ** random.random((count, length))) - 10
    return [" ".join(words(int(rank)) for rank in row) for row in ranks]


async def test_the_ranking_is_that_of_a_library(db):
    owner = await db.sign_up()
    texts = zipf(5000, 60)
    library = BM25Okapi([text.split() for text in texts])
    random = np.random.default_rng(4)
    shared, best = [], []
    async with published(db, owner, {"all": texts}):
        for _ in range(25):
            question = [words(int(rank)) for rank in 10 * (400 ** random.random(5)) - 10]
            scores = library.get_scores(sorted(set(question)))
            hits = await found(db, owner, " ".join(question))
            expected = {texts[i] for i in np.argsort(-scores, kind="stable")[:10]}
            shared.append(len(expected & set(hits)))
            # what is found instead is as good, by the library's own measure
            by_text = dict(zip(texts, scores, strict=True))
            best.append(sum(by_text[hit] for hit in hits) / sum(by_text[text] for text in expected))
    # The library weighs words of more than half of all passages otherwise, and frequencies are estimates here.
    assert np.mean(shared) >= 8.5
    assert np.mean(best) >= 0.99


async def test_a_rare_word_is_not_lost_among_thousands_of_common_ones(db):
    owner = await db.sign_up()
    rare = [f"A zebra of number {words(n)}." for n in range(3)]
    async with published(
        db, owner, {"all": [f"A large whale of number {words(n)}." for n in range(7000)], "few": rare}
    ):
        hits = await found(db, owner, "zebra number", match_count=20)
        assert set(hits[:3]) == set(rare)
        assert len(set(hits)) == 20  # the rest holds the common word


@pytest.mark.parametrize(
    ("passages", "expected"),
    [
        ([10, 20, 30], "a | b | c"),
        ([10, 1200, 2000], "a | b"),
        ([10, 900, 2000, 90_000], "a | b"),  # 1,800 hold c and d
        ([10, 1000, 5000, 6000], "a | b | c & (d)"),  # 300 hold both
        ([10, 2000, 3000, 4000], "a | b & (c | d) | c & (d)"),
        ([60_000, 70_000], "a & b"),
        ([30_000, 40_000, 50_000], "a & b & c"),
        ([30_000], "a"),
    ],
)  # fmt: skip
async def test_candidates_hold_a_rare_word_or_two_that_are_less_rare(db, passages, expected):
    row = await db.one("select pipeline.candidates(%s, %s::float8[], 100000, 1500) as sought",
                       list("abcd"[: len(passages)]), passages)  # fmt: skip
    assert row["sought"] == expected


async def test_a_phrase_and_a_small_folder_are_found_whatever_other_words_are_rarer(db):
    owner = await db.sign_up()
    # Each passage holds all three words, so that none is rare; only few hold them in this order.
    common = [f"A large whale, blue by habit, of number {words(n)}." for n in range(5000)]
    phrase = [f"The blue whale of number {words(n)} is large." for n in range(3)]
    rare = [f"A zebra {words(n)} stands here." for n in range(200)]
    hr = ["A large whale works here.", "Nobody else does."]
    async with published(db, owner, {"sea": common + phrase, "land": rare, "hr": hr}):
        assert set(await found(db, owner, '"blue whale" zebra')) == set(phrase)
        assert set(await found(db, owner, 'zebra -"blue whale"', match_count=100)) <= set(rare)
        assert await found(db, owner, "large zebra whale", path_prefix="hr/") == [hr[0]]
        assert all(re.match("A zebra", hit) for hit in await found(db, owner, "blue zebra"))
        assert len(await found(db, owner, "large blue whale", match_count=100)) == 100
