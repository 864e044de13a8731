"""Downloads of a killed listener do not stay."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

from pipeline.work.journey import sweep_leftovers


def test_only_the_downloads_of_processes_that_are_gone_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    (tmp_path / f"pipeline-job-{gone.pid}-x").mkdir()
    (tmp_path / f"pipeline-job-{gone.pid}-x" / "object").write_text("content")
    (tmp_path / f"pipeline-job-{os.getpid()}-y").mkdir()
    (tmp_path / "pipeline-job-of-somebody-else").mkdir()
    assert sweep_leftovers() == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        f"pipeline-job-{os.getpid()}-y",
        "pipeline-job-of-somebody-else",
    }
