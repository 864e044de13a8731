"""Rights come out the same wherever the migrations are applied, also where what is new is granted to clients."""

from __future__ import annotations

import tempfile
from pathlib import Path

import psycopg
from psycopg.rows import dict_row

from pipeline.embedded.postgres import SUPERUSER, PostgresServer
from pipeline.operate import migrate
from tests.access import probe
from tests.access.world import ROLES, World

GENEROUS = """
alter default privileges for role postgres in schema public grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on functions to anon, authenticated, service_role;
alter default privileges for role postgres in schema public grant all on sequences to anon, authenticated, service_role;
"""


async def test_rights_are_the_same_on_a_project_that_grants_what_is_new() -> None:
    with tempfile.TemporaryDirectory(prefix="pipeline-tests-") as folder:
        Path(folder).chmod(0o711)
        server = await PostgresServer.start(Path(folder) / "data")
        try:
            with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
                connection.execute(GENEROUS)
                connection.execute("create table public.theirs ()")
                granted = connection.execute("select has_table_privilege('anon', 'public.theirs', 'delete')").fetchone()
                assert granted == (True,), "the project is as generous as older ones are"
                connection.execute("drop table public.theirs")
            await migrate.apply(server.url("postgres"), worker_password="worker")
            with psycopg.connect(server.url(SUPERUSER), row_factory=dict_row) as connection:
                nobody = World(connection, *[probe.NOBODY] * 3)
                for role in ROLES:
                    rights, allowed = probe.rights(nobody, role), probe.allowed(nobody, role)
                    assert (rights - allowed, allowed - rights) == (set(), set()), role
        finally:
            await server.stop()
