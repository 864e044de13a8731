"""`pipeline bench upload` at a small size: it measures what it says, in both buckets."""

from __future__ import annotations

import json
import re
import subprocess

from bench.upload import STATEMENTS, kept_row
from tests.cli.conftest import PIPELINE, ROOT, clean_environment

CASES = {"one owner, one client", "one owner, eight clients", "eight owners, eight clients"}


def test_the_price_of_the_triggers_is_measured_in_statements_and_through_the_gateway():
    result = subprocess.run(
        [*PIPELINE, "bench", "upload", "--rounds", "1", "--seconds", "1", "--json"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    for what in ("statements", "gateway"):
        assert set(figures[what]) == CASES
        for row in figures[what].values():
            assert row["ours_per_second"] > 0 and row["alone_per_second"] > 0
            assert abs(row["ours_per_second"] / row["alone_per_second"] - row["kept"]) < 0.02
    assert "statements, round 1 of 1: one owner, one client" in result.stderr


def test_a_figure_is_the_median_of_the_rounds_with_the_least_and_the_most():
    row = kept_row([90.0, 50.0, 85.0], [100.0, 100.0, 100.0])
    assert row == {
        "ours_per_second": 85.0,
        "alone_per_second": 100.0,
        "kept": 0.85,
        "kept_least": 0.5,
        "kept_most": 0.9,
    }


def test_the_statements_are_a_check_that_is_rolled_back_and_a_write_that_stays():
    ends = re.findall(r"^(begin|commit|rollback);", STATEMENTS.read_text(), re.MULTILINE)
    assert ends == ["begin", "commit", "begin", "rollback", "begin", "commit"]
