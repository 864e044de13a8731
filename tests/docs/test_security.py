"""What the security page names is there, and its recipe does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest

from tests.sql.conftest import cloned, server  # noqa: F401 (fixture)

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text("utf-8")


def test_each_test_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`((?:supabase/)?tests/[\w./]+)`", PAGE))
    assert len(named) > 15
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_each_promise_names_what_enforces_it_and_a_test() -> None:
    table = PAGE.split("## Promises")[1].split("\n## ")[0]
    promises = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(promises) > 12
    for line in promises:
        promise, enforced, shown = (cell.strip() for cell in line.strip("|").split("|"))
        assert promise and enforced and re.search(r"`(supabase/)?tests/", shown), line


async def test_a_role_for_files_reads_and_removes_those_of_the_bucket_and_no_more(server) -> None:  # noqa: F811
    recipe = PAGE.split("<!-- test: sql, storage role -->")[1].split("```sql")[1].split("```")[0]
    async with cloned(server) as db:
        await db.run(recipe)
        user = await db.sign_up()
        await db.upload(user, "a.txt")
        await db.run("insert into storage.buckets (id, name) values ('other', 'other')")
        await db.run("insert into storage.objects (bucket_id, name, version) values ('other', 'b.txt', 'v')")
        async with await db.connect("authenticator") as connection:
            await connection.execute("set role pipeline_files")
            await connection.execute(
                "select set_config('request.jwt.claims', %s, false)", (json.dumps({"role": "pipeline_files"}),)
            )
            rows = await (await connection.execute("select name from storage.objects")).fetchall()
            assert [row["name"] for row in rows] == [f"{user}/a.txt"]
            for refused in (
                "insert into storage.objects (bucket_id, name) values ('documents', 'x/y')",
                "update storage.objects set name = 'x'",
                "select * from public.jobs",
                "select * from auth.users",
                "update storage.buckets set public = true",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await connection.execute(refused.encode())
            await connection.execute("set storage.allow_delete_query = 'true'")
            removed = await connection.execute("delete from storage.objects")
            assert removed.rowcount == 1
        assert await db.all("select 1 from pipeline.documents where deleted_at is null") == []
