"""Runs supabase/tests with pgTAP, whose SQL Debian's package brings; the wheel's Postgres has no such extension."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

TESTS = sorted((Path(__file__).resolve().parents[2] / "supabase" / "tests").glob("*.test.sql"))


def pgtap() -> str:
    found = sorted(Path("/usr/share/postgresql").glob("*/extension/pgtap--[0-9].[0-9].[0-9].sql"))
    if not found:
        if os.environ.get("CI"):
            pytest.fail("pgTAP is missing: CI installs the package postgresql-pgtap.")
        pytest.skip("pgTAP is missing (Debian: postgresql-pgtap)")
    return found[-1].read_text(encoding="utf-8")


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.name)
async def test_pgtap(db, file):
    text = pgtap()
    # In a schema of its own, so that what is in `public` stays ours.
    await db.run("create schema tap")
    async with await psycopg.AsyncConnection.connect(db.url("postgres"), autocommit=True) as connection:
        await connection.execute('set search_path = tap, "$user", public, extensions')
        await connection.execute(text.encode())
        lines = []
        cursor = await connection.execute(file.read_text(encoding="utf-8").encode())
        while True:
            if cursor.description is not None:
                lines += [str(row[0]) for row in await cursor.fetchall()]
            if not cursor.nextset():
                break
    failed = [line for line in lines if "not ok" in line or line.startswith("#")]
    assert not failed, "\n".join(lines)
    assert any(line.startswith("ok") for line in lines)
