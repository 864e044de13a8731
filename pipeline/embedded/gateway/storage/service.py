"""What every handler of Storage shares, and the few things it knows about the gateway around it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import psycopg
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from pipeline.embedded.gateway.storage import errors
from pipeline.embedded.gateway.storage.blobs import BlobStore
from pipeline.embedded.gateway.storage.database import Caller, StorageDatabase
from pipeline.embedded.gateway.storage.signing import UrlSigner
from pipeline.embedded.gateway.storage.uploads import UploadStore

T = TypeVar("T")
_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
DEFAULT_SIZE_LIMIT = 50 * 1024 * 1024
"""Bytes that one upload may have in a bucket without a limit of its own, as on a new hosted project."""


@dataclass(slots=True)
class Storage:
    """The parts that the handlers work with. `identify` says who sends a request; it may raise StorageError."""

    database: StorageDatabase
    blobs: BlobStore
    uploads: UploadStore
    signer: UrlSigner
    identify: Callable[[Request], Caller]
    size_limit: int = DEFAULT_SIZE_LIMIT
    _unfinished: set[asyncio.Future[Any]] = field(default_factory=set)

    async def finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end even when the client hangs up and its request is cancelled."""
        task = asyncio.ensure_future(work)
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for the writes that are under way, then let go of the sessions."""
        while self._unfinished:
            await asyncio.wait(set(self._unfinished))
        await self.database.close()


Handler = Callable[[Storage, Request], Awaitable[Response]]


def endpoint(storage: Storage, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """The handler for Starlette, with its refusals told as the real server tells them."""

    async def respond(request: Request) -> Response:
        try:
            if (target := _undecodable(request)) is not None:
                return _bad_url(target)
            return await handler(storage, request)
        except errors.StorageError as error:
            return error.response()
        except psycopg.Error as error:
            return errors.from_database(error).response()
        except UnicodeEncodeError:
            return errors.invalid_request("a text holds a character that Postgres cannot store").response()
        except ClientDisconnect:
            return Response(status_code=499)

    return respond


def target_of(request: Request) -> str:
    """Path and query as they were sent, below /storage/v1."""
    path = request.scope.get("raw_path", b"").decode("latin-1").removeprefix(request.scope.get("root_path", ""))
    query = request.scope.get("query_string", b"").decode("latin-1")
    return f"{path}?{query}" if query else path


def _undecodable(request: Request) -> str | None:
    """The path, where it is not percent-encoded UTF-8."""
    raw = request.scope.get("raw_path", b"")
    try:
        if _STRAY_PERCENT.search(raw) is None:
            unquote_to_bytes(raw).decode()
            return None
    except UnicodeDecodeError:
        pass
    return target_of(request).partition("?")[0]


def _bad_url(path: str) -> Response:
    message = f"'{path}' is not a valid url component"
    body = {"statusCode": 400, "code": "FST_ERR_BAD_URL", "error": "Bad Request", "message": message}
    return JSONResponse(body, 400)
