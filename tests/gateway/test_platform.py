"""What a project's own role may do on the embedded database, and what it is refused, as on a hosted project."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.errors import InsufficientPrivilege

from pipeline.embedded import EmbeddedSupabase
from pipeline.errors import SetupError

EACH = " for each row execute function app.nothing()"
ROOT = Path(__file__).resolve().parents[2]

OWN = """
create role app_worker login;
create schema app;
create table app.things (id int);
create table public.profiles (id uuid primary key references auth.users (id) on delete cascade);
create function app.nothing() returns trigger language plpgsql as 'begin return null; end';
create function public.hello() returns int language sql as 'select 1';
create trigger mine after insert on storage.objects for each row execute function app.nothing();
create policy mine on storage.objects for select to authenticated using (false);
"""
"""What `postgres` has made before it tries anything: all of it is allowed."""


@pytest.fixture(scope="module")
async def platform() -> AsyncIterator[EmbeddedSupabase]:
    async with EmbeddedSupabase.start(bare=True) as supabase:
        async with await psycopg.AsyncConnection.connect(supabase.db_url) as connection:
            await connection.execute(OWN)
        yield supabase


@pytest.fixture(scope="module")
async def postgres(platform: EmbeddedSupabase) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    async with await psycopg.AsyncConnection.connect(platform.db_url, autocommit=True) as connection:
        yield connection


async def rows(connection: psycopg.AsyncConnection[Any], statement: str, *values: Any) -> list[tuple[Any, ...]]:
    return await (await connection.execute(statement.encode(), values)).fetchall()


async def test_postgres_is_no_superuser_and_owns_nothing_of_the_platform(postgres) -> None:
    [(name, superuser, *rest)] = await rows(
        postgres, "select current_user, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls from pg_roles "
        "where rolname = current_user"
    )  # fmt: skip
    assert (name, superuser, rest) == ("postgres", False, [True, True, True])
    owned = await rows(
        postgres,
        """select o.name from (
               select relname as name, relowner as owner, relnamespace as namespace from pg_class
               union all select proname, proowner, pronamespace from pg_proc
               union all select typname, typowner, typnamespace from pg_type
               union all select nspname, nspowner, oid from pg_namespace
           ) o join pg_namespace n on n.oid = o.namespace
           where n.nspname in ('auth', 'storage', 'realtime', 'supabase_platform') and o.owner = 'postgres'::regrole""",
    )
    assert owned == []


async def test_roles_are_as_on_hosted(postgres) -> None:
    found = await rows(
        postgres,
        "select rolname, rolsuper, rolcanlogin, rolinherit, rolbypassrls from pg_roles "
        "where rolname !~ '^pg_' and rolname <> 'app_worker' order by 1",
    )
    assert {name: tuple(rest) for name, *rest in found} == {
        # superuser, login, inherit, bypassrls
        "anon": (False, False, False, False),
        "authenticated": (False, False, False, False),
        "authenticator": (False, True, False, False),
        "dashboard_user": (False, False, True, False),
        "postgres": (False, True, True, True),
        "service_role": (False, False, False, True),
        "supabase_admin": (True, True, True, True),
        "supabase_auth_admin": (False, True, False, False),
        "supabase_realtime_admin": (False, True, False, False),
        "supabase_storage_admin": (False, True, False, False),
    }


ALLOWED = {
    "a trigger on objects": "create trigger t after insert on storage.objects" + EACH,
    "a trigger replaced": "create or replace trigger mine after update on storage.objects" + EACH,
    "a deferred constraint trigger": "create constraint trigger t after insert on storage.objects deferrable "
    "initially deferred" + EACH,
    "a trigger on users": "create trigger t after delete on auth.users" + EACH,
    "its own trigger dropped": "drop trigger mine on storage.objects",
    "a policy on objects": "create policy p on storage.objects for insert to authenticated with check (true)",
    "a policy on buckets": "create policy p on storage.buckets for select to authenticated using (true)",
    "a policy on messages":
        "create policy p on realtime.messages for select to authenticated using (realtime.topic() = 'x')",
    "a policy altered": "alter policy mine on storage.objects using (true)",
    "a policy dropped": "drop policy mine on storage.objects",
    "a foreign key to users": "create table app.owned (owner uuid references auth.users (id))",
    "a grant on objects": "grant select, delete on storage.objects to app_worker",
    "a bucket": "insert into storage.buckets (id, name) values ('b', 'b')",
    "a role that logs in": "create role another login password 'x'",
    "a setting of a role": "alter role authenticated set statement_timeout = '9s'",
    "an extension that is there": "create extension if not exists vector with schema extensions",
    "being a client": "set local role authenticated",
    "switching triggers off for a session": "set local session_replication_role = replica",
    "an event at its own tables": "alter publication supabase_realtime add table app.things",
    "a view of its own over objects":
        "create view app.files with (security_invoker = true) as select id from storage.objects",
    "a comment on its own": "comment on table app.things is 'x'",
    "reading users": "select * from auth.users",
}  # fmt: skip


@pytest.mark.parametrize("what", ALLOWED)
async def test_postgres_may_make(postgres, what: str) -> None:
    async with postgres.transaction(force_rollback=True):
        await postgres.execute(ALLOWED[what].encode())


REFUSED = {
    **{
        f"{what} in {schema}": statement.format(schema)
        for schema in ("auth", "storage", "realtime")
        for what, statement in {
            "a table": "create table {}.t (id int)",
            "a table moved": "alter table app.things set schema {}",
            "a function": "create function {}.f() returns int language sql as 'select 1'",
            "a view": "create view {}.v as select 1",
            "a type": "create type {}.e as enum ('a')",
            "a sequence": "create sequence {}.s",
            "a drop": "drop schema {} cascade",
            "another name": "alter schema {} rename to other",
        }.items()
    },
    **{
        f"{what} {table}": statement.format(table)
        for table in ("auth.users", "storage.objects", "storage.buckets", "realtime.messages")
        for what, statement in {
            "an index on": "create index i on {} (id)",
            "a column of": "alter table {} add column c int",
            "a dropped column of": "alter table {} drop column id cascade",
            "a constraint of": "alter table {} add constraint c check (id is not null)",
            "row level security off": "alter table {} disable row level security",
            "row level security on": "alter table {} enable row level security",
            "forced row level security": "alter table {} force row level security",
            "all triggers off": "alter table {} disable trigger user",
            "the ownership of": "alter table {} owner to postgres",
            "a drop of": "drop table {} cascade",
            "a new name of": "alter table {} rename to other",
            "a comment on": "comment on table {} is 'x'",
            "a comment on a column of": "comment on column {}.id is 'x'",
            "a rule on": "create rule r as on insert to {} do instead nothing",
            "statistics on": "create statistics app.s on id, updated_at from {}",
            "a child of": "create table app.child () inherits ({})",
            "a publication of": "create publication p for table {}",
        }.items()
    },
    "a trigger on messages": "create trigger t after insert on realtime.messages" + EACH,
    "its own trigger disabled": "alter table storage.objects disable trigger mine",
    "the platform's trigger disabled": "alter table storage.objects disable trigger protect_objects_delete",
    "its own trigger renamed": "alter trigger mine on storage.objects rename to other",
    "a comment on its own trigger": "comment on trigger mine on storage.objects is 'x'",
    "a comment on its own policy": "comment on policy mine on storage.objects is 'x'",
    "a function replaced": "create or replace function auth.uid() returns uuid language sql as 'select null::uuid'",
    "a function altered": "alter function auth.uid() security definer",
    "a function dropped": "drop function storage.foldername(text) cascade",
    "a type altered": "alter type storage.buckettype add value 'x'",
    "an index dropped": "drop index storage.bucketid_objname",
    "taking over what others own": "reassign owned by supabase_storage_admin to postgres",
    "dropping what others own": "drop owned by supabase_storage_admin cascade",
    "others' default rights":
        "alter default privileges for role supabase_storage_admin grant all on tables to app_worker",
    "a table added to a publication": "alter publication supabase_realtime add table storage.objects",
    "all of an owner's rights": "drop owned by supabase_auth_admin cascade",
    "giving its own superuser": "alter role postgres superuser",
    "naming nosuperuser": "alter role postgres nosuperuser",
    "a superuser": "create role root superuser",
    "the superuser's password": "alter role supabase_admin password 'x'",
    "being the superuser": "set role supabase_admin",
    "being the owner of objects": "set role supabase_storage_admin",
    "being the owner of users": "set role supabase_auth_admin",
    "being another session": "set session authorization supabase_admin",
    "handing on the owner's rights": "grant supabase_storage_admin to app_worker",
    "an extension in a chosen version": "create extension if not exists pg_trgm with schema extensions version '1.6'",
    "the platform's guard off": "alter event trigger platform_refuses_ddl disable",
    "the platform's guard gone": "drop event trigger platform_refuses_drop",
    "the platform's guard replaced": "create or replace function supabase_platform.refuse_ddl() returns event_trigger "
    "language plpgsql as 'begin end'",
    "event triggers off": "set event_triggers = off",
    "reading files": "select pg_read_file('postgresql.conf')",
    "running programs": "copy app.things from program 'id'",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_postgres_is_refused(postgres, what: str) -> None:
    with pytest.raises(InsufficientPrivilege):
        async with postgres.transaction(force_rollback=True):
            await postgres.execute(REFUSED[what].encode())


async def test_usage_of_auth_for_an_own_role_has_no_effect(postgres) -> None:
    await postgres.execute("grant usage on schema auth to app_worker")
    [(may,)] = await rows(postgres, "select has_schema_privilege('app_worker', 'auth', 'usage')")
    assert may is False


async def test_taking_rights_of_the_platform_away_has_no_effect(postgres) -> None:
    await postgres.execute("revoke all on storage.objects from authenticated")
    [(may,)] = await rows(postgres, "select has_table_privilege('authenticated', 'storage.objects', 'select')")
    assert may is True


async def test_what_is_new_is_granted_to_no_client(postgres) -> None:
    """As on projects since 2026-05-30. Postgres itself lets everybody execute a new function: revoke per function."""
    granted = await rows(
        postgres,
        """select c.relname from pg_class c, aclexplode(c.relacl) a where c.relname in ('profiles', 'things')
           and a.grantee <> c.relowner
           union all select proname from pg_proc where proname = 'hello' and proacl is not null
           union all select 'default privileges' from pg_default_acl""",
    )
    assert granted == []


async def test_rows_of_objects_are_not_deleted_by_sql(postgres) -> None:
    async with postgres.transaction(force_rollback=True):
        await postgres.execute("insert into storage.buckets (id, name) values ('b', 'b')")
        await postgres.execute("insert into storage.objects (bucket_id, name) values ('b', 'n')")
        for table in ("objects", "buckets"):
            with pytest.raises(InsufficientPrivilege, match="Use the Storage API"):
                async with postgres.transaction():
                    await postgres.execute(f"delete from storage.{table}".encode())
        await postgres.execute("set local storage.allow_delete_query = 'true'")
        assert await rows(postgres, "delete from storage.objects returning name") == [("n",)]


async def test_a_message_that_cannot_be_sent_is_a_warning(postgres) -> None:
    told: list[tuple[str | None, str]] = []
    postgres.add_notice_handler(lambda notice: told.append((notice.severity, notice.message_primary or "")))
    async with postgres.transaction(force_rollback=True):
        await postgres.execute("set local role authenticated")  # whom no policy lets insert
        await postgres.execute("select realtime.send('{}', 'event', 'user:1', true)")
        assert await rows(postgres, "select * from realtime.messages") == []
    [(severity, message)] = told
    assert severity == "WARNING" and "ErrorSendingBroadcastMessage" in message


async def test_storage_helpers_read_names_as_on_hosted(postgres) -> None:
    statement = "select storage.foldername(n), storage.filename(n), storage.extension(n) from unnest(%s::text[]) n"
    assert await rows(postgres, statement, ["u/a/report.v2.pdf", "top.txt", "u/README"]) == [
        (["u", "a"], "report.v2.pdf", "pdf"),
        ([], "top.txt", "txt"),
        (["u"], "README", "README"),
    ]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where a server of another user can be kept."""
    with tempfile.TemporaryDirectory() as root:
        os.chmod(root, 0o711)
        yield Path(root) / "project"


async def test_a_kept_project_starts_again_quickly_with_its_keys_and_data(folder: Path) -> None:
    async with EmbeddedSupabase.start(folder) as first:
        for url, statement in (
            (first.db_url, "create table public.kept as select 1 as one"),
            (
                first.superuser_url,
                "insert into realtime.messages (topic, extension, inserted_at) "
                "select h::text, 'broadcast', now() - make_interval(hours => h) from unnest(array[1, 71, 73, 999]) h",
            ),
        ):
            async with await psycopg.AsyncConnection.connect(url) as connection:
                await connection.execute(statement.encode())
        with pytest.raises(SetupError, match="stop that one first"):
            async with EmbeddedSupabase.start(folder):
                pass
    for secret in ("keys.json", "database/credentials.json"):
        assert (folder / secret).stat().st_mode & 0o077 == 0

    started = time.monotonic()
    async with EmbeddedSupabase.start(folder) as second:
        assert time.monotonic() - started < 2
        assert (second.anon_key, second.secret_key) == (first.anon_key, first.secret_key)
        assert second.keys.jwks() == first.keys.jwks()
        async with await psycopg.AsyncConnection.connect(second.superuser_url) as connection:
            assert await rows(connection, "select one from public.kept") == [(1,)]
            # hosted drops the partition of a day after three days
            assert await rows(connection, "select topic from realtime.messages order by 1") == [("1",), ("71",)]


HOST = """
import asyncio, sys
from pathlib import Path
from pipeline.embedded import EmbeddedSupabase

async def main():
    async with EmbeddedSupabase.start(Path(sys.argv[1])) as supabase:
        print(supabase.postgres.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel does not stop a child with its parent")
async def test_killing_the_host_stops_postgres_and_the_folder_serves_again(folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST, str(folder), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pid = int(await asyncio.wait_for(process.stdout.readline(), 30))
    process.send_signal(signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(20):
        while _runs(pid):
            await asyncio.sleep(0.02)
    async with EmbeddedSupabase.start(folder, bare=True):
        pass


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie: an orphan is reaped by whoever adopted it, or not at all."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


async def test_two_projects_run_at_once_and_leave_no_folder(monkeypatch, folder: Path) -> None:
    tmp_path = Path(tempfile.mkdtemp())
    tmp_path.chmod(0o711)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    async with EmbeddedSupabase.start() as one:
        port = int(one.api_url.rsplit(":", 1)[1])
        with pytest.raises(SetupError, match=f"port {port} on 127.0.0.1 is taken"):
            async with EmbeddedSupabase.start(folder, port=port):
                pass
        async with EmbeddedSupabase.start(folder) as two:
            assert one.db_url != two.db_url and one.anon_key != two.anon_key
            assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    tmp_path.rmdir()
