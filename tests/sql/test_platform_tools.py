"""The platform's own command line on our migrations: push, and the advisors."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

from pipeline.embedded import EmbeddedSupabase
from pipeline.migrate import migrations

ROOT = Path(__file__).resolve().parents[2]


async def test_db_push_applies_the_migrations_twice_and_the_advisors_warn_of_nothing(node, tmp_path):
    shutil.copytree(ROOT / "supabase", tmp_path / "supabase")

    async def supabase(*arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            str(node / "node_modules/.bin/supabase"), *arguments, cwd=tmp_path,
            env=os.environ | {"DO_NOT_TRACK": "1", "PGSSLMODE": "disable"},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        out, _ = await asyncio.wait_for(process.communicate(), timeout=120)
        assert process.returncode is not None
        return process.returncode, out.decode()

    async with EmbeddedSupabase.start(bare=True) as project:
        code, out = await supabase("db", "push", f"--remote={project.db_url}", "--yes")
        assert code == 0, out
        assert all(version in out for version, _, _ in migrations())
        code, out = await supabase("db", "push", f"--remote={project.db_url}", "--yes")
        assert code == 0, out
        assert "up to date" in out

        code, out = await supabase(
            "db", "advisors", f"--remote={project.db_url}", "--level", "info", "--fail-on", "warn"
        )
        assert code == 0, out
        findings, _ = json.JSONDecoder().raw_decode(out[out.index("\n[") + 1 :])
        explained = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/security.md").read_text("utf-8"), re.MULTILINE))
        assert {finding["name"] for finding in findings} <= explained
