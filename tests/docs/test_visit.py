"""`make test-project` beside somebody's data, twice at once, and stopped in the middle: see docs/testing.md."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.embedded import EmbeddedSupabase
from pipeline.operate import migrate
from supabase import acreate_client
from tests.project import WORKER_PASSWORD, Project
from tests.world import Watch

ROOT = Path(__file__).resolve().parents[2]
TABLES = (
    "select count(*) from auth.users",
    "select count(*) from storage.objects",
    "select count(*) from pipeline.documents",
    "select count(*) from pipeline.jobs",
    "select count(*) from pipeline.owners",
    "select count(*) from pipeline.erasures",
    "select count(*) from pipeline.listeners",
    "select array_agg(l::text) from pipeline.limits l",
    "select array_agg(s::text) from pipeline.settings s",
    "select array_agg(s::text order by id) from pipeline.spaces s",
)
"""What a run changes and puts back."""


@pytest.fixture(scope="module")
async def another() -> AsyncIterator[Project]:
    """A project as a user has it, of which the suites know nothing."""
    async with EmbeddedSupabase.start() as supabase:
        yield Project(supabase)


async def visit(project: Project, *paths: str) -> asyncio.subprocess.Process:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UPLOAD_PIPELINE_")}
    named = {
        "UPLOAD_PIPELINE_SUPABASE_URL": project.api_url,
        "UPLOAD_PIPELINE_SUPABASE_ANON_KEY": project.anon_key,
        "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY": project.service_role_key,
        "UPLOAD_PIPELINE_MIGRATION_DATABASE_URL": project.db_url,
        "UPLOAD_PIPELINE_DATABASE_URL": project.worker_url,
    }
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--project", *paths),
        cwd=ROOT,
        env=kept | named,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def end(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    said, _ = await asyncio.wait_for(process.communicate(), 180)
    return process.returncode, said.decode()


async def state(project: Project) -> list[Any]:
    async with await psycopg.AsyncConnection.connect(project.db_url, autocommit=True) as connection:
        return [await (await connection.execute(query.encode())).fetchone() for query in TABLES]


async def test_a_project_with_somebodys_data_is_refused_and_left_as_it_is(another: Project) -> None:
    service = await acreate_client(another.api_url, another.service_role_key)
    person = (await service.auth.admin.create_user({"email": "somebody@company.test", "password": "a password"})).user
    code, said = await end(await visit(another, "tests/sdk/test_quota.py"))
    assert code == 4 and "1 users that the suites did not make" in said and "pipeline dev" in said, said
    async with await psycopg.AsyncConnection.connect(another.db_url) as connection:
        assert await (await connection.execute("select to_regnamespace('pipeline')")).fetchone() == (None,)
    await service.auth.admin.delete_user(person.id)


async def test_two_runs_at_once_and_one_that_is_stopped_leave_the_project_as_it_was(
    another: Project, tmp_path: Path
) -> None:
    await migrate.apply(another.db_url, worker_password=WORKER_PASSWORD)
    before = await state(another)
    runs = [await visit(another, path) for path in ("tests/sdk/test_quota.py", "tests/sdk/test_quota.py")]
    for code, said in [await end(run) for run in runs]:
        assert code == 0, said
        assert "Everything else that the suites made is gone." in said
    assert await state(another) == before

    stopped = await visit(another, "tests/worker/test_listener.py")
    async with await psycopg.AsyncConnection.connect(another.db_url, autocommit=True) as connection:
        await Watch(connection).until("select 1 from pipeline.jobs where state = 'running'")  # type: ignore[arg-type]
    stopped.send_signal(signal.SIGINT)
    code, said = await end(stopped)
    assert code == 2 and "Everything else that the suites made is gone." in said, said
    assert await state(another) == before
