"""Attacks on Realtime over its socket: topics of others, speaking there, a token that ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.access.wire import MARK, Street

PATIENCE = 10


@contextlib.asynccontextmanager
async def socket(street: Street, key: str | None = None) -> AsyncIterator[ClientConnection]:
    base = street.project.api_url.replace("http", "ws")
    url = f"{base}/realtime/v1/websocket?apikey={key or street.project.anon_key}&vsn=1.0.0"
    async with connect(url) as opened:
        yield opened


async def say(opened: ClientConnection, topic: str, event: str, payload: Any) -> dict[str, Any]:
    """Send, and return the next message that is not a broadcast."""
    await opened.send(
        json.dumps({"topic": f"realtime:{topic}", "event": event, "payload": payload, "ref": "1", "join_ref": "1"})
    )
    return await hear(opened)


async def hear(opened: ClientConnection) -> dict[str, Any]:
    return json.loads(await asyncio.wait_for(opened.recv(), PATIENCE))


async def join(opened: ClientConnection, topic: str, token: str | None, **config: Any) -> str:
    answer = await say(opened, topic, "phx_join", {"config": {"private": True} | config, "access_token": token})
    return answer["payload"]["status"]


async def test_topics_of_others_are_joined(street: Street) -> None:
    """The attacker joins another's topic, or what a pattern might take for it: refused. A public channel of that name
    hears nothing of what is private."""
    topic = f"user:{street.alice.id}:jobs"
    async with socket(street) as mine, socket(street) as open_one:
        for asked in (
            topic,
            "user:*:jobs",
            "user:%:jobs",
            f"{topic} ",
            topic.upper(),
            f"user:{street.mallory.id}:jobs/../{topic}",
            f"user:{street.mallory.id}:jobs,{topic}",
            "user::jobs",
            "*",
        ):
            for token in (street.mallory.token, None):
                assert await join(mine, asked, token) == "error", asked
        assert await join(open_one, topic, street.mallory.token, private=False) == "ok"
        assert await join(mine, f"user:{street.mallory.id}:jobs", street.mallory.token) == "ok"
        await street.alice.upload(f"more {MARK}.md", b"# More")
        await street.mallory.upload("more.md", b"# More")
        heard = await hear(mine)
        assert heard["event"] == "broadcast" and heard["payload"]["payload"]["name"] == f"{street.mallory.id}/more.md"
        street.nothing_of_alice(heard)
        await open_one.send(json.dumps({"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "9"}))
        assert (await hear(open_one))["event"] == "phx_reply", "the first that is heard: no broadcast came before it"


async def test_a_client_speaks_as_the_database(street: Street) -> None:
    """The attacker sends a job_changed of her own making to another's topic or her own, over the socket and over
    HTTP."""
    for topic in (f"user:{street.alice.id}:jobs", f"user:{street.mallory.id}:jobs"):
        forged = {"topic": topic, "event": "job_changed", "payload": {"state": "completed"}, "private": True}
        answer = await street.send("POST", "/realtime/v1/api/broadcast", street.mallory, json={"messages": [forged]})
        assert answer.status_code == 403, answer.text
    # whoever has the public key may speak on a public topic, also on one of that name: it is another one
    async with socket(street) as victim:
        assert await join(victim, f"user:{street.alice.id}:jobs", street.alice.token) == "ok"
        for more in ({"private": False}, {}):
            forged = {"topic": f"user:{street.alice.id}:jobs", "event": "job_changed", "payload": {"name": "forged"}}
            answer = await street.send("POST", "/realtime/v1/api/broadcast", None, json={"messages": [forged | more]})
            assert answer.status_code == 202, answer.text
        await street.alice.upload(f"true {MARK}.md", b"# True")
        assert (await hear(victim))["payload"]["payload"]["name"] == f"{street.alice.id}/true {MARK}.md"
    own = f"user:{street.mallory.id}:jobs"
    async with socket(street) as opened:
        assert await join(opened, own, street.mallory.token, broadcast={"ack": True}) == "ok"
        forged = {"type": "broadcast", "event": "job_changed", "payload": {"state": "completed"}}
        answer = await say(opened, own, "broadcast", forged)
        assert (
            answer["payload"]["status"] == "error" and "permissions to write" in answer["payload"]["response"]["reason"]
        )


async def test_a_channel_outlives_its_token(street: Street) -> None:
    """The attacker stays on the line after the token has ended, and answers with another user's: the channel is
    closed, and what happens afterwards is not told to it."""
    topic = f"user:{street.alice.id}:jobs"
    # two seconds, since tokens count in whole ones
    claims = {"sub": street.alice.id, "role": "authenticated", "aud": "authenticated", "exp": time.time() + 1.5}
    async with socket(street) as opened:
        assert await join(opened, topic, street.project.sign(claims)) == "ok"
        told = await hear(opened)
        assert told["event"] == "system" and "expired" in told["payload"]["message"]
        assert (await hear(opened))["event"] == "phx_close"
        await street.alice.upload(f"later {MARK}.md", b"# Later")
        refused = await say(opened, topic, "access_token", {"access_token": street.mallory.token})
        assert refused["payload"]["status"] == "error"
        assert await join(opened, topic, street.project.sign(claims)) == "error"
    async with socket(street) as opened:
        assert await join(opened, topic, street.alice.token) == "ok"
        await opened.send(
            json.dumps(
                {
                    "topic": f"realtime:{topic}",
                    "event": "access_token",
                    "payload": {"access_token": street.mallory.token},
                    "ref": "2",
                }
            )
        )
        while (told := await hear(opened))["event"] == "broadcast":
            pass
        assert "Unauthorized" in told["payload"]["message"]
        assert (await hear(opened))["event"] == "phx_close"


@pytest.mark.parametrize("key", ["x", "sb_secret_x", "eyJhbGciOiJub25lIn0.e30."])
async def test_a_socket_without_a_key_is_not_opened(street: Street, key: str) -> None:
    """The attacker opens a socket without the project's key, or with one of her own making: it is not accepted."""
    with pytest.raises(Exception, match="403"):
        async with socket(street, key):
            pass
