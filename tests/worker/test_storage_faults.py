"""Files whose bytes are gone, keys that are refused, Storages that are away or another project's: whose fault it is,
and who waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from pipeline.embedded import EmbeddedSupabase
from pipeline.errors import SetupError
from pipeline.operate import migrate
from pipeline.operate.checks import Finding, check
from tests.faults.proxy import Proxy
from tests.project import SPACE, WORKER_PASSWORD, Project
from tests.worker.storage_front import DENIED, GONE, INTERNAL, NO_BUCKET, Front, is_download
from tests.world import Watch, listener_settings, new_user

TEXT = b"# Handbook\n\nThe deductible for knee surgery is 500 dollars.\n"
WRONG_KEY = "sb_secret_a_key_that_was_never_made"
KEYS = "select * from pipeline.provider_health where stage = 'fetch' and listeners > 0"


@pytest_asyncio.fixture(scope="module")
async def project() -> AsyncIterator[Project]:
    """A project of its own, with delays that a test can wait for."""
    async with EmbeddedSupabase.start() as supabase:
        await migrate.apply(supabase.db_url, worker_password=WORKER_PASSWORD, activate_space=SPACE)
        async with await migrate.connect(supabase.db_url) as connection:
            await connection.execute("update pipeline.limits set uploads_per_day = null where owner_id is null")
            await connection.execute(
                "update pipeline.settings set backoff_base = '0.1 seconds', probe_every = '1 second'"
            )
        yield Project(supabase)


@pytest_asyncio.fixture
async def front(project: Project) -> AsyncIterator[Front]:
    async with Front(project.api_url).serve() as front:
        yield front


@pytest_asyncio.fixture(autouse=True)
async def nobodys_files(project: Project) -> AsyncIterator[None]:
    """Each test has the bucket for itself."""
    yield
    async with await psycopg.AsyncConnection.connect(project.superuser_url, autocommit=True) as root:
        await root.execute("set storage.allow_delete_query = 'true'")
        await root.execute("delete from storage.objects where bucket_id = 'documents'")
        await root.execute("delete from pipeline.jobs")
        await root.execute("delete from pipeline.listeners")
        await root.execute("delete from pipeline.provider_keys")
        await root.execute("delete from pipeline.erasures")


def fast(front: Front | None = None, **more: Any) -> dict[str, Any]:
    return {"poll_seconds": 0.2} | ({"supabase_url": front.url} if front else {}) | more


async def checked(project: Project, **more: Any) -> dict[str, Finding]:
    return {finding.name: finding for finding in await check(listener_settings(project, **more))}


async def no_failures(watch: Watch) -> None:
    row = await (
        await watch.connection.execute(
            "select count(*) as n from pipeline.job_events where failures > 0 or to_state in ('dead', 'cancelled')"
        )
    ).fetchone()
    assert row == {"n": 0}


# a row without its bytes


@pytest.mark.parametrize("answer", [INTERNAL, GONE], ids=["disk", "S3"])
async def test_a_file_without_its_bytes_ends_dead_after_its_tries_and_the_operator_sees_it(
    project, user, listen, watch, front, answer
):
    front.lost["lost.md"] = answer
    await listen(**fast(front))
    await user.upload("good.md", TEXT)
    assert (await watch.ended(user, "good.md"))["state"] == "completed"
    await user.upload("lost.md", TEXT)
    job = await watch.ended(user, "lost.md")
    assert (job["state"], job["failures"], job["error_class"]) == ("dead", 3, "lost")
    assert (await user.job("lost.md"))["error"] == "Storage lost the file; upload it again."
    assert await (await watch.connection.execute(KEYS + " and state = 'ready'")).fetchall()
    found = (await checked(project))["lost files"]
    assert found.ok is False and "1 file" in found.detail and "lost_files" in found.remedy
    [row] = await (await watch.connection.execute("select * from pipeline.lost_files")).fetchall()
    assert row["name"] == f"{user.id}/lost.md"

    # the bytes are back
    front.lost.clear()
    await watch.connection.execute("select pipeline.retry(%s)", (job["id"],))
    assert (await watch.ended(user, "lost.md"))["state"] == "completed"
    assert "lost files" not in await checked(project) or (await checked(project))["lost files"].ok


@pytest.mark.parametrize("answer", [INTERNAL, GONE], ids=["disk", "S3"])
async def test_so_does_the_only_file_of_a_project(user, listen, watch, front, answer):
    front.lost["lost.md"] = answer
    await listen(**fast(front))
    await user.upload("lost.md", TEXT)
    assert (await watch.ended(user, "lost.md"))["error_class"] == "lost"


async def test_uploading_it_again_mends_it(project, user, listen, watch, front):
    front.lost["lost.md"] = INTERNAL
    await listen(**fast(front))
    await user.upload("lost.md", TEXT)
    assert (await watch.ended(user, "lost.md"))["state"] == "dead"
    front.lost.clear()
    await user.upload("lost.md", TEXT, upsert=True)
    await watch.until("select from pipeline.jobs where name = %s and state = 'completed'", f"{user.id}/lost.md")
    assert (await checked(project))["lost files"].ok


async def test_bytes_of_another_length_are_lost_bytes(user, listen, watch, front, project):
    """A disk that was restored in part: the row has one size, the blob another."""
    await user.upload("good.md", TEXT)
    await user.upload("cut.md", TEXT)
    await watch.connection.execute(
        "update pipeline.jobs set size = 7, etag = null where name = %s", (f"{user.id}/cut.md",)
    )
    await listen(**fast(front))
    assert (await watch.ended(user, "cut.md"))["error_class"] == "lost"


async def test_eleven_lost_files_of_one_user_hold_up_nobody(user, other_user, listen, watch, front):
    front.lost["lost.md"] = INTERNAL
    for n in range(11):
        await user.upload(f"{n}-lost.md", TEXT)
    await listen(**fast(front))
    await listen(**fast(front))
    for n in range(6):
        await other_user.upload(f"{n}.md", TEXT + bytes(str(n), "ascii"))
    for n in range(6):
        job = await watch.ended(other_user, f"{n}.md", timeout=30)
        assert (job["state"], job["failures"]) == ("completed", 0)
    for n in range(11):
        assert (await watch.ended(user, f"{n}-lost.md"))["error_class"] == "lost"


async def test_an_outage_of_the_bytes_alone_kills_no_file(user, listen, watch, front):
    """The server and its database are well, its S3 is not: every download fails and nothing else."""
    await listen(**fast(front))
    await user.upload("before.md", TEXT)
    await watch.ended(user, "before.md")
    front.fault = lambda method, path: INTERNAL if is_download(method, path) else None
    for n in range(5):
        await user.upload(f"{n}.md", TEXT)
    await watch.until(KEYS + " and state = 'down'")
    front.fault = lambda method, path: None
    for n in range(5):
        assert (await watch.ended(user, f"{n}.md"))["state"] == "completed"
    await no_failures(watch)


# an outage


async def test_a_storage_that_is_away_is_seen_from_every_machine_and_costs_nothing(project, user, listen, watch):
    url = project.api_url.removeprefix("http://")
    host, _, port = url.partition(":")
    async with Proxy((host, int(port))).serve() as proxy:
        through = f"http://{proxy.host}:{proxy.port}"
        await listen(**fast(supabase_url=through))
        await listen(**fast(supabase_url=through))
        proxy.refuse()
        for n in range(4):
            await user.upload(f"{n}.md", TEXT)
        row = await watch.until(KEYS + " and state = 'down'")
        assert (row["provider"], row["listeners"]) == ("storage", 2)
        [seen] = [f for name, f in (await checked(project)).items() if name == f"storage key {row['fingerprint']}"]
        assert seen.ok is False and "down since" in seen.detail and "2 listeners" in seen.detail
        before = await attempts(watch)
        await watch.until(KEYS + " and retry_at > since + interval '300 milliseconds'")
        assert await attempts(watch) == before, "nobody claims what nobody can read"
        proxy.refuse(False)
        for n in range(4):
            assert (await watch.ended(user, f"{n}.md"))["state"] == "completed"
        await no_failures(watch)


async def attempts(watch: Watch) -> int:
    row = await (await watch.connection.execute("select sum(attempt) as n from pipeline.jobs")).fetchone()
    assert row is not None
    return row["n"]


async def test_it_is_noticed_without_an_upload_that_storage_is_back(listen, watch, front):
    front.fault = lambda method, path: INTERNAL
    await listen(**fast(front))
    await watch.connection.execute("update pipeline.provider_keys set outages = 2")
    await watch.connection.execute(
        "select pipeline.observe(provider, fingerprint, stage, 'down', null, 'away') from pipeline.provider_keys"
    )
    await watch.until(KEYS + " and state = 'down'")
    front.fault = lambda method, path: None
    await watch.until(KEYS + " and state = 'ready'")


# a key


async def test_a_listener_with_a_wrong_key_takes_nothing_from_a_healthy_one(project, user, listen, watch):
    await listen(**fast(supabase_service_role_key=WRONG_KEY))
    await listen(**fast())
    for n in range(20):
        await user.upload(f"{n}.md", TEXT + bytes(str(n), "ascii"))
    for n in range(20):
        job = await watch.ended(user, f"{n}.md")
        assert (job["state"], job["attempt"], job["failures"]) == ("completed", 1, 0)
    row = await watch.until(KEYS + " and state = 'refused'")
    found = await checked(project)
    wrong = found[f"storage key {row['fingerprint']}"]
    assert wrong.ok is False and "used by 1 listener" in wrong.detail
    assert "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY" in wrong.detail + wrong.remedy
    assert WRONG_KEY not in str(found) and found["storage"].ok
    assert len(await (await watch.connection.execute(KEYS + " and state = 'ready'")).fetchall()) == 1


async def test_jobs_that_waited_for_a_key_go_on_with_the_first_listener_that_has_a_good_one(user, listen, watch):
    await listen(**fast(supabase_service_role_key=WRONG_KEY))
    await user.upload("a.md", TEXT)
    await watch.until(KEYS + " and state = 'refused'")
    assert (await user.job("a.md"))["state"] == "available"
    await listen(**fast())
    job = await watch.ended(user, "a.md")
    assert (job["state"], job["failures"]) == ("completed", 0)


async def test_a_key_that_is_refused_for_a_while_is_probed_and_its_jobs_go_on(user, listen, watch, front):
    await listen(**fast(front))
    await watch.until(KEYS + " and state = 'ready'")
    front.fault = lambda method, path: DENIED
    await user.upload("a.md", TEXT)
    await watch.until(KEYS + " and state = 'refused'")
    seen = await user.job("a.md")
    assert seen["state"] == "available" and "operator" in seen["error"]
    front.fault = lambda method, path: None
    job = await watch.ended(user, "a.md")
    assert (job["state"], job["failures"]) == ("completed", 0)


async def test_the_public_key_in_the_service_keys_place_cancels_nothing_and_is_named(project, user, listen, watch):
    await user.upload("a.md", TEXT)
    await listen(**fast(supabase_service_role_key=project.anon_key))
    row = await watch.until(KEYS + " and state = 'refused'")
    assert "is a key for anon" in row["reason"]
    assert (await user.job("a.md"))["state"] == "available"
    found = (await checked(project, supabase_service_role_key=project.anon_key))["storage"]
    assert found.ok is False and "is a key for anon" in found.detail


# another project


@pytest_asyncio.fixture(scope="module")
async def stranger() -> AsyncIterator[Project]:
    """Another project, migrated as ours is."""
    async with EmbeddedSupabase.start() as supabase:
        await migrate.apply(supabase.db_url, worker_password=WORKER_PASSWORD, activate_space=SPACE)
        yield Project(supabase)


def theirs(stranger: Project) -> dict[str, Any]:
    return {"supabase_url": stranger.api_url, "supabase_service_role_key": stranger.service_role_key}


async def test_the_storage_of_another_project_is_refused_at_start_with_both_names(
    project, stranger, user, listen, watch
):
    await user.upload("a.md", TEXT)
    with pytest.raises(SetupError) as refused:
        await listen(**theirs(stranger))
    for word in (stranger.api_url, "/postgres", "UPLOAD_PIPELINE_DATABASE_URL", "UPLOAD_PIPELINE_SUPABASE_URL"):
        assert word in str(refused.value)
    assert WORKER_PASSWORD not in str(refused.value)
    found = (await checked(project, **theirs(stranger)))["storage"]
    assert found.ok is False and stranger.api_url in found.detail and "same project" in found.remedy
    assert (await user.job("a.md"))["state"] == "available"


async def test_so_is_one_without_our_bucket_and_a_clone_whose_bucket_is_the_same_to_the_microsecond(
    project, stranger, listen, watch, front
):
    front.fault = lambda method, path: NO_BUCKET if path.endswith("/bucket/documents") else None
    with pytest.raises(SetupError, match="not of one project"):
        await listen(**fast(front))
    row = await (
        await watch.connection.execute("select created_at, updated_at from storage.buckets where id = 'documents'")
    ).fetchone()
    assert row is not None
    async with await migrate.connect(stranger.db_url) as clone:
        await clone.execute(
            "update storage.buckets set created_at = %(created_at)s, updated_at = %(updated_at)s "
            "where id = 'documents'",
            row,
        )
    with pytest.raises(SetupError, match="not of one project"):
        await listen(**theirs(stranger))


async def test_listeners_that_start_at_once_know_their_project(project, listen):
    await asyncio.gather(*(listen() for _ in range(8)))


async def test_a_gateway_that_turns_to_another_project_cancels_nothing(project, stranger, user, listen, watch):
    """The URL stays, and what answers is another project: a name's address was changed under a running listener."""
    async with Front(project.api_url).serve() as front:
        await listen(**fast(front))
        await user.upload("before.md", TEXT)
        await watch.ended(user, "before.md")
        front.target, ours = stranger.api_url, front.target
        for n in range(3):
            await user.upload(f"{n}.md", TEXT)
        row = await watch.until(KEYS + " and state = 'refused'")
        assert "401" in row["reason"]
        front.target = ours
        for n in range(3):
            assert (await watch.ended(user, f"{n}.md"))["state"] == "completed"
        await no_failures(watch)


async def test_a_gateway_without_our_rows_cancels_nothing_either(user, listen, watch, front):
    """As the one before, where both projects trust the same keys: no row of ours is there, and no mark."""
    await listen(**fast(front))
    front.fault = lambda method, path: NO_BUCKET if "/bucket/" in path else GONE
    await user.upload("a.md", TEXT)
    row = await watch.until(KEYS + " and state = 'refused'")
    assert "not of one project" in row["reason"]
    front.fault = lambda method, path: None
    job = await watch.ended(user, "a.md")
    assert (job["state"], job["failures"]) == ("completed", 0)


# what deletes


async def test_a_refused_delete_is_told_and_reads_go_on(project, listen, watch, front):
    person = await new_user(project)
    await person.upload("plan.md", TEXT)
    front.fault = lambda method, path: DENIED if method == "DELETE" else None
    await listen(**fast(front))
    await watch.ended(person, "plan.md")
    await delete_user(project, person.id)
    ours = "select * from pipeline.receipts where pseudonym = pipeline.pseudonym(%s)"
    failing = await watch.until(f"{ours} and failures > 0", person.id)
    assert "403" in failing["last_error"]
    found = await checked(project)
    assert found["erasures"].ok is False and "403" in found["erasures"].detail
    assert await (await watch.connection.execute(KEYS + " and state = 'ready'")).fetchall()
    assert front.seen["DELETE"] <= 2
    front.fault = lambda method, path: None
    await watch.connection.execute("update pipeline.erasures set due_at = pipeline.now() where failures > 0")
    await watch.until(f"{ours} and emptied_at is not null", person.id)


async def test_an_erasure_is_left_to_a_listener_that_storage_lets_in(project, listen, watch, front):
    person = await new_user(project)
    await person.upload("plan.md", TEXT)
    front.fault = lambda method, path: DENIED
    await listen(**fast(front))
    await watch.until(KEYS + " and state = 'refused'")
    before = front.seen["DELETE"]
    await delete_user(project, person.id)
    await listen(**fast())
    ours = "select * from pipeline.receipts where pseudonym = pipeline.pseudonym(%s) and emptied_at is not null"
    receipt = await watch.until(ours, person.id)
    assert (receipt["files"], receipt["failures"], front.seen["DELETE"]) == (1, 0, before)


async def delete_user(project: Project, user_id: str) -> None:
    from supabase import acreate_client

    admin = await acreate_client(project.api_url, project.service_role_key)
    await admin.auth.admin.delete_user(user_id)
