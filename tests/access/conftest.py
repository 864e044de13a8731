"""One furnished database for all attacks in SQL: each of them is rolled back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import psycopg
import pytest_asyncio
from psycopg.rows import dict_row

from pipeline.embedded.postgres import SUPERUSER
from tests.access.wire import Street, open_street
from tests.access.world import World, furnish
from tests.sql.conftest import cloned, server  # noqa: F401 (fixture)


@pytest_asyncio.fixture(scope="session")
async def furnished(server) -> AsyncIterator[World]:  # noqa: F811
    async with cloned(server) as database:
        known = await furnish(database)
        with psycopg.connect(server.url(SUPERUSER, database.name), row_factory=dict_row) as connection:
            yield World(connection, **known)


@pytest_asyncio.fixture
async def w(furnished: World) -> AsyncIterator[World]:
    """The world, as it was."""
    try:
        yield furnished
    finally:
        furnished.connection.rollback()


@pytest_asyncio.fixture(scope="module")
async def street(project) -> AsyncIterator[Street]:
    """Two users with published documents, over HTTP."""
    async with open_street(project) as street:
        yield street
