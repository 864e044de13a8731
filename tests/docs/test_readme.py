"""What the documents say is run, or compared with the code."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import psycopg
import pytest

from pipeline.settings import known_variables

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    match = re.search(rf"<!-- test: {language} -->\n```{language}\n(.*?)```", README, re.DOTALL)
    assert match, f"README.md has no tested block in {language}"
    return match[1]


async def run(*command: str, project, cwd: Path | None = None) -> str:
    environment = os.environ | {"SUPABASE_URL": project.api_url, "SUPABASE_ANON_KEY": project.anon_key}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=cwd, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await asyncio.wait_for(process.communicate(), timeout=120)
    assert process.returncode == 0, errors.decode()
    return out.decode()


async def test_the_python_client_of_the_readme_works(project, listen, tmp_path):
    project.needs("sign_up_confirms")
    await listen()
    script = tmp_path / "client.py"
    script.write_text(block("python"), encoding="utf-8")
    assert "500 dollars" in await run(sys.executable, str(script), project=project)


async def test_the_javascript_client_of_the_readme_works(project, listen, node):
    project.needs("sign_up_confirms")
    await listen()
    # Node 20 has no WebSocket of its own, which supabase-js asks for even where Realtime is not used.
    (node / "client.mjs").write_text(
        "import WebSocket from 'ws'\nglobalThis.WebSocket ??= WebSocket\n"
        + block("javascript")
        + "\nprocess.exit(0)\n",
        encoding="utf-8",
    )
    assert "500 dollars" in await run("node", "client.mjs", project=project, cwd=node)


async def test_the_sql_of_the_readme_runs(project):
    async with await psycopg.AsyncConnection.connect(project.db_url, autocommit=True) as connection:
        for statement in filter(str.strip, re.sub(r"--.*", "", block("sql")).split(";")):
            await connection.execute(statement.encode())


async def test_the_diagram_is_the_state_machine(project):
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    drawn = set(re.findall(r"^  (\w+) --> (\w+): ", text, re.MULTILINE))
    async with await psycopg.AsyncConnection.connect(project.db_url, autocommit=True) as connection:
        rows = await (await connection.execute("select from_state, to_state from pipeline.job_transitions")).fetchall()
    assert drawn == {(row[0], row[1]) for row in rows}


@pytest.mark.parametrize("variable", known_variables())
def test_every_setting_is_in_the_example(variable):
    assert re.search(rf"^#? ?{variable}=", (ROOT / ".env.example").read_text(encoding="utf-8"), re.MULTILINE)
