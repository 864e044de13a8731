"""The main job through a real listener: what wakes it, what it does with bad input, and what happens in between."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from pipeline.errors import SetupError
from tests import documents
from tests.world import listener_settings

TEXT = b"# Handbook\n\nThe deductible for knee surgery is 500 dollars.\n"


async def test_an_upload_becomes_searchable(user, other_user, listen, watch):
    await listen()
    await user.upload("a.md", TEXT)
    job = await watch.ended(user, "a.md")
    assert (job["state"], job["error"]) == ("completed", None)
    [hit] = await user.search("How much is the deductible for knee surgery?")
    assert "500 dollars" in hit["content"]
    assert await other_user.search("How much is the deductible for knee surgery?") == []


async def test_what_was_uploaded_while_nobody_listened_is_processed(user, listen, watch):
    for n in range(5):
        await user.upload(f"{n}.md", TEXT + bytes(str(n), "ascii"))
    await listen()
    for n in range(5):
        assert (await watch.ended(user, f"{n}.md"))["state"] == "completed"


async def test_the_poll_alone_delivers(project, user, watch):
    """A worker whose notifications never come."""
    from pipeline import app
    from pipeline.db.connection import open_pool
    from pipeline.db.guard import database_url
    from pipeline.db.queries import Queries
    from pipeline.queue.worker import Worker
    from pipeline.work.filestore import FileStore
    from pipeline.work.journey import Processor
    from pipeline.work.storage import Storage

    settings = listener_settings(project)
    parser, embedder = app.make_parser(settings), app.make_embedder(settings)
    storage = Storage(settings.supabase_url, settings.supabase_service_role_key.get_secret_value(), 10**6)
    async with open_pool(database_url(settings), size=3) as pool:
        queries = Queries(pool, "poll-only", 60)
        space_id, _ = await queries.active_space()
        worker = Worker(
            queries,
            Processor(queries, FileStore(queries, storage, "the database"), parser, embedder, space_id, 200, 0.15),
            concurrency=1,
            lease_seconds=60,
            poll_seconds=0.1,
        )
        stop = asyncio.Event()
        working = asyncio.create_task(worker.run(stop))
        await user.upload("a.md", TEXT)
        assert (await watch.ended(user, "a.md"))["state"] == "completed"
        stop.set()
        await working
    await parser.close()
    await embedder.close()
    await storage.close()


async def test_the_catch_up_after_a_reconnect_alone_delivers(project, user, listen, watch):
    project.needs("worker_signs_in")
    await listen()
    async with await psycopg.AsyncConnection.connect(project.db_url, autocommit=True) as root:
        # nobody can reconnect until the upload is committed, and the poll is an hour away
        await root.execute("alter role pipeline_worker connection limit 0")
        await root.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pipeline listen'"
        )
        await user.upload("a.md", TEXT)
        assert (await user.job("a.md"))["state"] == "available"
        await root.execute("alter role pipeline_worker connection limit -1")
    assert (await watch.ended(user, "a.md"))["state"] == "completed"


async def test_an_overwrite_between_claim_and_download_never_publishes_the_wrong_bytes(user, listen, watch):
    await user.upload("a.md", b"the first text")
    # claimed by somebody who is slow to download: the version is replaced meanwhile
    await watch.connection.execute("select * from pipeline.claim('slow', 100, '1 hour', 1)")
    first = await user.job("a.md")
    await user.upload("a.md", b"the second text", upsert=True)
    await listen()
    await watch.ended(user, "a.md")
    states = await (
        await watch.connection.execute(
            "select id, state from pipeline.jobs where name like %s order by id", (f"{user.id}/%",)
        )
    ).fetchall()
    assert [row["state"] for row in states] == ["cancelled", "completed"]
    assert states[0]["id"] == first["id"]
    chunks = (await user.client.table("chunks").select("content").execute()).data
    assert [c["content"] for c in chunks] == ["the second text"]


async def test_a_copy_a_move_and_an_identical_upload_buy_nothing(user, listen, watch):
    await listen()
    await user.upload("a.md", TEXT)
    await watch.ended(user, "a.md")

    async def bought() -> int:
        row = await (
            await watch.connection.execute(
                "select (select count(*) from pipeline.parses where owner_id = %(o)s) "
                "+ (select count(*) from pipeline.embeddings where owner_id = %(o)s) as n",
                {"o": user.id},
            )
        ).fetchone()
        assert row is not None
        return row["n"]

    before = await bought()
    bucket = user.client.storage.from_("documents")
    await bucket.copy(f"{user.id}/a.md", f"{user.id}/copy.md")
    assert (await watch.ended(user, "copy.md"))["state"] == "completed"
    await bucket.move(f"{user.id}/a.md", f"{user.id}/moved.md")
    assert (await watch.ended(user, "moved.md"))["state"] == "completed"
    await user.upload("same.md", TEXT)
    assert (await watch.ended(user, "same.md"))["state"] == "completed"
    assert await bought() == before
    names = {hit["name"] for hit in await user.search("knee surgery")}
    assert names == {f"{user.id}/{n}" for n in ("copy.md", "moved.md", "same.md")}


async def test_a_delete_while_a_listener_works_leaves_nothing(user, listen, watch):
    await listen()
    await user.upload("big.md", b"\n\n".join(b"Paragraph %d about insurance and knees." % n for n in range(2000)))
    await watch.until("select 1 from pipeline.jobs where name = %s and stage = 'embed'", f"{user.id}/big.md")
    await user.client.storage.from_("documents").remove([f"{user.id}/big.md"])
    assert await user.search("insurance") == []
    assert (await watch.ended(user, "big.md"))["state"] == "cancelled"
    await watch.until("select 1 from pipeline.documents where name = %s and purged_at is not null", f"{user.id}/big.md")
    left = await (
        await watch.connection.execute("select count(*) as n from pipeline.embeddings where owner_id = %s", (user.id,))
    ).fetchone()
    assert left == {"n": 0}


async def test_a_cancel_stops_the_work_soon(user, listen, watch):
    await listen()
    await user.upload("big.md", b"\n\n".join(b"Paragraph %d about insurance and knees." % n for n in range(2000)))
    await watch.until("select 1 from pipeline.jobs where name = %s and stage = 'embed'", f"{user.id}/big.md")
    job = await user.job("big.md")
    assert (await user.client.rpc("cancel_job", {"job_id": job["id"]}).execute()).data == "cancelled"
    # the one listener is free again long before the lease would have run out
    await user.upload("small.md", TEXT)
    assert (await watch.ended(user, "small.md", timeout=20))["state"] == "completed"


async def test_a_stopping_listener_gives_its_job_back_at_once(user, listen, watch):
    stop = await listen(drain_seconds=0)
    await user.upload("big.md", b"\n\n".join(b"Paragraph %d about insurance and knees." % n for n in range(500)))
    await watch.until("select 1 from pipeline.jobs where name = %s and stage = 'embed'", f"{user.id}/big.md")
    stop.set()
    await watch.until("select 1 from pipeline.jobs where name = %s and state = 'available'", f"{user.id}/big.md")
    job = await user.job("big.md")
    assert job["failures"] == 0
    await user.client.rpc("cancel_job", {"job_id": job["id"]}).execute()


BAD = {
    "empty.txt": (b"", "empty"),
    "scan.pdf": (documents.pdf_scanned, "OCR"),
    "truncated.pdf": (documents.truncated_pdf, ""),
    "encrypted.pdf": (documents.encrypted_pdf, "password"),
    "bomb.docx": (documents.zip_bomb_docx, ""),
    "unknown.bin": (bytes(range(256)) * 20, ""),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_file_ends_dead_with_a_sentence_and_the_next_one_is_served(user, listen, watch, name):
    await listen()
    content, word = BAD[name]
    await user.upload(name, content() if callable(content) else content)
    await user.upload("good.md", TEXT)
    assert (await watch.ended(user, name))["state"] == "dead"
    error = (await user.job(name))["error"]
    assert word.lower() in error.lower()
    assert error.endswith((".", ")"))
    assert (await watch.ended(user, "good.md"))["state"] == "completed"


async def test_a_file_that_kills_its_parser_costs_attempts_of_one_job(user, listen, watch):
    await listen(parse_timeout_seconds=5, poll_seconds=0.2)
    await watch.connection.execute("update pipeline.settings set backoff_base = '0.1 seconds'")
    try:
        await user.upload("killer.pdf", documents.killer_pdf())
        await user.upload("good.md", TEXT)
        assert (await watch.ended(user, "good.md"))["state"] == "completed"
        killer = await watch.ended(user, "killer.pdf")
        assert (killer["state"], killer["failures"], killer["error_class"]) == ("dead", 2, "crash")
        assert killer["error"]
    finally:
        await watch.connection.execute("update pipeline.settings set backoff_base = '10 seconds'")


async def test_a_nul_byte_in_a_text_is_survived(user, listen, watch):
    await listen()
    await user.upload("nul.txt", documents.text_with_nul())
    assert (await watch.ended(user, "nul.txt"))["state"] == "completed"


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"database_url": "postgresql://pipeline_worker:x@127.0.0.1:6543/postgres"}, "6543"),
        ({"database_url": "postgresql://pipeline_worker:x@db.example.org:5432/postgres"}, "TLS"),
        ({"database_url": ""}, "UPLOAD_PIPELINE_DATABASE_URL"),
        ({"supabase_service_role_key": ""}, "SERVICE_ROLE_KEY"),
        ({"embedder": "openai", "openai_api_key": "x"}, "space"),
    ],
)
async def test_a_listener_that_cannot_work_says_what_to_change(listen, setting, word):
    with pytest.raises(SetupError, match=word):
        await listen(**setting)


@pytest.mark.embedded("no other project gives us its superuser")
async def test_a_superuser_is_refused(project, listen):
    with pytest.raises(SetupError, match="superuser"):
        await listen(database_url=project.superuser_url)


async def test_a_listener_mends_what_is_wrong_in_the_queue_and_says_so(user, listen, watch, caplog):
    await user.upload("a.md", TEXT)
    await watch.connection.execute("delete from pipeline.wakeups")
    await watch.connection.execute("update pipeline.healing set rested_at = '-infinity', position = null")
    caplog.set_level("WARNING", "pipeline.queue.worker")
    await listen()
    assert (await watch.ended(user, "a.md"))["state"] == "completed"
    healed = [record.healed for record in caplog.records if record.getMessage() == "healed"]
    assert healed == [{"owners that nobody was woken for": 1}]
