"""The restore drill: a project is dumped as Supabase's command line does it, and restored into a bare one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row

from pipeline.app import run_listener
from pipeline.embedded import EmbeddedSupabase
from pipeline.errors import SetupError
from pipeline.operate import migrate
from pipeline.operate.catalogue import golden
from supabase import AsyncClient, acreate_client
from tests.cli.conftest import PIPELINE, clean_environment
from tests.project import SPACE, WORKER_PASSWORD
from tests.project import Project as AnyProject
from tests.restore import dump
from tests.world import User, Watch, lift_quotas, listener_settings, new_user

TEXTS = {
    "ada": ("knee.md", "The deductible for knee surgery is 500 dollars."),
    "bob": ("leave.md", "Every employee has thirty days of leave a year."),
    "carol": ("recipe.md", "Stir the butter into the flour before the milk."),
}
QUESTIONS = ("deductible for surgery", "days of leave", "butter and milk")


class Project(AnyProject):
    """An embedded project, and the commands of an operator on it."""

    async def command(self, *arguments: str) -> tuple[int, Any]:
        """Exit code, and what the command printed as JSON."""
        environment = clean_environment(
            UPLOAD_PIPELINE_SUPABASE_URL=self.api_url,
            UPLOAD_PIPELINE_SUPABASE_ANON_KEY=self.anon_key,
            UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY=self.service_role_key,
            UPLOAD_PIPELINE_DATABASE_URL=self.worker_url,
            UPLOAD_PIPELINE_MIGRATION_DATABASE_URL=self.db_url,
            UPLOAD_PIPELINE_WORKER_PASSWORD=self.worker_password,
            UPLOAD_PIPELINE_PARSER="local",
            UPLOAD_PIPELINE_EMBEDDER="local",
        )
        done = await asyncio.to_thread(
            subprocess.run,
            [*PIPELINE, *arguments, "--json"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        print(arguments, done.returncode, done.stdout, done.stderr, file=sys.stderr)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr

    async def restore(self, *texts: str) -> None:
        """As psql with --single-transaction and ON_ERROR_STOP, as the role postgres."""
        async with await psycopg.AsyncConnection.connect(self.db_url) as connection:
            for text in texts:
                await connection.execute(text.encode())

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[psycopg.AsyncConnection[dict[str, Any]]]:
        async with await psycopg.AsyncConnection.connect(
            self.db_url, autocommit=True, row_factory=dict_row
        ) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        stop, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(
            run_listener(
                listener_settings(self, poll_seconds=0.5, parser="local", embedder="local"), stop=stop, ready=ready.set
            )
        )
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        yield
        stop.set()
        await asyncio.wait_for(task, timeout=30)


@contextlib.asynccontextmanager
async def folder() -> AsyncIterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pipeline-restore-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@dataclass
class Before:
    """The project that was dumped: its texts, and what its users' searches gave."""

    home: Path
    roles: str
    schema: str
    everything: str
    ours: str
    tokens: dict[str, str]
    ids: dict[str, str]
    answers: dict[str, list[Any]]


async def answers(project: Any, token: str) -> list[Any]:
    client = await client_of(project, token)
    found = []
    for question in QUESTIONS:
        hits = (await client.rpc("search", {"query_text": question}).execute()).data
        found.append([(hit["name"], hit["content"], hit["score"]) for hit in hits])
    return found


async def client_of(project: Any, token: str) -> AsyncClient:
    """A client with a token that Auth gave out before."""
    client = await acreate_client(project.api_url, project.anon_key)
    client.options.headers["Authorization"] = f"Bearer {token}"
    client.postgrest.auth(token)
    return client


@pytest_asyncio.fixture(scope="module")
async def before() -> AsyncIterator[Before]:
    async with folder() as home, EmbeddedSupabase.start(home / "project") as supabase:
        project = Project(supabase)
        await migrate.apply(project.db_url, worker_password=WORKER_PASSWORD, activate_space=SPACE)
        await lift_quotas(project.db_url)
        users: dict[str, User] = {name: await new_user(project) for name in TEXTS}
        async with project.connection() as connection, project.listening():
            watch = Watch(connection)
            for name, (file, text) in TEXTS.items():
                await users[name].upload(file, text.encode())
            for name, (file, _) in TEXTS.items():
                assert (await watch.ended(users[name], file))["state"] == "completed"
        yield Before(
            home,
            await dump.roles(supabase),
            await dump.schema(supabase),
            await dump.data(supabase),
            await dump.data(supabase, "pipeline", "public"),
            {name: user.token for name, user in users.items()},
            {name: user.id for name, user in users.items()},
            {name: await answers(project, user.token) for name, user in users.items()},
        )


@contextlib.asynccontextmanager
async def bare(before: Before, *, blobs: bool) -> AsyncIterator[Project]:
    """A project that holds nothing, with the other one's keys, and its files where they were copied."""
    async with folder() as home:
        target = home / "project"
        target.mkdir()
        shutil.copy(before.home / "project/keys.json", target)
        if blobs:
            shutil.copytree(before.home / "project/blobs", target / "blobs")
        async with EmbeddedSupabase.start(target) as supabase:
            yield Project(supabase)


def wrong(findings: Any) -> dict[str, str]:
    return {finding["name"]: finding["detail"] for finding in findings["findings"] if finding["ok"] is False}


async def test_a_restored_project_is_whole_after_migrate_and_doctor(before):
    """With the rows of Storage and Auth, and the files: as a clone, or a move to another project."""
    async with bare(before, blobs=True) as project, project.connection() as connection:
        await project.restore(before.roles, before.schema, before.everything)

        # Half a project is named, and serves nobody.
        code, said = await project.command("check")
        assert code == 1
        for part in golden().values():
            if part.make == "select pipeline.attach()" and part.kind != "bucket":
                assert f"missing: {part}" in wrong(said)["catalogue"]
        for token in before.tokens.values():
            with pytest.raises(Exception, match="not whole"):
                await answers(project, token)
        await set_password(connection)
        with pytest.raises(SetupError, match=r"not whole.*pipeline migrate.*pipeline doctor --fix"):
            async with project.listening():
                pass

        # Meanwhile a user and a file are deleted, and a file is uploaded: all of it unseen.
        await connection.execute("delete from auth.users where id = %s", (before.ids["carol"],))
        admin = await acreate_client(project.api_url, project.service_role_key)
        bucket = admin.storage.from_("documents")
        await bucket.remove([f"{before.ids['bob']}/leave.md"])
        await bucket.upload(f"{before.ids['ada']}/new.md", b"The premium is paid on the first of each month.")
        assert (await (await connection.execute("select count(*) as n from pipeline.jobs")).fetchone())["n"] == 3

        code, said = await project.command("migrate")
        assert code == 0 and said["adopted"] is True and said["applied"] == []
        assert {p for p in said["put_back"] if p.startswith(("trigger", "policy"))} == {
            str(part) for part in golden().values() if part.make == "select pipeline.attach()" and part.kind != "bucket"
        }
        code, said = await project.command("doctor")
        assert code == 1 and said["found"]["problems"] == {
            "a file without a document": 1,
            "a user who is gone": 1,
            "a document whose file is gone": 1,
        }
        code, said = await project.command("doctor", "--fix")
        assert code == 0, said

        assert await answers(project, before.tokens["ada"]) == before.answers["ada"]
        assert await answers(project, before.tokens["bob"]) == [[], [], []]
        with pytest.raises(Exception, match="signed-in user"):
            await answers(project, before.tokens["carol"])
        async with project.listening():
            ada = User(await client_of(project, before.tokens["ada"]), before.ids["ada"], "")
            watch = Watch(connection)
            assert (await watch.ended(ada, "new.md"))["state"] == "completed"
            await ada.upload("another.md", b"A claim is made within thirty days.")
            assert (await watch.ended(ada, "another.md"))["state"] == "completed"
            await watch.until("select from pipeline.erasures where emptied_at is not null")
            code, said = await project.command("check")
            assert code == 0, wrong(said)
        code, said = await project.command("doctor")
        assert code == 0, said


async def set_password(connection: psycopg.AsyncConnection[Any]) -> None:
    """What `migrate` does; a dump holds no passwords."""
    await connection.execute(f"alter role pipeline_worker password '{WORKER_PASSWORD}'".encode())


async def test_where_the_files_are_gone_nothing_of_them_is_found(before):
    """Only our own schemas were kept: no rows of Storage, and users who came back by another way."""
    async with bare(before, blobs=False) as project, project.connection() as connection:
        await project.restore(before.roles, before.schema, before.ours)
        for name in ("ada", "bob"):
            await connection.execute(
                "insert into auth.users (id, email, aud, role) values (%s, %s, 'authenticated', 'authenticated')",
                (before.ids[name], f"{name}@example.org"),
            )
        code, said = await project.command("check")
        assert code == 1 and "missing: bucket documents" in wrong(said)["catalogue"]
        code, said = await project.command("migrate")
        assert code == 0 and "bucket documents" in said["put_back"]
        code, said = await project.command("doctor", "--fix")
        assert code == 0 and said["fixed"]["problems"] == {"a document whose file is gone": 2, "a user who is gone": 1}
        for name in ("ada", "bob"):
            assert await answers(project, before.tokens[name]) == [[], [], []]
        with pytest.raises(Exception, match="signed-in user"):
            await answers(project, before.tokens["carol"])
        async with project.listening():
            ada = User(await client_of(project, before.tokens["ada"]), before.ids["ada"], "")
            await ada.upload("knee.md", TEXTS["ada"][1].encode())
            assert (await Watch(connection).ended(ada, "knee.md"))["state"] == "completed"
            [hit] = await ada.search("surgery")
            assert hit["content"] == TEXTS["ada"][1]
            code, said = await project.command("check")
            assert code == 0, wrong(said)


async def test_a_schema_without_data_works_as_a_new_project(before):
    """A branch: the schema alone."""
    async with bare(before, blobs=False) as project, project.connection() as connection:
        await connection.execute("create role pipeline_worker login noinherit")
        await project.restore(before.schema)
        code, said = await project.command("migrate", "--space", SPACE)
        assert code == 0, said
        assert {"row the settings", "row space text-embedding-3-small-1536", "bucket documents"} <= set(
            said["put_back"]
        )
        async with project.listening():
            ada = await new_user(project)
            await ada.upload("a.md", b"The deductible is 500 dollars.")
            assert (await Watch(connection).ended(ada, "a.md"))["state"] == "completed"
            code, said = await project.command("check")
            assert code == 0, wrong(said)


async def test_a_listener_that_runs_stops_claiming_when_the_project_is_half(before):
    async with bare(before, blobs=True) as project, project.connection() as connection:
        await project.restore(before.roles, before.schema, before.everything)
        await project.command("migrate")
        await project.command("doctor", "--fix")
        async with project.listening():
            ada = User(await client_of(project, before.tokens["ada"]), before.ids["ada"], "")
            # A policy, since without a trigger uploads are refused as well.
            await connection.execute('drop policy "pipeline: nobody without a user" on storage.objects')
            watch = Watch(connection)
            code, said = await project.command("check")
            assert code == 1 and "nobody without a user" in wrong(said)["platform"]
            # Longer than it takes to notice: its next sign of life is behind.
            seen = "select from pipeline.listeners where seen_at > %s and stopped_at is null"
            now = (await (await connection.execute("select pipeline.now() as now")).fetchone())["now"]
            await watch.until(seen, now)
            await watch.until(
                seen,
                (await (await connection.execute("select max(seen_at) as at from pipeline.listeners")).fetchone())[
                    "at"
                ],
            )
            await ada.upload("held.md", b"Nothing is claimed in half a project.")
            await watch.until(
                seen,
                (await (await connection.execute("select max(seen_at) as at from pipeline.listeners")).fetchone())[
                    "at"
                ],
            )
            assert (await ada.job("held.md"))["state"] == "available"
            await project.command("migrate")
            assert (await watch.ended(ada, "held.md"))["state"] == "completed"
