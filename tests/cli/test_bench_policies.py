"""`pipeline bench policies` at a small size: it measures what it says, on both sides."""

from __future__ import annotations

import json
import subprocess

from tests.cli.conftest import PIPELINE, ROOT, clean_environment


def test_the_price_of_the_policies_is_measured_on_both_sides():
    result = subprocess.run(
        [*PIPELINE, "bench", "policies", "--owners", "20", "--chunks", "1000", "--runs", "10", "--json"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert (figures["owners"], figures["chunks"]) == (20, 1000)
    for name in ("upload", "select of one's own chunks", "search by words", "hybrid search"):
        row = figures[name]
        assert row["policies_ms"] > 0 and row["by_hand_ms"] > 0
        assert abs((row["policies_ms"] / row["by_hand_ms"] - 1) * 100 - row["apart_percent"]) < 1
    for plan in figures["plans"].values():
        assert "Seq Scan on chunks" not in "\n".join(plan)
