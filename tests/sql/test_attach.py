"""What hangs on the platform's tables: made by one function, as often as it is called."""

from __future__ import annotations

import psycopg
import pytest
import pytest_asyncio

from pipeline.embedded.postgres import SUPERUSER

OURS = """
select 'trigger' as kind, t.tgname::text as name, t.tgrelid::regclass::text as relation from pg_trigger t
 where t.tgname like 'pipeline%%' and t.tgrelid::regclass::text ~ '^(auth|storage|realtime)\\.'
union all
select 'policy', p.polname, p.polrelid::regclass::text from pg_policy p where p.polname like 'pipeline:%%'
"""


@pytest_asyncio.fixture
async def root(db):
    """The platform itself."""
    async with await psycopg.AsyncConnection.connect(db.server.url(SUPERUSER, db.name), autocommit=True) as connection:
        yield connection


async def test_the_list_is_what_is_there(db):
    listed = await db.all("select kind, name, relation from pipeline.attachments()")
    assert sorted(map(str, listed)) == sorted(map(str, await db.all(OURS)))
    assert len(listed) >= 13


async def test_in_a_whole_project_nothing_is_touched_and_no_strong_lock_is_taken(db):
    before = await db.all("select oid from pg_policy union all select oid from pg_trigger order by 1")
    async with db.admin.transaction():
        assert (await db.one("select pipeline.attach()"))["attach"] == []
        held = await db.all(
            "select relation::regclass::text as relation, mode from pg_locks where pid = pg_backend_pid() "
            "and mode in ('ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') and relation is not null"
        )
        assert held == []
    assert await db.all("select oid from pg_policy union all select oid from pg_trigger order by 1") == before


async def test_what_is_missing_is_made_and_named(db):
    made = await db.all(OURS)
    for part in made:
        await db.run(f'drop {part["kind"]} "{part["name"]}" on {part["relation"]}')
    async with db.admin.transaction():
        await db.run("set local storage.allow_delete_query = 'true'")
        await db.run("delete from storage.buckets where id = 'documents'")
    named = (await db.one("select pipeline.attach()"))["attach"]
    assert sorted(named) == sorted(
        [f"{p['kind']} {p['name']} on {p['relation']}" for p in made] + ["bucket documents on storage.buckets"]
    )
    assert await db.all("select * from pipeline.detached()") == []
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    assert len(await db.claim(1)) == 1
    await db.delete(user, "a.txt")
    assert await db.all("select from pipeline.documents where deleted_at is null") == []


async def test_a_trigger_that_was_switched_off_is_missing(db, root):
    await root.execute("alter table storage.objects disable trigger pipeline_object_inserted")
    assert [p["name"] for p in await db.all("select * from pipeline.detached()")] == ["pipeline_object_inserted"]
    await db.run("select pipeline.attach()")
    assert await db.all("select * from pipeline.detached()") == []


@pytest.mark.parametrize("without", ["drop schema realtime cascade", "drop function realtime.topic() cascade"])
async def test_a_project_without_realtime_is_whole(db, root, without):
    await root.execute(without)
    assert await db.all("select * from pipeline.detached()") == []
    assert (await db.one("select pipeline.attach()"))["attach"] == []


async def test_a_migration_does_not_wait_for_an_upload_without_end(db):
    """The lock is asked for so long, and what comes behind is let through again."""
    await db.run("drop trigger pipeline_object_inserted on storage.objects")
    async with db.as_user(await db.sign_up()) as uploading, uploading.transaction():
        await uploading.execute("lock table storage.objects in row exclusive mode")
        await db.run("alter function pipeline.attach() set lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await db.run("select pipeline.attach()")
    await db.run("select pipeline.attach()")


async def test_what_a_request_is_refused_for_is_on_the_list(db):
    """pipeline.caller() names two of the triggers by itself, since it has no time to read the list."""
    listed = {p["name"] for p in await db.all("select name from pipeline.attachments()")}
    body = (await db.one("select prosrc from pg_proc where oid = 'pipeline.caller()'::regprocedure"))["prosrc"]
    for name in ("pipeline_object_deleted", "pipeline_user_deleted"):
        assert name in listed and name in body


@pytest.mark.parametrize("how", ["drop trigger {name} on {table}", "alter table {table} disable trigger {name}"])
async def test_a_project_that_lost_any_of_its_triggers_serves_nobody(db, how):
    """Whichever it is: the list of attachments and the one that is looked through for each request are the same."""
    triggers = await db.all("select name, relation from pipeline.attachments() where kind = 'trigger'")
    assert len(triggers) == 6
    root = await psycopg.AsyncConnection.connect(db.server.url(SUPERUSER, db.name), autocommit=True)
    async with root:
        for trigger in triggers:
            async with root.transaction(force_rollback=True):
                await root.execute(how.format(name=trigger["name"], table=trigger["relation"]).encode())
                with pytest.raises(psycopg.Error) as refused:
                    async with root.transaction():
                        await root.execute("select pipeline.caller()")
                assert refused.value.sqlstate == "PT503", trigger
                named = await (await root.execute("select name from pipeline.detached()")).fetchall()
                assert named == [(trigger["name"],)]
