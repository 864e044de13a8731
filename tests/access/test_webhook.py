"""Attacks on the listener's only open port: webhooks that nobody sent, and what the best of them may do.

How a true one is heard, and that none is needed, `tests/worker/test_webhook.py` shows.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from pipeline.queue.webhook import PATH, bound, create_app, serving, signature

SECRET = "a secret that nobody guesses"
BODY = json.dumps({"event_type": "parse.success", "data": {"job_id": "pjb-1"}, "markdown": "# Planted"}).encode()
HEX = signature(BODY, SECRET).removeprefix("sha256=")

FORGED: dict[str, str | None] = {
    "unsigned": None,
    "an empty signature": "",
    "signed with nothing": signature(BODY, ""),
    "signed with another secret": signature(BODY, "another secret of somebody"),
    "signed with the name of the header": signature(BODY, "LC-Signature"),
    "another body's": signature(b"{}", SECRET),
    "without its kind": HEX,
    "of another kind": "sha512=" + hmac.new(SECRET.encode(), BODY, hashlib.sha512).hexdigest(),
    "an old kind under the name of the new": "sha256=" + hmac.new(SECRET.encode(), BODY, hashlib.sha1).hexdigest(),
    "in capitals": f"sha256={HEX.upper()}",
    "in base64": "sha256=" + base64.b64encode(bytes.fromhex(HEX)).decode(),
    "cut short": f"sha256={HEX[:-1]}",
    "one digit off": f"sha256={HEX[:-1]}{'0' if HEX[-1] != '0' else '1'}",
    "two of them": f"sha256={HEX},sha256={HEX}",
    "a plain hash": "sha256=" + hashlib.sha256(BODY).hexdigest(),
    "none": "none",
}


@pytest.fixture
async def port() -> AsyncIterator[tuple[httpx.AsyncClient, list[str]]]:
    heard: list[str] = []

    async def hint(job_id: str) -> None:
        heard.append(job_id)

    with bound("127.0.0.1", 0) as listening:
        base = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with serving(create_app(SECRET, hint), listening), httpx.AsyncClient(base_url=base) as client:
            yield client, heard


@pytest.mark.parametrize("what", FORGED)
async def test_a_webhook_is_forged(port: Any, what: str) -> None:
    """The attacker says that a parse is done: without the secret nobody looks, whatever the rest of the request
    says."""
    client, heard = port
    sent = FORGED[what]
    headers = {} if sent is None else {"lc-signature": sent}
    more = {
        "x-forwarded-for": "127.0.0.1",
        "authorization": f"Bearer {SECRET}",
        "x-hub-signature-256": signature(BODY, SECRET),
    }
    for extra in ({}, more):
        for path in (PATH, f"{PATH}?lc-signature={signature(BODY, SECRET)}&secret={SECRET}"):
            answer = await client.post(path, content=BODY, headers=headers | extra)
            assert answer.status_code == 401 and not answer.content
    assert heard == []


async def test_a_webhook_that_is_true_is_replayed_and_brings_text(port: Any) -> None:
    """The attacker has one that was signed, sends it again and again, and with text of hers beside it: a hint to
    look, by the id of a parse, and no content is taken from it."""
    client, heard = port
    for _ in range(3):
        assert (
            await client.post(PATH, content=BODY, headers={"lc-signature": signature(BODY, SECRET)})
        ).status_code == 202
    assert heard == ["pjb-1"] * 3
    changed = BODY.replace(b"pjb-1", b"pjb-2")
    assert (
        await client.post(PATH, content=changed, headers={"lc-signature": signature(BODY, SECRET)})
    ).status_code == 401
    assert heard == ["pjb-1"] * 3


async def test_the_port_is_asked_for_something_else(port: Any) -> None:
    """The attacker looks for what else listens there: nothing does."""
    client, heard = port
    for method, path in (
        ("GET", PATH),
        ("PUT", PATH),
        ("GET", "/"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("POST", "/webhooks"),
        ("POST", f"{PATH}/../../x"),
        ("GET", "/.env"),
    ):
        assert (await client.request(method, path)).status_code in (404, 405)
    assert heard == []
