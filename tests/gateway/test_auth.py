"""Auth as its SDKs speak it, and which keys and tokens the gateway lets in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipeline.embedded import EmbeddedSupabase
from supabase import AuthApiError, acreate_client, create_client

PASSWORD = "correct horse battery"
Reply = tuple[int, dict[str, Any]]


@pytest.fixture(scope="module")
async def supabase() -> AsyncIterator[EmbeddedSupabase]:
    async with EmbeddedSupabase.start() as running:
        yield running


@pytest.fixture(scope="module")
async def http(supabase: EmbeddedSupabase) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=supabase.api_url, timeout=30) as client:
        yield client


@pytest.fixture
def anon(supabase: EmbeddedSupabase) -> dict[str, str]:
    return {"apikey": supabase.anon_key}


@pytest.fixture
def service(supabase: EmbeddedSupabase) -> dict[str, str]:
    return {"apikey": supabase.secret_key, "authorization": f"Bearer {supabase.secret_key}"}


def address() -> str:
    return f"{uuid4().hex}@example.com"


async def sql(supabase: EmbeddedSupabase, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    async with await psycopg.AsyncConnection.connect(supabase.superuser_url) as connection:
        cursor = await connection.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def post(http: httpx.AsyncClient, path: str, headers: dict[str, str], body: object) -> Reply:
    answer = await http.post(f"/auth/v1{path}", headers=headers, json=body)
    return answer.status_code, answer.json()


async def sign_up(http: httpx.AsyncClient, anon: dict[str, str], **more: Any) -> dict[str, Any]:
    status, session = await post(http, "/signup", anon, {"email": address(), "password": PASSWORD, **more})
    assert status == 200, session
    return session


async def refresh(http: httpx.AsyncClient, anon: dict[str, str], token: str) -> Reply:
    return await post(http, "/token?grant_type=refresh_token", anon, {"refresh_token": token})


def as_user(anon: dict[str, str], session: dict[str, Any]) -> dict[str, str]:
    return anon | {"authorization": f"Bearer {session['access_token']}"}


# the SDK


@pytest.mark.parametrize("key", ["anon_key", "publishable_key"])
async def test_the_async_sdk_signs_up_in_and_out(supabase: EmbeddedSupabase, key: str) -> None:
    client = await acreate_client(supabase.api_url, getattr(supabase, key))
    email = address()
    up = await client.auth.sign_up({"email": email, "password": PASSWORD, "options": {"data": {"name": "東京"}}})
    assert up.user is not None and up.session is not None
    assert up.user.user_metadata["name"] == "東京"
    assert up.user.app_metadata == {"provider": "email", "providers": ["email"]}
    assert [one.provider for one in up.user.identities or []] == ["email"]
    await client.auth.sign_out()
    session = (await client.auth.sign_in_with_password({"email": email.upper(), "password": PASSWORD})).session
    assert session is not None
    renewed = await client.auth.refresh_session()
    assert renewed.session is not None and renewed.session.refresh_token != session.refresh_token
    changed = await client.auth.update_user({"data": {"name": "Osaka"}, "password": "another " + PASSWORD})
    assert changed.user.user_metadata["name"] == "Osaka"
    claims = await client.auth.get_claims()
    assert claims is not None and claims["claims"]["sub"] == up.user.id
    await client.auth.sign_out()
    with pytest.raises(AuthApiError, match="Invalid login credentials"):
        await client.auth.sign_in_with_password({"email": email, "password": PASSWORD})


async def test_the_sync_sdk_signs_in_anonymously_and_turns_into_a_user(supabase: EmbeddedSupabase) -> None:
    import asyncio

    def journey() -> None:
        client = create_client(supabase.api_url, supabase.anon_key)
        guest = client.auth.sign_in_anonymously()
        assert guest.user is not None and guest.user.is_anonymous and guest.user.identities == []
        email = address()
        user = client.auth.update_user({"email": email, "password": PASSWORD}).user
        assert user.id == guest.user.id and not user.is_anonymous
        assert [one.provider for one in user.identities or []] == ["email"]
        assert client.auth.sign_in_with_password({"email": email, "password": PASSWORD}).user is not None

    await asyncio.to_thread(journey)


@pytest.mark.parametrize("key", ["service_role_key", "secret_key"])
async def test_the_admin_api_creates_lists_changes_and_deletes_users(supabase: EmbeddedSupabase, key: str) -> None:
    admin = (await acreate_client(supabase.api_url, getattr(supabase, key))).auth.admin
    wanted = {"email": address(), "password": PASSWORD, "email_confirm": True, "app_metadata": {"team": "a"}}
    user = (await admin.create_user(wanted)).user  # type: ignore[arg-type]
    assert user.app_metadata["team"] == "a"
    assert user.id in {one.id for one in await admin.list_users(page=1, per_page=1000)}
    assert (await admin.get_user_by_id(user.id)).user.email == wanted["email"]
    changed = (await admin.update_user_by_id(user.id, {"user_metadata": {"x": 1}, "ban_duration": "24h"})).user
    assert changed.user_metadata == {"x": 1}
    client = await acreate_client(supabase.api_url, supabase.anon_key)
    with pytest.raises(AuthApiError, match="banned"):
        await client.auth.sign_in_with_password({"email": wanted["email"], "password": PASSWORD})
    await admin.update_user_by_id(user.id, {"ban_duration": "none"})
    await client.auth.sign_in_with_password({"email": wanted["email"], "password": PASSWORD})
    await admin.delete_user(user.id)
    with pytest.raises(AuthApiError, match="User not found"):
        await admin.get_user_by_id(user.id)
    assert await sql(supabase, "select 1 from auth.identities where user_id = %s", user.id) == []


async def test_the_sdk_verifies_es256_tokens_by_the_published_key() -> None:
    async with EmbeddedSupabase.start(signing="ES256") as supabase:
        client = await acreate_client(supabase.api_url, supabase.anon_key)
        session = (await client.auth.sign_up({"email": address(), "password": PASSWORD})).session
        assert session is not None
        assert jwt.get_unverified_header(session.access_token)["alg"] == "ES256"
        claims = await client.auth.get_claims()
        assert claims is not None and claims["claims"]["role"] == "authenticated"


# sessions


async def test_a_token_carries_the_claims_that_policies_read(http, anon) -> None:
    session = await sign_up(http, anon, data={"name": "a"})
    claims = jwt.decode(session["access_token"], options={"verify_signature": False})
    assert claims["sub"] == session["user"]["id"]
    assert claims["aud"] == claims["role"] == "authenticated"
    assert claims["iss"] == f"{http.base_url}".rstrip("/") + "/auth/v1"
    assert claims["app_metadata"]["provider"] == "email" and claims["user_metadata"] == {"name": "a"}
    assert (claims["aal"], claims["is_anonymous"], claims["amr"][0]["method"]) == ("aal1", False, "password")
    assert session["expires_at"] == claims["exp"] and session["expires_in"] == 3600
    for name in ("created_at", "updated_at", "email_confirmed_at", "last_sign_in_at"):
        value = session["user"][name]
        assert value[10] == "T" and value.endswith("Z")
        assert abs((datetime.now(UTC) - datetime.fromisoformat(value)).total_seconds()) < 60


async def test_a_refresh_token_rotates_and_its_late_reuse_ends_the_session(http, anon, supabase) -> None:
    first = (await sign_up(http, anon))["refresh_token"]
    status, second = await refresh(http, anon, first)
    assert status == 200 and second["refresh_token"] != first
    status, third = await refresh(http, anon, second["refresh_token"])
    assert status == 200
    await age(supabase, first, 9)
    status, again = await refresh(http, anon, first)
    assert (status, again["refresh_token"]) == (200, third["refresh_token"])
    await age(supabase, first, 11)
    status, body = await refresh(http, anon, first)
    assert (status, body["error_code"]) == (400, "refresh_token_already_used")
    status, body = await refresh(http, anon, third["refresh_token"])
    assert (status, body["error_code"]) == (400, "refresh_token_not_found")
    answer = await http.get("/auth/v1/user", headers=as_user(anon, third))
    assert (answer.status_code, answer.json()["error_code"]) == (403, "session_not_found")


async def test_who_lost_the_answer_of_a_refresh_gets_the_active_token_however_late(http, anon, supabase) -> None:
    """As on hosted: the parent of the active token is no sign of a theft."""
    first = (await sign_up(http, anon))["refresh_token"]
    active = (await refresh(http, anon, first))[1]["refresh_token"]
    await age(supabase, first, 3600)
    status, again = await refresh(http, anon, first)
    assert (status, again["refresh_token"]) == (200, active)


async def test_tabs_that_refresh_at_once_get_one_token(http, anon) -> None:
    first = (await sign_up(http, anon))["refresh_token"]
    answers = await asyncio.gather(*(refresh(http, anon, first) for _ in range(5)))
    assert {status for status, _ in answers} == {200}
    assert len({body["refresh_token"] for _, body in answers}) == 1


async def test_a_new_password_signs_the_other_sessions_out(http, anon) -> None:
    email = address()
    other = await sign_up(http, anon, email=email)
    _, this = await post(http, "/token?grant_type=password", anon, {"email": email, "password": PASSWORD})
    answer = await http.put("/auth/v1/user", headers=as_user(anon, this), json={"password": "another one"})
    assert answer.status_code == 200
    assert (await refresh(http, anon, other["refresh_token"]))[0] == 400
    assert (await refresh(http, anon, this["refresh_token"]))[0] == 200


async def age(supabase: EmbeddedSupabase, token: str, seconds: int) -> None:
    """Make a token's use so many seconds old."""
    statement = "update auth.refresh_tokens set updated_at = now() - make_interval(secs => %s) where token = %s"
    await sql(supabase, statement, seconds, token)


async def test_reuse_does_not_lengthen_the_time_in_which_reuse_is_forgiven(http, anon, supabase) -> None:
    token = (await sign_up(http, anon))["refresh_token"]
    await refresh(http, anon, token)
    await sql(
        supabase, "update auth.refresh_tokens set updated_at = now() - interval '9 seconds' where token = %s", token
    )
    [before] = await sql(supabase, "select updated_at from auth.refresh_tokens where token = %s", token)
    assert (await refresh(http, anon, token))[0] == 200
    assert await sql(supabase, "select updated_at from auth.refresh_tokens where token = %s", token) == [before]


@pytest.mark.parametrize(("scope", "left"), [("global", set()), ("local", {"other"}), ("others", {"this"})])
async def test_logout_ends_the_sessions_of_its_scope(http, anon, scope: str, left: set[str]) -> None:
    this = await sign_up(http, anon)
    credentials = {"email": this["user"]["email"], "password": PASSWORD}
    _, other = await post(http, "/token?grant_type=password", anon, credentials)
    answer = await http.post(f"/auth/v1/logout?scope={scope}", headers=as_user(anon, this))
    assert (answer.status_code, answer.content) == (204, b"")
    alive = set()
    for name, session in (("this", this), ("other", other)):
        if (await refresh(http, anon, session["refresh_token"]))[0] == 200:
            alive.add(name)
    assert alive == left


async def test_a_deleted_user_can_neither_refresh_nor_be_read(http, anon, service) -> None:
    session = await sign_up(http, anon)
    answer = await http.delete(f"/auth/v1/admin/users/{session['user']['id']}", headers=service)
    assert answer.status_code == 200
    assert (await refresh(http, anon, session["refresh_token"]))[0] == 400
    assert (await http.get("/auth/v1/user", headers=as_user(anon, session))).status_code == 403


async def test_passwords_are_kept_as_argon2_hashes(http, anon, supabase) -> None:
    session = await sign_up(http, anon)
    [(kept,)] = await sql(supabase, "select encrypted_password from auth.users where id = %s", session["user"]["id"])
    assert kept.startswith("$argon2id$") and "encrypted_password" not in session["user"]


# refusals


async def test_wrong_password_and_unknown_user_are_told_alike(http, anon) -> None:
    session = await sign_up(http, anon)
    replies = [
        await post(http, "/token?grant_type=password", anon, {"email": email, "password": "wrong password"})
        for email in (session["user"]["email"], address())
    ]
    assert replies[0] == replies[1]
    assert replies[0] == (
        400,
        {"code": 400, "error_code": "invalid_credentials", "msg": "Invalid login credentials"},
    )


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"email": "no address", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a\x00b@example.com", "password": PASSWORD}, 400, "validation_failed"),
        ({"email": "a@example.com"}, 400, "validation_failed"),
        ({"email": "a@example.com", "password": "short"}, 422, "weak_password"),
        ({"email": "a@example.com", "password": "x" * 73}, 422, "validation_failed"),
        ({"email": "a@example.com", "password": PASSWORD, "data": "text"}, 400, "validation_failed"),
        ({"phone": "+4912345", "password": PASSWORD}, 422, "not_supported"),
        ([], 400, "bad_json"),
    ],
)
async def test_a_sign_up_that_cannot_be_is_refused_with_its_reason(http, anon, body, status, code) -> None:
    reply_status, reply = await post(http, "/signup", anon, body)
    assert (reply_status, reply["code"], reply["error_code"]) == (status, status, code)
    assert reply["msg"]


async def test_an_address_is_taken_once_whatever_its_case(http, anon) -> None:
    email = (await sign_up(http, anon))["user"]["email"]
    status, body = await post(http, "/signup", anon, {"email": email.upper(), "password": PASSWORD})
    assert (status, body["error_code"]) == (422, "user_already_exists")


async def test_a_trigger_that_refuses_a_user_is_a_database_error_in_json(http, anon, supabase) -> None:
    await sql(
        supabase,
        "create function public.refuse() returns trigger language plpgsql as $$ begin "
        "if new.email like 'refused%%' then raise 'secret detail'; end if; return new; end $$",
    )
    await sql(
        supabase, "create trigger refuse before insert on auth.users for each row execute function public.refuse()"
    )
    status, body = await post(http, "/signup", anon, {"email": "refused@example.com", "password": PASSWORD})
    assert (status, body["error_code"]) == (500, "unexpected_failure")
    assert "secret detail" not in body["msg"]


async def test_administration_needs_the_service_key(http, anon) -> None:
    session = await sign_up(http, anon)
    for headers in (anon, as_user(anon, session)):
        for method, path in (
            ("GET", ""),
            ("POST", ""),
            ("GET", f"/{uuid4()}"),
            ("DELETE", f"/{session['user']['id']}"),
        ):
            answer = await http.request(method, f"/auth/v1/admin/users{path}", headers=headers)
            assert (answer.status_code, answer.json()["error_code"]) == (403, "not_admin")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/otp"),
        ("POST", "/recover"),
        ("POST", "/verify"),
        ("GET", "/authorize?provider=github"),
        ("POST", "/factors"),
        ("POST", "/admin/generate_link"),
        ("POST", "/token?grant_type=pkce"),
    ],
)
async def test_what_is_left_out_is_refused_by_name(http, anon, method: str, path: str) -> None:
    answer = await http.request(method, f"/auth/v1{path}", headers=anon, json={})
    assert (answer.status_code, answer.json()["error_code"]) == (422, "not_supported")
    assert path.split("?")[0].strip("/") in answer.json()["msg"] or "pkce" in answer.json()["msg"]


async def test_a_list_of_users_comes_in_pages_and_tells_how_many_there_are(http, anon, service) -> None:
    await sign_up(http, anon)
    await sign_up(http, anon)
    first = await http.get("/auth/v1/admin/users?page=1&per_page=1", headers=service)
    total = int(first.headers["x-total-count"])
    assert len(first.json()["users"]) == 1 and total >= 2
    assert first.headers["link"].startswith('</admin/users?page=2&per_page=1>; rel="next"')
    last = await http.get(f"/auth/v1/admin/users?page={total}&per_page=1", headers=service)
    assert "next" not in last.headers["link"]
    assert last.json()["users"][0]["id"] != first.json()["users"][0]["id"]


async def test_what_the_admin_api_does_not_keep_is_refused_not_dropped(http, service) -> None:
    base = {"email": address(), "password": PASSWORD}
    for extra in ({"phone": "+49123"}, {"password_hash": "$2a$"}, {"role": "supabase_admin"}):
        status, body = await post(http, "/admin/users", service, base | extra)
        assert (status, body["error_code"]) == (422, "not_supported"), extra
    _, user = await post(http, "/admin/users", service, base)
    answer = await http.request(
        "DELETE", f"/auth/v1/admin/users/{user['id']}", headers=service, json={"should_soft_delete": True}
    )
    assert (answer.status_code, answer.json()["error_code"]) == (422, "not_supported")


# keys and tokens


async def test_a_request_without_a_key_is_let_nowhere(http) -> None:
    for path in ("/auth/v1/user", "/auth/v1/settings", "/rest/v1/", "/storage/v1/bucket", "/functions/v1/x"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["message"]) == (401, "No API key found in request"), path
        answer = await http.get(path, headers={"apikey": "sb_secret_guessed"})
        assert (answer.status_code, answer.json()["message"]) == (401, "Invalid API key"), path


async def test_a_user_token_is_no_api_key(http, anon) -> None:
    session = await sign_up(http, anon)
    answer = await http.get("/auth/v1/user", headers={"apikey": session["access_token"]})
    assert answer.status_code == 401


async def test_health_and_the_public_keys_need_no_key(http, supabase) -> None:
    assert (await http.get("/auth/v1/health")).status_code == 200
    [key] = (await http.get("/auth/v1/.well-known/jwks.json")).json()["keys"]
    assert key["alg"] == "ES256" and "d" not in key


@pytest.fixture(scope="module")
def forged(supabase: EmbeddedSupabase) -> dict[str, str]:
    """Tokens that must not hold, by what is wrong with them."""
    keys = supabase.keys
    now = int(time.time())
    good = {"sub": str(uuid4()), "role": "authenticated", "aud": "authenticated", "exp": now + 600}

    def hs256(claims: dict[str, Any], secret: str = keys.jwt_secret) -> str:
        return jwt.encode(claims, secret, "HS256")

    public = keys.signing_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    # PyJWT itself refuses a PEM as an HMAC secret; a forger's library does not
    import base64
    import hashlib
    import hmac

    head, payload, _ = hs256(good).split(".")
    digest = hmac.new(public, f"{head}.{payload}".encode(), hashlib.sha256).digest()
    return {
        "alg none": jwt.encode(good, None, "none"),
        "another secret": hs256(good, "x" * 64),
        "the public key as a secret": f"{head}.{payload}." + base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "expired": hs256(good | {"exp": now - 1}),
        "without an end": hs256({name: value for name, value in good.items() if name != "exp"}),
        "not yet valid": hs256(good | {"nbf": now + 600}),
        "another audience": hs256(good | {"aud": "other"}),
        "a role of the platform": hs256(good | {"role": "supabase_admin"}),
        "the owner's role": hs256(good | {"role": "postgres"}),
        "the gateway's own role": hs256(good | {"role": "authenticator"}),
        "no user": hs256(good | {"sub": "1 or 1=1"}),
        "an unknown key id": jwt.encode(good, keys.signing_key, "ES256", headers={"kid": "other"}),
        "not a token": "abc",
        "a key of the new kind": keys.secret,
    }


FORGED = ["alg none", "another secret", "the public key as a secret", "expired", "without an end", "not yet valid",
          "another audience", "a role of the platform", "the owner's role", "the gateway's own role", "no user",
          "an unknown key id", "not a token", "a key of the new kind"]  # fmt: skip


@pytest.mark.parametrize("what", FORGED)
async def test_a_token_that_does_not_hold_is_refused_by_every_service(http, anon, forged, what: str) -> None:
    headers = anon | {"authorization": f"Bearer {forged[what]}"}
    answer = await http.get("/auth/v1/user", headers=headers)
    assert (answer.status_code, answer.json()["error_code"]) == (403, "bad_jwt")
    answer = await http.get("/rest/v1/documents", headers=headers)
    assert answer.status_code == 401 and answer.json()["code"].startswith("PGRST30")
    answer = await http.get("/storage/v1/bucket", headers=headers)
    assert (answer.status_code, answer.json()["statusCode"]) == (400, "403")


async def test_tokens_of_either_kind_hold(http, anon, supabase) -> None:
    user = (await sign_up(http, anon))["user"]
    claims = {"sub": user["id"], "role": "authenticated", "aud": ["authenticated"], "exp": int(time.time()) + 60}
    keys = supabase.keys
    for token in (
        jwt.encode(claims, keys.jwt_secret, "HS256"),
        jwt.encode(claims, keys.signing_key, "ES256", headers={"kid": keys.key_id}),
    ):
        answer = await http.get("/auth/v1/user", headers=anon | {"authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["id"]) == (200, user["id"])


async def test_an_answer_may_be_read_by_a_page_of_another_origin(http, anon) -> None:
    asked = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    answer = await http.options(
        "/auth/v1/signup", headers=asked | {"access-control-request-headers": "apikey,content-type"}
    )
    assert answer.status_code == 200 and "apikey" in answer.headers["access-control-allow-headers"]
    answer = await http.get("/auth/v1/settings", headers=anon | {"origin": "http://localhost:3000"})
    assert answer.headers["access-control-allow-origin"] == "*"
