"""One furnished database for all attacks in SQL: each of them is rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row

from pipeline.embedded.postgres import SUPERUSER
from tests.access.visitor import furnished_for_a_while
from tests.access.wire import Street, open_street
from tests.access.world import World, furnish
from tests.project import NAMED
from tests.sql.conftest import cloned, server  # noqa: F401 (fixture)


@pytest_asyncio.fixture(scope="session")
async def at_home(server) -> AsyncIterator[World]:  # noqa: F811
    async with cloned(server) as database:
        known = await furnish(database)
        with psycopg.connect(server.url(SUPERUSER, database.name), row_factory=dict_row) as connection:
            yield World(connection, **known)


@pytest_asyncio.fixture(scope="module")
async def visited(project) -> AsyncIterator[World]:
    """For one file: a project that others use too is not kept locked."""
    async with furnished_for_a_while(project.db_url) as world:
        yield world


@pytest.fixture
def w(request: pytest.FixtureRequest) -> Iterator[World]:
    """The world, as it was."""
    world: World = request.getfixturevalue("visited" if NAMED in request.config.stash else "at_home")
    with world.as_it_was():
        yield world


@pytest_asyncio.fixture(scope="module")
async def street(project) -> AsyncIterator[Street]:
    """Two users with published documents, over HTTP."""
    async with open_street(project) as street:
        yield street
