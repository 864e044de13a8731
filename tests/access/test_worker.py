"""What the listener's role may do, and over which connections a listener works at all.

The attack `pipeline_worker_tries_every_right_there_is` tries tables, columns, functions and schemas; here is the rest.
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from pydantic import SecretStr

from pipeline.app import run_listener
from pipeline.db.connection import open_pool
from pipeline.db.guard import database_url, guard
from pipeline.errors import SetupError
from pipeline.operate.checks import check
from tests.access.pooler import transaction_pooler
from tests.faults.proxy import Proxy
from tests.world import listener_settings

EVERYBODYS = {"pg_catalog", "information_schema", "supabase_platform", "extensions", "public"}
"""Schemas that every role may name; nothing of ours in them is the listener's."""


def worker_url(project: Any, port: int | None = None) -> str:
    url = project.worker_url
    return url if port is None else url.replace(f":{urlsplit(url).port}/", f":{port}/")


async def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        return await (await connection.execute(query.encode())).fetchall()


async def test_the_whole_of_what_the_listeners_role_has(project):
    """Whoever adds a right to the role adds it here, or in supabase/tests/access.test.sql for functions and tables."""
    project.needs("worker_signs_in")
    url = worker_url(project)
    assert await rows(url, "select session_user::text, current_user::text") == [("pipeline_worker", "pipeline_worker")]
    schemas = await rows(
        url,
        "select nspname from pg_namespace where has_schema_privilege(oid, 'usage') and nspname !~ '^pg_(toast|temp)'",
    )
    assert {name for (name,) in schemas} - EVERYBODYS == {"pipeline"}
    assert (
        await rows(
            url, "select nspname from pg_namespace where has_schema_privilege(oid, 'create') and nspname !~ '^pg_temp'"
        )
        == []
    )
    assert await rows(url, "select 1 from pg_auth_members where member = 'pipeline_worker'::regrole") == []
    owned = await rows(url, "select 1 from pg_shdepend where refobjid = 'pipeline_worker'::regrole and deptype = 'o'")
    assert owned == []
    [(attributes, settings)] = await rows(
        url,
        "select array[rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls], rolconfig "
        "from pg_roles where rolname = 'pipeline_worker'",
    )
    assert attributes == [False] * 6
    assert sorted(settings) == ["idle_in_transaction_session_timeout=30s", "statement_timeout=5min"]
    platform = await rows(
        url,
        "select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace "
        "where n.nspname in ('auth', 'storage', 'realtime') and c.relkind in ('r', 'v') "
        "and has_table_privilege(c.oid, 'select, insert, update, delete, truncate, references, trigger')",
    )
    assert platform == [], "no table of the platform, not even the files' names"
    databases = await rows(url, "select has_database_privilege(current_database(), 'create')")
    assert databases == [(False,)]
    for refused in (
        "set role postgres",
        "set role service_role",
        "set session authorization postgres",
        "create role mine",
        "alter role pipeline_worker superuser",
        "set session_replication_role = 'replica'",
        "select pg_read_file('/etc/passwd')",
        "copy pipeline.settings to '/tmp/x'",
        "copy pipeline.settings to program 'true'",
        "alter system set fsync = off",
    ):
        with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidAuthorizationSpecification)):
            await rows(url, refused)


async def test_who_signs_in_as_postgres_works_as_the_listeners_role(project):
    """Behind the session pooler the sign-in is postgres.<ref>: each connection steps down, and could step up again,
    so it is a habit and no wall."""
    async with open_pool(project.db_url, size=2) as pool, pool.connection() as connection:
        cursor = await connection.execute("select session_user::text, current_user::text")
        assert await cursor.fetchone() == ("postgres", "pipeline_worker")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("select * from pipeline.documents")
        assert await (await connection.execute("select count(*) from pipeline.settings")).fetchone() == (1,)
    await guard(project.db_url)


@pytest.mark.embedded("no other project gives us its superuser")
async def test_a_superuser_is_refused(project):
    with pytest.raises(SetupError, match=r"superuser supabase_admin\. Use the role pipeline_worker"):
        await guard(project.superuser_url)


@pytest.mark.embedded("the password of another role is the platform's own")
async def test_a_role_that_may_not_work_is_refused(project):
    with pytest.raises(SetupError, match="authenticator may not work as pipeline_worker"):
        await guard(project.url_as("authenticator"))


async def test_a_transaction_pooler_is_refused_on_any_port(project, monkeypatch):
    """It answers LISTEN, and delivers nothing: the listener would sleep until its next poll, and nobody would know
    why."""
    monkeypatch.setattr("pipeline.db.guard._ARRIVES_SECONDS", 1.0)
    direct = urlsplit(worker_url(project))
    async with transaction_pooler(direct.hostname or "", direct.port or 0) as port:
        url = worker_url(project, port)
        assert await rows(url, "select current_user::text") == [("pipeline_worker",)], "it works but for that"
        with pytest.raises(SetupError, match=r"does not deliver notifications.*session pooler: port 5432"):
            await guard(url)
        settings = listener_settings(project, database_url=SecretStr(url))
        with pytest.raises(SetupError, match="does not deliver notifications"):
            await run_listener(settings, stop=asyncio.Event())
        found = {finding.name: finding for finding in await check(settings)}
        assert found["database"].ok is False and "5432" in found["database"].remedy
    async with Proxy((direct.hostname or "", direct.port or 0)).serve() as proxy:
        await guard(worker_url(project, proxy.port))  # as a session pooler: one connection for each client


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql://u:p@db.example.org:6543/postgres?sslmode=require", "transaction pooler .port 6543.*port 5432"),
        ("postgresql://u:p@a.example.org:5432,b.example.org:6543/postgres?sslmode=require", "transaction pooler"),
        ("postgresql://u:p@db.example.org/postgres", "without TLS. Add .sslmode=verify-full"),
        ("postgresql://u:p@db.example.org/postgres?sslmode=prefer", "without TLS"),
        ("postgresql://u:p@db.example.org/postgres?sslmode=disable", "without TLS"),
        ("postgresql://u:p@localhost.example.org/postgres", "without TLS"),
        ("postgresql://u:p@127.0.0.1.example.org/postgres", "without TLS"),
        ("postgresql://u:p@10.0.0.1/postgres", "without TLS"),
        ("postgresql://u:p@localhost,db.example.org/postgres", "without TLS"),
        ("postgresql://u:p@localhost/postgres?hostaddr=10.0.0.1", "without TLS"),
        ("postgresql://u:p@[2001:db8::1]/postgres", "without TLS"),
        ("service=production", "without TLS"),
        ("", "is not set"),
        ("what is this", "no connection string"),
    ],
)
def test_a_connection_that_cannot_work_is_refused_with_the_remedy(project, monkeypatch, url, why):
    monkeypatch.delenv("PGSSLMODE", raising=False)
    with pytest.raises(SetupError, match=why):
        database_url(listener_settings(project, database_url=SecretStr(url)))


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("PGHOSTADDR", "10.0.0.1", "without TLS"),
        ("PGSERVICE", "production", "without TLS"),
        ("PGPORT", "6543", "transaction pooler"),
    ],
)
def test_what_the_environment_adds_to_a_connection_is_looked_at_too(project, monkeypatch, variable, value, why):
    monkeypatch.delenv("PGSSLMODE", raising=False)
    url = "postgresql://u:p@localhost/postgres"
    assert database_url(listener_settings(project, database_url=SecretStr(url))) == url
    monkeypatch.setenv(variable, value)
    with pytest.raises(SetupError, match=why):
        database_url(listener_settings(project, database_url=SecretStr(url)))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@127.0.0.1/x",
        "postgresql://u:p@localhost/x",
        "postgresql://u:p@[::1]/x",
        "host=/run/postgresql dbname=x",
        "postgresql://u:p@db.example.org/x?sslmode=require",
        "postgresql://u:p@db.example.org/x?sslmode=verify-full",
    ],
)
def test_a_connection_on_this_machine_or_with_tls_is_not(project, monkeypatch, url):
    monkeypatch.delenv("PGSSLMODE", raising=False)
    assert database_url(listener_settings(project, database_url=SecretStr(url))) == url


async def test_all_of_this_was_made_by_a_postgres_that_is_no_superuser_and_owns_nothing_of_the_platform(project):
    """As on a hosted project: what the suite shows rests on no right that `postgres` would not have there."""
    assert await rows(
        project.db_url, "select current_user::text, rolsuper from pg_roles where rolname = current_user"
    ) == [("postgres", False)]
    foreign = (
        "select n.nspname, o.owner::regrole::text, count(*) from ("
        "select relnamespace as namespace, relowner as owner from pg_class union all "
        "select pronamespace, proowner from pg_proc union all select typnamespace, typowner from pg_type) o "
        "join pg_namespace n on n.oid = o.namespace "
        "where n.nspname {} and o.owner::regrole::text {} group by 1, 2"
    )
    assert await rows(project.db_url, foreign.format("in ('auth', 'storage', 'realtime')", "= 'postgres'")) == []
    assert await rows(project.db_url, foreign.format("= 'pipeline'", "<> 'postgres'")) == []
    for become in ("supabase_storage_admin", "supabase_auth_admin", "supabase_realtime_admin", "supabase_admin"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await rows(project.db_url, f"set role {become}")
    for refused in (
        "alter table storage.objects disable row level security",
        "alter table auth.users add column x int",
        "alter table realtime.messages owner to postgres",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await rows(project.db_url, refused)
