"""Tokens in URLs: one object, one purpose, until a time.

The key is derived from the project's secret, so that a signed URL is never a user's token nor the other way round.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Literal

import jwt

from pipeline.embedded.gateway.storage import errors

Purpose = Literal["download", "upload"]
UPLOAD_SECONDS = 2 * 60 * 60
EXPIRED = '"exp" claim timestamp check failed'


def why_invalid(token: str) -> str:
    """What is wrong with a token that did not verify, in the words of the real server's library."""
    parts = token.split(".")
    if len(parts) != 3:
        return "Invalid Compact JWS"
    try:
        header = json.loads(urlsafe_b64decode(parts[0] + "=="))
    except ValueError:
        header = None
    return "signature verification failed" if isinstance(header, dict) else "JWS Protected Header is invalid"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a valid token allows. `owner` and `upsert` belong to uploads; `expires_at` is in seconds since 1970."""

    expires_at: int
    owner: str | None
    upsert: bool


class UrlSigner:
    """Signs and checks with HS256."""

    def __init__(self, project_secret: str) -> None:
        self._key = hmac.new(project_secret.encode(), b"storage signed urls", hashlib.sha256).digest()

    def sign_download(self, bucket: str, name: str, seconds: int) -> str:
        return self._sign({"url": f"{bucket}/{name}", "scope": "download"}, seconds)

    def sign_upload(self, bucket: str, name: str, *, owner: str | None, upsert: bool) -> str:
        claims: dict[str, object] = {"url": f"{bucket}/{name}", "scope": "upload", "upsert": upsert}
        if owner is not None:
            claims["owner"] = owner
        return self._sign(claims, UPLOAD_SECONDS)

    def verify(self, token: str, bucket: str, name: str, purpose: Purpose) -> Grant:
        """Raises InvalidJWT for a forged or expired token, InvalidSignature for one of another object or purpose."""
        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"], options={"require": ["exp"]})
        except jwt.ExpiredSignatureError:
            raise errors.invalid_token(EXPIRED) from None
        except jwt.InvalidTokenError:
            raise errors.invalid_token(why_invalid(token)) from None
        if claims.get("scope") != purpose:
            raise errors.invalid_signature(f"Token is not scoped for {purpose}")
        if claims.get("url") != f"{bucket}/{name}":
            raise errors.invalid_signature()
        return Grant(int(claims["exp"]), claims.get("owner"), bool(claims.get("upsert")))

    def _sign(self, claims: dict[str, object], seconds: int) -> str:
        now = int(time.time())
        return jwt.encode(claims | {"iat": now, "exp": now + seconds}, self._key, algorithm="HS256")
