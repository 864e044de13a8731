"""A stand-in for a pooler in transaction mode: each transaction of a client gets any of its server connections.

It does what matters to who connects through it: session state, LISTEN too, belongs to a server connection and not to a
client, and what a server says to nobody in particular reaches nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def transaction_pooler(host: str, port: int) -> AsyncIterator[int]:
    """The port on 127.0.0.1 where it listens."""
    idle: list[Stream] = []
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await _client((reader, writer), (host, port), idle)
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _, writer in idle:
            writer.close()


async def _client(client: Stream, target: tuple[str, int], idle: list[Stream]) -> None:
    reader, writer = client
    while True:
        length, code = struct.unpack("!II", await reader.readexactly(8))
        rest = await reader.readexactly(length - 8)
        if code not in (_SSL_REQUEST, _GSS_REQUEST):
            break
        writer.write(b"N")
    # Who signs in does so at a connection of its own, which is everybody's afterwards.
    server: Stream | None = await asyncio.open_connection(*target)
    server[1].write(struct.pack("!II", length, code) + rest)
    while True:
        message = await _message(server[0])
        writer.write(message)
        if message[:1] == b"Z":
            break
        # A password, or a step of SCRAM, is the client's turn; 0 is the end of that, 12 the server's last word.
        if message[:1] == b"R" and struct.unpack("!I", message[5:9])[0] not in (0, 12):
            server[1].write(await _message(reader))
    idle.append(server)
    server = None
    while True:
        message = await _message(reader)
        if message[:1] == b"X":
            return
        server = server or idle.pop()
        server[1].write(message)
        if message[:1] in (b"Q", b"S"):
            while await _relay(server[0], writer) != b"Z":
                pass
            idle.append(server)  # no test leaves a transaction open
            server = None


async def _message(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(5)
    return head + await reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Pass one message on, and return its kind."""
    message = await _message(reader)
    writer.write(message)
    return message[:1]
