"""The project's keys, the tokens that it signs, and who a request speaks for.

A key of the old kind is a JWT for a role; one of the new kind (`sb_publishable_…`, `sb_secret_…`) stands for a role and
is no JWT. User tokens are signed with HS256, ES256 or RS256; all are accepted, each only with a key of its own kind, so
that nothing can be signed with the public half of another. After a rotation the former key verifies what it signed,
until it is revoked.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

Algorithm = Literal["HS256", "ES256", "RS256"]
ASSUMABLE = ("anon", "authenticated", "service_role")
"""Roles that a token may claim; any other, also one that exists, is refused."""
KEY_LIFETIME = 10 * 365 * 24 * 3600
_CACHED = 1000


class Refused(Exception):
    """A token that does not hold; the message says why."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a request speaks for. `expires_at` in seconds since 1970; None for a key that is no JWT."""

    role: str
    claims: dict[str, Any]
    claims_json: str
    expires_at: float | None

    @property
    def user_id(self) -> str | None:
        return self.claims.get("sub")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An asymmetric key; its public half is served under its id."""

    id: str
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.private, rsa.RSAPrivateKey) else "ES256"

    @property
    def public(self) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
        return self.private.public_key()

    def jwk(self) -> dict[str, Any]:
        public = self.public
        if isinstance(public, rsa.RSAPublicKey):
            shown = RSAAlgorithm.to_jwk(public, as_dict=True)
        else:
            shown = ECAlgorithm.to_jwk(public, as_dict=True)
        return shown | {"kid": self.id, "alg": self.algorithm, "use": "sig", "key_ops": ["verify"]}

    @classmethod
    def draw(cls, algorithm: str) -> SigningKey:
        private = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if algorithm == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )
        return cls(base64.urlsafe_b64encode(secrets.token_bytes(12)).decode(), private)

    def stored(self) -> dict[str, str]:
        pem = self.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {"id": self.id, "pem": pem.decode()}

    @classmethod
    def read(cls, stored: dict[str, str]) -> SigningKey:
        private = serialization.load_pem_private_key(stored["pem"].encode(), password=None)
        assert isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        return cls(stored["id"], private)


@dataclass(slots=True)
class Keys:
    """All secrets of one project. The first of `signing` signs, the others only verify."""

    file: Path
    jwt_secret: str
    signing: list[SigningKey]
    anon: str
    service_role: str
    publishable: str
    secret: str
    algorithm: Algorithm = "HS256"
    _verified: dict[str, Principal] = field(default_factory=dict, init=False)

    @classmethod
    def load(cls, file: Path, algorithm: Algorithm = "HS256") -> Keys:
        """Read the keys of a kept project, or draw new ones and keep them where only this user can read."""
        try:
            stored = json.loads(file.read_text())
        except FileNotFoundError:
            keys = cls(file, signing=[], algorithm=algorithm, **_draw())
        else:
            signing = [SigningKey.read(key) for key in stored.pop("signing")]
            keys = cls(file, signing=signing, algorithm=algorithm, **stored)
        if not keys.signing or algorithm not in ("HS256", keys.signing[0].algorithm):
            keys.rotate()
        return keys

    @property
    def signing_key(self) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
        return self.signing[0].private

    @property
    def key_id(self) -> str:
        return self.signing[0].id

    def rotate(self) -> str:
        """Sign with a new key from now on, and return its id; what the former one signed stays good."""
        self.signing.insert(0, SigningKey.draw(self.algorithm))
        self._keep()
        return self.key_id

    def revoke(self, key_id: str) -> None:
        """Refuse what a former key has signed. Raises ValueError for the one that signs now and for an unknown one."""
        if key_id not in [key.id for key in self.signing[1:]]:
            raise ValueError(f"{key_id} is not the id of a former key")
        self.signing = [key for key in self.signing if key.id != key_id]
        self._verified.clear()
        self._keep()

    def _keep(self) -> None:
        names = ("jwt_secret", "anon", "service_role", "publishable", "secret")
        stored = {name: getattr(self, name) for name in names} | {"signing": [key.stored() for key in self.signing]}
        whole = self.file.with_suffix(".new")  # a half-written file would never be read again
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            json.dump(stored, out)
        whole.replace(self.file)

    def jwks(self) -> dict[str, Any]:
        """The public keys, as served at /auth/v1/.well-known/jwks.json."""
        return {"keys": [key.jwk() for key in self.signing]}

    def sign(self, claims: dict[str, Any]) -> str:
        """A user's token."""
        if self.algorithm == "HS256":
            return jwt.encode(claims, self.jwt_secret, "HS256")
        return jwt.encode(claims, self.signing_key, self.algorithm, headers={"kid": self.key_id})

    def verify(self, token: str) -> Principal:
        """Raises Refused for a token that is forged, expired, not yet valid, or for a role that may not be assumed."""
        known = self._verified.get(token)
        if known is not None and (known.expires_at is None or known.expires_at > time.time()):
            return known
        principal = self._verify(token)
        if len(self._verified) >= _CACHED:
            self._verified.clear()
        self._verified[token] = principal
        return principal

    def _verify(self, token: str) -> Principal:
        for key, role in ((self.publishable, "anon"), (self.secret, "service_role")):
            if _same(token, key):
                claims = {"role": role}
                return Principal(role, claims, json.dumps(claims), None)
        try:
            header = jwt.get_unverified_header(token)
            match header.get("alg"):
                case "HS256":
                    key: Any = self.jwt_secret
                case "ES256" | "RS256":
                    suitable = [k for k in self.signing if (k.id, k.algorithm) == (header.get("kid"), header["alg"])]
                    if not suitable:
                        raise Refused("No suitable key or wrong key type")
                    key = suitable[0].public
                case _:
                    raise Refused("No suitable key or wrong key type")
            claims = jwt.decode(
                token, key, algorithms=[header["alg"]], options={"require": ["exp"], "verify_aud": False}
            )
        except jwt.ExpiredSignatureError:
            raise Refused("JWT expired") from None
        except jwt.ImmatureSignatureError:
            raise Refused("JWT not yet valid") from None
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
            # the library lets some of what odd JSON causes through: deep nesting, surrogates, numbers without end
            raise Refused("JWT could not be verified") from None
        role, audience = claims.get("role", "anon"), claims.get("aud")
        if role not in ASSUMABLE:
            raise Refused("JWT names a role that may not be assumed")
        if audience is not None and "authenticated" not in (audience if isinstance(audience, list) else [audience]):
            raise Refused("JWT not in audience")
        if role == "service_role" and "sub" in claims:
            raise Refused("JWT of a user names the service's role")
        if role == "authenticated" and not _is_uuid(claims.get("sub")):
            raise Refused("JWT names no user")
        return Principal(role, claims, json.dumps(claims), float(claims["exp"]))

    def is_key(self, value: str) -> bool:
        """Whether `value` is one of the four API keys."""
        return any(_same(value, key) for key in (self.anon, self.service_role, self.publishable, self.secret))


def _same(sent: str, key: str) -> bool:
    """In a time that tells nothing about the key; what was sent may be no text at all."""
    return secrets.compare_digest(sent.encode(errors="replace"), key.encode())


def _is_uuid(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True


def _draw() -> dict[str, str]:
    secret = secrets.token_urlsafe(48)
    now = int(time.time())

    def legacy(role: str) -> str:
        return jwt.encode({"iss": "supabase", "role": role, "iat": now, "exp": now + KEY_LIFETIME}, secret, "HS256")

    return {
        "jwt_secret": secret,
        "anon": legacy("anon"),
        "service_role": legacy("service_role"),
        "publishable": "sb_publishable_" + secrets.token_urlsafe(24),
        "secret": "sb_secret_" + secrets.token_urlsafe(24),
    }
