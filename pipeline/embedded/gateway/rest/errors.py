"""The Data API's errors: `{code, message, details, hint}` and the HTTP status that belongs to each code.

Postgres' own errors pass through with their SQLSTATE as the code; those of the API itself begin with PGRST. The
statuses follow PostgREST's published error reference, because the SDKs and their users switch on them.
"""

from __future__ import annotations

import json
import re
from typing import Any

import psycopg
from psycopg_pool import PoolTimeout

_BY_CODE = {
    "23503": 409,
    "23505": 409,
    "25006": 405,
    "42883": 404,
    "42P01": 404,
    "42P17": 500,
    "53400": 500,
    "57P01": 503,
    "P0001": 400,
}
_BY_CLASS = {
    "08": 503,
    "09": 500,
    "0L": 403,
    "0P": 403,
    "25": 500,
    "28": 403,
    "2D": 500,
    "38": 500,
    "39": 500,
    "3B": 500,
    "40": 500,
    "53": 503,
    "54": 500,
    "55": 500,
    "57": 500,
    "58": 500,
    "F0": 500,
    "HV": 500,
    "P0": 500,
    "XX": 500,
}


class RestError(Exception):
    """One answer that is an error; `headers` are added to the response."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Any = None,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.hint = hint
        self.headers = headers or {}

    def body(self) -> bytes:
        """The JSON that the SDKs parse."""
        shape = {"code": self.code, "details": self.details, "hint": self.hint, "message": self.message}
        return json.dumps(shape, ensure_ascii=False).encode("utf-8", "replace")


def unparsable(what: str, text: str, details: str) -> RestError:
    """PGRST100: a part of the query string that is not of the API's grammar."""
    return RestError(400, "PGRST100", f'"failed to parse {what} ({text})" (line 1, column 1)', details=details)


def unsupported(feature: str, hint: str | None = None) -> RestError:
    """PGRST127: a feature of PostgREST that the embedded gateway does not have."""
    message = "Feature not implemented"
    return RestError(400, "PGRST127", message, details=f"The embedded Data API does not support {feature}.", hint=hint)


def from_postgres(error: psycopg.Error, *, anonymous: bool) -> RestError:
    """What a client is told of an error that Postgres raised; without a token, 'forbidden' reads 'unauthorized'."""
    diag = error.diag
    code = error.sqlstate or ""
    if not code:
        if isinstance(error, psycopg.DataError):  # a value that cannot even be sent, such as one with a NUL
            return RestError(400, "22021", str(error))
        if isinstance(error, PoolTimeout):
            return RestError(504, "PGRST003", "Timed out acquiring connection from connection pool.")
        return RestError(503, "PGRST001", "Database connection error", details=str(error))
    message = diag.message_primary or str(error)
    if code == "PGRST":
        return _raised_response(message, diag.message_detail)
    headers: dict[str, str] = {}
    if code == "42501":
        status = 401 if anonymous else 403
        if anonymous:
            headers["WWW-Authenticate"] = "Bearer"
    elif chosen := re.fullmatch(r"PT([1-5]\d\d)", code):
        status = int(chosen[1])
    else:
        status = _BY_CODE.get(code) or _BY_CLASS.get(code[:2], 400)
    return RestError(status, code, message, details=diag.message_detail, hint=diag.message_hint, headers=headers)


def _raised_response(message: str, detail: str | None) -> RestError:
    """`raise sqlstate 'PGRST'`: the message holds the body and the detail the status and headers, both as JSON."""
    try:
        body, response = json.loads(message), json.loads(detail or "")
        return RestError(
            int(response["status"]),
            str(body["code"]),
            str(body["message"]),
            details=body.get("details"),
            hint=body.get("hint"),
            headers={str(name): str(value) for name, value in response.get("headers", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return RestError(
            500,
            "PGRST121",
            "Could not parse JSON in the \"RAISE SQLSTATE 'PGRST'\" error",
            details="MESSAGE must be JSON with code and message, DETAIL must be JSON with status",
        )
