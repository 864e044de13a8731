"""Supabase Auth as its SDKs speak it: sign-up, password, anonymous and refresh grants, the user, logout, admin users.

Users are confirmed at once: there is no mail. What is left out (mail and phone links, one-time codes, OAuth, SSO, MFA,
recovery) is refused with its name: as 422, because supabase-js takes every 5xx for an outage and hides its message.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import psycopg
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import AsyncConnectionPool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.embedded.gateway.auth_rows import CHANGE, CREATE
from pipeline.embedded.gateway.tokens import Keys, Principal, Refused

TOKEN_SECONDS = 3600
REUSE_SECONDS = 10
"""A refresh token that was just used may be used again: two tabs refresh at the same moment."""
MIN_PASSWORD = 6
_log = logging.getLogger(__name__)
_PAGE = 50

Row = dict[str, Any]


class AuthError(Exception):
    """A refusal as GoTrue words it."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": status, "error_code": code, "msg": message} | more


async def _configure(connection: psycopg.AsyncConnection[Row]) -> None:
    """The real server reads dates in binary, whatever the project's DateStyle is; psycopg reads text."""
    await connection.execute("set datestyle = 'ISO, MDY'")


class Auth:
    """The users of one project, through sessions of supabase_auth_admin, opened at the first use."""

    def __init__(
        self, url: str, keys: Keys, api_url: Callable[[], str], bearer: Callable[[Request], Principal]
    ) -> None:
        self._keys = keys
        self._api_url = api_url
        self._bearer = bearer
        # The second recommendation of RFC 9106 is meant for servers; this one shares a laptop with a model.
        self._hasher = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._pool: AsyncConnectionPool[psycopg.AsyncConnection[Row]] = AsyncConnectionPool(
            url,
            min_size=1,
            max_size=4,
            open=False,
            configure=_configure,
            name="auth",
            kwargs={"autocommit": True, "row_factory": dict_row},
        )
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        await self._pool.close()

    async def _rows(self, statement: str, *values: Any, **named: Any) -> list[Row]:
        if self._pool.closed:
            async with self._opening:
                if self._pool.closed:
                    await self._pool.open()
        async with self._pool.connection() as connection:
            cursor = await connection.execute(statement.encode(), named or values)
            return await cursor.fetchall() if cursor.description else []

    # grants

    async def sign_up(self, request: Request) -> Response:
        body = await _body(request)
        email, password = body.get("email"), body.get("password")
        _refuse_unkept(body)
        if not email:
            user = await self._create({"data": body.get("data")}, anonymous=True)
            return JSONResponse(await self._session(user, "anonymous"))
        if not password:
            raise AuthError(400, "validation_failed", "Signup requires a valid password")
        user = await self._create({"email": email, "password": password, "user_metadata": body.get("data")})
        return JSONResponse(await self._session(user, "password"))

    async def token(self, request: Request) -> Response:
        body = await _body(request)
        match request.query_params.get("grant_type"):
            case "password":
                return JSONResponse(await self._sign_in(body))
            case "refresh_token":
                return JSONResponse(await self._refresh(str(body.get("refresh_token", ""))))
            case other:
                raise _unsupported(f"the grant type {other}")

    async def _sign_in(self, body: Row) -> Row:
        _refuse_unkept(body)
        email, password = str(body.get("email", "")).lower(), str(body.get("password", ""))
        rows = await self._rows("select * from auth.users where lower(email) = %s and deleted_at is null", email)
        stored = rows[0]["encrypted_password"] if rows else None
        # Checked against something in any case, so that the time tells nothing about who is registered.
        valid = await asyncio.to_thread(self._matches, stored or self._decoy(), password)
        if not rows or not stored or not valid:
            raise AuthError(400, "invalid_credentials", "Invalid login credentials")
        _refuse_banned(rows[0])
        return await self._session(rows[0], "password")

    async def _refresh(self, token: str) -> Row:
        """A token is exchanged once. Again within 10 s (two tabs), or as the parent of the session's active token (the
        answer got lost), it gives the active one; anything else is a theft and ends the session."""
        rows = await self._rows(
            "select t.*, t.updated_at > now() - make_interval(secs => %s) as recent "
            "from auth.refresh_tokens t where t.token = %s",
            REUSE_SECONDS,
            token,
        )
        if not rows:
            raise AuthError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
        [row] = rows
        users = await self._rows("select * from auth.users where id = %s and deleted_at is null", UUID(row["user_id"]))
        if not users:
            raise AuthError(400, "refresh_token_not_found", "Invalid Refresh Token: Refresh Token Not Found")
        _refuse_banned(users[0])
        refresh = secrets.token_urlsafe(16)
        exchanged = await self._rows(
            "with used as (update auth.refresh_tokens set revoked = true, updated_at = now() "
            "where token = %s and not revoked returning user_id, token, session_id) "
            "insert into auth.refresh_tokens (token, user_id, revoked, created_at, updated_at, parent, session_id) "
            "select %s, user_id, false, now(), now(), token, session_id from used returning token",
            token,
            refresh,
        )
        if not exchanged:
            active = await self._rows(
                "select token, parent from auth.refresh_tokens where session_id = %s and not revoked", row["session_id"]
            )
            # not revoked when it was read: somebody else exchanged it at this very moment
            again = not row["revoked"] or row["recent"] or (active and active[0]["parent"] == token)
            if not active or not again:
                await self._rows("delete from auth.sessions where id = %s", row["session_id"])
                raise AuthError(400, "refresh_token_already_used", "Invalid Refresh Token: Already Used")
            refresh = active[0]["token"]
        return await self._answer(users[0], "token_refresh", row["session_id"], refresh)

    async def _session(self, user: Row, method: str) -> Row:
        """A new session and its first tokens."""
        session_id, refresh = uuid4(), secrets.token_urlsafe(16)
        await self._rows(
            "with s as (insert into auth.sessions (id, user_id, created_at, updated_at, aal) "
            "values (%s, %s, now(), now(), 'aal1') returning id, user_id), t as (insert into auth.refresh_tokens "
            "(token, user_id, revoked, created_at, updated_at, session_id) "
            "select %s, user_id, false, now(), now(), id from s) "
            "update auth.users set last_sign_in_at = now() where id = %s",
            session_id,
            user["id"],
            refresh,
            user["id"],
        )
        return await self._answer(user, method, session_id, refresh)

    async def _answer(self, user: Row, method: str, session_id: UUID, refresh: str) -> Row:
        now = int(time.time())
        view = await self._view(user["id"])
        access = self._keys.sign(
            {
                "iss": f"{self._api_url()}/auth/v1",
                "sub": str(user["id"]),
                "aud": "authenticated",
                "exp": now + TOKEN_SECONDS,
                "iat": now,
                "email": user["email"] or "",
                "phone": user["phone"] or "",
                "app_metadata": view["app_metadata"],
                "user_metadata": view["user_metadata"],
                "role": user["role"],
                "aal": "aal1",
                "amr": [{"method": method, "timestamp": now}],
                "session_id": str(session_id),
                "is_anonymous": user["is_anonymous"],
            }
        )
        return {
            "access_token": access,
            "token_type": "bearer",
            "expires_in": TOKEN_SECONDS,
            "expires_at": now + TOKEN_SECONDS,
            "refresh_token": refresh,
            "user": view,
        }

    # the signed-in user

    async def get_user(self, request: Request) -> Response:
        return JSONResponse(await self._view(await self._signed_in(request)))

    async def put_user(self, request: Request) -> Response:
        user_id = await self._signed_in(request)
        body = await _body(request)
        _refuse_unkept(body)
        await self._change(user_id, {"email": body.get("email"), "password": body.get("password"),
                                     "user_metadata": body.get("data")})  # fmt: skip
        if body.get("password"):  # whoever knew the old one is signed out
            session = self._bearer(request).claims.get("session_id")
            await self._rows(
                "delete from auth.sessions where user_id = %s and id is distinct from %s", user_id, session
            )
        return JSONResponse(await self._view(user_id))

    async def logout(self, request: Request) -> Response:
        user, session = await self._signed_in(request), self._bearer(request).claims.get("session_id")
        match request.query_params.get("scope", "global"):
            case "local":
                await self._rows("delete from auth.sessions where id = %s", session)
            case "others":
                await self._rows("delete from auth.sessions where user_id = %s and id <> %s", user, session)
            case "global":
                await self._rows("delete from auth.sessions where user_id = %s", user)
            case scope:
                raise AuthError(400, "validation_failed", f"Unsupported logout scope {scope!r}")
        return Response(status_code=204)

    async def _signed_in(self, request: Request) -> UUID:
        principal = self._bearer(request)
        if principal.role != "authenticated" or principal.user_id is None:
            raise AuthError(403, "bad_jwt", "invalid claim: missing sub claim")
        session = principal.claims.get("session_id")
        if session and not await self._rows("select 1 from auth.sessions where id = %s", session):
            raise AuthError(403, "session_not_found", "Session from session_id claim in JWT does not exist")
        return UUID(principal.user_id)

    # administration

    async def admin_create(self, request: Request) -> Response:
        self._admin(request)
        wanted = await _body(request)
        _refuse_unkept(wanted)
        if wanted.get("ban_duration"):
            raise _unsupported("creating a banned user: ban it afterwards")
        return JSONResponse(await self._view((await self._create(wanted))["id"]))

    async def admin_list(self, request: Request) -> Response:
        self._admin(request)
        try:
            page = max(int(request.query_params.get("page") or 1), 1)
            size = max(int(request.query_params.get("per_page") or _PAGE), 1)
        except ValueError:
            raise AuthError(400, "validation_failed", "page and per_page must be numbers") from None
        rows = await self._rows(
            "select id from auth.users where deleted_at is null order by created_at desc, id limit %s offset %s",
            size,
            (page - 1) * size,
        )
        total = await self._rows("select count(*) as n from auth.users where deleted_at is null")
        body = {"users": [await self._view(row["id"]) for row in rows], "aud": "authenticated"}
        last = max(-(-total[0]["n"] // size), 1)
        pages = [(page + 1, "next")] * (page < last) + [(last, "last")]
        # supabase-js reads the count only beside a link
        link = ", ".join(f'</admin/users?page={number}&per_page={size}>; rel="{rel}"' for number, rel in pages)
        return JSONResponse(body, headers={"x-total-count": str(total[0]["n"]), "link": link})

    async def admin_get(self, request: Request) -> Response:
        self._admin(request)
        return JSONResponse(await self._view(_id(request)))

    async def admin_update(self, request: Request) -> Response:
        self._admin(request)
        user_id = _id(request)
        wanted = await _body(request)
        _refuse_unkept(wanted)
        await self._view(user_id)
        await self._change(user_id, wanted)
        return JSONResponse(await self._view(user_id))

    async def admin_delete(self, request: Request) -> Response:
        self._admin(request)
        user_id = _id(request)
        if (await _body(request)).get("should_soft_delete"):
            raise _unsupported("a soft delete")
        await self._view(user_id)
        await self._rows("delete from auth.users where id = %s", user_id)
        return JSONResponse({})

    def _admin(self, request: Request) -> None:
        if self._bearer(request).role != "service_role":
            raise AuthError(403, "not_admin", "User not allowed")

    # users

    async def _create(self, wanted: Row, *, anonymous: bool = False) -> Row:
        email = None if anonymous else _email(wanted.get("email"))
        hashed = await self._hash(wanted.get("password"))
        user_id = _given_id(wanted.get("id"))
        provider = {} if anonymous else {"provider": "email", "providers": ["email"]}
        metadata = _object(wanted, "user_metadata") or _object(wanted, "data")
        identity = {"sub": str(user_id), "email": email, "email_verified": True, "phone_verified": False}
        try:
            rows = await self._rows(
                CREATE,
                id=user_id,
                email=email,
                hashed=hashed,
                anonymous=anonymous,
                app_metadata=Jsonb(provider | _object(wanted, "app_metadata")),
                user_metadata=Jsonb(metadata),
                identity=Jsonb(metadata | identity),
            )
        except psycopg.errors.UniqueViolation:
            if email and await self._rows("select 1 from auth.users where lower(email) = %s", email):
                raise AuthError(422, "user_already_exists", "User already registered") from None
            raise AuthError(422, "conflict", "A user with this id exists") from None
        return rows[0]

    async def _change(self, user_id: UUID, wanted: Row) -> None:
        email = _email(wanted["email"]) if wanted.get("email") else None
        hashed = await self._hash(wanted.get("password"))
        try:
            await self._rows(
                CHANGE,
                id=user_id,
                email=email,
                hashed=hashed,
                user_metadata=Jsonb(_object(wanted, "user_metadata")),
                app_metadata=Jsonb(_object(wanted, "app_metadata")),
                banned=wanted.get("ban_duration"),
            )
        except psycopg.errors.UniqueViolation:
            message = "A user with this email address has already been registered"
            raise AuthError(422, "email_exists", message) from None
        except (psycopg.errors.InvalidDatetimeFormat, psycopg.errors.DatetimeFieldOverflow):
            raise AuthError(400, "validation_failed", "invalid format for ban duration") from None

    async def _view(self, user_id: UUID) -> Row:
        rows = await self._rows("select * from auth.users where id = %s and deleted_at is null", user_id)
        if not rows:
            raise AuthError(404, "user_not_found", "User not found")
        [user] = rows
        identities = await self._rows("select * from auth.identities where user_id = %s order by created_at", user_id)
        return {
            "id": str(user["id"]),
            "aud": user["aud"],
            "role": user["role"],
            "email": user["email"] or "",
            "email_confirmed_at": _time(user["email_confirmed_at"]),
            "phone": user["phone"] or "",
            "confirmed_at": _time(user["confirmed_at"]),
            "last_sign_in_at": _time(user["last_sign_in_at"]),
            "app_metadata": user["raw_app_meta_data"] or {},
            "user_metadata": user["raw_user_meta_data"] or {},
            "identities": [
                {
                    "identity_id": str(one["id"]),
                    "id": one["provider_id"],
                    "user_id": str(one["user_id"]),
                    "identity_data": one["identity_data"],
                    "provider": one["provider"],
                    "last_sign_in_at": _time(one["last_sign_in_at"]),
                    "created_at": _time(one["created_at"]),
                    "updated_at": _time(one["updated_at"]),
                    "email": one["email"],
                }
                for one in identities
            ],
            "created_at": _time(user["created_at"]),
            "updated_at": _time(user["updated_at"]),
            "is_anonymous": user["is_anonymous"],
        }

    async def _hash(self, password: object) -> str | None:
        if password is None or password == "":
            return None
        if not isinstance(password, str) or len(password) < MIN_PASSWORD:
            message = f"Password should be at least {MIN_PASSWORD} characters."
            raise AuthError(422, "weak_password", message, weak_password={"reasons": ["length"]})
        if len(password.encode()) > 72:
            raise AuthError(422, "validation_failed", "Password cannot be longer than 72 characters")
        return await asyncio.to_thread(self._hasher.hash, password)

    def _decoy(self) -> str:
        if not hasattr(self, "_decoy_hash"):
            self._decoy_hash = self._hasher.hash(secrets.token_hex())
        return self._decoy_hash

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (Argon2Error, InvalidHashError):
            return False


def auth_routes(auth: Auth, keys: Keys) -> list[Route]:
    """All routes, relative to /auth/v1."""

    def endpoint(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                return await handler(request)
            except AuthError as error:
                return JSONResponse(error.body, error.status)
            except Refused as error:
                body = {"code": 403, "error_code": "bad_jwt", "msg": f"invalid JWT: {error}"}
                return JSONResponse(body, 403)
            except UnicodeEncodeError:
                return JSONResponse(_UNSTORABLE.body, _UNSTORABLE.status)
            except psycopg.Error as error:
                # a NUL or half a surrogate pair; everything else is a trigger's, or the server's
                if isinstance(error, psycopg.DataError) and error.sqlstate in (None, "22021", "22P05"):
                    return JSONResponse(_UNSTORABLE.body, _UNSTORABLE.status)
                _log.error("%s %s: %s %s", request.method, request.url.path, error.sqlstate, error.diag.message_primary)
                body = {"code": 500, "error_code": "unexpected_failure", "msg": "Database error: see the project's log"}
                return JSONResponse(body, 500)

        return respond

    async def jwks(request: Request) -> Response:
        return JSONResponse(keys.jwks(), headers={"cache-control": "public, max-age=600"})

    async def health(request: Request) -> Response:
        return JSONResponse({"name": "GoTrue", "version": "embedded", "description": "the embedded Supabase's Auth"})

    async def settings(request: Request) -> Response:
        external = {"email": True, "phone": False, "anonymous_users": True}
        return JSONResponse({"external": external, "disable_signup": False, "mailer_autoconfirm": True})

    async def left_out(request: Request) -> Response:
        raise _unsupported(f"{request.method} {request.url.path.removeprefix('/auth/v1')}")

    table: list[tuple[str, str, Callable[[Request], Awaitable[Response]]]] = [
        ("POST", "/signup", auth.sign_up),
        ("POST", "/token", auth.token),
        ("GET", "/user", auth.get_user),
        ("PUT", "/user", auth.put_user),
        ("POST", "/logout", auth.logout),
        ("GET", "/.well-known/jwks.json", jwks),
        ("GET", "/health", health),
        ("GET", "/settings", settings),
        ("POST", "/admin/users", auth.admin_create),
        ("GET", "/admin/users", auth.admin_list),
        ("GET", "/admin/users/{id}", auth.admin_get),
        ("PUT", "/admin/users/{id}", auth.admin_update),
        ("DELETE", "/admin/users/{id}", auth.admin_delete),
    ]
    routes = [Route(path, endpoint(handler), methods=[method]) for method, path, handler in table]
    every = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    return [*routes, Route("/{rest:path}", endpoint(left_out), methods=every)]


def _unsupported(what: str) -> AuthError:
    return AuthError(422, "not_supported", f"The embedded Auth does not support {what}.")


_UNSTORABLE = AuthError(400, "validation_failed", "a text holds a character that Postgres cannot store")


def _refuse_unkept(wanted: Row) -> None:
    """What would be dropped in silence is refused."""
    for name in ("phone", "password_hash"):
        if wanted.get(name):
            raise _unsupported(f"a user's {name}")
    if wanted.get("role") not in (None, "", "authenticated"):
        raise _unsupported("a user with a role of their own")


def _object(wanted: Row, name: str) -> Row:
    value = wanted.get(name)
    if value is not None and not isinstance(value, dict):
        raise AuthError(400, "validation_failed", f"{name} must be an object")
    return value or {}


async def _body(request: Request) -> Row:
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        raise AuthError(400, "bad_json", "Could not parse request body as JSON") from None
    if not isinstance(body, dict):
        raise AuthError(400, "bad_json", "Could not parse request body as JSON")
    return body


def _email(value: object) -> str:
    text = str(value or "").strip().lower()
    local, at, domain = text.rpartition("@")
    if not (local and at and "." in domain) or any(c.isspace() for c in text) or len(text) > 255:
        raise AuthError(400, "validation_failed", "Unable to validate email address: invalid format")
    return text


def _id(request: Request) -> UUID:
    try:
        return UUID(request.path_params["id"])
    except ValueError:
        raise AuthError(404, "validation_failed", "user_id must be an UUID") from None


def _given_id(value: object) -> UUID:
    if value is None:
        return uuid4()
    try:
        return UUID(str(value))
    except ValueError:
        raise AuthError(400, "validation_failed", "ID must conform to the uuid v4 format") from None


def _refuse_banned(user: Row) -> None:
    if user["banned_until"] and user["banned_until"] > datetime.now(UTC):
        raise AuthError(400, "user_banned", "User is banned")


def _time(value: datetime | None) -> str | None:
    """RFC 3339 with T and Z: the SDKs' models refuse anything else."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z") if value else None
