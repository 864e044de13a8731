"""What every handler of Storage shares, and the few things it knows about the gateway around it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import psycopg
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pipeline.embedded.gateway.storage import errors
from pipeline.embedded.gateway.storage.blobs import BlobStore
from pipeline.embedded.gateway.storage.database import Caller, StorageDatabase
from pipeline.embedded.gateway.storage.signing import UrlSigner

T = TypeVar("T")
DEFAULT_SIZE_LIMIT = 50 * 1024 * 1024
"""Bytes that one upload may have in a bucket without a limit of its own, as on a new hosted project."""


@dataclass(slots=True)
class Storage:
    """The parts that the handlers work with. `identify` says who sends a request; it may raise StorageError."""

    database: StorageDatabase
    blobs: BlobStore
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


async def json_body(request: Request, *, required: bool = True) -> dict[str, Any]:
    """The request's JSON object; an empty body is an empty object where nothing is required."""
    raw = await request.body()
    if not raw and not required:
        return {}
    try:
        body = await request.json()
    except ValueError:
        raise errors.invalid_request("Body is not valid JSON") from None
    if not isinstance(body, dict):
        raise errors.invalid_request("body must be object")
    return body


def text_of(body: dict[str, Any], key: str) -> str:
    value = body.get(key)
    if not isinstance(value, str):
        raise errors.invalid_request(f"body must have required property '{key}'")
    return value


def whole_number(value: object, name: str, default: int | None, *, minimum: int) -> int:
    """A number as JSON or, as supabase-py sends some of them, as text."""
    if value is None and default is not None:
        return default
    try:
        number = int(value)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise errors.invalid_request(f"{name} must be integer") from None
    if number < minimum:
        raise errors.invalid_request(f"{name} must be >= {minimum}")
    return min(number, 2**31 - 1)
