"""What most tests stand on: the embedded Supabase, started once and migrated, and Node where there is Node."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
import pytest_asyncio

from pipeline.embedded import EmbeddedSupabase
from pipeline.operate import migrate
from tests.project import NAMED, SPACE, WORKER_PASSWORD, Project
from tests.world import lift_quotas, listen, other_user, user, watch  # noqa: F401 (fixtures)

SDK = Path(__file__).parent / "sdk"

# How long an example takes says more of the machine than of us.
hypothesis.settings.register_profile("pipeline", deadline=None)
hypothesis.settings.load_profile("pipeline")


@pytest_asyncio.fixture(scope="session")
async def project(request: pytest.FixtureRequest) -> AsyncIterator[Project]:
    """The one that the environment names under `--project`, else an embedded one."""
    if (named := request.config.stash.get(NAMED, None)) is not None:
        yield named
        return
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
    parser.addoption(
        "--project",
        action="store_true",
        help="run what can face any project against the throw-away one that UPLOAD_PIPELINE_ variables name",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--project"):
        from tests.visit import Visit

        config.pluginmanager.register(Visit(config))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        skip = pytest.mark.skip(reason="a long suite: `make soak` runs it")
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(skip)
