"""Node with the locked packages, where there is Node."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.conftest import listen, other_user, user, watch  # noqa: F401 (fixtures)

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which Node finds supabase-js."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("Node and npm are missing: the JavaScript half of the tests must run in CI.")
        pytest.skip("Node and npm are missing: the JavaScript half is not tested.")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    installed = subprocess.run(
        ["npm", "ci", "--no-audit", "--no-fund", "--silent"], cwd=folder, capture_output=True, text=True, timeout=300
    )
    assert installed.returncode == 0, installed.stderr
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
