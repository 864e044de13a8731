"""The body of an upload, read as it arrives: a multipart form with one file, or the bare bytes.

supabase-py sends a form whose file is named `file`, supabase-js one whose file has an empty name, or bare bytes. What
describes the file comes ahead of it in either form, so that the permission is tried before the bytes move; a field
behind a file counts when it comes with the file's first bytes, as with the real server.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from pipeline.embedded.gateway.storage import errors
from pipeline.embedded.gateway.storage.requests import check_content_type

MAX_FIELD_BYTES = 1024 * 1024
"""What is read of one field of a form. The rest is dropped, as by the real server: longer metadata is no JSON then."""
MAX_FORM_BYTES = 64 * 1024 * 1024
"""All fields of a form together, its file left out."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What a client declared about the file, and the file's bytes as they arrive."""

    media_type: str
    cache_control: str
    user_metadata: dict[str, Any] | None
    declared_length: int | None
    """The request's Content-Length, a form's wrapping included; None for a chunked body."""
    chunks: AsyncIterator[bytes]
    is_form: bool


def content_length(request: Request) -> int | None:
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() else None


def decode_metadata(header: str | None) -> dict[str, Any] | None:
    """The user's metadata from `x-metadata`, base64 of JSON; as by the real server, what is no object is ignored."""
    if header is None:
        return None
    try:
        return _object(base64.b64decode(header, validate=False))
    except ValueError:
        return None


async def open_body(request: Request) -> Incoming:
    """Read the request up to the first byte of the file."""
    check_content_type(request)
    media_type = request.headers.get("content-type", "")
    if media_type.startswith("multipart/form-data"):
        return await _open_form(request, media_type)
    return Incoming(
        media_type=media_type or "application/octet-stream",
        cache_control=request.headers.get("cache-control", "no-cache"),
        user_metadata=decode_metadata(request.headers.get("x-metadata")),
        declared_length=content_length(request),
        chunks=request.stream(),
        is_form=False,
    )


async def _open_form(request: Request, content_type: str) -> Incoming:
    form = _Form(content_type)
    stream = request.stream()
    async for chunk in stream:
        form.feed(chunk)
        if form.in_file:
            break
    if not form.in_file:
        raise errors.invalid_request("No content provided")
    fields = form.fields
    cache = fields.get("cacheControl")
    metadata = fields.get("metadata") or fields.get("userMetadata")
    try:
        user_metadata = _object(metadata) if metadata else None
    except ValueError:
        user_metadata = None
    return Incoming(
        media_type=(fields.get("contentType") or b"").decode(errors="replace") or form.media_type,
        cache_control=f"max-age={cache.decode(errors='replace')}" if cache else "no-cache",
        user_metadata=user_metadata,
        declared_length=content_length(request),
        chunks=_file_of(form, stream),
        is_form=True,
    )


async def _file_of(form: _Form, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    while True:
        for chunk in form.take():
            yield chunk
        try:
            chunk = await anext(stream)
        except StopAsyncIteration:
            break
        form.feed(chunk)
    if not form.complete:
        raise errors.invalid_request("Request stream closed before upload could begin")


def _object(text: bytes) -> dict[str, Any] | None:
    value = json.loads(text)
    return value if isinstance(value, dict) else None


class _Form:
    """A multipart form while it is parsed: fields and the bytes of its first file."""

    def __init__(self, content_type: str) -> None:
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise errors.invalid_request("Multipart: Boundary not found")
        self.fields: dict[str, bytes] = {}
        self.media_type = "application/octet-stream"
        self.in_file = False
        self.complete = False
        self._storing = False
        self._pending: list[bytes] = []
        self._field: str | None = None
        self._value = bytearray()
        self._field_bytes = 0
        self._header = [bytearray(), bytearray()]
        self._headers: dict[bytes, bytes] = {}
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._end_headers,
                    "on_part_data": self._data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise errors.invalid_request(f"Multipart: {error}") from None

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise errors.invalid_request(f"Multipart: {error}") from None

    def take(self) -> list[bytes]:
        """The file's bytes that were parsed since the last call."""
        taken, self._pending = self._pending, []
        return taken

    def _begin(self) -> None:
        self._headers = {}
        self._header = [bytearray(), bytearray()]
        self._field = None

    def _end_header(self) -> None:
        self._headers[bytes(self._header[0]).lower()] = bytes(self._header[1])
        self._header = [bytearray(), bytearray()]

    def _end_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        if b"filename" in options or b"filename*" in options:
            # one file a request; another one is parsed and dropped
            self._storing, self.in_file = not self.in_file, True
            if not self._storing:
                return
            declared = self._headers.get(b"content-type", b"").decode("latin-1").strip()
            self.media_type = declared or self.media_type
        else:
            self._field = options.get(b"name", b"").decode(errors="replace")
            self._value = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._field is None:
            if self._storing:
                self._pending.append(data[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > MAX_FORM_BYTES:
            raise errors.too_large("form")
        self._value += data[start : min(end, start + MAX_FIELD_BYTES - len(self._value))]

    def _end_part(self) -> None:
        if self._field is not None:
            self.fields.setdefault(self._field, bytes(self._value))
        self._storing = False

    def _end(self) -> None:
        self.complete = True
