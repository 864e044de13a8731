"""The embedded Supabase for the tests: started once, migrated, with the local model's space active."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from pipeline import migrate
from pipeline.embedded import EmbeddedSupabase

WORKER_PASSWORD = "worker-password-of-the-tests"
SPACE = "all-MiniLM-L6-v2-int8-384"


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
        yield Project(supabase)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long suites whole")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--soak"):
        skip = pytest.mark.skip(reason="a long suite: `make soak` runs it")
        for item in items:
            if item.get_closest_marker("soak"):
                item.add_marker(skip)
