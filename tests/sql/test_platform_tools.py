"""The platform's own command line on our migrations: push, the advisors, and lint, which asks plpgsql_check."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from pipeline.embedded import EmbeddedSupabase
from pipeline.embedded.postgres import SUPERUSER
from pipeline.operate.migrate import migrations

ROOT = Path(__file__).resolve().parents[2]
PLPGSQL_CHECK = Path(sys.prefix) / "share/plpgsql_check"
"""Where .ci/plpgsql_check puts it."""


async def supabase(node: Path, *arguments: str, cwd: Path) -> tuple[int, str]:
    """Exit code and output of the platform's command line."""
    process = await asyncio.create_subprocess_exec(
        str(node / "node_modules/.bin/supabase"), *arguments, cwd=cwd,
        env=os.environ | {"DO_NOT_TRACK": "1", "PGSSLMODE": "disable"},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode is not None
    return process.returncode, out.decode()


def findings(out: str) -> list[dict[str, Any]]:
    listed = re.search(r"^\[", out, re.MULTILINE)
    return json.JSONDecoder().raw_decode(out, listed.start())[0] if listed else []


async def test_db_push_applies_the_migrations_twice_and_the_advisors_warn_of_nothing(node, tmp_path):
    shutil.copytree(ROOT / "supabase", tmp_path / "supabase")
    async with EmbeddedSupabase.start(bare=True) as project:
        remote = f"--remote={project.db_url}"
        code, out = await supabase(node, "db", "push", remote, "--yes", cwd=tmp_path)
        assert code == 0, out
        assert all(version in out for version, _, _ in migrations())
        code, out = await supabase(node, "db", "push", remote, "--yes", cwd=tmp_path)
        assert code == 0, out
        assert "up to date" in out

        code, out = await supabase(node, "db", "advisors", remote, "--level", "info", "--fail-on", "warn", cwd=tmp_path)
        assert code == 0, out
        explained = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/security.md").read_text("utf-8"), re.MULTILINE))
        assert {finding["name"] for finding in findings(out)} <= explained


@pytest_asyncio.fixture
async def checked(db):
    """The migrated database with the extension plpgsql_check, which hosted has and the wheel's Postgres has not."""
    if not (PLPGSQL_CHECK / "lib/plpgsql_check.so").exists():
        if os.environ.get("CI"):
            pytest.fail("plpgsql_check is missing: CI runs .ci/plpgsql_check.")
        pytest.skip("plpgsql_check is missing (Debian: .ci/plpgsql_check)")
    async with await psycopg.AsyncConnection.connect(db.server.url(SUPERUSER, db.name), autocommit=True) as root:
        for setting, value in (
            ("extension_control_path", f"{PLPGSQL_CHECK}:$system"),
            ("dynamic_library_path", f"{PLPGSQL_CHECK}/lib:$libdir"),
        ):
            # for the sessions to come, and for this one
            await root.execute(f"alter database {db.name} set {setting} = '{value}'".encode())
            await root.execute(f"set {setting} = '{value}'".encode())
        await root.execute("create extension plpgsql_check with schema extensions")
    async with await db.connect("postgres") as connection:
        yield connection


async def test_db_lint_finds_no_error_and_no_warning(checked, db, node, tmp_path):
    code, out = await supabase(
        node, "db", "lint", f"--remote={db.url('postgres')}", "--level", "warning", "--fail-on", "warning", cwd=tmp_path
    )
    assert code == 0, out
    assert "Linting schema: pipeline" in out
    assert "Linting schema: public" in out


async def test_plpgsql_check_finds_nothing_in_the_trigger_functions(checked):
    """`db lint` leaves them out, since they need a table to be checked with."""
    # A function of several triggers may name the transition tables of each: which one calls, it asks tg_op.
    rows = await checked.execute(
        """select p.oid::regprocedure::text as function, f.*
             from pg_proc p
             left join (select t.tgfoid, t.tgrelid, max(t.tgoldtable::text) as old, max(t.tgnewtable::text) as new
                          from pg_trigger t group by t.tgfoid, t.tgrelid) t on t.tgfoid = p.oid
             left join lateral extensions.plpgsql_check_function_tb(
                         p.oid, t.tgrelid, oldtable => t.old, newtable => t.new, all_warnings => true) f on true
            where p.pronamespace = 'pipeline'::regnamespace and p.prorettype = 'trigger'::regtype"""
    )
    checks = await rows.fetchall()
    assert checks
    found = [check for check in checks if check["message"] is not None]
    assert not found, "\n".join(map(str, found))
