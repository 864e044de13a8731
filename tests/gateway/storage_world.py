"""A project to store files in, and a trigger that remembers what it saw.

A dry run is rolled back, and with it whatever a trigger writes. So the log is written over a second connection. The
project is an embedded one without our migrations; or the one that the environment names, where everything happens in a
bucket and a schema that go afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from storage3 import AsyncStorageClient

from pipeline.embedded import EmbeddedSupabase
from pipeline.embedded.gateway.storage.signing import UrlSigner
from tests.project import NAMED
from tests.world import User, new_user

SCHEMA = """
create schema seen;
create table seen.writes (
    id bigint generated always as identity, operation text, role text, uid text, old_name text, object_id uuid,
    name text, version text, owner_id text, metadata jsonb
);
create sequence seen.fired;
create table seen.deferred (name text, version text);
grant usage on schema seen to anon, authenticated, service_role;
grant usage on sequence seen.fired to anon, authenticated, service_role;
grant insert on seen.deferred to anon, authenticated, service_role;

create function seen.remember_at_commit() returns trigger language plpgsql as $$
begin
    insert into seen.deferred values (new.name, new.version);
    return null;
end
$$;
create constraint trigger remember_at_commit after insert or update on storage.objects
    deferrable initially deferred for each row execute function seen.remember_at_commit();

-- what a file is called decides how the database receives it
create function seen.refuse() returns trigger language plpgsql as $$
begin
    case storage.filename(new.name)
        when 'over-quota' then
            raise insufficient_privilege using message = 'You may upload 30 files a day.';
        when 'no-number' then perform 'x'::int;
        when 'broken' then raise exception 'a secret of the server';
        when 'late' then
            if new.version <> '1' then
                raise insufficient_privilege using message = 'Another upload was faster.';
            end if;
        when 'slow' then
            if new.version <> '1' then perform pg_advisory_xact_lock(4242); end if;
        else null;
    end case;
    return null;
end
$$;
create trigger refuse after insert or update on storage.objects for each row execute function seen.refuse();

insert into storage.buckets (id, name, public) values ('documents', 'documents', false), ('open', 'open', true);
create policy "tests: one's own folder" on storage.objects for all to authenticated
    using (bucket_id in ('documents', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text)
    with check (bucket_id in ('documents', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "tests: buckets are seen" on storage.buckets for select to authenticated
    using (id in ('documents', 'open'));
"""
REMEMBER = """
create function seen.remember() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    perform extensions.dblink_exec(
        (select connection from seen.door),
        format('insert into seen.writes (operation, role, uid, old_name, object_id, name, version, owner_id, metadata) '
            || 'values (%L, %L, %L, %L, %L, %L, %L, %L, %L)', tg_op, current_setting('role'), auth.uid(), old.name,
            coalesce(new.id, old.id), coalesce(new.name, old.name), coalesce(new.version, old.version),
            coalesce(new.owner_id, old.owner_id), coalesce(new.metadata, old.metadata))
    );
    return null;
end
$$;
create trigger remember after insert or update or delete on storage.objects
    for each row execute function seen.remember();
"""
CLEAN = """
drop schema if exists seen cascade;
drop policy if exists "tests: one's own folder" on storage.objects;
drop policy if exists "tests: buckets are seen" on storage.buckets;
drop policy if exists "they share" on storage.objects;
"""


@dataclass
class Person:
    """Somebody with a token. `folder` is theirs alone."""

    world: World
    role: str
    id: str | None
    folder: str = field(default_factory=lambda: str(uuid4()))
    token: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What supabase-py sends: the project's key, and the user's token or the key again."""
        project = self.world.project
        key = project.service_role_key if self.role == "service_role" else project.anon_key
        return {"apikey": key, "authorization": f"Bearer {self.token or key}"}

    @property
    def client(self) -> AsyncStorageClient:
        """supabase-py's own client for Storage."""
        return AsyncStorageClient(self.world.url + "/", self.headers, http_client=self.world.http)

    @property
    def files(self):
        return self.client.from_(self.world.bucket)

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self.headers | options.pop("headers", {})
        return await self.world.http.request(method, self.world.url + path, headers=headers, **options)


@dataclass
class World:
    url: str
    project: Any
    http: httpx.AsyncClient
    sql_url: str
    """As whom `sql` looks and waits: the superuser of an embedded project, `postgres` elsewhere."""
    bucket: str = "documents"
    folder: Path | None = None
    """Where the bytes are, if that is a folder of this machine."""
    users: Iterator[User] | None = None
    """Who signed in; where nobody did, tokens are signed here."""
    forgets: str = ""
    """Why the trigger cannot write down what is rolled back, where it cannot."""

    @property
    def blob_dir(self) -> Path:
        assert self.folder is not None, "only the embedded project keeps its bytes where we can look"
        return self.folder

    @property
    def signer(self) -> UrlSigner:
        """Signs as the gateway does, for URLs that it would not give out."""
        return UrlSigner(self.project.jwt_secret)

    def person(self) -> Person:
        """A signed-in user with a folder where nothing is yet; another one than the last two."""
        if self.users is not None:
            user = next(self.users)
            return Person(self, "authenticated", user.id, f"{user.id}/{uuid4()}", user.token)
        identity = str(uuid4())
        claims = {"role": "authenticated", "aud": "authenticated", "sub": identity, "exp": time.time() + 3600}
        return Person(self, "authenticated", identity, identity, self.project.keys.sign(claims))

    def anon(self) -> Person:
        return Person(self, "anon", None)

    def service(self) -> Person:
        return Person(self, "service_role", None)

    async def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """Committed."""
        async with await psycopg.AsyncConnection[dict[str, Any]].connect(
            self.sql_url, autocommit=True, row_factory=dict_row
        ) as connection:
            cursor = await connection.execute(statement.encode(), parameters or None)
            return await cursor.fetchall() if cursor.description else []

    async def seen(self, folder: str) -> list[dict[str, Any]]:
        """What the trigger saw under a folder, oldest first, whether it was committed or not."""
        if self.forgets:
            pytest.skip(f"a trigger cannot write down what is rolled back: {self.forgets}")
        return await self.sql(
            "select * from seen.writes where starts_with(name, %s) or starts_with(old_name, %s) order by id",
            folder,
            folder,
        )

    async def rows(self, folder: str) -> list[dict[str, Any]]:
        return await self.sql("select * from storage.objects where starts_with(name, %s) order by name", folder)

    def blobs(self) -> set[str]:
        """The versions that have bytes, as hexadecimal digits; always none where nobody can look."""
        return {path.name for path in self.folder.rglob("*") if path.is_file()} if self.folder else set()

    def holds(self, version: str) -> bool | None:
        """Whether a version has bytes; None where nobody can look."""
        return UUID(version).hex in self.blobs() if self.folder else None

    async def until(self, statement: str, *parameters: Any) -> None:
        """Wait for the database to come to a state in which the statement returns a row."""
        async with asyncio.timeout(20):
            while not await self.sql(statement, *parameters):
                await asyncio.sleep(0.02)


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for a condition that nothing announces; TimeoutError when it does not come about."""
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.01)


def any_world(config: pytest.Config) -> contextlib.AbstractAsyncContextManager[World]:
    """In the project that the environment names, or in one of our own."""
    named = config.stash.get(NAMED, None)
    return open_world() if named is None else visit_world(named)


@contextlib.asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        os.chmod(root, 0o711)
        async with EmbeddedSupabase.start(Path(root)) as project, httpx.AsyncClient(timeout=30) as http:
            url = project.superuser_url
            world = World(f"{project.api_url}/storage/v1", project, http, url, folder=Path(root) / "blobs")
            await world.sql("create extension dblink schema extensions")
            await world.sql(SCHEMA)
            await _remember(world)
            yield world


@contextlib.asynccontextmanager
async def visit_world(project: Any) -> AsyncIterator[World]:
    """The same in a project that is not ours."""
    bucket = f"tests-{uuid4().hex}"
    async with httpx.AsyncClient(timeout=30) as http:
        users = itertools.cycle([await new_user(project) for _ in range(3)])
        world = World(f"{project.api_url}/storage/v1", project, http, project.db_url, bucket, users=users)
        there = await world.sql("select 1 from pg_extension where extname = 'dblink'")
        try:
            await world.sql(CLEAN + SCHEMA.replace("'documents'", f"'{bucket}'").replace("'open'", f"'{bucket}-open'"))
            try:
                if not there:
                    await world.sql("create extension dblink schema extensions")
                await _remember(world)
            except psycopg.Error as error:
                world.forgets = f"it needs the extension dblink ({error.diag.message_primary or error})"
            yield world
        finally:
            await world.sql(CLEAN + ("" if there else "drop extension if exists dblink"))


async def _remember(world: World) -> None:
    await world.sql("create table seen.door (connection text)")
    await world.sql(
        "insert into seen.door select format('host=%%s port=%%s dbname=%%s user=%%s password=%%s', "
        "host(inet_server_addr()), inet_server_port(), current_database(), current_user, %s::text)",
        conninfo_to_dict(world.sql_url)["password"],
    )
    await world.sql("select extensions.dblink_exec((select connection from seen.door), 'set timezone = utc')")
    await world.sql(REMEMBER)
