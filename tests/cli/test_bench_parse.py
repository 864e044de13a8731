"""`pipeline bench parse`: it finds what is lost, names what was refused, and compares with an earlier run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from bench.parse import words
from tests import documents
from tests.cli.conftest import PIPELINE, ROOT, clean_environment


def bench(*arguments: str | Path) -> str:
    result = subprocess.run(
        [*PIPELINE, "bench", "parse", *map(str, arguments)],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_folder_is_measured_and_compared_with_an_earlier_run(tmp_path: Path):
    folder = tmp_path / "files"
    (folder / "deep").mkdir(parents=True)
    (folder / "handbook.docx").write_bytes(documents.docx())
    (folder / "deep" / "locked.pdf").write_bytes(documents.encrypted_pdf())
    figures = json.loads(bench(folder, "--json"))
    assert (figures["files"], figures["read"]) == (2, 1)
    assert [*figures["refused"].values()] == [1] and "password" in next(iter(figures["refused"]))
    docx = figures["kinds"][".docx"]
    assert docx["judged"] == 1, "python-docx is its judge"
    assert docx["recall"]["median"] > 0.99
    assert docx["time_ms"]["p99"] > 0
    earlier = tmp_path / "earlier.json"
    figures["each"][1]["recall"] = 0.5
    earlier.write_text(json.dumps(figures))
    told = bench(folder, "--before", earlier)
    assert "1 of 2 files were read" in told
    assert "1 files compared: 1 better, 0 worse." in told


def test_words_are_compared_as_a_person_would():
    assert words("Größe, size-12 GRÖSSE ﬁne") == words("größe size 12 grösse fine")
    assert words("第三条") == words("第 三\n条")
    assert words("the the") != words("the")
