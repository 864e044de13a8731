"""Forged, foreign and stale tokens at every door of the gateway: Auth, the Data API, Storage and Realtime.

What Supabase checks on a hosted project, the embedded one checks too; the rest is the database's, which believes a
token that was let in."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from websockets.asyncio.client import connect

from pipeline.embedded.gateway.tokens import Keys, Refused
from tests.world import User, new_user

Claims = dict[str, Any]


def _claims(**more: Any) -> Claims:
    return {"sub": str(uuid4()), "role": "authenticated", "aud": "authenticated", "exp": int(time.time()) + 600} | more


def _without(name: str) -> Claims:
    return {key: value for key, value in _claims().items() if key != name}


def _part(value: Any) -> str:
    return (
        base64.urlsafe_b64encode(value if isinstance(value, bytes) else json.dumps(value).encode())
        .rstrip(b"=")
        .decode()
    )


def _by_hand(header: Claims, claims: Claims, key: bytes | None) -> str:
    """What no library signs."""
    signed = f"{_part(header)}.{_part(claims)}"
    return f"{signed}.{_part(hmac.new(key, signed.encode(), hashlib.sha256).digest()) if key is not None else ''}"


@dataclass(frozen=True, slots=True)
class Known:
    """What everybody has who has the app: the public key, the key that is published, and a user's own token."""

    anon_key: str
    published: dict[str, Any]
    token: str

    @property
    def kid(self) -> str:
        return self.published["kid"]

    def public(self, encoding: Encoding) -> bytes:
        return jwt.PyJWK(self.published).key.public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


MISSIGNED: dict[str, Callable[[Keys], str]] = {
    "no alg": lambda k: _by_hand({"typ": "JWT"}, _claims(), k.jwt_secret.encode()),
    "an unknown kid": lambda k: jwt.encode(_claims(), k.signing_key, "ES256", headers={"kid": "other"}),
    "no kid": lambda k: jwt.encode(_claims(), k.signing_key, "ES256"),
    "HS512 with the right secret": lambda k: jwt.encode(_claims(), k.jwt_secret, "HS512"),
    "expired": lambda k: jwt.encode(_claims(exp=int(time.time()) - 1), k.jwt_secret, "HS256"),
    "without an end": lambda k: jwt.encode(_without("exp"), k.jwt_secret, "HS256"),
    "not yet valid": lambda k: jwt.encode(_claims(nbf=int(time.time()) + 600), k.jwt_secret, "HS256"),
    "issued in the future": lambda k: jwt.encode(_claims(iat=int(time.time()) + 600), k.jwt_secret, "HS256"),
    "another audience": lambda k: jwt.encode(_claims(aud="another"), k.jwt_secret, "HS256"),
    "a role that does not exist": lambda k: jwt.encode(_claims(role="nobody"), k.jwt_secret, "HS256"),
    "postgres": lambda k: jwt.encode(_claims(role="postgres"), k.jwt_secret, "HS256"),
    "the superuser": lambda k: jwt.encode(_claims(role="supabase_admin"), k.jwt_secret, "HS256"),
    "the storage server's role": lambda k: jwt.encode(_claims(role="supabase_storage_admin"), k.jwt_secret, "HS256"),
    "the listener's role": lambda k: jwt.encode(_claims(role="pipeline_worker"), k.jwt_secret, "HS256"),
    "a user as the service": lambda k: jwt.encode(_claims(role="service_role"), k.jwt_secret, "HS256"),
    "a list of roles": lambda k: jwt.encode(_claims(role=["authenticated", "service_role"]), k.jwt_secret, "HS256"),
    "a role with a quote": lambda k: jwt.encode(_claims(role="anon'; set role postgres; --"), k.jwt_secret, "HS256"),
    "a subject that is no user": lambda k: jwt.encode(_claims(sub="1' or '1'='1"), k.jwt_secret, "HS256"),
}
"""Signed with the project's own keys."""

FORGED: dict[str, Callable[[Known], str]] = {
    "alg none": lambda k: _by_hand({"alg": "none", "typ": "JWT"}, _claims(), None),
    "alg None, spelt otherwise": lambda k: _by_hand({"alg": "nOnE"}, _claims(), None),
    "another secret": lambda k: jwt.encode(_claims(), "x" * 64, "HS256"),
    "an empty secret": lambda k: _by_hand({"alg": "HS256"}, _claims(), b""),
    "no signature": lambda k: k.token.rsplit(".", 1)[0] + ".",
    "another user under her own signature": lambda k: _another_user(k.token),
    "the public key as a secret": lambda k: _by_hand({"alg": "HS256", "kid": k.kid}, _claims(), k.public(Encoding.PEM)),
    "the public key's bytes as a secret": lambda k: _by_hand(
        {"alg": "HS256", "kid": k.kid}, _claims(), k.public(Encoding.DER)
    ),
    "the published key as a secret": lambda k: _by_hand(
        {"alg": "HS256", "kid": k.kid}, _claims(), json.dumps(k.published).encode()
    ),
    "the anon key as a secret": lambda k: _by_hand({"alg": "HS256"}, _claims(), k.anon_key.encode()),
    "a kid that is a path": lambda k: _by_hand({"alg": "HS256", "kid": "../../dev/null"}, _claims(), b""),
    "a foreign key under our kid": lambda k: jwt.encode(
        _claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": k.kid}
    ),
    "its own key in the header": lambda k: _with_its_own_key(),
    "RS256 under the kid of an ES256 key": lambda k: jwt.encode(
        _claims(), rsa.generate_private_key(65537, 2048), "RS256", headers={"kid": k.kid}
    ),
}
"""Made of what everybody knows."""


def _another_user(token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{_part(_claims())}.{signature}"


def _with_its_own_key() -> str:
    """A header that brings the key, and one that says where to fetch it."""
    own = ec.generate_private_key(ec.SECP256R1())
    brought = jwt.algorithms.ECAlgorithm.to_jwk(own.public_key(), as_dict=True)
    return jwt.encode(
        _claims(),
        own,
        "ES256",
        headers={"kid": "own", "jwk": brought, "jku": "http://127.0.0.1:9/jwks.json", "x5u": "x"},
    )


@pytest.fixture(scope="module")
async def known(project: Any) -> Known:
    async with httpx.AsyncClient(base_url=project.api_url, headers={"apikey": project.anon_key}) as http:
        keys = (await http.get("/auth/v1/.well-known/jwks.json")).json()["keys"]
    if not keys:
        pytest.skip("the project publishes no key: it signs with a secret")
    return Known(project.anon_key, keys[0], (await new_user(project)).token)


@pytest.mark.parametrize("what", FORGED)
async def test_a_token_that_does_not_hold(project: Any, known: Known, what: str) -> None:
    """The attacker brings such a token to each service: refused by each, and by a socket of Realtime too."""
    await refused_everywhere(project, FORGED[what](known))


@pytest.mark.embedded(
    "whoever has the project's keys is no attacker: how far a service believes them is its own affair"
)
@pytest.mark.parametrize("what", MISSIGNED)
async def test_a_token_that_the_project_would_not_have_signed(project: Any, what: str) -> None:
    """Such a token comes from the project's own keys, by a mistake or a leak: refused by each service all the same."""
    await refused_everywhere(project, MISSIGNED[what](project.keys))


async def refused_everywhere(project: Any, token: str) -> None:
    headers = {"apikey": project.anon_key, "authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=project.api_url) as http:
        for method, path, body in (
            ("GET", "/auth/v1/user", None),
            ("GET", "/rest/v1/documents", None),
            ("POST", "/rest/v1/rpc/search", {"query_text": "x"}),
            ("GET", "/storage/v1/object/authenticated/documents/x/y", None),
            ("POST", "/storage/v1/object/list/documents", {"prefix": ""}),
            (
                "POST",
                "/realtime/v1/api/broadcast",
                {"messages": [{"topic": "x", "event": "x", "payload": {}, "private": True}]},
            ),
        ):
            answer = await http.request(method, path, headers=headers, json=body)
            code = answer.json().get("statusCode", str(answer.status_code))
            assert code in ("401", "403"), (path, answer.text)
        # where a public file would be served, a token that does not hold is none
        answer = await http.get("/storage/v1/object/documents/x/y", headers=headers)
        assert 400 <= answer.status_code < 500, answer.text
    url = f"{project.api_url.replace('http', 'ws')}/realtime/v1/websocket?apikey={project.anon_key}&vsn=1.0.0"
    async with connect(url) as socket:
        payload = {"config": {"private": True}, "access_token": token}
        await socket.send(
            json.dumps({"topic": "realtime:user:x:jobs", "event": "phx_join", "payload": payload, "ref": "1"})
        )
        assert json.loads(await socket.recv())["payload"]["status"] == "error"


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_a_rotation_keeps_what_was_signed_until_it_is_revoked(tmp_path: Path, algorithm: Any) -> None:
    """Keys are rotated without signing anybody out; a key that leaked is revoked, and what it signed is refused at
    once."""
    file = tmp_path / "keys.json"
    keys = Keys.load(file, algorithm)
    claims = _claims()
    old, former = keys.sign(claims), keys.key_id
    assert jwt.get_unverified_header(old)["alg"] == algorithm
    new = keys.rotate()
    assert jwt.get_unverified_header(keys.sign(claims))["kid"] == new != former
    published = jwt.PyJWKSet.from_dict(keys.jwks())
    for token in (old, keys.sign(claims)):
        assert keys.verify(token).user_id == claims["sub"]
        key = published[jwt.get_unverified_header(token)["kid"]]
        assert jwt.decode(token, key, [algorithm], audience="authenticated") == claims
    kept = Keys.load(file, algorithm)
    assert [key["kid"] for key in kept.jwks()["keys"]] == [new, former]
    assert kept.verify(old).user_id == claims["sub"]
    kept.revoke(former)
    with pytest.raises(Refused, match="No suitable key"):
        kept.verify(old)
    assert kept.verify(kept.sign(claims)).user_id == claims["sub"]
    for gone in (former, new):
        with pytest.raises(ValueError, match="not the id of a former key"):
            kept.revoke(gone)
    assert [key["kid"] for key in Keys.load(file, algorithm).jwks()["keys"]] == [new]


async def test_a_user_cannot_choose_her_role(project: Any, user: User) -> None:
    """The attacker signs up, or changes herself, with a role and claims of her choice: they are metadata, and a token
    says authenticated."""
    project.needs("sign_up_confirms")
    async with httpx.AsyncClient(base_url=project.api_url, headers={"apikey": project.anon_key}) as http:
        chosen = {
            "role": "service_role",
            "app_metadata": {"role": "service_role"},
            "is_anonymous": False,
            "sub": str(uuid4()),
        }
        wanted = {"email": f"{uuid4()}@example.org", "password": "a long password"}
        answer = await http.post("/auth/v1/signup", json=wanted | {"data": chosen})
        assert answer.status_code == 200, answer.text
        bearer = {"authorization": f"Bearer {answer.json()['access_token']}"}
        for body in ({"data": chosen}, chosen, {"app_metadata": chosen}, {"role": "service_role"}):
            assert (await http.put("/auth/v1/user", headers=bearer, json=body)).status_code < 500
            forged = await http.post("/auth/v1/signup", json=wanted | {"email": f"{uuid4()}@example.org"} | body)
            if forged.status_code == 200:
                claims = jwt.decode(forged.json()["access_token"], options={"verify_signature": False})
                assert (claims["role"], claims["app_metadata"].get("role")) == ("authenticated", None)
        await http.put("/auth/v1/user", headers=bearer, json={"data": chosen})
        renewed = await http.post(
            "/auth/v1/token?grant_type=refresh_token", json={"refresh_token": answer.json()["refresh_token"]}
        )
        for session in (answer, renewed):
            claims = jwt.decode(session.json()["access_token"], options={"verify_signature": False})
            assert (claims["role"], claims["sub"]) == ("authenticated", answer.json()["user"]["id"])
            assert claims["app_metadata"].get("role") is None
