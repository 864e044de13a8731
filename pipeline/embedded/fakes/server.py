"""What both fakes share: a port for a while, scripted faults, and bodies that break on the way."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.queue.webhook import bound, serving


@dataclass(frozen=True)
class Fault:
    """One scripted misbehaviour.

    `kind` is how: `status` answers `status` with `body` and `headers`; `hang` never answers; `slow` sends the right
    body a byte at a time, without end in sight; `truncated` breaks the connection in the middle of the right body;
    `garbage` sends 200 with text that is no JSON, `raw` with `body` as it is, `endless` with a string that never ends.
    The other kinds belong to one fake and are told there.
    `path` limits it to requests whose path ends so; `times` is how many requests it spoils.
    """

    kind: str = "status"
    status: int = 500
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    times: int = 1


class Script:
    """The faults still to come, in order."""

    def __init__(self) -> None:
        self._faults: list[tuple[Fault, int]] = []
        self.over = asyncio.Event()

    def add(self, *faults: Fault) -> None:
        self._faults += [(fault, fault.times) for fault in faults]

    def next(self, path: str) -> Fault | None:
        for place, (fault, left) in enumerate(self._faults):
            if path.endswith(fault.path):
                if left > 1:
                    self._faults[place] = (fault, left - 1)
                else:
                    del self._faults[place]
                return fault
        return None


Handler = Callable[[Request], Awaitable[Response]]


def scripted(script: Script, handler: Handler, spoil: Callable[[Fault, Any], Any] | None = None) -> Handler:
    """`handler`, but the next fault of `script` for its path comes first; `spoil` knows the kinds of one fake."""

    async def answer(request: Request) -> Response:
        fault = script.next(request.url.path)
        if fault is None:
            return await handler(request)
        match fault.kind:
            case "status":
                await request.body()
                return JSONResponse(fault.body, fault.status, headers=dict(fault.headers))
            case "hang":
                await script.over.wait()
                return Response(status_code=503)
            case "garbage":
                return Response("<html>no JSON</html>", media_type="application/json")
            case "endless":
                return StreamingResponse(_endless(), media_type="application/json")
            case "raw":
                return Response(fault.body, media_type="application/json")
            case "slow" | "truncated":
                return _Broken(await handler(request), script, fault.kind)
        right = await handler(request)
        if spoil is None:
            raise ValueError(f"no such fault: {fault.kind}")
        return JSONResponse(spoil(fault, json.loads(bytes(right.body))), right.status_code)

    return answer


async def _endless() -> AsyncIterator[bytes]:
    yield b'{"text": "'
    while True:
        yield b" " * 100_000
        await asyncio.sleep(0)  # nobody may be there to hold us back any more


class _Broken(Response):
    """A right answer that arrives drop by drop, or not to its end."""

    def __init__(self, right: Response, script: Script, kind: str) -> None:
        super().__init__(right.body, right.status_code, media_type="application/json")
        self._script, self._kind = script, kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        body = bytes(self.body)
        if self._kind == "truncated":
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            raise ConnectionAbortedError("scripted")
        for byte in body[:-1]:
            await send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._script.over.wait(), 0.05)
            if self._script.over.is_set():
                raise ConnectionAbortedError("scripted")


@contextlib.asynccontextmanager
async def serve(app: ASGIApp, script: Script | None = None) -> AsyncIterator[str]:
    """Serve `app` on a free port of 127.0.0.1 and give its URL, without a slash at the end."""
    with bound("127.0.0.1", 0) as listening:
        async with serving(app, listening):
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                if script:
                    script.over.set()
