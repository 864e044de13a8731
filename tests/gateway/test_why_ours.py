"""The faults of the one other Supabase without Docker, each as a test of ours: they are why this gateway exists.

Tested elsewhere in more ways: what a trigger sees of each write (test_storage_writes), limits and signed URLs
(test_storage), Realtime (test_realtime), errors of functions (test_rest). Time to be ready and memory are figures of
the bench, not tests.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from pipeline.embedded import EmbeddedSupabase
from supabase import AsyncClient, acreate_client

SCHEMA = """
create schema app;
create table app.writes (operation text, role text, kind text, size bigint);
create function app.remember() returns trigger language plpgsql security definer set search_path = '' as $$
begin
    insert into app.writes values (tg_op, current_setting('role'), pg_catalog.jsonb_typeof(new.metadata),
        (new.metadata ->> 'size')::bigint);
    return null;
end $$;
create trigger remember after insert or update on storage.objects for each row execute function app.remember();
insert into storage.buckets (id, name, file_size_limit) values ('small', 'small', 100000);
create policy "one's own" on storage.objects for all to authenticated
    using ((storage.foldername(name))[1] = (select auth.uid())::text)
    with check ((storage.foldername(name))[1] = (select auth.uid())::text);

create table public.guarded (id int);
alter table public.guarded enable row level security;
create table public.closed (id int);
create function public.complain() returns void language plpgsql as $$ begin raise exception 'no such day'; end $$;
"""

RIGHTS = """
select n.nspname, o.name, o.acl::text from (
    select relnamespace as namespace, relname as name, relacl as acl from pg_class
    union all select pronamespace, proname || '/' || oid, proacl from pg_proc
    union all select oid, nspname, nspacl from pg_namespace
    union all select defaclnamespace, defaclrole::text || defaclobjtype::text, defaclacl from pg_default_acl
) o left join pg_namespace n on n.oid = o.namespace where o.acl is not null order by 1, 2, 3
"""


class World:
    def __init__(self, supabase: EmbeddedSupabase, postgres: psycopg.AsyncConnection[Any]) -> None:
        self.supabase = supabase
        self.postgres = postgres

    async def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return await (await self.postgres.execute(statement.encode(), values)).fetchall()


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with (
        EmbeddedSupabase.start() as supabase,
        await psycopg.AsyncConnection.connect(supabase.db_url, autocommit=True) as postgres,
    ):
        await postgres.execute(SCHEMA)
        yield World(supabase, postgres)


@pytest.fixture(scope="module")
async def person(world: World) -> tuple[AsyncClient, str]:
    client = await acreate_client(world.supabase.api_url, world.supabase.anon_key)
    answer = await client.auth.sign_up({"email": f"{uuid4()}@example.org", "password": "a long password"})
    assert answer.user is not None
    return client, answer.user.id


def headers(client: AsyncClient) -> dict[str, str]:
    return {"apikey": client.supabase_key, "authorization": client.options.headers["Authorization"]}


async def test_the_first_requests_grant_nothing(world: World, person) -> None:
    """Not: GRANT ALL on every schema at the first request."""
    client, user = person
    before = await world.rows(RIGHTS)
    for table in ("guarded", "closed"):
        with pytest.raises(Exception, match="permission denied"):
            await client.table(table).select("*").execute()
    await client.storage.from_("small").list(user)
    service = await acreate_client(world.supabase.api_url, world.supabase.secret_key)
    await service.auth.admin.list_users()
    assert await world.rows(RIGHTS) == before


async def test_supabase_py_signs_in(world: World) -> None:
    """Not: timestamps that its models refuse."""
    client = await acreate_client(world.supabase.api_url, world.supabase.anon_key)
    email = f"{uuid4()}@example.org"
    await client.auth.sign_up({"email": email, "password": "a long password"})
    answer = await client.auth.sign_in_with_password({"email": email, "password": "a long password"})
    assert answer.user is not None and isinstance(answer.user.last_sign_in_at, datetime)
    assert answer.user.last_sign_in_at.tzinfo is not None


async def test_anonymous_and_admin_auth_are_there(world: World) -> None:
    client = await acreate_client(world.supabase.api_url, world.supabase.anon_key)
    answer = await client.auth.sign_in_anonymously()
    assert answer.user is not None and answer.user.is_anonymous
    service = await acreate_client(world.supabase.api_url, world.supabase.service_role_key)
    assert (await service.auth.admin.get_user_by_id(answer.user.id)).user.id == answer.user.id


async def test_realtime_is_there(world: World, person) -> None:
    client, _ = person
    channel = client.channel("room")
    await channel.subscribe()
    assert channel.is_joined or channel.is_joining
    await client.remove_all_channels()
    await client.realtime.close()


async def test_the_final_write_is_service_role_s_with_an_object_and_a_download_writes_nothing(
    world: World, person
) -> None:
    """Not: the connection's user, metadata as a JSON string, an UPDATE at each download."""
    client, user = person
    await world.postgres.execute("truncate app.writes")
    files = client.storage.from_("small")
    await files.upload(f"{user}/a.txt", b"hello")
    assert await world.rows("select * from app.writes") == [("INSERT", "service_role", "object", 5)]
    before = await world.rows(
        "select xmin::text, last_accessed_at from storage.objects where name = %s", f"{user}/a.txt"
    )
    assert await files.download(f"{user}/a.txt") == b"hello"
    await files.info(f"{user}/a.txt")
    assert (
        await world.rows("select xmin::text, last_accessed_at from storage.objects where name = %s", f"{user}/a.txt")
        == before
    )
    assert await world.rows("select count(*) from app.writes") == [(1,)]


async def test_signed_urls_work(person) -> None:
    client, user = person
    files = client.storage.from_("small")
    await files.upload(f"{user}/signed.txt", b"signed")
    url = (await files.create_signed_url(f"{user}/signed.txt", 60))["signedURL"]
    given = await files.create_signed_upload_url(f"{user}/given.txt")
    await files.upload_to_signed_url(given["path"], given["token"], b"given")
    async with httpx.AsyncClient() as http:
        assert (await http.get(url)).content == b"signed"
    assert await files.download(f"{user}/given.txt") == b"given"


async def test_a_blob_of_supabase_js_is_uploaded(world: World, person) -> None:
    """It comes as a form whose file has an empty name."""
    client, user = person
    url = f"{world.supabase.api_url}/storage/v1/object/small/{user}/blob.txt"
    form = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % part
        for part in ((b"cacheControl", b"", b"3600"), (b"", b'; filename="blob"\r\nContent-Type: text/plain', b"blob"))
    )
    async with httpx.AsyncClient(headers=headers(client)) as http:
        sent = await http.post(
            url, content=form + b"--x--\r\n", headers={"content-type": "multipart/form-data; boundary=x"}
        )
    assert sent.status_code == 200, sent.text
    assert await client.storage.from_("small").download(f"{user}/blob.txt") == b"blob"


async def test_a_chunked_form_does_not_pass_the_size_limit(world: World, person) -> None:
    """Bare bytes without a length do, as with the real server; the SQL behind it has to count them."""
    client, user = person

    async def body() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name=""; filename="blob"\r\n\r\n'
        for _ in range(11):
            yield b"x" * 10_000
        yield b"\r\n--x--\r\n"

    url = f"{world.supabase.api_url}/storage/v1/object/small/{user}/large.txt"
    async with httpx.AsyncClient(headers=headers(client)) as http:
        sent = await http.post(url, content=body(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert "content-length" not in sent.request.headers
    assert (sent.status_code, sent.json()["statusCode"]) == (400, "413")
    assert await world.rows("select 1 from storage.objects where name = %s", f"{user}/large.txt") == []


@pytest.mark.parametrize("path", ["/rest/v1/guarded", "/storage/v1/bucket", "/auth/v1/admin/users"])
async def test_a_request_without_a_key_is_nobody(world: World, path: str) -> None:
    """Not: service_role by default."""
    async with httpx.AsyncClient() as http:
        for sent in ({}, {"authorization": f"Bearer {world.supabase.service_role_key}"}):
            answer = await http.get(world.supabase.api_url + path, headers=sent)
            assert (answer.status_code, answer.json()["message"]) == (401, "No API key found in request")


async def test_what_a_function_raises_is_a_400(world: World, person) -> None:
    """Not: P0001 as a 500."""
    client, _ = person
    async with httpx.AsyncClient(headers=headers(client)) as http:
        answer = await http.post(f"{world.supabase.api_url}/rest/v1/rpc/complain", json={})
    assert answer.status_code == 400
    assert (answer.json()["code"], answer.json()["message"]) == ("P0001", "no such day")
