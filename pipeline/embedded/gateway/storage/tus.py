"""The TUS protocol, version 1.0.0: what its headers may hold, its refusals, and how they are put on the wire.

Refusals are plain text with their true status, unlike the rest of Storage's. They are those of the TUS server that the
real Storage runs.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate

import psycopg
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from pipeline.embedded.gateway.storage import errors
from pipeline.embedded.gateway.storage.uploads import Interrupted, NoSuchUpload, UploadGone

log = logging.getLogger(__name__)

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,creation-defer-length,termination,expiration"
BODY_TYPE = "application/offset+octet-stream"

_BASE64 = re.compile(r"[\d+/A-Za-z]*={0,2}")
_NUMBER = re.compile(r"0|[1-9]\d{0,14}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refusal's status and text."""

    status: int
    text: str


class TusError(Exception):
    """Raised with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


MISSING_VERSION = Refusal(412, "Tus-Resumable Required\n")
MISSING_OFFSET = Refusal(403, "Upload-Offset header required\n")
MISSING_CONTENT_TYPE = Refusal(403, "Content-Type header required\n")
INVALID_LENGTH = Refusal(400, "Upload-Length or Upload-Defer-Length header required\n")
METADATA_REQUIRED = Refusal(400, "Metadata header is required")
INVALID_TERMINATION = Refusal(400, "Cannot terminate an already completed upload")
NOT_FOUND = Refusal(404, "The file for this url was not found\n")
OFFSET_CONFLICT = Refusal(409, "Upload-Offset conflict\n")
GONE = Refusal(410, "The file for this url no longer exists\n")
LENGTH_EXCEEDED = Refusal(413, "upload's size exceeded\n")
TOO_LARGE = Refusal(413, "Maximum size exceeded\n")
BROKEN = Refusal(500, "Something went wrong with that request\n")
NOT_WRITTEN = Refusal(500, "Something went wrong receiving the file\n")
NO_CONCATENATION = Refusal(
    501, "Concatenation extension is not (yet) supported. Disable parallel uploads in the tus client.\n"
)
LOCKED = Refusal(503, "acquiring lock timeout")
INTERRUPTED = Refusal(400, "Request aborted due to lock acquired")


async def speak(request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
    """The answer of `work` behind the protocol's own checks, with every refusal in the protocol's words."""
    try:
        check_headers(request)
        return await work()
    except ClientDisconnect:
        raise
    except Exception as error:
        refusal = _refusal_of(error)
        if refusal is None:
            raise
        return answer(refusal.status, refusal.text, {"connection": "close"} if refusal is INTERRUPTED else None)


def _refusal_of(error: Exception) -> Refusal | None:
    match error:
        case TusError():
            return error.refusal
        case errors.StorageError():
            return Refusal(error.status, error.message)
        case psycopg.Error():
            refused = errors.from_database(error)
            return Refusal(refused.status, refused.message)
        case NoSuchUpload():
            return NOT_FOUND
        case UploadGone():
            return GONE
        case Interrupted():
            return INTERRUPTED
        case TimeoutError():
            return LOCKED
        case OSError():
            log.exception("the bytes of an upload cannot be kept")
            return NOT_WRITTEN
    return None


async def body(request: Request, wanted: asyncio.Event) -> AsyncIterator[bytes]:
    """The request's bytes as they arrive. Raises Interrupted as soon as another request wants the upload."""
    stop = asyncio.ensure_future(wanted.wait())
    try:
        more = True
        while more:
            receiving = asyncio.ensure_future(request.receive())
            await asyncio.wait({stop, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                receiving.cancel()
                raise Interrupted
            message = receiving.result()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            more = message.get("more_body", False)
            if chunk := message.get("body", b""):
                yield chunk
    finally:
        stop.cancel()


def answer(status: int, text: str = "", headers: dict[str, str] | None = None) -> Response:
    """Every answer names the version of the protocol."""
    sent = {"tus-resumable": VERSION} | (headers or {})
    if status != 204:
        sent["content-type"] = "text/plain;charset=UTF-8"
    return Response(text, status, sent)


def http_date(seconds: float) -> str:
    return formatdate(seconds, usegmt=True)


def check_headers(request: Request) -> None:
    if "tus-resumable" not in request.headers:
        raise TusError(MISSING_VERSION)
    valid = {
        "tus-resumable": lambda value: value == VERSION,
        "upload-defer-length": lambda value: value == "1",
        "upload-length": _NUMBER.fullmatch,
        "upload-offset": _NUMBER.fullmatch,
        "upload-metadata": lambda value: parse_metadata(value) is not None,
        "content-type": lambda value: value == BODY_TYPE or request.method != "PATCH",
    }
    wrong = sorted(
        name for name, holds in valid.items() if name in request.headers and not holds(request.headers[name])
    )
    if wrong:
        raise TusError(Refusal(400, f"Invalid {' '.join(wrong)}\n"))


def number(request: Request, header: str) -> int | None:
    """The value of a header that `check_headers` has let through."""
    value = request.headers.get(header)
    return None if value is None else int(value)


def parse_metadata(header: str) -> dict[str, str | None] | None:
    """Keys and decoded values of `Upload-Metadata`, or None where it is malformed."""
    found: dict[str, str | None] = {}
    for pair in header.split(","):
        key, *values = pair.split(" ")
        if not key or not key.isascii() or key in found or len(values) > 1:
            return None
        value = values[0] if values else ""
        if len(value) % 4 or not _BASE64.fullmatch(value):
            return None
        found[key] = base64.b64decode(value).decode(errors="replace") if value else None
    return found


def format_metadata(metadata: dict[str, str | None]) -> str:
    pairs = ((key, base64.b64encode((value or "").encode()).decode()) for key, value in metadata.items())
    return ",".join(f"{key} {value}".rstrip() for key, value in pairs)


def encode_id(bucket: str, name: str, version: str) -> str:
    """What stands for an upload in its URL."""
    return base64.urlsafe_b64encode(f"{bucket}/{name}/{version}".encode()).decode().rstrip("=")


def decode_id(text: str) -> tuple[str, str, str]:
    """Bucket, name and version; raises TusError for what cannot be taken apart."""
    kept = re.sub(r"[^A-Za-z0-9_-]", "", text.replace("+", "-").replace("/", "_"))
    kept = kept[: -1 if len(kept) % 4 == 1 else None]
    parts = base64.urlsafe_b64decode(kept + "=" * (-len(kept) % 4)).decode(errors="replace").split("/")
    if len(parts) < 2:
        raise TusError(Refusal(400, "Invalid upload id"))
    if not parts[-1]:
        raise TusError(Refusal(400, "Version not provided"))
    return parts[0], "/".join(parts[1:-1]), parts[-1]
