"""`pipeline bench providers`, for a few seconds: whether it measures, not how much."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cli.main import app
from pipeline.embedded.fakes.limits import Bucket, by_the_second


@pytest.mark.soak
def test_the_limit_is_used_up_and_not_exceeded():
    done = CliRunner().invoke(app, ["bench", "providers", "--seconds", "60", "--json"])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    for kind in ("one listener", "three listeners"):
        assert figures[kind]["used_percent"] > 90
        assert figures[kind]["refused_percent"] < 1
    assert figures["three listeners, the limit halved in silence"]["used_percent"] > 85
    assert figures["naive loop"]["refused_percent"] > 50


def test_a_bucket_refills_by_the_second_and_no_further_than_a_minutes_worth(monkeypatch):
    now = [100.9]
    monkeypatch.setattr("pipeline.embedded.fakes.limits.time.monotonic", lambda: now[0])
    bucket = Bucket(600, by_the_second)
    bucket.take(600)
    for at, level in ((100.99, 0), (101.1, 10), (103.0, 30), (1000.0, 600)):
        now[0] = at
        assert bucket.level == level
