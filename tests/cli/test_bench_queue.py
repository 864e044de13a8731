"""`pipeline bench queue` at sizes that only show that it works; the other queues stay out, as in a default install."""

from __future__ import annotations

import json
import subprocess

from tests.cli.conftest import PIPELINE, ROOT, clean_environment


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PIPELINE, "bench", *arguments],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_queue_drains_beside_a_bare_loop():
    only = [part for name in ("1,000 owners", "storage.objects", "bare") for part in ("--only", name)]
    result = bench("queue", "--jobs", "60", "--rounds", "1", "--wakes", "3", *only, "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)["contestants"]
    for name in ("pipeline, 1,000 owners with a limit of 2", "bare loop"):
        assert rows[name]["durable"]["jobs_per_second_with_2"] > 0
        assert rows[name]["off"]["jobs_per_second_with_2"] > 0
        assert 0 < rows[name]["commit_to_start"]["p50_ms"] <= rows[name]["commit_to_start"]["p99_ms"]
        assert rows[name]["eight_listeners"]["statements_per_job"] >= 0
    assert rows["pipeline, through the trigger on storage.objects"]["enqueue"]["single_per_second"] > 0
    assert "round 1 of 1" in result.stderr


def test_tables_name_versions_and_what_is_not_installed():
    from bench.queue import markdown

    figures = {
        "jobs": 10,
        "rounds": 1,
        "wakes": 1,
        "cores": 2,
        "python": "3",
        "contestants": {
            "one": {"version": "1.2", "settings": "fast", "durable": {"jobs_per_second_with_1": 12345}},
            "two": {"version": "", "settings": "faster", "missing": "not installed: pip install two"},
        },
    }
    text = markdown(figures)
    assert "| one 1.2 | 12,345 |" in text
    assert "| two (not installed: pip install two) |" in text


def test_the_cost_of_a_claim_is_shown_as_the_queue_grows():
    result = bench("growth", "--max", "1000", "--claims", "3", "--json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)["rows"]
    assert [row["owners"] for row in rows] == [1000, 1, 10, 100, 1000, 1000]
    assert all(row["queued"] == 1000 and row["claim_of_hundred"]["p50_ms"] > 0 for row in rows)
    assert rows[0]["claim_of_one"]["to_the_first"] == 1.0
    assert rows[-1]["to_be_woken"] == 1000
