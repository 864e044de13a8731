"""Keys and tokens through all services: ES256 as well as HS256, and what odd ones get."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest

from pipeline.embedded import EmbeddedSupabase
from pipeline.embedded.gateway.tokens import Keys, Refused
from supabase import acreate_client

SCHEMA = """
create function public.me() returns json language sql
    as 'select json_build_object(''uid'', auth.uid(), ''role'', current_user)';
insert into storage.buckets (id, name) values ('files', 'files');
create policy "one's own" on storage.objects for all to authenticated
    using ((storage.foldername(name))[1] = (select auth.uid())::text)
    with check ((storage.foldername(name))[1] = (select auth.uid())::text);
create policy "own topic" on realtime.messages for select to authenticated
    using ((select realtime.topic()) = 'user:' || (select auth.uid())::text);
"""


@pytest.fixture(scope="module")
async def supabase() -> AsyncIterator[EmbeddedSupabase]:
    async with EmbeddedSupabase.start(signing="ES256") as running:
        async with await psycopg.AsyncConnection.connect(running.db_url) as connection:
            await connection.execute(SCHEMA)
        yield running


@pytest.fixture(scope="module")
async def http(supabase: EmbeddedSupabase) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=supabase.api_url) as client:
        yield client


async def test_es256_opens_every_service_and_the_published_key_verifies_it(
    supabase: EmbeddedSupabase, http: httpx.AsyncClient
) -> None:
    client = await acreate_client(supabase.api_url, supabase.publishable_key)
    answer = await client.auth.sign_up({"email": f"{uuid4()}@example.org", "password": "a long password"})
    assert answer.user is not None and answer.session is not None
    user, token = answer.user.id, answer.session.access_token

    published = jwt.PyJWKSet.from_dict((await http.get("/auth/v1/.well-known/jwks.json")).json())
    key = published[jwt.get_unverified_header(token)["kid"]]
    assert jwt.decode(token, key, ["ES256"], audience="authenticated")["sub"] == user

    assert (await client.rpc("me", {}).execute()).data == {"uid": user, "role": "authenticated"}
    await client.storage.from_("files").upload(f"{user}/a.txt", b"a")
    assert await client.storage.from_("files").download(f"{user}/a.txt") == b"a"
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    channel = client.channel(f"user:{user}", {"config": {"private": True}})  # type: ignore[typeddict-item]
    channel.on_broadcast("told", arrived.put_nowait)
    await channel.subscribe()
    async with await psycopg.AsyncConnection.connect(supabase.db_url) as connection:
        await connection.execute("set role service_role")
        await connection.execute("select realtime.send('{\"n\": 1}', 'told', %s)", (f"user:{user}",))
    assert (await asyncio.wait_for(arrived.get(), 10))["payload"]["n"] == 1
    await client.remove_all_channels()
    await client.realtime.close()


async def test_an_access_token_outlives_its_session_on_the_data_api_but_not_in_auth(
    supabase: EmbeddedSupabase, http: httpx.AsyncClient
) -> None:
    """As on hosted: only Auth looks the session up, and a token is good until it expires."""
    client = await acreate_client(supabase.api_url, supabase.anon_key)
    session = (await client.auth.sign_in_anonymously()).session
    assert session is not None
    await client.auth.sign_out()
    headers = {"apikey": supabase.anon_key, "authorization": f"Bearer {session.access_token}"}
    answer = await http.get("/auth/v1/user", headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "session_not_found")
    answer = await http.post("/rest/v1/rpc/me", headers=headers, json={})
    assert answer.json()["uid"] == session.user.id


@pytest.mark.parametrize("kind", ["anon_key", "publishable_key", "service_role_key", "secret_key"])
async def test_a_key_speaks_for_its_role_alone_or_repeated_as_the_bearer(supabase, http, kind: str) -> None:
    key = getattr(supabase, kind)
    role = "anon" if kind in ("anon_key", "publishable_key") else "service_role"
    for sent in ({"apikey": key}, {"apikey": key, "authorization": f"Bearer {key}"}):
        answer = await http.post("/rest/v1/rpc/me", headers=sent, json={})
        assert answer.json() == {"uid": None, "role": role}


async def test_the_secret_key_as_the_bearer_beside_another_key_is_refused(supabase, http) -> None:
    for other in (supabase.anon_key, supabase.publishable_key):
        headers = {"apikey": other, "authorization": f"Bearer {supabase.secret_key}"}
        assert (await http.post("/rest/v1/rpc/me", headers=headers, json={})).status_code == 401


def test_odd_tokens_are_refused_and_crash_nothing(tmp_path: Path) -> None:
    keys = Keys.load(tmp_path / "keys.json")
    good = {"role": "authenticated", "sub": str(uuid4()), "exp": int(time.time()) + 60}
    header = jwt.utils.base64url_encode(b'{"alg":"HS256","x":' + b"[" * 30_000 + b"]" * 30_000 + b"}").decode()
    odd = [
        "", ".", "..", "a.b.c", "\ud800", "é", "null", header + ".e30.x",
        *(keys.sign(good | change) for change in (
            {"aud": 5}, {"aud": {}}, {"aud": []}, {"role": ["anon"]}, {"role": None}, {"role": "nobody"}, {"role": ""},
            {"exp": "soon"}, {"exp": 1e400}, {"exp": None}, {"nbf": "x"}, {"nbf": 1e400}, {"sub": 7}, {"sub": None},
        )),
        jwt.encode(good, keys.signing_key, "ES256"),
        jwt.encode(good, keys.jwt_secret, "HS512"),
    ]  # fmt: skip
    for token in odd:
        with pytest.raises(Refused):
            keys.verify(token)
        assert not keys.is_key(token)
    assert keys.verify(keys.sign(good)).user_id == good["sub"]


def test_a_token_that_was_found_good_is_checked_again_when_it_ends(tmp_path: Path) -> None:
    keys = Keys.load(tmp_path / "keys.json")
    token = keys.sign({"role": "anon", "exp": int(time.time()) + 60})
    found = keys.verify(token)
    ended = keys.sign({"role": "anon", "exp": int(time.time()) - 1})
    keys._verified[ended] = replace(found, expires_at=time.time() - 1)
    with pytest.raises(Refused, match="expired"):
        keys.verify(ended)


def test_the_keys_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    first = Keys.load(file)
    assert Keys.load(file).secret == first.secret == json.loads(file.read_text())["secret"]
    assert [path.name for path in tmp_path.iterdir()] == ["keys.json"]


async def test_supabase_js_signs_in_and_administers(supabase: EmbeddedSupabase, node: Path) -> None:
    shutil.copy(Path(__file__).parent / "auth.mjs", node)
    process = await asyncio.create_subprocess_exec(
        *("node", "auth.mjs", supabase.api_url, supabase.publishable_key, supabase.secret_key),
        cwd=node,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
