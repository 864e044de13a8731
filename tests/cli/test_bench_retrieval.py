"""`pipeline bench retrieval`: what the documents say of how search ranks, and that the timing works at a small size."""

from __future__ import annotations

import json
import subprocess

from tests.cli.conftest import PIPELINE, ROOT, clean_environment


def test_keyword_equals_a_library_and_hybrid_is_above_both_of_its_parts():
    result = subprocess.run(
        [*PIPELINE, "bench", "retrieval", "--own", "100", "--own", "200", "--others", "1000", "--json"],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    for language in ("en", "ja"):
        recipes = ("keyword", "bm25_library", "vector", "hybrid")
        gain = {recipe: figures[language][recipe]["ndcg_at_10"] for recipe in recipes}
        assert abs(gain["keyword"] - gain["bm25_library"]) <= 0.01
        assert gain["hybrid"] > gain["keyword"]
        assert gain["hybrid"] > gain["vector"]
    for size in ("own_100", "own_200"):
        for kind in ("keyword", "hybrid"):
            assert 0 < figures["timing"][size][kind]["p50_ms"] <= figures["timing"][size][kind]["p95_ms"]
