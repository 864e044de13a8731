"""Supabase's Data API as its SDKs speak it: PostgREST's wire protocol over the schema `public`.

    query.py    the query string, parsed         headers.py  Accept, Prefer, Range, profiles
    catalog.py  what the schema holds            resolve.py  names of a request to what the schema holds
    render.py   one SQL statement                execute.py  run as the caller, in one round trip
    routes.py   the requests                     errors.py   codes and statuses

What a caller may see or change is decided by Postgres alone. Left out, and refused by name: resource embedding,
aggregates, PUT, CSV and plans as answers, forms as bodies, the OpenAPI description at the root.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.embedded.gateway.rest import routes as requests
from pipeline.embedded.gateway.rest.errors import RestError, unsupported
from pipeline.embedded.gateway.rest.execute import Caller, RestDatabase, Session

__all__ = ["Caller", "RestDatabase", "RestError", "rest_routes"]

_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


def rest_routes(database: RestDatabase, identify: Callable[[Request], Caller]) -> list[Route]:
    """The routes below /rest/v1. `identify` says who sends a request; it may raise RestError."""

    def endpoint(handler: Callable[[Request, Session], Awaitable[Response]]) -> Callable[..., Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            try:
                return await handler(request, Session(database, identify(request)))
            except RestError as error:
                return _refuse(request, error)
            except ClientDisconnect:
                return Response(status_code=499)

        return respond

    return [
        Route("/", endpoint(_root), methods=_METHODS),
        Route("/rpc/{function}", endpoint(requests.function), methods=_METHODS),
        Route("/{table}", endpoint(requests.table), methods=_METHODS),
        Route("/{rest:path}", endpoint(_unknown), methods=_METHODS),
    ]


async def _root(request: Request, session: Session) -> Response:
    raise unsupported("the OpenAPI description of the schema")


async def _unknown(request: Request, session: Session) -> Response:
    raise RestError(404, "PGRST125", "Invalid path specified in request URL")


def _refuse(request: Request, error: RestError) -> Response:
    headers = {"Content-Type": "application/json; charset=utf-8", "Proxy-Status": f"PostgREST; error={error.code}"}
    return Response(b"" if request.method == "HEAD" else error.body(), error.status, headers | error.headers)
