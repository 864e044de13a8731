"""JSON bodies and queries, checked as the real server's validator checks them.

It turns values into the type that is wanted where that is possible (`5` into `"5"`, `"60"` into `60`, null into what is
empty) and names the first thing that is wrong, in sentences that its clients may show.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from pipeline.embedded.gateway.storage import errors

MAX_JSON_BYTES = 1024 * 1024
_MEDIA_TYPE = re.compile(r"[\w!#$&^.+*-]+/[\w!#$&^.+*-]+\s*(;.*)?", re.DOTALL)


def check_content_type(request: Request) -> None:
    """Raises InvalidMimeType for a Content-Type that is none; a request without one passes."""
    declared = request.headers.get("content-type")
    if declared and not _MEDIA_TYPE.fullmatch(declared.strip()):
        raise errors.invalid_content_type()


async def json_body(request: Request) -> Fields:
    """The request's JSON object."""
    check_content_type(request)
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_JSON_BYTES:
            raise errors.too_long()
    if not raw:
        if request.headers.get("content-type", "").startswith("application/json"):
            raise errors.unreadable("Body cannot be empty when content-type is set to 'application/json'")
        raise errors.invalid("body must be object")
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise errors.unreadable("Body is not valid JSON but content-type is set to 'application/json'") from None
    if not isinstance(body, dict):
        raise errors.invalid("body must be object")
    return Fields(body)


def query(request: Request) -> Fields:
    return Fields(request.query_params, "querystring")


@dataclass(frozen=True, slots=True)
class Fields:
    """Named values of a client; `place` is what the validator calls them in a sentence."""

    values: Mapping[str, Any]
    place: str = "body"

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def require(self, *keys: str) -> None:
        for key in keys:
            if key not in self.values:
                raise errors.invalid(f"{self.place} must have required property '{key}'")

    def text(self, key: str, default: str | None = None) -> str:
        """A text; required where there is no default."""
        if default is not None and key not in self.values:
            return default
        self.require(key)
        return self._text(self.values[key], f"{self.place}/{key}")

    def texts(self, key: str) -> list[str]:
        """A required list of one text or more."""
        self.require(key)
        value = self.values[key]
        # a single value counts as a list of one
        entries = value if isinstance(value, list) else [value]
        if isinstance(value, dict):
            raise errors.invalid(f"{self.place}/{key} must be array")
        if not entries:
            raise errors.invalid(f"{self.place}/{key} must NOT have fewer than 1 items")
        return [self._text(entry, f"{self.place}/{key}/{number}") for number, entry in enumerate(entries)]

    def integer(self, key: str, default: int | None = None, *, minimum: int) -> int:
        """A whole number; required where there is no default. What Postgres could not hold becomes its largest."""
        if default is not None and key not in self.values:
            return default
        self.require(key)
        number = _integer(self.values[key])
        if number is None:
            raise errors.invalid(f"{self.place}/{key} must be integer")
        if number < minimum:
            raise errors.invalid(f"{self.place}/{key} must be >= {minimum}")
        return min(number, 2**31 - 1)

    def boolean(self, key: str) -> bool:
        """False where it is absent."""
        value = self.values.get(key)
        if value in (True, "true", 1):
            return True
        if value in (False, "false", 0, None):
            return False
        raise errors.invalid(f"{self.place}/{key} must be boolean")

    def one_of(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.values.get(key, default)
        if value not in allowed:
            raise errors.invalid(f"{self.place}/{key} must be equal to one of the allowed values")
        return str(value)

    def within(self, key: str) -> Fields:
        """The object under a key, empty where it is absent."""
        value = self.values.get(key)
        if value is None:
            return Fields({}, f"{self.place}/{key}")
        if not isinstance(value, dict):
            raise errors.invalid(f"{self.place}/{key} must be object")
        return Fields(value, f"{self.place}/{key}")

    def _text(self, value: Any, where: str) -> str:
        match value:
            case str():
                return value
            case None:
                return ""
            case bool():
                return str(value).lower()
            case int() | float():
                return str(_integer(value) if _integer(value) is not None else value)
        raise errors.invalid(f"{where} must be string")


def _integer(value: object) -> int | None:
    """The whole number that a value stands for, or None."""
    match value:
        case None:
            return 0
        case bool() | int():
            return int(value)
        case float() if value.is_integer():
            return int(value)
        case str() if re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value, re.ASCII):
            return int(value)
    return None
