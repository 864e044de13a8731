"""What most tests stand on: the embedded Supabase, started once and migrated, and Node where there is Node."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import pytest_asyncio

from pipeline import migrate
from pipeline.embedded import EmbeddedSupabase
from tests.world import lift_quotas, listen, other_user, user, watch  # noqa: F401 (fixtures)

WORKER_PASSWORD = "worker-password-of-the-tests"
SDK = Path(__file__).parent / "sdk"
SPACE = "all-MiniLM-L6-v2-int8-384"

# How long an example takes says more of the machine than of us.
hypothesis.settings.register_profile("pipeline", deadline=None)
hypothesis.settings.load_profile("pipeline")


class Project:
    """An EmbeddedSupabase and the password of its worker role."""

    def __init__(self, supabase: EmbeddedSupabase) -> None:
        self._supabase = supabase
        self.worker_password = WORKER_PASSWORD

    def __getattr__(self, name: str) -> Any:
        return getattr(self._supabase, name)


@pytest_asyncio.fixture(scope="session")
async def project() -> AsyncIterator[Project]:
    async with EmbeddedSupabase.start() as supabase:
        await migrate.apply(supabase.db_url, worker_password=WORKER_PASSWORD, activate_space=SPACE)
        await lift_quotas(supabase.db_url)
        yield Project(supabase)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which Node finds supabase-js and tus-js-client."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("Node and npm are missing: the JavaScript half of the tests must run in CI.")
        pytest.skip("Node and npm are missing: the JavaScript half is not tested.")
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(SDK / name, folder)
    # `install`, not `ci`: that one wants the command line's binaries for every other platform in the lock file too
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert installed.returncode == 0, installed.stderr
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long suites whole")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        skip = pytest.mark.skip(reason="a long suite: `make soak` runs it")
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(skip)
