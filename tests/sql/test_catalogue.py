"""The catalogue: each part that is dropped is named, and put back where that loses nothing."""

from __future__ import annotations

import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest
import pytest_asyncio

from pipeline.embedded.postgres import SUPERUSER
from pipeline.operate import catalogue
from pipeline.operate.catalogue import ROWS, Part
from pipeline.operate.catalogue.mend import mend

SEED = 20261101
SAMPLE = 20
GOLDEN = catalogue.golden()
TABLES = [part.name for part in GOLDEN.values() if part.kind == "table"]
NEVER_BACK = {"extension"}
"""What only the platform lets `postgres` make; the wheel's server does not."""


def dropped(part: Part) -> str:
    """The statement that takes a part away."""
    name, _, relation = part.name.rpartition(" on ")
    match part.kind:
        case "bucket":
            return "set local storage.allow_delete_query = 'true'; delete from storage.buckets where id = 'documents'"
        case "column":
            return f"alter table {part.name.rpartition('.')[0]} drop column {part.name.rpartition('.')[2]} cascade"
        case "comment":
            return f"comment {part.name} is null"
        case "constraint":
            return f"alter table {relation} drop constraint {name} cascade"
        case "default" | "not-null":
            table, _, column = part.name.removeprefix("of ").rpartition(".")
            return f"alter table {table} alter column {column} drop {part.kind.replace('-', ' ')}"
        case "grant":
            target, _, grantee = part.name.removeprefix("on ").rpartition(" to ")
            # by whom it was granted: the schema extensions is another's
            return f"set local role postgres; revoke all on {target} from {grantee}; set local role none"
        case "index":
            return f"drop index {part.name}"
        case "member":
            return "revoke pipeline_worker from postgres granted by postgres"
        case "policy" | "trigger":
            return f"drop {part.kind} {part.name}"
        case "role":  # other databases of the server have it too
            return "alter role pipeline_worker rename to pipeline_worker_of_others"
        case "row":
            [row] = [row for row in ROWS if part.make.startswith(_beginning(row))]
            if part.name == "an active space":
                return "update pipeline.spaces set active = false"
            replica = "set local session_replication_role = replica"
            found = f"delete from {row.table} where {row.name} = '{part.name}' and {row.where}"
            return f"{replica}; {found}; set local session_replication_role = origin"
        case "setting":
            return f"alter role pipeline_worker reset {part.name.removeprefix('of pipeline_worker: ')}"
        case "storage":
            table, _, column = part.name.removeprefix("of ").rpartition(".")
            return f"alter table {table} alter column {column} set storage default"
        case kind:
            return f"drop {kind} {part.name} cascade"


def _beginning(row: catalogue.Row) -> str:
    """How the statements begin that make the row."""
    return row.make.removeprefix("format(").strip("'").partition("%")[0].partition(" default")[0].rstrip("'")


@pytest_asyncio.fixture
async def root(db) -> AsyncIterator[psycopg.AsyncConnection]:
    """The superuser, who may drop what is not postgres's, in one transaction that is rolled back."""
    async with await psycopg.AsyncConnection.connect(db.server.url(SUPERUSER, db.name)) as connection:
        yield connection
        await connection.rollback()


@asynccontextmanager
async def aside(root: psycopg.AsyncConnection, *statements: str):
    """In a database where the statements were run, as the role postgres; it is put back afterwards."""
    async with root.transaction(force_rollback=True):
        for statement in statements:
            await root.execute(statement.encode())
        await root.execute("set local role postgres")
        yield


async def test_the_catalogue_is_what_the_migrations_make(db):
    """Where this fails, the schema has changed: run `make catalogue`, and read the diff."""
    found = await catalogue.read(db.admin)
    assert {str(p): (p.says, p.make) for p in found.values()} == {str(p): (p.says, p.make) for p in GOLDEN.values()}
    assert await catalogue.compare(db.admin) == []
    assert (await mend(db.admin)).done == []


def test_the_file_is_read_as_it_was_written():
    parts = list(GOLDEN.values())
    assert catalogue.parse(catalogue.write(parts)) == sorted(parts, key=lambda part: (part.kind, part.name))
    assert len(parts) > 1000


def chosen(config: pytest.Config) -> list[Part]:
    """All parts, or a sample that has each kind."""
    parts = [part for part in GOLDEN.values() if not _stays(part)]
    if config.getoption("--soak"):
        return parts
    rng = random.Random(SEED)
    kinds = {part.kind for part in parts}
    return [rng.choice([p for p in parts if p.kind == kind]) for kind in sorted(kinds)] + rng.sample(parts, SAMPLE)


def _stays(part: Part) -> bool:
    """Whether Postgres itself refuses to drop it: a key's or an identity's columns are not null."""
    table, _, column = part.name.rpartition(".")
    keys = [p.says for p in GOLDEN.values() if p.kind == "constraint" and p.name.endswith(f" on {table}")]
    is_key = any(key.startswith("PRIMARY KEY") and column in re.findall(r"\w+", key) for key in keys)
    return part.kind == "not-null" and (is_key or "as identity" in GOLDEN["column", part.name].says)


async def test_each_part_that_is_dropped_is_named_and_put_back(db, root, pytestconfig):
    """In a project without documents, where nothing can be lost."""
    filled = {table for table in TABLES if (await db.one(f"select exists (select from {table}) as e"))["e"]}
    for part in chosen(pytestconfig):
        async with aside(root, dropped(part)):
            assert [d for d in await catalogue.compare(root) if str(d) == f"missing: {part}"], part
            mended = await mend(root)
            reasons = {str(d.part): reason for d, reason in mended.left}
            if part.kind in NEVER_BACK:
                assert str(part) in reasons, part
            elif (
                part.kind == "column"
                and part.name.rpartition(".")[0] in filled
                and "generated always as (" not in part.says
            ):
                assert "restore it from a backup" in reasons[str(part)], part
            else:
                assert mended.left == [] and str(part) in mended.done, (part, mended)
                assert await catalogue.compare(root) == [], part


async def test_what_held_data_is_named_with_the_remedy(db, root):
    """A table or a column of a project with documents comes from a backup alone; what it was computed from is there."""
    owner = await db.sign_up()
    await db.upload(owner, "a.txt")
    [job] = await db.claim(1)
    await db.publish(job, ["one", "two"])
    for statement, lost in (
        ("drop table pipeline.embeddings cascade", "table pipeline.embeddings"),
        ("alter table pipeline.chunks drop column content cascade", "column pipeline.chunks.content"),
    ):
        async with aside(root, statement):
            mended = await mend(root)
            reasons = {str(d.part): reason for d, reason in mended.left}
            assert reasons[lost] == "what it held is gone: restore it from a backup"
            assert await catalogue.compare(root) != []
    async with aside(root, "alter table pipeline.chunks drop column token_count cascade"):
        assert (await mend(root)).left == []
        assert await catalogue.compare(root) == []


CHANGES = (
    "alter function pipeline.complete(bigint[], integer[]) security invoker",
    "alter function pipeline.complete(bigint[], integer[]) reset search_path",
    "create or replace function pipeline.now() returns timestamptz language sql stable as 'select now()'",
    "create or replace function public.retry_job(job_id bigint) returns text language sql set search_path = '' "
    "begin atomic select pipeline.cancel_own_job(job_id); end",
    "create or replace view pipeline.throughput with (security_invoker = true) as "
    "select now() as hour, 1::bigint as completed, 2::bigint as dead, 3::bigint as tries_again",
    "alter view public.jobs set (security_invoker = false)",
    "alter policy owner_reads on pipeline.chunks using (true)",
    'alter policy "pipeline: owners read their files" on storage.objects using (true)',
    "alter table pipeline.jobs disable row level security",
    "alter table pipeline.jobs set (fillfactor = 90)",
    "alter table pipeline.jobs disable trigger jobs_updated",
    "alter table storage.objects disable trigger pipeline_object_updated",
    "alter table pipeline.limits alter column uploads_per_day set default 31",
    "alter table pipeline.limits drop constraint at_least_one_job_at_once, "
    "add constraint at_least_one_job_at_once check (max_concurrent_jobs > -1)",
    "drop index pipeline.jobs_by_owner; create index jobs_by_owner on pipeline.jobs (owner_id)",
    "grant insert on public.documents to authenticated",
    "grant select (error_detail) on pipeline.jobs to authenticated",
    "update storage.buckets set public = true where id = 'documents'",
    "alter role pipeline_worker createdb",
    "comment on table pipeline.jobs is 'x'",
)


@pytest.mark.parametrize("statement", CHANGES)
async def test_what_is_changed_is_named_and_put_back(db, root, statement):
    async with aside(root, statement):
        assert [d.what for d in await catalogue.compare(root)] == ["changed"]
        await mend(root)
        assert await catalogue.compare(root) == []


EXTRA = (
    ("grant service_role to pipeline_worker", "extra: member of service_role: pipeline_worker"),
    ("create policy wide on pipeline.chunks using (true)", "extra: policy wide on pipeline.chunks"),
    (
        'create policy "pipeline: more" on storage.objects using (true)',
        'extra: policy "pipeline: more" on storage.objects',
    ),
    ("create table pipeline.mine (id integer)", "extra: table pipeline.mine"),
    ("create function pipeline.mine() returns integer language sql as 'select 1'", "extra: function pipeline.mine()"),
    ("alter table pipeline.jobs add column mine text", "extra: column pipeline.jobs.mine"),
    (
        "alter function pipeline.retry(bigint) owner to supabase_admin",
        "extra: owner of function pipeline.retry(bigint)",
    ),
)


@pytest.mark.parametrize(("statement", "name"), EXTRA, ids=[name for _, name in EXTRA])
async def test_what_is_there_besides_is_named_and_left_alone(db, root, statement, name):
    async with aside(root, statement):
        named = [str(d) for d in await catalogue.compare(root)]
        assert name in named
        await mend(root)
        assert name in [str(d) for d in await catalogue.compare(root)]


@pytest.mark.parametrize(
    "statement",
    [
        "grant select on pipeline.chunks to authenticated",
        "grant select on pipeline.ledger to anon",
        "grant execute on function pipeline.retry to public",
        "grant usage on schema pipeline to authenticated",
    ],
)
async def test_a_right_too_many_is_named_and_revoked(db, root, statement):
    """Supabase's dump leaves the revokes of functions out whose arguments are of an extension's type."""
    async with aside(root, statement):
        assert len(await catalogue.compare(root)) == 1
        await mend(root)
        assert await catalogue.compare(root) == []


async def test_roles_and_spaces_of_the_operator_are_no_finding(db, root):
    async with aside(
        root,
        "create role analyst",
        "grant usage on schema pipeline to analyst",
        "grant select on pipeline.throughput to analyst",
        "select pipeline.create_space('another model', 8)",
        "alter role pipeline_worker set statement_timeout = '9min'",
        "update pipeline.settings set max_failures = 7",
    ):
        assert await catalogue.compare(root) == []
