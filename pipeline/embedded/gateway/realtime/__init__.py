"""Supabase Realtime as its SDKs speak it: broadcasts on channels, private ones authorised by row level security.

    wire.py       Phoenix messages in both serialisations     hub.py        from database rows to subscribers
    socket.py     one websocket and its channels              authorize.py  what the policies allow

Left out, and refused by name: presence, postgres_changes, the replay of broadcasts.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from pipeline.embedded.gateway.realtime import authorize
from pipeline.embedded.gateway.realtime.hub import Hub
from pipeline.embedded.gateway.realtime.socket import Identity, Services, Socket, TokenRefused
from pipeline.embedded.gateway.realtime.wire import VERSIONS

__all__ = ["Hub", "Identity", "Services", "TokenRefused", "realtime_routes"]

MAX_BROADCAST_BYTES = 3_000_000


def realtime_routes(services: Services) -> list[BaseRoute]:
    """The routes below /realtime/v1."""

    async def connect(websocket: WebSocket) -> None:
        version = websocket.query_params.get("vsn", "1.0.0")
        apikey = websocket.query_params.get("apikey") or websocket.headers.get("apikey") or ""
        try:
            services.verify(apikey)
        except TokenRefused:
            await websocket.close(1008)  # before it is accepted: HTTP 403
            return
        if version not in VERSIONS:
            await websocket.close(1008)
            return
        await websocket.accept()
        await Socket(websocket, version, apikey, services).run()

    async def broadcast(request: Request) -> Response:
        """POST /api/broadcast: {messages: [{topic, event, payload, private}]}, all of them or none."""
        body = await _body(request)
        try:
            messages = [
                (str(one["topic"]), str(one["event"]), one["payload"], one.get("private") is True)
                for one in json.loads(body or b"")["messages"]
            ]
        except (ValueError, KeyError, TypeError, AttributeError):
            return JSONResponse({"error": "messages must be objects with topic, event and payload"}, 422)
        return await _send(services, request, messages)

    async def broadcast_one(request: Request) -> Response:
        """POST /api/broadcast/{topic}/events/{event}: the body is the payload."""
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": f"a payload has at most {MAX_BROADCAST_BYTES} bytes"}, 413)
        payload: Any = body
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/octet-stream":
            try:
                payload = json.loads(body)
            except ValueError:
                return JSONResponse({"error": "the payload must be JSON or application/octet-stream"}, 422)
        private = request.query_params.get("private") == "true"
        names = request.path_params
        return await _send(services, request, [(names["topic"], names["event"], payload, private)])

    return [
        WebSocketRoute("/websocket", connect),
        Route("/api/broadcast", broadcast, methods=["POST"]),
        Route("/api/broadcast/{topic:path}/events/{event}", broadcast_one, methods=["POST"]),
    ]


async def _body(request: Request) -> bytes | None:
    """The body, or None when it is too large."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BROADCAST_BYTES:
            return None
    return body


async def _send(services: Services, request: Request, messages: list[tuple[str, str, Any, bool]]) -> Response:
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    try:
        caller = services.verify(bearer or request.headers.get("apikey", ""))
    except TokenRefused as error:
        return JSONResponse({"error": str(error)}, 401)
    try:
        for topic in {topic for topic, _, _, private in messages if private}:
            async with services.connection() as connection:
                if not await authorize.may_write(connection, caller.role, caller.claims, topic):
                    reason = f"You do not have permissions to write to this Channel topic: {topic}"
                    return JSONResponse({"error": f"Unauthorized: {reason}"}, 403)
    except psycopg.Error:
        return JSONResponse({"error": "Realtime could not ask the database"}, 503)
    for topic, event, payload, private in messages:
        content = {"type": "broadcast", "event": event, "payload": payload}
        services.hub.broadcast((topic, private), content)
    return Response(status_code=202)
