"""What the storage triggers make of writes and deletes; publishing; kept work; client views."""

from __future__ import annotations

import asyncio
import hashlib
import uuid

import psycopg
import pytest


async def visible(db, user, view="chunks", column="content"):
    async with db.as_user(user) as connection:
        rows = await (await connection.execute(f"select {column} from public.{view} order by 1".encode())).fetchall()
    return [row[column] for row in rows]


async def test_an_overwrite_cancels_the_older_job_and_keeps_the_old_text_until_the_new_is_published(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt", b"one")
    [first] = await db.claim()
    await db.publish(first, ["the old text"])
    await db.upload(user, "a.txt", b"two")
    [second] = await db.claim()
    assert await visible(db, user) == ["the old text"]
    await db.upload(user, "a.txt", b"three")
    state = await db.one("select state, error_class from pipeline.jobs where id = %s", second["id"])
    assert state == {"state": "cancelled", "error_class": "superseded"}
    with pytest.raises(psycopg.Error) as lost:
        await db.publish(second, ["never seen"])
    assert lost.value.sqlstate == "PL001"
    [third] = await db.claim()
    assert third["document_id"] == first["document_id"]
    await db.publish(third, ["the new text"])
    assert await visible(db, user) == ["the new text"]


async def test_a_delete_hides_at_once_and_takes_the_job_from_its_listener(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    [job] = await db.claim()
    await db.publish(job, ["some text"])
    await db.upload(user, "a.txt", b"newer")
    [job] = await db.claim()
    await db.delete(user, "a.txt")
    assert await visible(db, user) == []
    assert await visible(db, user, "documents", "name") == []
    with pytest.raises(psycopg.Error):
        await db.publish(job, ["more text"])
    while (await db.one("select pipeline.purge(1)"))["purge"]:
        pass
    for table in ("chunks", "embeddings", "parses", "embedding_purchases"):
        assert await db.all(f"select from pipeline.{table}") == []


async def test_a_purge_leaves_what_another_document_uses(db):
    user = await db.sign_up()
    for name, texts in (("a.txt", ["shared", "only a"]), ("b.txt", ["shared", "only b"])):
        await db.upload(user, name, name.encode())
        [job] = await db.claim()
        await db.publish(job, texts)
    await db.delete(user, "a.txt")
    while (await db.one("select pipeline.purge()"))["purge"]:
        pass
    kept = {bytes(r["input_sha256"]) for r in await db.all("select input_sha256 from pipeline.embeddings")}
    assert kept == {hashlib.sha256(t).digest() for t in (b"shared", b"only b")}


async def test_a_move_keeps_the_document_and_a_copy_is_another(db):
    user = await db.sign_up()
    stored = await db.upload(user, "a.txt")
    [job] = await db.claim()
    await db.publish(job, ["the text"])
    await db.run(
        "update storage.objects set name = %s, version = %s where id = %s",
        f"{user}/b.txt",
        str(uuid.uuid4()),
        stored["id"],
    )
    [moved] = await db.claim()
    assert moved["document_id"] == job["document_id"]
    await db.publish(moved, ["the text"])
    await db.upload(user, "c.txt")
    [copied] = await db.claim()
    assert copied["document_id"] != job["document_id"]
    status = await db.one(
        "select status from pipeline.begin_embeddings(%s, %s, %s, %s)",
        copied["id"],
        copied["attempt"],
        (await db.space())["id"],
        [hashlib.sha256(b"the text").digest()],
    )
    assert status["status"] == "kept"


async def test_moving_out_of_the_bucket_is_a_delete_and_into_it_an_upload(db):
    await db.run("insert into storage.buckets (id, name) values ('other', 'other')")
    user = await db.sign_up()
    stored = await db.upload(user, "a.txt", bucket="other")
    assert await db.all("select from pipeline.jobs") == []
    change = "update storage.objects set bucket_id = %s, version = %s where id = %s"
    await db.run(change, "documents", str(uuid.uuid4()), stored["id"])
    [job] = await db.claim()
    await db.run(change, "other", str(uuid.uuid4()), stored["id"])
    assert (await db.one("select state from pipeline.jobs where id = %s", job["id"]))["state"] == "cancelled"
    assert await visible(db, user, "documents", "name") == []


async def test_a_placeholder_makes_no_job_and_a_stranger_folder_is_refused(db):
    user = await db.sign_up()
    await db.upload(user, "new folder/.emptyFolderPlaceholder")
    assert await db.all("select from pipeline.jobs") == []
    for folder in ("nobody", str(uuid.uuid4())):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="first folder"):
            await db.upload(folder, "a.txt")


async def test_a_service_that_reads_metadata_makes_no_job(db):
    user = await db.sign_up()
    stored = await db.upload(user, "a.txt")
    await db.run("update storage.objects set last_accessed_at = now() where id = %s", stored["id"])
    assert len(await db.all("select from pipeline.jobs")) == 1


async def test_two_jobs_with_the_same_bytes_buy_once(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    await db.upload(user, "b.txt")
    one, two = await db.claim(2)
    sha = hashlib.sha256(b"text").digest()
    begin = "select * from pipeline.begin_parse(%s, %s, %s, 'parser 1')"
    bought = await db.one(begin, one["id"], one["attempt"], sha)
    assert bought["status"] == "buy"
    assert (await db.one(begin, two["id"], two["attempt"], sha))["status"] == "wait"
    await db.run(
        "select pipeline.remember_parse(%s, %s, %s, 'job-at-provider')", bought["parse_id"], one["id"], one["attempt"]
    )
    # the buyer dies: the second takes over, with the provider's job, so that nothing is paid twice
    await db.run("select pipeline.release(array[%s]::bigint[], array[%s])", one["id"], one["attempt"])
    taken = await db.one(begin, two["id"], two["attempt"], sha)
    assert (taken["status"], taken["provider_job_id"]) == ("buy", "job-at-provider")
    stored = await db.one(
        'select pipeline.store_parse(%s, %s, %s, \'[{"number": 1, "markdown": "x"}]\', \'{}\')',
        taken["parse_id"],
        two["id"],
        two["attempt"],
    )
    assert stored["store_parse"] is True
    [again] = await db.claim()
    assert (await db.one(begin, again["id"], again["attempt"], sha))["status"] == "kept"
    space = (await db.space())["id"]
    embed = "select status from pipeline.begin_embeddings(%s, %s, %s, %s)"
    assert (await db.one(embed, two["id"], two["attempt"], space, [sha]))["status"] == "buy"
    assert (await db.one(embed, again["id"], again["attempt"], space, [sha]))["status"] == "wait"


async def test_kept_work_never_crosses_owners(db):
    sha = hashlib.sha256(b"text").digest()
    for _ in range(2):
        user = await db.sign_up()
        await db.upload(user, "a.txt")
        [job] = await db.claim()
        bought = await db.one(
            "select * from pipeline.begin_parse(%s, %s, %s, 'parser 1')", job["id"], job["attempt"], sha
        )
        assert bought["status"] == "buy"
        await db.run(
            "select pipeline.store_parse(%s, %s, %s, '[]', '{}')", bought["parse_id"], job["id"], job["attempt"]
        )
        await db.publish(job, ["text"])


async def test_nothing_is_published_without_its_vectors_or_without_passages(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    sha = hashlib.sha256(b"x").digest()
    publish = (
        "select pipeline.publish(%s, %s, 1::smallint, %s, 'text/plain', 1, '{}', 'p', %s::int[], %s::text[], "
        "%s::text[], %s::bytea[])"
    )
    with pytest.raises(psycopg.Error) as missing:
        await db.run(publish, job["id"], job["attempt"], sha, [1], [None], ["text"], [sha])
    assert missing.value.sqlstate == "PL002"
    with pytest.raises(psycopg.errors.CheckViolation):
        await db.run(publish, job["id"], job["attempt"], sha, [], [], [], [])


async def test_a_wrong_or_zero_vector_is_not_kept(db):
    await db.upload(await db.sign_up(), "a.txt")
    [job] = await db.claim()
    shas = [hashlib.sha256(bytes([n])).digest() for n in range(2)]
    space = await db.space()
    await db.run("select pipeline.begin_embeddings(%s, %s, %s, %s)", job["id"], job["attempt"], space["id"], shas)
    zero = "[" + ",".join(["0"] * space["dimensions"]) + "]"
    row = await db.one(
        "select pipeline.store_embeddings(%s, %s, %s, %s, %s::text[]::extensions.halfvec[])",
        job["id"],
        job["attempt"],
        space["id"],
        shas,
        ["[1,0]", zero],
    )
    assert row["store_embeddings"] == 0


async def test_a_client_sees_its_own_and_can_write_nothing(db):
    user, other = await db.sign_up(), await db.sign_up()
    await db.upload(user, "a.txt")
    [job] = await db.claim()
    await db.publish(job, ["the text"])
    for view in ("documents", "jobs", "chunks"):
        assert len(await visible(db, user, view, "id")) == 1
        assert await visible(db, other, view, "id") == []
        async with db.as_user(None, "anon") as anon:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await anon.execute(f"select * from public.{view}".encode())
        async with db.as_user(user) as connection:
            for write in (
                f"delete from public.{view}",
                f"update public.{view} set name = name",
                f"insert into public.{view} default values",
            ):
                with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.ObjectNotInPrerequisiteState)):
                    await connection.execute(write.encode())
    async with db.as_user(user) as connection:
        for statement in (
            "select * from pipeline.jobs",
            "select pipeline.claim('x', 1, '1 minute', 1)",
            "update pipeline.jobs set state = 'completed'",
            "select * from pipeline.embeddings",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(statement.encode())


async def test_an_owner_retries_and_cancels_and_nobody_else_does(db):
    user, other = await db.sign_up(), await db.sign_up()
    await db.upload(user, "a.txt")
    job = await db.one("select id from pipeline.jobs")
    async with db.as_user(other) as connection:
        for function in ("cancel_job", "retry_job"):
            with pytest.raises(psycopg.Error) as refused:
                await connection.execute(f"select public.{function}(%s)".encode(), (job["id"],))
            assert refused.value.sqlstate == "PT404"
    async with db.as_user(user) as connection:
        for _ in range(5):
            assert await (await connection.execute("select public.cancel_job(%s)", (job["id"],))).fetchone() == {
                "cancel_job": "cancelled"
            }
            assert await (await connection.execute("select public.retry_job(%s)", (job["id"],))).fetchone() == {
                "retry_job": "available"
            }
        await connection.execute("select public.cancel_job(%s)", (job["id"],))
        with pytest.raises(psycopg.Error) as refused:
            await connection.execute("select public.retry_job(%s)", (job["id"],))
        assert refused.value.sqlstate == "PT429"
    await db.upload(user, "a.txt", b"newer")
    await db.move_time("2 days")
    async with db.as_user(user) as connection:
        with pytest.raises(psycopg.Error) as refused:
            await connection.execute("select public.retry_job(%s)", (job["id"],))
        assert refused.value.sqlstate == "PT409"


async def test_retries_at_once_are_counted_one_after_the_other(db):
    user = await db.sign_up()
    await db.upload(user, "a.txt")
    job = ((await db.one("select id from pipeline.jobs"))["id"],)
    retry, cancel = "select public.retry_job(%s)", "select public.cancel_job(%s)"
    async with db.as_user(user) as one, db.as_user(user) as other:
        await one.execute(cancel, job)
        for _ in range(4):
            await one.execute(retry, job)
            await one.execute(cancel, job)
        async with one.transaction():
            await one.execute(retry, job)
            waiting = asyncio.create_task(other.execute(retry, job))
            await db.waits_for_a_lock(other.info.backend_pid)
            await one.execute(cancel, job)
        with pytest.raises(psycopg.Error, match="retried 5 times within a day"):
            await waiting


@pytest.mark.parametrize(
    ("obstacle", "named"),
    [
        ("create table public.jobs (id int)", "the table public.jobs"),
        ("create view public.chunks as select 1 as x", "the view public.chunks"),
        ("insert into storage.buckets (id, name) values ('documents', 'documents')", "the storage bucket documents"),
        ("create policy wide on storage.objects for select to authenticated using (true)", "the policy wide"),
    ],
)
async def test_a_project_that_uses_our_names_is_left_alone(server, obstacle, named):
    from pipeline.embedded.postgres import SUPERUSER
    from pipeline.errors import SetupError
    from pipeline.operate import migrate

    name = f"taken_{abs(hash(obstacle))}"
    async with await psycopg.AsyncConnection.connect(server.url(SUPERUSER, "template1"), autocommit=True) as root:
        await root.execute(f"create database {name} template postgres owner postgres".encode())
        try:
            async with await psycopg.AsyncConnection.connect(
                server.url("postgres", name), autocommit=True
            ) as connection:
                await unmigrate(connection)
                await connection.execute(obstacle.encode())
                before = await (await connection.execute("select count(*) from pg_class")).fetchone()
                with pytest.raises(SetupError, match=named):
                    await migrate.apply(server.url("postgres", name))
                assert await (await connection.execute("select count(*) from pg_class")).fetchone() == before
        finally:
            await root.execute(f"drop database {name} with (force)".encode())


async def unmigrate(connection: psycopg.AsyncConnection) -> None:
    """Back to an empty project."""
    await connection.execute("drop schema supabase_migrations cascade")
    for function in ("search", "retry_job", "cancel_job"):
        await connection.execute(f"drop function if exists public.{function} cascade".encode())
    await connection.execute("drop view public.documents, public.jobs, public.chunks")
    rows = await (
        await connection.execute(
            "select policyname, schemaname, tablename from pg_policies where policyname like 'pipeline:%'"
        )
    ).fetchall()
    for policy, schema, table in rows:
        await connection.execute(f'drop policy "{policy}" on {schema}.{table}'.encode())
    await connection.execute("drop schema pipeline cascade")
    await connection.execute("set storage.allow_delete_query = 'true'")
    await connection.execute("delete from storage.buckets where id = 'documents'")
