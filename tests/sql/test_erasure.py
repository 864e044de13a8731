"""A deleted user: nobody at once, gone soon after, and a receipt without a name."""

from __future__ import annotations

import asyncio
import hashlib
import uuid

import psycopg
import pytest

from pipeline.embedded.postgres import SUPERUSER
from tests.sql.test_documents import visible

LOST = pytest.raises(psycopg.Error, match=r"lease is lost|replaced or deleted")


async def published(db, user, name: str, *texts: str) -> dict:
    await db.upload(user, name, name.encode())
    [job] = await db.claim()
    await db.publish(job, texts)
    return job


async def delete_user(db, user) -> None:
    await db.run("delete from auth.users where id = %s", user)


async def remove_files(db, erasure: int, page: int = 2) -> int:
    """What Storage does when it is asked to, a page at a time."""
    removed = 0
    while names := (await db.one("select pipeline.files_to_erase(%s, %s) as names", erasure, page))["names"]:
        async with db.admin.transaction():
            await db.run("set local storage.allow_delete_query = 'true'")
            await db.run("delete from storage.objects where bucket_id = 'documents' and name = any (%s)", names)
        removed += len(names)
    return removed


async def erase(db, rows: int = 2) -> str:
    """As a listener does, in small steps."""
    erasure = (await db.one("select pipeline.claim_erasure() as id"))["id"]
    await remove_files(db, erasure)
    while (state := (await db.one("select pipeline.erase(%s, %s) as state", erasure, rows))["state"]) == "more":
        pass
    return state


async def erase_whole(db) -> dict:
    assert await erase(db) == "emptied"
    await db.move_time("11 minutes")
    assert await erase(db) == "completed"
    return await db.one("select * from pipeline.receipts order by id desc limit 1")


async def test_a_deleted_user_is_nobody_in_the_same_transaction(db):
    user, other = await db.sign_up(), await db.sign_up()
    await published(db, user, "a.txt", "the deductible is 500 dollars")
    await published(db, other, "a.txt", "the deductible is 400 dollars")
    question = "select content from public.search('deductible')"
    async with db.as_user(user) as own:
        assert len(await (await own.execute(question)).fetchall()) == 1
        await delete_user(db, user)
        # the token is still good
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="signed-in user"):
            await own.execute(question)
        for view in ("documents", "jobs", "chunks"):
            assert await (await own.execute(f"select from public.{view}".encode())).fetchall() == []
        with pytest.raises(psycopg.Error, match="You have no job"):
            await own.execute("select public.retry_job(1)")
    assert await visible(db, other) == ["the deductible is 400 dollars"]


async def test_a_worker_in_flight_loses_its_lease(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    await db.upload(user, "b.txt")
    [job] = await db.claim()
    held = (job["id"], job["attempt"])
    await delete_user(db, user)
    assert await db.all("select pipeline.heartbeat(array[%s]::bigint[], array[%s], '1 minute')", *held) == []
    assert (await db.one("select pipeline.report(%s, %s, 'embed', 0.5)", *held))["report"] is False
    begun = "select * from pipeline.begin_parse(%s, %s, sha256('text'), 'parser 1')"
    assert (await db.one(begun, *held))["status"] == "lost"
    with LOST:
        await db.publish(job, ["too late"])
    assert await db.claim(10) == [], "what waited is not handed out"
    await db.run("update pipeline.limits set max_concurrent_jobs = 5")
    assert await db.claim(10) == [], "nor after the limits have changed"
    assert (await db.one("select startable from pipeline.queue_health"))["startable"] == 0


async def test_the_deletion_walks_nothing(db):
    """What it changes does not grow with what the user has."""
    user = await db.sign_up()
    async with db.admin.transaction(force_rollback=True):
        await db.run(
            "insert into pipeline.documents (owner_id, object_id, object_version, bucket_id, name) "
            "select %s, gen_random_uuid(), '1', 'documents', n::text from generate_series(1, 20000) n",
            user,
        )
        await db.run(
            "insert into pipeline.jobs (document_id, owner_id, object_id, object_version, bucket_id, name) "
            "select id, owner_id, object_id, object_version, bucket_id, name from pipeline.documents"
        )
        await db.run("analyze pipeline.documents, pipeline.jobs")
        before = await db.one(READS)
        await delete_user(db, user)
        after = await db.one(READS)
        assert after["rows"] - before["rows"] < 50
        assert (await db.one("select count(*) as n from pipeline.documents where deleted_at is null"))["n"] == 20000


READS = """
select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0) + n_tup_ins + n_tup_upd + n_tup_del), 0) as rows
  from pg_stat_xact_user_tables where schemaname = 'pipeline'
"""


async def test_all_of_it_goes_and_the_receipt_names_nobody(db):
    user, other = await db.sign_up(), await db.sign_up()
    for n in range(3):
        await published(db, user, f"{n}.txt", f"only in {n}", "in all of them")
    await db.upload(user, "folder/waits.txt", b"12345")
    await db.upload(user, "folder/.emptyFolderPlaceholder", b"")
    await db.delete(user, "0.txt")
    await db.run("insert into pipeline.limits (owner_id, max_documents) values (%s, 50)", user)
    await published(db, other, "0.txt", "only in 0", "in all of them")
    await db.run("insert into pipeline.budgets (scope, owner_id, period, amount) values ('owner', %s, 'day', 5)", user)
    await db.run(
        "insert into pipeline.ledger (state, sends_at, settled_at, owner_id, document_id, job_id, attempt, provider, "
        "fingerprint, stage, model, amount) select 'confirmed', created_at, created_at, owner_id, document_id, id, 1, "
        "'openai', 'key', 'embed', 'text-embedding-3-small', 0.25 from pipeline.jobs"
    )
    left = await db.all("select owner_id, content from pipeline.chunks where owner_id = %s order by id", other)
    heard = (await db.one("select count(*) as n from realtime.messages where topic like %s", f"user:{user}:%"))["n"]
    assert heard > 0

    await delete_user(db, user)
    receipt = await erase_whole(db)
    assert {k: receipt[k] for k in ("state", "files", "bytes", "documents", "passages", "embeddings", "jobs")} == {
        "state": "completed",
        "files": 4,
        "bytes": 15,
        "documents": 4,
        "passages": 6,
        "embeddings": 4,
        "jobs": 4,
    }
    assert receipt["events"] > 8 and receipt["messages"] >= heard
    costs = "select count(*)::int as n, sum(amount)::float as dollars from pipeline.ledger where owner_id = %s"
    assert await db.one(costs, receipt["pseudonym"]) == {"n": 4, "dollars": 1.0}
    assert (await db.one("select sum(amount)::float as n from pipeline.spent_days where owner_id is null"))["n"] == 1.25
    assert receipt["costs"] == 4
    assert receipt["pseudonym"] == (await db.one("select pipeline.pseudonym(%s)", user))["pseudonym"] != user
    assert (await db.one("select owner_id from pipeline.erasures"))["owner_id"] is None
    for table, column in await all_text(db):
        rows = await db.all(f'select from {table} where "{column}"::text like %s', f"%{user}%")
        assert rows == [], f"{table}.{column} still names the user"
    assert await db.all("select owner_id, content from pipeline.chunks order by id") == left


async def all_text(db) -> list[tuple[str, str]]:
    """Every column of ours, of Storage's objects and of Realtime's messages."""
    rows = await db.all(
        """select a.attrelid::regclass::text as "table", a.attname as "column"
             from pg_attribute a join pg_class c on c.oid = a.attrelid
            where c.relkind in ('r', 'p') and a.attnum > 0 and not a.attisdropped
              and (c.relnamespace = 'pipeline'::regnamespace
                   or c.oid in ('storage.objects'::regclass, 'realtime.messages'::regclass))"""
    )
    return [(row["table"], row["column"]) for row in rows]


async def test_a_crash_anywhere_goes_on_and_counts_nothing_twice(db):
    user = await db.sign_up()
    for n in range(3):
        await published(db, user, f"{n}.txt", f"one {n}", f"two {n}", f"three {n}")
    await delete_user(db, user)
    erasure = (await db.one("select pipeline.claim_erasure() as id"))["id"]
    assert (await db.one("select pipeline.claim_erasure() as id"))["id"] is None, "it is one listener's for a while"
    assert (await db.one("select pipeline.erase(%s)", erasure))["erase"] == "files"
    names = (await db.one("select pipeline.files_to_erase(%s, 2) as names", erasure))["names"]
    assert len(names) == 2
    # the listener dies; another one goes on, and dies after each step
    minutes = 0
    while (await db.one("select count(*) as n from pipeline.erasures where emptied_at is null"))["n"]:
        minutes += 2
        await db.move_time(f"{minutes} minutes")
        assert (await db.one("select pipeline.claim_erasure() as id"))["id"] == erasure
        await remove_files(db, erasure, page=1)
        await db.one("select pipeline.erase(%s, 2)", erasure)
    await db.move_time(f"{minutes + 11} minutes")
    assert await erase(db) == "completed"
    receipt = await db.one("select * from pipeline.receipts")
    assert (receipt["files"], receipt["documents"], receipt["passages"], receipt["embeddings"]) == (3, 3, 9, 9)
    assert (await db.one("select pipeline.erase(%s)", erasure))["erase"] == "completed"


async def test_a_failure_waits_longer_each_time_and_says_why(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    await delete_user(db, user)
    erasure = (await db.one("select pipeline.claim_erasure() as id"))["id"]
    waits = []
    for _ in range(3):
        await db.run("select pipeline.postpone_erasure(%s, 'Storage is away')", erasure)
        row = await db.one("select extract(epoch from due_at - pipeline.now())::int as s from pipeline.erasures")
        waits.append(row["s"])
    assert waits == [10, 20, 40]
    receipt = await db.one("select state, failures, last_error from pipeline.receipts")
    assert receipt == {"state": "failing", "failures": 3, "last_error": "Storage is away"}
    assert (await db.one("select pipeline.claim_erasure() as id"))["id"] is None


@pytest.mark.parametrize("first", ["upload", "deletion"])
async def test_an_upload_that_races_with_the_deletion_of_its_user_leaves_nothing(db, first):
    user = await db.sign_up()
    insert = (
        "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
        "values ('documents', %s, %s, gen_random_uuid()::text, '{\"size\": 1}')"
    )
    async with await db.connect("postgres") as storage, await db.connect("postgres") as auth:
        uploaded = (storage, insert, (f"{user}/a.txt", str(user)))
        deleted = (auth, "delete from auth.users where id = %s", (user,))
        one, other = (uploaded, deleted) if first == "upload" else (deleted, uploaded)
        async with one[0].transaction():
            await one[0].execute(one[1], one[2])
            second = asyncio.create_task(other[0].execute(other[1], other[2]))
            await db.waits_for_a_lock(other[0].info.backend_pid)
        if first == "upload":
            await second
        else:
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be a user"):
                await second
    assert await db.claim(10) == []
    receipt = await erase_whole(db)
    assert receipt["files"] == receipt["documents"] == (1 if first == "upload" else 0)
    for table in ("documents", "jobs", "owners", "wakeups", "upload_days"):
        assert await db.all(f"select from pipeline.{table}") == []


async def test_uploads_go_on_where_the_platform_lets_nobody_lock_its_users(db):
    user = await db.sign_up()
    async with await psycopg.AsyncConnection.connect(db.server.url(SUPERUSER, db.name), autocommit=True) as root:
        await root.execute("revoke update on auth.users from postgres, supabase_auth_admin")
    assert (await db.one("select has_table_privilege('auth.users', 'update') as may"))["may"] is False
    await published(db, user, "a.txt", "text")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be a user"):
        await db.upload(uuid.uuid4(), "a.txt")
    await delete_user(db, user)
    assert (await erase_whole(db))["files"] == 1


async def test_what_was_under_way_when_all_seemed_gone_is_found_by_the_second_look(db):
    user = await db.sign_up()
    await published(db, user, "a.txt", "text")
    await delete_user(db, user)
    assert await erase(db) == "emptied"
    await db.run(
        "insert into pipeline.parses (owner_id, content_sha256, fingerprint, document_id, job_id, attempt) "
        "values (%s, sha256('x'), 'parser 1', gen_random_uuid(), 1, 1)",
        user,
    )
    await db.move_time("11 minutes")
    assert await erase(db) == "emptied", "and once more from there"
    assert await db.all("select from pipeline.parses") == []
    await db.move_time("22 minutes")
    assert await erase(db) == "completed"


async def test_paid_work_that_arrives_late_is_not_kept(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    [job] = await db.claim()
    held = (job["id"], job["attempt"])
    parse = await db.one("select parse_id from pipeline.begin_parse(%s, %s, sha256('text'), 'parser 1')", *held)
    await delete_user(db, user)
    assert await erase(db) == "emptied"
    stored = "select pipeline.store_parse(%s, %s, %s, '[]', '{}') as kept"
    assert (await db.one(stored, parse["parse_id"], *held))["kept"] is False
    assert await db.all("select from pipeline.parses") == []


async def test_a_soft_deletion_is_one_too(db):
    user = await db.sign_up()
    await published(db, user, "a.txt", "text")
    await db.run("update auth.users set deleted_at = now() where id = %s", user)
    assert await visible(db, user) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be a user"):
        await db.upload(user, "b.txt")
    await db.run("update auth.users set deleted_at = now() where id = %s", user)
    assert (await erase_whole(db))["files"] == 1


async def test_a_users_id_that_is_given_out_again_begins_with_nothing(db):
    user = await db.sign_up()
    await published(db, user, "a.txt", "text of the first")
    await delete_user(db, user)
    await db.run("insert into auth.users (id, aud, role) values (%s, 'authenticated', 'authenticated')", user)
    assert await visible(db, user) == []
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await db.upload(user, "b.txt")
    await erase_whole(db)
    await published(db, user, "b.txt", "text of the second")
    assert await visible(db, user) == ["text of the second"]


async def test_a_user_whom_nobody_saw_go_is_erased_by_the_retention(db):
    user, other = await db.sign_up(), await db.sign_up()
    for owner in (user, other):
        await published(db, owner, "a.txt", "text")
    await db.run("set session_replication_role = replica")
    await delete_user(db, user)
    await db.run("set session_replication_role = origin")
    assert await db.all("select from pipeline.erasures") == []
    while (await db.one("select pipeline.tidy()"))["tidy"]:
        pass
    assert [row["owner_id"] for row in await db.all("select owner_id from pipeline.erasures")] == [user]
    await erase_whole(db)


async def test_the_retention_erases_nobody_while_most_owners_have_no_user(db):
    """As in a project that was restored and whose users are still to come: what was paid for would go."""
    users = [await db.sign_up() for _ in range(3)]
    for owner in users:
        await published(db, owner, "a.txt", "text")
    await db.run("set session_replication_role = replica")
    for user in users[:2]:
        await delete_user(db, user)
    await db.run("set session_replication_role = origin")
    while (await db.one("select pipeline.tidy()"))["tidy"]:
        pass
    assert await db.all("select from pipeline.erasures") == []
    assert (await db.one("select count(*) as n from pipeline.chunks"))["n"] == 3


async def test_many_users_are_deleted_in_one_statement(db):
    users = [await db.sign_up() for _ in range(20)]
    await db.run("delete from auth.users where id = any (%s)", users)
    assert (await db.one("select count(*) as n from pipeline.erasures"))["n"] == 20


async def test_nothing_of_an_erased_owner_serves_another(db):
    """Identical bytes, before and after."""
    sha, space = hashlib.sha256(b"same").digest(), (await db.space())["id"]
    for _ in range(2):
        user = await db.sign_up()
        await db.upload(user, "a.txt", b"same")
        [job] = await db.claim()
        held = (job["id"], job["attempt"])
        parse = await db.one("select * from pipeline.begin_parse(%s, %s, %s, 'parser 1')", *held, sha)
        assert parse["status"] == "buy"
        await db.run("select pipeline.store_parse(%s, %s, %s, '[]', '{}')", parse["parse_id"], *held)
        asked = await db.one("select status from pipeline.begin_embeddings(%s, %s, %s, %s)", *held, space, [sha])
        assert asked["status"] == "buy"
        await db.publish(job, ["same"])
        await delete_user(db, user)


async def test_a_pseudonym_needs_the_key(db):
    user = uuid.uuid4()
    first = (await db.one("select pipeline.pseudonym(%s)", user))["pseudonym"]
    assert (await db.one("select pipeline.pseudonym(%s)", user))["pseudonym"] == first
    await db.run("update pipeline.pseudonym_key set key = sha256('another')")
    assert (await db.one("select pipeline.pseudonym(%s)", user))["pseudonym"] != first
    async with await db.connect("pipeline_worker") as worker:
        for wanted in ("select * from pipeline.pseudonym_key", "select pipeline.pseudonym(gen_random_uuid())"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await worker.execute(wanted.encode())
