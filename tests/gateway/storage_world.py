"""A project to store files in: Postgres, the Storage part of the gateway, and a trigger that remembers what it saw.

A dry run is rolled back, and with it whatever a trigger writes. So the log is written over a second connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import uvicorn
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import dict_row
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount
from storage3 import AsyncStorageClient

from pipeline.embedded.gateway.storage import Storage, storage_routes
from pipeline.embedded.gateway.storage.blobs import BlobStore
from pipeline.embedded.gateway.storage.database import Caller, StorageDatabase
from pipeline.embedded.gateway.storage.errors import access_denied
from pipeline.embedded.gateway.storage.signing import UrlSigner
from pipeline.embedded.postgres import PostgresServer

SECRET = "a secret of forty characters for testing"

SCHEMA = """
create extension dblink schema extensions;
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

create function seen.remember() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    perform extensions.dblink_exec(
        format('host=127.0.0.1 port=%s dbname=postgres user=supabase_admin password=%s',
            current_setting('port'), (select password from seen.door)),
        format('insert into seen.writes (operation, role, uid, old_name, object_id, name, version, owner_id, metadata) '
            || 'values (%L, %L, %L, %L, %L, %L, %L, %L, %L)', tg_op, current_setting('role'), auth.uid(), old.name,
            coalesce(new.id, old.id), coalesce(new.name, old.name), coalesce(new.version, old.version),
            coalesce(new.owner_id, old.owner_id), coalesce(new.metadata, old.metadata))
    );
    return null;
end
$$;
create table seen.door (password text);
create trigger remember after insert or update or delete on storage.objects
    for each row execute function seen.remember();

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
create policy "one's own folder" on storage.objects for all to authenticated
    using (bucket_id in ('documents', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text)
    with check (bucket_id in ('documents', 'open') and (storage.foldername(name))[1] = (select auth.uid())::text);
create policy "buckets are seen" on storage.buckets for select to authenticated using (id in ('documents', 'open'));
"""


def token(role: str, subject: str | None = None) -> str:
    claims = {"role": role, "aud": "authenticated"} | ({"sub": subject} if subject else {})
    return jwt.encode(claims, SECRET, "HS256")


def identify(request: Request) -> Caller:
    """What the gateway's token check does, short."""
    sent = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        claims = jwt.decode(sent, SECRET, ["HS256"], audience="authenticated")
    except jwt.InvalidTokenError as error:
        raise access_denied(str(error)) from None
    return Caller(claims["role"], claims.get("sub"), json.dumps(claims), request.method, request.url.path, "{}")


@dataclass
class Person:
    """Somebody with a token. `folder` is theirs alone."""

    world: World
    role: str
    id: str | None
    folder: str = field(default_factory=lambda: str(uuid4()))

    @property
    def headers(self) -> dict[str, str]:
        key = token(self.role, self.id)
        return {"apikey": key, "authorization": f"Bearer {key}"}

    @property
    def client(self) -> AsyncStorageClient:
        """supabase-py's own client for Storage."""
        return AsyncStorageClient(self.world.url + "/", self.headers, http_client=self.world.http)

    @property
    def files(self):
        return self.client.from_("documents")

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = self.headers | options.pop("headers", {})
        return await self.world.http.request(method, self.world.url + path, headers=headers, **options)


@dataclass
class World:
    url: str
    superuser_url: str
    storage: Storage
    blob_dir: Path
    http: httpx.AsyncClient

    def person(self) -> Person:
        """A new signed-in user."""
        identity = str(uuid4())
        return Person(self, "authenticated", identity, identity)

    def anon(self) -> Person:
        return Person(self, "anon", None)

    def service(self) -> Person:
        return Person(self, "service_role", None)

    async def sql(self, statement: str, *parameters: Any) -> list[dict[str, Any]]:
        """As the superuser, committed."""
        async with await psycopg.AsyncConnection[dict[str, Any]].connect(
            self.superuser_url, autocommit=True, row_factory=dict_row
        ) as connection:
            cursor = await connection.execute(statement.encode(), parameters)
            return await cursor.fetchall() if cursor.description else []

    async def seen(self, folder: str) -> list[dict[str, Any]]:
        """What the trigger saw under a folder, oldest first, whether it was committed or not."""
        return await self.sql(
            "select * from seen.writes where starts_with(name, %s) or starts_with(old_name, %s) order by id",
            folder,
            folder,
        )

    async def rows(self, folder: str) -> list[dict[str, Any]]:
        return await self.sql("select * from storage.objects where starts_with(name, %s) order by name", folder)

    def blobs(self) -> set[str]:
        """The versions that have bytes, as hexadecimal digits."""
        return {path.name for path in self.blob_dir.rglob("*") if path.is_file()}

    async def until(self, statement: str, *parameters: Any) -> None:
        """Wait for the database to come to a state in which the statement returns a row."""
        async with asyncio.timeout(20):
            while not await self.sql(statement, *parameters):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def eventually(holds: Callable[[], bool]) -> None:
    """Wait for a condition that nothing announces; TimeoutError when it does not come about."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def open_world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as root:
        os.chmod(root, 0o711)
        postgres = await PostgresServer.start(Path(root) / "data")
        blob_dir = Path(root) / "blobs"
        storage = Storage(
            StorageDatabase(postgres.url("authenticator")), BlobStore(blob_dir), UrlSigner(SECRET), identify
        )
        app = Starlette(routes=[Mount("/storage/v1", routes=storage_routes(storage))])
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        task = asyncio.create_task(server.serve())
        await eventually(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        superuser_url = postgres.url("supabase_admin")
        password = conninfo_to_dict(superuser_url)["password"]
        try:
            async with (
                await psycopg.AsyncConnection.connect(superuser_url, autocommit=True) as connection,
                httpx.AsyncClient(timeout=30) as http,
            ):
                await connection.execute(SCHEMA)
                await connection.execute("insert into seen.door values (%s)", (password,))
                yield World(f"http://127.0.0.1:{port}/storage/v1", superuser_url, storage, blob_dir, http)
        finally:
            server.should_exit = True
            await task
            await storage.close()
            await postgres.stop()
