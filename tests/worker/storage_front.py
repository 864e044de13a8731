"""A server in front of the project's Storage that fails as the real one does; all else is passed on."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from pipeline.embedded.fakes.server import serve

INTERNAL = (
    500,
    {"statusCode": "500", "error": "Internal", "code": "InternalError", "message": "Internal Server Error"},
)
"""The real server, for a row whose blob is no longer on its disk; see also GONE."""
GONE = (400, {"statusCode": "404", "error": "not_found", "code": "NoSuchKey", "message": "Object not found"})
"""The same where the blobs are in S3, and for an object that it has no row of."""
NO_BUCKET = (
    400,
    {"statusCode": "404", "error": "Bucket not found", "code": "NoSuchBucket", "message": "Bucket not found"},
)
DENIED = (400, {"statusCode": "403", "error": "Unauthorized", "code": "AccessDenied", "message": "Invalid Compact JWS"})

Answer = tuple[int, dict[str, str]]
_KEPT = {"content-type", "etag", "content-range", "cache-control"}


def is_download(method: str, path: str) -> bool:
    return method == "GET" and path.startswith("/storage/v1/object/authenticated/")


@dataclass
class Front:
    """`lost` names objects by their end, and what is answered to their download."""

    target: str
    lost: dict[str, Answer] = field(default_factory=dict)
    fault: Callable[[str, str], Answer | None] = lambda method, path: None
    """What is answered to a method and path; None passes it on."""
    seen: Counter[str] = field(default_factory=Counter)
    """How often each method and first part of a path came."""
    url: str = ""

    @contextlib.asynccontextmanager
    async def serve(self) -> AsyncIterator[Front]:
        async with httpx.AsyncClient(base_url=self.target) as client:

            async def answer(request: Request) -> Response:
                path = unquote(request.url.path)
                self.seen["download" if is_download(request.method, path) else request.method] += 1
                fault = self.fault(request.method, path)
                if fault is None and is_download(request.method, path):
                    fault = next((told for name, told in self.lost.items() if path.endswith(name)), None)
                if fault is not None:
                    return JSONResponse(fault[1], fault[0])
                return await self._passed_on(client, request)

            route = Route("/{path:path}", answer, methods=["GET", "HEAD", "POST", "PUT", "DELETE"])
            async with serve(Starlette(routes=[route])) as url:
                self.url = url
                yield self

    async def _passed_on(self, client: httpx.AsyncClient, request: Request) -> Response:
        headers = {k: v for k, v in request.headers.items() if k not in ("host", "content-length")}
        told = await client.request(
            request.method,
            httpx.URL(self.target).copy_with(raw_path=request.scope["raw_path"] + b"?" + request.scope["query_string"]),
            content=await request.body(),
            headers=headers,
        )
        kept: dict[str, Any] = {k: v for k, v in told.headers.items() if k in _KEPT}
        return Response(told.content, told.status_code, headers=kept)
