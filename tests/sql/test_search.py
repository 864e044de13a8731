"""What a question finds, as a signed-in user, on a real database."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from psycopg.rows import dict_row

from tests.sql.conftest import Database

KNEE = "The deductible for knee surgery is 500 dollars."
HIP = "Hip replacement needs the written consent of the insurer before the operation."
DENTAL = "Dental cleaning is covered twice a year without any deductible."


async def publish(db: Database, owner: uuid.UUID, name: str, *texts: str, heading: str | None = None) -> None:
    await db.upload(owner, name, "".join(texts).encode())
    for job in await db.claim(10):
        await db.publish(job, texts, heading=heading)


async def search(db: Database, owner: uuid.UUID | None, query: str | None, **arguments: Any) -> list[dict[str, Any]]:
    """As the Data API calls it: by name, as the user's role."""
    arguments = {"query_text": query} | arguments
    named = ", ".join(f"{name} => %s" for name in arguments)
    async with db.as_user(owner) as connection, connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(f"select * from public.search({named})".encode(), list(arguments.values()))
        return await cursor.fetchall()


async def found(db: Database, owner: uuid.UUID, query: str, **arguments: Any) -> list[str]:
    return [hit["content"] for hit in await search(db, owner, query, **arguments)]


@pytest.fixture
async def user(db: Database) -> uuid.UUID:
    return await db.sign_up()


async def test_a_natural_question_finds_its_answer(db, user):
    await publish(db, user, "handbook.md", HIP, KNEE, DENTAL, heading="Cover > Operations")
    [first, *_] = await search(db, user, "How much is the deductible for knee surgery?")
    assert first["content"] == KNEE
    assert first["name"] == f"{user}/handbook.md"
    assert (first["page"], first["heading"], first["matched_by"]) == (1, "Cover > Operations", "keyword")
    assert first["score"] > 0
    assert await found(db, user, "an operation of the hip") == [HIP, KNEE, DENTAL]  # by heading: Operations


async def test_stems_and_any_word(db, user):
    await publish(db, user, "a.md", KNEE, HIP)
    assert await found(db, user, "replacing hips zebra") == [HIP]


@pytest.mark.parametrize("query", ["INC-2041", "2041", "inc 2041", "TCP", "ip", "tags"])
async def test_numbers_paths_and_angle_brackets_are_words(db, user, query):
    await publish(db, user, "a.md", "Ticket INC-2041 concerns TCP/IP and <tags>.", DENTAL)
    assert len(await found(db, user, query)) == 1
