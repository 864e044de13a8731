"""Several listeners, and listeners that are told to stop, killed, or cut off: as the processes that production runs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests import documents
from tests.world import new_user

ROOT = Path(__file__).resolve().parents[2]
SECRET_TEXT = "the patient's secret is a left-handed zebra"


async def start_listener(project: Any, folder: Path, **more: str) -> subprocess.Popen[bytes]:
    """`pipeline listen` as a process that has begun to listen; its log is `folder`/listener-PID.log."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("UPLOAD_PIPELINE_")}
    log = folder / "starting.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "listen"],
            cwd=folder,
            stdout=file,
            stderr=file,
            env=kept
            | {
                "PYTHONPATH": str(ROOT),
                # a killed listener leaves its downloads behind: here they go with the test's folder
                "TMPDIR": str(folder),
                "UPLOAD_PIPELINE_SUPABASE_URL": project.api_url,
                "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY": project.service_role_key,
                "UPLOAD_PIPELINE_DATABASE_URL": project.worker_url,
                "UPLOAD_PIPELINE_POLL_SECONDS": "0.5",
                "UPLOAD_PIPELINE_LEASE_SECONDS": "2",
            }
            | more,
        )
    log = log.rename(folder / f"listener-{process.pid}.log")
    async with asyncio.timeout(60):
        while b'"listening"' not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.05)
    return process


def log_lines(folder: Path) -> list[dict[str, Any]]:
    """Every line of every listener's log: all of them must be JSON."""
    return [json.loads(line) for path in folder.glob("listener-*.log") for line in path.read_text().splitlines()]


@pytest.fixture
async def process(project, tmp_path):
    """Start listener processes; whatever still runs at the end is killed."""
    running: list[subprocess.Popen[bytes]] = []

    async def start(**more: str) -> subprocess.Popen[bytes]:
        running.append(await start_listener(project, tmp_path, **more))
        return running[-1]

    yield start
    for each in running:
        if each.poll() is None:
            each.kill()
        each.wait(30)


@pytest.fixture
async def quick_backoff(watch):
    await watch.connection.execute("update pipeline.settings set backoff_base = '0.1 seconds'")
    yield
    await watch.connection.execute("update pipeline.settings set backoff_base = '10 seconds'")


async def runs(watch, user) -> list[dict[str, Any]]:
    """Each of the user's jobs: how it ended, how often it was claimed, and by whom."""
    cursor = await watch.connection.execute(
        "select j.state, j.attempt, j.failures, count(e.id) as claims, max(e.claimed_by) as listener "
        "from pipeline.jobs j left join pipeline.job_events e on e.job_id = j.id and e.to_state = 'running' "
        "where j.owner_id = %s group by j.id order by j.id",
        (user.id,),
    )
    return await cursor.fetchall()


async def finished(watch, users, count: int) -> None:
    await watch.until(
        "select 1 from pipeline.jobs where owner_id = any (%s) "
        "having count(*) = %s and bool_and(finished_at is not null)",
        [user.id for user in users],
        count,
    )


def paragraphs(count: int) -> bytes:
    return b"\n\n".join(b"Paragraph %d about insurance and knees." % n for n in range(count))


async def test_two_listeners_share_the_work_and_no_job_runs_twice(project, watch, process, tmp_path):
    await asyncio.gather(
        process(UPLOAD_PIPELINE_CONCURRENCY="1", UPLOAD_PIPELINE_LEASE_SECONDS="30"),
        process(UPLOAD_PIPELINE_CONCURRENCY="1", UPLOAD_PIPELINE_LEASE_SECONDS="30"),
    )
    users = [await new_user(project) for _ in range(3)]
    await asyncio.gather(*(user.upload(f"{n}.md", paragraphs(1 + n)) for user in users for n in range(6)))
    await finished(watch, users, 18)
    rows = [row for user in users for row in await runs(watch, user)]
    assert {(row["state"], row["attempt"], row["claims"], row["failures"]) for row in rows} == {("completed", 1, 1, 0)}
    assert len({row["listener"] for row in rows}) == 2


async def test_a_killed_listen_connection_loses_nothing(user, listen, watch):
    await listen()
    await listen()
    for n in range(8):
        if n % 3 == 1:
            await watch.connection.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'pipeline listen'"
            )
        await user.upload(f"{n}.md", b"Note number %d." % n)
    await finished(watch, [user], 8)
    assert {(row["state"], row["claims"]) for row in await runs(watch, user)} == {("completed", 1)}


async def test_a_dead_database_connection_of_a_working_job_loses_nothing(user, listen, watch, quick_backoff):
    await listen(lease_seconds=2, poll_seconds=0.3)
    await user.upload("big.md", paragraphs(150))
    await watch.until("select 1 from pipeline.jobs where name = %s and stage = 'embed'", f"{user.id}/big.md")
    await watch.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'pipeline_worker'"
    )
    assert (await watch.ended(user, "big.md"))["state"] == "completed"
    await user.upload("next.md", b"The next one.")
    assert (await watch.ended(user, "next.md"))["state"] == "completed"


async def test_sigterm_lets_the_running_job_finish_and_ends_with_0(user, watch, process):
    listener = await process()
    await user.upload("big.md", paragraphs(120))
    await watch.until("select 1 from pipeline.jobs where name = %s and stage = 'embed'", f"{user.id}/big.md")
    listener.send_signal(signal.SIGTERM)
    await user.upload("late.md", b"Uploaded after the signal.")
    assert await asyncio.to_thread(listener.wait, 60) == 0
    assert [(row["state"], row["claims"]) for row in await runs(watch, user)] == [("completed", 1), ("available", 0)]
    job = await user.job("late.md")
    await user.client.rpc("cancel_job", {"job_id": job["id"]}).execute()


async def test_sigkill_loses_nothing_and_leaves_no_child(user, watch, process, quick_backoff):
    listener = await process()
    await user.upload("big.md", paragraphs(150))
    await watch.until("select 1 from pipeline.jobs where name = %s and stage = 'embed'", f"{user.id}/big.md")
    children = Path(f"/proc/{listener.pid}/task/{listener.pid}/children").read_text().split()
    listener.kill()
    await asyncio.to_thread(listener.wait, 30)
    await process()
    assert (await watch.ended(user, "big.md"))["state"] == "completed"
    [row] = await runs(watch, user)
    assert (row["claims"], row["failures"]) == (2, 1)
    async with asyncio.timeout(10):
        while any(
            Path(f"/proc/{child}/cmdline").exists() and Path(f"/proc/{child}/cmdline").read_bytes()
            for child in children
        ):
            await asyncio.sleep(0.05)


async def test_logs_are_json_and_tell_no_secret(project, user, watch, process, tmp_path, quick_backoff):
    listener = await process(UPLOAD_PIPELINE_LOG_LEVEL="DEBUG")
    await user.upload("zebra-diagnosis.md", SECRET_TEXT.encode())
    await user.upload("zebra-scan.pdf", documents.pdf_scanned())
    await user.upload("zebra-broken.docx", documents.docx()[:3000] + SECRET_TEXT.encode())
    for name in ("zebra-diagnosis.md", "zebra-scan.pdf", "zebra-broken.docx"):
        await watch.ended(user, name)
    # what the driver says of a lost connection goes to the log as well
    await watch.connection.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'pipeline_worker'"
    )
    await user.upload("zebra-again.md", SECRET_TEXT.encode() * 2)
    await watch.ended(user, "zebra-again.md")
    listener.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(listener.wait, 60) == 0
    lines = log_lines(tmp_path)
    assert {"listening", "job started", "job completed", "job failed", "stopped"} <= {line["event"] for line in lines}
    assert all({"time", "level", "logger", "event"} <= line.keys() for line in lines)
    text = "\n".join(path.read_text() for path in tmp_path.glob("listener-*.log"))
    for secret in (project.service_role_key, project.worker_password, "zebra", "left-handed"):
        assert secret not in text
    assert "Traceback" not in text


async def test_a_database_that_is_gone_at_the_start_is_said_without_its_password(project, tmp_path):
    with pytest.raises(psycopg.OperationalError):
        await psycopg.AsyncConnection.connect(project.url_as("pipeline_worker", "wrong"))
    with pytest.raises(AssertionError) as failed:
        await start_listener(
            project, tmp_path, UPLOAD_PIPELINE_DATABASE_URL=project.url_as("pipeline_worker", "a-wrong-password")
        )
    said = str(failed.value)
    assert "UPLOAD_PIPELINE_DATABASE_URL" in said
    assert "a-wrong-password" not in said and project.service_role_key not in said
