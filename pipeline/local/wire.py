"""The frames that travel from a parsing child to the listener: one byte of kind, four of length, then the payload.

The listener never trusts them: lengths are bounded before anything is read, and JSON is the only encoding.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any

STARTED = b"S"  # the child's process id, which is its process group's too
PROGRESS = b"P"  # a fraction
PAGE = b"R"  # [number or null, markdown]
FAILED_PAGE = b"F"  # [number, reason]
ERROR = b"E"  # [message for the owner, detail for the log]: this file can never be read
DONE = b"D"  # null: every page was sent
EXIT = b"X"  # the exit code, or minus the signal, from the fork server

OUT_OF_MEMORY = 71  # an exit code

_HEADER = struct.Struct(">cI")


class FrameTooLarge(Exception):
    """A frame announces more bytes than the reader allows."""


def pack(kind: bytes, value: Any) -> bytes:
    """One frame. Text must hold no lone surrogates."""
    payload = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return _HEADER.pack(kind, len(payload)) + payload


def send(sock: socket.socket, kind: bytes, value: Any) -> None:
    """Write one frame to a blocking socket."""
    sock.sendall(pack(kind, value))


async def receive(reader: asyncio.StreamReader, *, limit: int) -> tuple[bytes, Any]:
    """Read one frame of at most `limit` bytes.

    Raises FrameTooLarge, asyncio.IncompleteReadError at the end of the stream, ValueError for what is no frame.
    """
    kind, size = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if size > limit:
        raise FrameTooLarge
    return kind, json.loads(await reader.readexactly(size))
