"""Whatever stands in the way of the migrations is named at once, with what mends it, and nothing is changed."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator

import psycopg
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from cli.main import app
from pipeline.embedded.postgres import SUPERUSER
from pipeline.errors import SetupError
from pipeline.operate import migrate
from pipeline.operate.preflight import NotReady
from tests.sql.test_documents import unmigrate

_numbers = itertools.count()
_CATALOGUE = """
select (select count(*) from pg_class), (select count(*) from pg_proc), (select count(*) from pg_policy),
       (select count(*) from pg_trigger), (select count(*) from pg_namespace), (select count(*) from storage.buckets)
"""


class Bare:
    """A project without us, and the superuser's connection to it."""

    def __init__(self, url: str, root: psycopg.AsyncConnection) -> None:
        self.url = url
        self.root = root

    async def run(self, *statements: str) -> None:
        for statement in statements:
            await self.root.execute(statement.encode())


@pytest_asyncio.fixture
async def bare(server) -> AsyncIterator[Bare]:
    name = f"bare_{next(_numbers)}"
    async with await psycopg.AsyncConnection.connect(server.url(SUPERUSER, "template1"), autocommit=True) as root:
        await root.execute(f"create database {name} template postgres owner postgres".encode())
        try:
            async with await psycopg.AsyncConnection.connect(server.url("postgres", name), autocommit=True) as postgres:
                await unmigrate(postgres)
            async with await psycopg.AsyncConnection.connect(
                server.url(SUPERUSER, name), autocommit=True
            ) as connection:
                yield Bare(server.url("postgres", name), connection)
        finally:
            await root.execute(f"drop database {name} with (force)".encode())


OBSTACLES = {
    "vector in public": (
        "alter extension vector set schema public",
        "the extension vector is in the schema public",
        "alter extension vector set schema extensions;",
    ),
    "vector in public without a schema extensions": (
        "drop schema extensions cascade; create extension vector schema public",
        "the extension vector is in the schema public",
        "create schema extensions; alter extension vector set schema extensions;",
    ),
    "vector too old": (
        "update pg_extension set extversion = '0.6.2' where extname = 'vector'",
        "the extension vector is 0.6.2; 0.7 or newer is needed",
        "alter extension vector update;",
    ),
    "a table": (
        "create table public.jobs (id int)",
        "the table public.jobs has a name that we need",
        "alter table public.jobs rename to my_jobs;",
    ),
    "a view": (
        "create view public.chunks as select 1 as x",
        "the view public.chunks has a name that we need",
        "alter view public.chunks rename to my_chunks;",
    ),
    "a function": (
        "create function public.search(a text, b int) returns int language sql as 'select 1'",
        "the function public.search has a name that we need",
        "alter function public.search(text,integer) rename to my_search;",
    ),
    "a schema": (
        "create schema pipeline authorization postgres",
        "the schema pipeline has a name that we need",
        "alter schema pipeline rename to my_pipeline;",
    ),
    "a bucket": (
        "insert into storage.buckets (id, name) values ('documents', 'documents')",
        "the storage bucket documents has a name that we need",
        None,
    ),
    "a wide policy": (
        "create policy wide on storage.objects for select to authenticated using (true)",
        "the policy wide on storage.objects also covers our bucket",
        "alter policy wide on storage.objects using (bucket_id = '<its bucket>' and (true));",
    ),
    "a policy of an earlier try": (
        """create policy "pipeline: nobody" on realtime.messages for select to anon using (false)""",
        'the policy "pipeline: nobody" on realtime.messages has a name that we need',
        'drop policy "pipeline: nobody" on realtime.messages;',
    ),
    "no right to create": (
        "do $$ begin execute format('alter database %I owner to supabase_admin', current_database()); "
        "execute format('revoke all on database %I from postgres', current_database()); end $$",
        "the role postgres may not create schemas",
        "grant create on database",
    ),
    "no trigger on the users": (
        "revoke trigger on auth.users from postgres; revoke supabase_auth_admin from postgres",
        "the role postgres may not create triggers on auth.users",
        None,
    ),
    "no realtime": (
        "drop schema realtime cascade",
        "the platform's tables realtime.messages are missing",
        None,
    ),
}


@pytest.mark.parametrize("name", OBSTACLES)
async def test_what_stands_in_the_way_is_named_with_what_mends_it(bare, name):
    statements, what, mend = OBSTACLES[name]
    await bare.run(*(statements.split("; ") if "$$" not in statements else [statements]))
    before = await (await bare.root.execute(_CATALOGUE.encode())).fetchone()
    try:
        for attempt in (migrate.preflight, migrate.apply):
            with pytest.raises(NotReady, match="nothing was changed") as refused:
                await attempt(bare.url)
            (obstacle,) = refused.value.obstacles
            assert obstacle.what == what
            assert mend is None or obstacle.mend.startswith(mend), obstacle.mend
        assert await (await bare.root.execute(_CATALOGUE.encode())).fetchone() == before
        if mend and name not in ("vector too old", "no right to create"):
            await bare.run(obstacle.mend.replace("<its bucket>", "theirs"))
            assert len(await migrate.apply(bare.url)) == len(migrate.migrations())
    finally:
        if name == "no trigger on the users":
            await bare.run("grant supabase_auth_admin to postgres with inherit true, set false")


async def test_all_of_it_is_named_at_once_and_the_dry_run_says_the_same(bare):
    for name in ("vector in public", "a table", "a wide policy", "a bucket", "a schema"):
        await bare.run(OBSTACLES[name][0])
    with pytest.raises(NotReady) as refused:
        await migrate.preflight(bare.url)
    expected = {OBSTACLES[n][1] for n in ("vector in public", "a table", "a wide policy", "a bucket", "a schema")}
    assert {obstacle.what for obstacle in refused.value.obstacles} == expected
    # in threads of their own: each command runs a loop
    for more in ([], ["--dry-run"]):
        said = await _cli(["migrate", "--db-url", bare.url, *more])
        assert said.exit_code == 1
        assert all(what in _plain(said) for what in expected), _plain(said)
    said = await _cli(["migrate", "--db-url", bare.url, "--dry-run", "--json"])
    answer = json.loads(said.stdout)
    assert {obstacle["what"] for obstacle in answer["in_the_way"]} == expected
    assert all(obstacle["mend"] for obstacle in answer["in_the_way"])
    assert len(answer["pending"]) == len(migrate.migrations())
    assert said.exit_code == 1


async def _cli(arguments):
    return await asyncio.to_thread(CliRunner().invoke, app, arguments)


def _plain(result) -> str:
    return re.sub(r"\s+", " ", f"{result.stdout} {result.stderr} {result.exception}")


async def test_the_migration_itself_refuses_too(bare):
    """Whoever uses `supabase db push` reads the same."""
    await bare.run("alter extension vector set schema public", "create table public.jobs (id int)")
    async with await psycopg.AsyncConnection.connect(bare.url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState, match=r"(?s)vector.*set schema.*public\.jobs"):
            await connection.execute(migrate.migrations()[0][2].read_bytes())


async def test_names_are_ours_once_the_first_migration_is_applied(bare):
    """As where another tool stopped halfway: what a later file needs is looked for all the same."""
    async with await psycopg.AsyncConnection.connect(bare.url, autocommit=True) as connection:
        await migrate.apply(bare.url)
        await connection.execute("delete from supabase_migrations.schema_migrations where name = 'healing'")
        await migrate.preflight(bare.url)
        await bare.run("alter extension vector set schema public")
        with pytest.raises(NotReady, match="the schema public") as refused:
            await migrate.preflight(bare.url)
        assert len(refused.value.obstacles) == 1


async def test_a_database_of_a_later_release_is_left_as_it_is(db):
    await migrate.refuse_newer(db.url("postgres"))
    await db.run("update pipeline.settings set schema_version = schema_version + 1")
    with pytest.raises(SetupError, match="Migrate with the release that made it"):
        await migrate.refuse_newer(db.url("postgres"))
