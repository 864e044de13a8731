"""The commands against a running `pipeline dev`."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
import uuid

import psycopg
import pytest

from tests.cli.conftest import PIPELINE, clean_environment, start_dev, stop_dev, write

KEYS = {
    "api_url",
    "anon_key",
    "service_role_key",
    "publishable_key",
    "secret_key",
    "jwt_secret",
    "db_url",
    "worker_db_url",
}


def test_dev_prints_its_keys(dev):
    assert set(dev.line) == KEYS
    assert all(dev.line.values())


def test_a_second_start_is_quick_keeps_its_data_and_leaves_nothing(folder):
    first = start_dev(folder / "kept", "--no-listener")
    with psycopg.connect(first.line["db_url"], autocommit=True) as connection:
        connection.execute("update pipeline.settings set max_failures = 7")
    assert stop_dev(first, signal.SIGINT) == 0
    assert first.rest == []

    began = time.monotonic()
    second = start_dev(folder / "kept")
    assert time.monotonic() - began < 10
    # Postgres chooses its port anew; what clients hold stays good.
    assert {key: value for key, value in second.line.items() if "db_url" not in key} == {
        key: value for key, value in first.line.items() if "db_url" not in key
    }
    with psycopg.connect(second.line["worker_db_url"], autocommit=True) as connection:
        assert connection.execute("select max_failures from pipeline.settings").fetchone() == (7,)
        pid = connection.execute("select listeners from pipeline.health()").fetchone()
    assert pid == (1,)
    assert stop_dev(second) == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(second.line["db_url"], connect_timeout=5)


def test_without_a_data_folder_everything_is_temporary(folder):
    (folder / "temporary-dev").mkdir()
    running = start_dev(folder / "temporary-dev" / "unused", "--no-listener", kept=False)
    assert list((folder / "temporary-dev").iterdir()) != []
    assert stop_dev(running) == 0
    assert list((folder / "temporary-dev").iterdir()) == []


def test_a_data_folder_that_is_served_already_is_refused(dev):
    done = subprocess.run(
        [*PIPELINE, "dev", "--json", "--data-dir", str(dev.data_dir)],
        env=clean_environment(),
        cwd=dev.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "served by another process already" in done.stderr
    assert done.stdout == ""


def test_a_session_is_kept_privately_and_forgotten(signed_in):
    file = signed_in.home / "config/document-pipeline/session.json"
    assert file.stat().st_mode & 0o777 == 0o600
    said = signed_in.run("search", "anything").stderr
    assert f"As {signed_in.user['email']}, with the session kept by `pipeline sign-in`" in said
    signed_in.run("sign-out")
    assert not file.exists()
    assert "Nobody is signed in" in signed_in.run("search", "anything", expect=1).stderr


def test_a_session_that_ran_out_is_refreshed(signed_in):
    file = signed_in.home / "config/document-pipeline/session.json"
    kept = json.loads(file.read_text())
    head, _, tail = kept["access_token"].split(".")
    # exp 1: long ago. The client refreshes before it sends the token anywhere.
    file.write_text(json.dumps(kept | {"access_token": f"{head}.eyJleHAiOjF9.{tail}"}))
    signed_in.run("search", "anything")
    assert json.loads(file.read_text())["refresh_token"] != kept["refresh_token"]


def test_a_folder_is_ingested_and_found(signed_in):
    docs = write(
        signed_in,
        knee_md="# Cover\n\nThe deductible for knee surgery is 500 dollars.",
        deep__über_txt="Notice of cancellation must be given three months before the year ends.",
    )
    files = signed_in.json("ingest", docs, "--prefix", "2026", "--wait")
    assert {file["outcome"] for file in files} == {"completed"}

    answer = signed_in.json("search", "How much do I pay for an operation on my knee?")
    assert answer["hybrid"] is True
    best = answer["hits"][0]
    assert best["name"] == f"{signed_in.user['user_id']}/2026/knee.md"
    assert best["matched_by"] in ("vector", "both")
    assert "2026/deep/über.txt" in signed_in.run("search", "cancellation", "--under", "2026/deep").stdout

    again = signed_in.json("ingest", docs, "--prefix", "2026", "--wait")
    assert {file["outcome"] for file in again} == {"completed"}
    assert "there already" in signed_in.run("ingest", docs, "--prefix", "2026").stdout


def test_an_operator_works_for_a_user_with_the_keys(signed_in):
    email, user_id = signed_in.user["email"], signed_in.user["user_id"]
    signed_in.run("sign-out")
    docs = write(signed_in, pump_txt="The pump of the cellar is serviced every March.")
    done = signed_in.run("ingest", docs, "--wait", "--as-user", email)
    assert f"As {email}, with the service key" in done.stderr
    found = signed_in.run("search", "When is the pump serviced?", "--as-user", user_id, "--json")
    assert "signed with the JWT secret" in found.stderr
    assert json.loads(found.stdout)["hits"][0]["name"] == f"{user_id}/pump.txt"
    stranger = str(uuid.uuid4())
    assert "There is no user" in signed_in.run("ingest", docs, "--as-user", stranger, expect=1).stderr
    del signed_in.environment["UPLOAD_PIPELINE_JWT_SECRET"]
    assert "UPLOAD_PIPELINE_JWT_SECRET" in signed_in.run("search", "x", "--as-user", user_id, expect=1).stderr


def test_a_question_that_cannot_be_embedded_is_searched_by_words(signed_in):
    docs = write(signed_in, pump_txt="The pump of the cellar is serviced every March.")
    signed_in.run("ingest", docs, "--wait")
    signed_in.environment["UPLOAD_PIPELINE_EMBEDDER"] = "openai"
    done = signed_in.run("search", "pump", "--json")
    answer = json.loads(done.stdout)
    assert "UPLOAD_PIPELINE_OPENAI_API_KEY" in answer["reason"]
    assert "By words alone" in done.stderr
    assert answer["hits"][0]["matched_by"] == "keyword"


def test_jobs_are_listed_shown_cancelled_and_retried(signed_in):
    signed_in.run("pause")
    try:
        docs = write(signed_in, one_txt="One.", two_txt="Two.")
        signed_in.run("ingest", docs)
        mine = ["--owner", signed_in.user["email"]]
        listed = signed_in.json("jobs", "list", *mine)
        assert [job["state"] for job in listed["jobs"]] == ["available", "available"]
        assert "The queue is paused" in signed_in.run("jobs", "list", *mine).stderr
        first = str(listed["jobs"][0]["id"])
        assert signed_in.json("jobs", "cancel", first) == [{"id": int(first), "state": "cancelled", "refused": None}]
        assert "is cancelled" in signed_in.run("jobs", "show", first).stdout or signed_in.json("jobs", "show", first)
        signed_in.run("jobs", "cancel", "--state", "available", "--all", *mine)
        assert {job["state"] for job in signed_in.json("jobs", "list", *mine)["jobs"]} == {"cancelled"}
        again = signed_in.json("jobs", "retry", "--state", "cancelled", "--error-class", "cancelled", "--all", *mine)
        assert [job["state"] for job in again] == ["available", "available"]
        assert "only a dead or cancelled job" in signed_in.run("jobs", "retry", first, expect=1).stdout
    finally:
        signed_in.run("resume")
    lines = signed_in.run("jobs", "watch", *mine, "--until-idle", "--every", "0.1", "--json").stdout.splitlines()
    assert json.loads(lines[-1])["state"] == "completed"
    events = signed_in.json("jobs", "show", first)["events"]
    assert [event["to_state"] for event in events] == ["available", "cancelled", "available", "running", "completed"]


def test_check_finds_nothing_wrong_here_and_says_what_is(person):
    findings = person.json("check")
    assert findings["ok"] is True
    person.environment["UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY"] = "sb_secret_wrong"
    wrong = person.json("check", expect=1)
    assert [finding["name"] for finding in wrong["findings"] if finding["ok"] is False] == ["storage"]


def test_migrate_twice_changes_nothing(person, dev):
    assert person.json("migrate", "--dry-run") == {"pending": [], "in_the_way": []}
    assert person.json("migrate") == {
        "applied": [], "adopted": False, "put_back": [], "not_put_back": [], "space": None, "worker_db_url": None
    }  # fmt: skip


def test_a_listener_stops_on_sigterm(person):
    process = subprocess.Popen(
        [*PIPELINE, "listen"], env=person.environment, cwd=person.home, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if json.loads(line)["event"] == "listening":
            break
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    assert process.wait(timeout=30) == 0, rest
    assert json.loads(rest.splitlines()[-1])["event"] == "stopped"


def test_the_demo_succeeds_and_cleans_up(folder):
    temporary = folder / "temporary"
    temporary.mkdir()
    done = subprocess.run(
        [*PIPELINE, "demo"],
        env=clean_environment(TMPDIR=str(temporary)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert re.search(r"dead.*: \S", done.stdout)
    assert "Neither sees anything of the other" in done.stdout
    assert list(temporary.iterdir()) == []


def test_an_operator_sees_and_sets_what_a_user_may_use(signed_in):
    email = signed_in.user["email"]
    default = signed_in.json("limits", "list")["limits"][0]
    assert (default["owner_id"], default["uploads_per_day"], default["max_concurrent_jobs"]) == (None, 30, 2)
    row = signed_in.json("limits", "set", "--owner", email, "--uploads-per-day", "1", "--max-documents", "none")
    assert (row["uploads_per_day"], row["max_documents"], row["max_file_bytes"]) == (1, None, default["max_file_bytes"])

    signed_in.run("ingest", write(signed_in, one_txt="One."))
    refused = signed_in.run("ingest", write(signed_in, two_txt="Two."), "--upsert", expect=1)
    assert "limit of uploads for today (1)" in re.sub(r"\s+", " ", refused.stdout + refused.stderr)
    assert signed_in.json("limits", "show", email)["uploads_today"] == 1
    assert "1 uploads today" in signed_in.run("limits", "show", email).stdout
    assert signed_in.json("limits", "reset", email) == {"changed": True}
    assert signed_in.json("limits", "show", email)["uploads_per_day"] == 30
    assert "takes a number" in signed_in.run("limits", "set", "--max-documents", "many", expect=1).stderr


def test_the_erasure_of_a_user_leaves_a_receipt(signed_in, dev):
    signed_in.run("ingest", write(signed_in, plan_md="# Plan\n\nThe deductible is 500 dollars."), "--wait")
    with psycopg.connect(dev.line["db_url"], autocommit=True) as connection:
        connection.execute("delete from auth.users where id = %s", (signed_in.user["user_id"],))
    deadline = time.monotonic() + 30
    while True:
        [receipt] = signed_in.json("erasures", "show", signed_in.user["user_id"])["erasures"]
        if receipt["state"] == "emptied":
            break
        assert time.monotonic() < deadline, receipt
        time.sleep(0.1)
    assert (receipt["files"], receipt["documents"]) == (1, 1)
    assert signed_in.json("erasures", "show", receipt["pseudonym"])["erasures"] == [receipt]
    assert receipt in signed_in.json("erasures", "list", "--unfinished")["erasures"]
    assert receipt["pseudonym"] in signed_in.run("erasures", "list").stdout
    assert "documents" in signed_in.run("erasures", "show", receipt["pseudonym"]).stdout
    assert "was deleted" in signed_in.run("erasures", "show", str(uuid.uuid4()), expect=1).stderr
