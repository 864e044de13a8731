"""A TCP proxy that can cut its connections, refuse new ones, and stand still without closing anything.

python -m tests.faults.proxy 127.0.0.1:5432 10.77.1.1:40001      forwards until it is killed
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator


class Proxy:
    """Forwards from `port` of `host` to a target."""

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.accepted = 0
        """Connections since it began."""
        self._target = target
        self._open: set[asyncio.StreamWriter] = set()
        self._moving = asyncio.Event()
        self._moving.set()
        self._refusing = False
        self._pumps: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serve(self, port: int = 0) -> AsyncIterator[Proxy]:
        server = await asyncio.start_server(self._accept, self.host, port)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """Reset every connection."""
        for writer in self._open:
            writer.transport.abort()

    def refuse(self, refusing: bool = True) -> None:
        """Reset every connection, and each new one at once."""
        self._refusing = refusing
        if refusing:
            self.cut()

    def stall(self) -> None:
        """Half open: connections stay, and new ones are accepted, but nothing moves in either direction."""
        self._moving.clear()

    def forget(self) -> None:
        """As a firewall with connections that it no longer knows: nothing moves on those of now, new ones work."""
        self.stall()
        self._moving = asyncio.Event()
        self._moving.set()

    def resume(self) -> None:
        self._moving.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._refusing:
            writer.transport.abort()
            return
        self._open.add(writer)
        moving = self._moving
        other: asyncio.StreamWriter | None = None
        try:
            await moving.wait()
            back, other = await asyncio.open_connection(*self._target)
            self._open.add(other)
            pumps = {
                asyncio.create_task(self._pump(reader, other, moving)),
                asyncio.create_task(self._pump(back, writer, moving)),
            }
            self._pumps |= pumps
            await asyncio.wait(pumps)
            self._pumps -= pumps
        except OSError:
            writer.transport.abort()
        finally:
            self._open -= {writer, other}

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, moving: asyncio.Event) -> None:
        try:
            while data := await source.read(65536):
                await moving.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            with contextlib.suppress(OSError):
                sink.close()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


async def _forward(here: str, there: str) -> None:
    host, port = _address(here)
    async with Proxy(_address(there), host).serve(port) as proxy:
        print(proxy.port, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_forward(*sys.argv[1:3]))
