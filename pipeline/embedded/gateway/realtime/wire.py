"""Phoenix messages on the wire, in both serialisations that the SDKs speak.

Version 1.0.0 (supabase-py, older supabase-js) sends JSON objects. Version 2.0.0 (newer supabase-js) sends arrays
`[join_ref, ref, topic, event, payload]`, and its client broadcasts as a binary frame:

    byte 0    kind, 3 from a client, 4 from the server
    then      one length byte each: from a client join_ref, ref, topic, event, metadata; from the server topic, event,
              metadata; then the encoding (0 bytes, 1 JSON)
    then      those parts in that order, and the payload up to the end
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

VERSIONS = ("1.0.0", "2.0.0")

_CLIENT_BROADCAST, _SERVER_BROADCAST = 3, 4
_BYTES, _JSON = 0, 1


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `payload` is JSON; in a broadcast of bytes its `payload` is bytes."""

    topic: str
    event: str
    payload: Any
    ref: str | None = None
    join_ref: str | None = None


class BadMessage(ValueError):
    """A frame that is no message of the chosen version."""


def decode(frame: str | bytes, version: str) -> Message:
    """Read a client's frame."""
    try:
        if isinstance(frame, bytes):
            return _decode_binary(frame)
        content = json.loads(frame)
        if version == "2.0.0":
            join_ref, ref, topic, event, payload = content
        else:
            topic, event, payload = content["topic"], content["event"], content.get("payload")
            ref, join_ref = content.get("ref"), content.get("join_ref")
    except BadMessage:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadMessage("not a Phoenix message") from error
    if not isinstance(topic, str) or not isinstance(event, str):
        raise BadMessage("topic and event must be strings")
    return Message(topic, event, payload, _text(ref), _text(join_ref))


def encode(message: Message, version: str) -> str | bytes | None:
    """Write a frame for a client; None when its version has no form for it (bytes in version 1.0.0)."""
    payload = message.payload
    if message.event == "broadcast" and isinstance(payload.get("payload"), bytes):
        return _encode_bytes(message) if version == "2.0.0" else None
    if version == "2.0.0":
        content: Any = [message.join_ref, message.ref, message.topic, message.event, payload]
    else:
        content = {"topic": message.topic, "event": message.event, "payload": payload, "ref": message.ref}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _decode_binary(frame: bytes) -> Message:
    if len(frame) < 7 or frame[0] != _CLIENT_BROADCAST:
        raise BadMessage("a binary frame must be a broadcast")
    position = 7
    parts: list[str] = []
    for length in frame[1:6]:
        parts.append(frame[position : position + length].decode())
        position += length
    if position > len(frame):
        raise BadMessage("the frame is shorter than its header says")
    join_ref, ref, topic, event, _ = parts
    body = frame[position:]
    payload = json.loads(body) if frame[6] == _JSON else body
    content = {"type": "broadcast", "event": event, "payload": payload}
    return Message(topic, "broadcast", content, ref or None, join_ref or None)


def _encode_bytes(message: Message) -> bytes | None:
    parts = [message.topic.encode(), str(message.payload["event"]).encode(), b""]
    if any(len(part) > 255 for part in parts):
        return None
    header = bytes([_SERVER_BROADCAST, *(len(part) for part in parts), _BYTES])
    return header + b"".join(parts) + message.payload["payload"]
