"""The gateway: Auth, Storage, the Data API and Realtime behind one port, as on a Supabase project.

It checks keys and tokens and sets the database's role and claims from them; what a role may do, Postgres decides.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipeline.embedded.gateway import rest, storage
from pipeline.embedded.gateway.auth import Auth, auth_routes
from pipeline.embedded.gateway.realtime import Hub, Identity, Services, TokenRefused, realtime_routes
from pipeline.embedded.gateway.rest.errors import RestError
from pipeline.embedded.gateway.storage.blobs import BlobStore
from pipeline.embedded.gateway.storage.database import Caller as StorageCaller
from pipeline.embedded.gateway.storage.database import StorageDatabase
from pipeline.embedded.gateway.storage.errors import access_denied
from pipeline.embedded.gateway.storage.signing import EXPIRED, UrlSigner, why_invalid
from pipeline.embedded.gateway.storage.uploads import UploadStore
from pipeline.embedded.gateway.tokens import Keys, Principal, Refused
from pipeline.embedded.postgres import PostgresServer

_KEYLESS = ("/auth/v1/.well-known/", "/auth/v1/health", "/realtime/v1/websocket")
_KEYLESS += tuple("/storage/v1" + path for path in storage.PUBLIC_PATHS)
_BEARER_IS_ENOUGH = "/storage/v1/upload/resumable"
"""The platform's own examples of resumable uploads send the user's token and no key."""

_FORGET = "delete from realtime.messages where inserted_at < now() - interval '3 days'"
"""Hosted drops the partition of a day about then; here nothing else would."""


def create_app(postgres: PostgresServer, keys: Keys, blobs: Path, origin: list[str]) -> Starlette:
    """The application. `origin` holds the gateway's own URL once it is known: it is chosen after the app is made."""

    def principal(request: Request) -> Principal:
        """Raises Refused."""
        sent = request.headers.get("authorization", "")
        scheme, _, token = sent.partition(" ")
        apikey = request.headers.get("apikey") or request.query_params.get("apikey") or ""
        if scheme.lower() != "bearer" or not token.strip():
            token = apikey
        token = token.strip()
        # A key of the new kind is no token: as a bearer it only repeats the apikey.
        if token.startswith("sb_") and token != apikey:
            raise Refused("JWT could not be verified")
        return keys.verify(token)

    def for_rest(request: Request) -> rest.Caller:
        try:
            who = principal(request)
        except Refused as error:
            headers = {"WWW-Authenticate": f'Bearer error="invalid_token", error_description="{error}"'}
            code = "PGRST303" if str(error) != "JWT could not be verified" else "PGRST301"
            raise RestError(401, code, str(error), headers=headers) from None
        return rest.Caller(who.role, who.claims_json, request.method, request.url.path, _headers(request))

    def for_storage(request: Request) -> StorageCaller:
        try:
            who = principal(request)
        except Refused as error:
            raise access_denied(_in_words_of_storage(error, request)) from None
        return StorageCaller(
            who.role, who.user_id, who.claims_json, request.method, request.url.path, _headers(request)
        )

    def for_realtime(token: str) -> Identity:
        try:
            who = keys.verify(token)
        except Refused as error:
            raise TokenRefused(f"InvalidJWTToken: {error}") from None
        return Identity(who.role, who.claims, who.expires_at)

    login = postgres.url("authenticator")
    auth = Auth(postgres.url("supabase_auth_admin"), keys, lambda: origin[0], principal)
    store = BlobStore(blobs)
    uploads = UploadStore(blobs / "uploads", store)
    files = storage.Storage(StorageDatabase(login), store, uploads, UrlSigner(keys.jwt_secret), for_storage)
    data = rest.RestDatabase(login)
    hub = Hub(login)
    sessions = AsyncConnectionPool(
        login, min_size=0, max_size=4, open=False, name="realtime", kwargs={"autocommit": True}
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with await psycopg.AsyncConnection.connect(postgres.url("supabase_realtime_admin")) as connection:
            await connection.execute(_FORGET)
        await sessions.open()
        sweeping = asyncio.create_task(uploads.sweep_forever(), name="expired uploads")
        try:
            yield
        finally:
            sweeping.cancel()
            await hub.close()
            await asyncio.gather(files.close(), data.close(), auth.close(), sessions.close())

    async def nowhere(request: Request) -> Response:
        return JSONResponse({"message": "no Route matched with those values"}, 404)

    return Starlette(
        routes=[
            Mount("/auth/v1", routes=auth_routes(auth, keys)),
            Mount("/storage/v1", routes=storage.storage_routes(files)),
            Mount("/rest/v1", routes=rest.rest_routes(data, for_rest)),
            Mount("/realtime/v1", routes=realtime_routes(Services(hub, for_realtime, sessions.connection))),
            Mount(
                "/functions/v1", routes=[Route("/{rest:path}", _no_functions, methods=["GET", "POST", "PUT", "DELETE"])]
            ),
            Route("/{rest:path}", nowhere, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
        ],
        middleware=[
            Middleware(_UnsentBodies),
            Middleware(
                CORSMiddleware,
                allow_origins=["*"],
                allow_methods=["*"],
                allow_headers=["*"],
                expose_headers=["*"],
                max_age=3600,
            ),
            Middleware(_KeyCheck, keys=keys),
        ],
        lifespan=lifespan,
    )


def _in_words_of_storage(refused: Refused, request: Request) -> str:
    match str(refused):
        case "JWT expired":
            return EXPIRED
        case "JWT could not be verified":
            return why_invalid(request.headers.get("authorization", "").partition(" ")[2].strip())
        case other:
            return other


async def _no_functions(request: Request) -> Response:
    message = "The embedded Supabase does not run edge functions."
    return JSONResponse({"code": "NOT_SUPPORTED", "message": message}, 501)


def _headers(request: Request) -> str:
    """What functions may read as request.headers; credentials stay out."""
    secret = ("authorization", "apikey", "cookie")
    return json.dumps({name: value for name, value in request.headers.items() if name not in secret})


class _UnsentBodies:
    """Closes the connection behind an answer to a client that still waits to be told to send its body.

    Otherwise its next request would be read as that body.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == b"expect" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        told_to_send = False

        async def receive_body() -> Message:
            nonlocal told_to_send
            told_to_send = True
            return await receive()

        async def send_answer(message: Message) -> None:
            if message["type"] == "http.response.start" and not told_to_send:
                message["headers"] = [*message.get("headers", ()), (b"connection", b"close")]
            await send(message)

        await self._app(scope, receive_body, send_answer)


class _KeyCheck:
    """Lets in who brings one of the project's API keys, as the platform's own gateway does."""

    def __init__(self, app: ASGIApp, keys: Keys) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "OPTIONS" or scope["path"].startswith(_KEYLESS):
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if scope["path"].startswith(_BEARER_IS_ENOUGH) and "authorization" in request.headers:
            await self._app(scope, receive, send)
            return
        key = request.headers.get("apikey") or request.query_params.get("apikey")
        if key and self._keys.is_key(key):
            await self._app(scope, receive, send)
            return
        body = (
            {"message": "Invalid API key", "hint": "Double check your Supabase `anon` or `service_role` API key."}
            if key
            else {
                "message": "No API key found in request",
                "hint": "No `apikey` request header or url param was found.",
            }
        )
        await JSONResponse(body, 401)(scope, receive, send)
