"""Realtime with supabase-py's client, and over a raw websocket where the SDK hides or cannot do a thing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from api_world import Person, World, start_world, token
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pipeline.embedded.gateway.realtime.wire import BadMessage, Message, decode, encode

PRIVATE = {"config": {"private": True, "broadcast": {"ack": False, "self": False}, "presence": None}}
PATIENCE = 10


@pytest.fixture(scope="module")
async def world() -> AsyncIterator[World]:
    async with start_world() as world:
        yield world


async def tell(world: World, topic: str, event: str, payload: dict[str, Any], *, private: bool = True) -> None:
    """Send from the database, as a trigger of the application does."""
    await world.sql("select realtime.send(%s::jsonb, %s, %s, %s)", json.dumps(payload), event, topic, private)


async def subscribe(
    client: AsyncRealtimeClient, topic: str, params: Any = PRIVATE
) -> tuple[AsyncRealtimeChannel, asyncio.Queue[Any], list[tuple[RealtimeSubscribeStates, str]]]:
    """A subscribed channel, the broadcasts that arrive, the states that it went through."""
    arrived: asyncio.Queue[Any] = asyncio.Queue()
    states: list[tuple[RealtimeSubscribeStates, str]] = []
    channel = client.channel(topic, params)
    channel.on_broadcast("*", arrived.put_nowait)
    await channel.subscribe(lambda state, error: states.append((state, str(error or ""))))
    return channel, arrived, states


class Wire:
    """A raw connection in one of the two serialisations."""

    def __init__(self, socket: ClientConnection, version: str) -> None:
        self.socket = socket
        self.version = version
        self.ref = 0

    async def push(self, topic: str, event: str, payload: Any) -> str:
        self.ref += 1
        ref = str(self.ref)
        message: Any = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": "1"}
        if self.version == "2.0.0":
            message = ["1", ref, topic, event, payload]
        await self.socket.send(json.dumps(message))
        return ref

    async def read(self) -> dict[str, Any]:
        frame = await asyncio.wait_for(self.socket.recv(), PATIENCE)
        content = json.loads(frame)
        if self.version == "2.0.0":
            content = dict(zip(("join_ref", "ref", "topic", "event", "payload"), content, strict=True))
        return content

    async def read_to_the_end(self) -> None:
        while True:
            await self.read()

    async def ask(self, topic: str, event: str, payload: Any) -> dict[str, Any]:
        """Push, and the payload of its reply."""
        ref = await self.push(topic, event, payload)
        reply = await self.read()
        assert (reply["event"], reply["ref"], reply["topic"]) == ("phx_reply", ref, topic)
        return reply["payload"]

    async def join(self, topic: str, access_token: str | None, **config: Any) -> dict[str, Any]:
        return await self.ask(f"realtime:{topic}", "phx_join", {"config": config, "access_token": access_token})


@contextlib.asynccontextmanager
async def wire(person: Person, version: str = "1.0.0", apikey: str | None = None) -> AsyncIterator[Wire]:
    url = (
        f"{person.world.url.replace('http', 'ws')}/realtime/v1/websocket?apikey={apikey or person.token}&vsn={version}"
    )
    async with connect(url) as socket:
        yield Wire(socket, version)


# supabase-py ---------------------------------------------------------------------------------------------------------


async def test_a_message_of_the_database_reaches_its_private_topic(world: World) -> None:
    person = world.person()
    async with person.realtime() as client:
        _, arrived, states = await subscribe(client, f"user:{person.id}")
        assert states == [(RealtimeSubscribeStates.SUBSCRIBED, "")]
        await tell(world, f"user:{uuid4()}", "job_changed", {"n": 0})
        await tell(world, f"user:{person.id}", "job_changed", {"n": 0}, private=False)
        await tell(world, f"user:{person.id}", "job_changed", {"n": 1, "text": "ä\u2028😀"})
        message = await asyncio.wait_for(arrived.get(), PATIENCE)
    assert message["event"] == "job_changed"
    assert (message["payload"]["n"], message["payload"]["text"]) == (1, "ä\u2028😀")
    assert message["meta"]["id"] == message["payload"]["id"]
    assert arrived.empty()


async def test_messages_arrive_in_the_order_of_commits_and_never_before(world: World) -> None:
    person = world.person()
    topic = f"user:{person.id}"
    async with (
        person.realtime() as client,
        await psycopg.AsyncConnection.connect(world.server.url("supabase_admin")) as other,
    ):
        _, arrived, _ = await subscribe(client, topic)
        await other.execute("select realtime.send('{\"n\": 99}', 'late', %s)", (topic,))
        for n in range(50):
            await tell(world, topic, "step", {"n": n})
        await other.commit()
        numbers = [(await asyncio.wait_for(arrived.get(), PATIENCE))["payload"]["n"] for _ in range(51)]
        await other.execute("select realtime.send('{}', 'undone', %s)", (topic,))
        await other.rollback()
        await tell(world, topic, "last", {})
        assert (await asyncio.wait_for(arrived.get(), PATIENCE))["event"] == "last"
    assert numbers == [*range(50), 99]


async def test_a_topic_that_the_policies_do_not_show_is_refused(world: World) -> None:
    person = world.person()
    async with person.realtime() as client:
        topic = f"user:{uuid4()}"
        channel = client.channel(topic, PRIVATE)  # type: ignore[arg-type]
        replies: list[dict[str, Any]] = []
        channel.join_push.receive("error", replies.append)  # type: ignore[call-overload]
        states: list[RealtimeSubscribeStates] = []
        await channel.subscribe(lambda state, _: states.append(state))
        assert states == [RealtimeSubscribeStates.CHANNEL_ERROR]
    reason = f"Unauthorized: You do not have permissions to read from this Channel topic: {topic}"
    assert replies == [{"reason": reason}]
    assert await world.sql("select 1 from realtime.messages where topic = %s", topic) == []


async def test_clients_broadcast_to_each_other_where_a_policy_lets_them_insert(world: World) -> None:
    one, two = world.person(), world.person()
    room = f"room:{uuid4()}"
    async with one.realtime() as first, two.realtime() as second:
        channel, echoed, _ = await subscribe(first, room)
        _, arrived, _ = await subscribe(second, room)
        await channel.send_broadcast("hello", {"x": 1})
        message = await asyncio.wait_for(arrived.get(), PATIENCE)
        assert (message["event"], message["payload"]) == ("hello", {"x": 1})
        assert echoed.empty()
        await channel.http_send("over_http", {"y": 2})
        assert (await asyncio.wait_for(arrived.get(), PATIENCE))["payload"] == {"y": 2}


async def test_without_an_insert_policy_nothing_is_sent(world: World) -> None:
    person = world.person()
    topic = f"user:{person.id}"
    async with person.realtime() as client, wire(person) as raw:
        channel, arrived, _ = await subscribe(client, topic)
        await raw.join(topic, person.token, private=True)
        answer = await raw.ask(f"realtime:{topic}", "broadcast", {"type": "broadcast", "event": "x", "payload": {}})
        assert answer["status"] == "error"
        assert "permissions to write" in answer["response"]["reason"]
        with pytest.raises(Exception, match="Unauthorized"):
            await channel.http_send("x", {})
        await tell(world, topic, "end", {})
        assert (await asyncio.wait_for(arrived.get(), PATIENCE))["event"] == "end"


async def test_a_public_channel_is_another_topic_than_the_private_one(world: World) -> None:
    person = world.person("anon")
    topic = f"room:{uuid4()}"
    async with person.realtime() as client:
        _, arrived, _ = await subscribe(client, topic, None)
        await tell(world, topic, "private", {})
        await tell(world, topic, "public", {}, private=False)
        assert (await asyncio.wait_for(arrived.get(), PATIENCE))["event"] == "public"


async def test_leaving_ends_the_messages(world: World) -> None:
    person = world.person()
    topic = f"user:{person.id}"
    async with person.realtime() as client:
        channel, arrived, _ = await subscribe(client, topic)
        _, others, _ = await subscribe(client, "open", None)
        await client.remove_channel(channel)
        await tell(world, topic, "unheard", {})
        await tell(world, "open", "heard", {}, private=False)
        assert (await asyncio.wait_for(others.get(), PATIENCE))["event"] == "heard"
        assert arrived.empty()
        _, again, _ = await subscribe(client, topic)
        await tell(world, topic, "back", {})
        assert (await asyncio.wait_for(again.get(), PATIENCE))["event"] == "back"


async def test_supabase_py_joins_again_after_the_database_went_away(world: World) -> None:
    person = world.person()
    client = AsyncRealtimeClient(world.url + "/realtime/v1", person.token, initial_backoff=0.1)
    await client.connect()
    try:
        _, arrived, states = await subscribe(client, f"user:{person.id}")
        await world.sql(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'realtime listener'"
        )
        async with asyncio.timeout(PATIENCE):
            while [state for state, _ in states].count(RealtimeSubscribeStates.SUBSCRIBED) < 2:
                await asyncio.sleep(0.02)
        await tell(world, f"user:{person.id}", "again", {})
        assert (await asyncio.wait_for(arrived.get(), PATIENCE))["event"] == "again"
    finally:
        await client.close()


# the wire ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0.0", "2.0.0"])
async def test_both_serialisations_join_beat_hear_and_leave(world: World, version: str) -> None:
    person = world.person()
    topic = f"user:{person.id}"
    async with wire(person, version) as raw:
        assert await raw.ask("phoenix", "heartbeat", {}) == {"status": "ok", "response": {}}
        joined = await raw.join(topic, person.token, private=True)
        assert joined == {"status": "ok", "response": {"postgres_changes": []}}
        await tell(world, topic, "news", {"n": 1})
        heard = await raw.read()
        assert (heard["topic"], heard["event"], heard["ref"]) == (f"realtime:{topic}", "broadcast", None)
        assert (heard["payload"]["type"], heard["payload"]["event"]) == ("broadcast", "news")
        assert (await raw.ask(f"realtime:{topic}", "phx_leave", {}))["status"] == "ok"
        assert (await raw.read())["event"] == "phx_close"
        assert (await raw.ask(f"realtime:{topic}", "broadcast", {}))["response"] == {"reason": "unmatched topic"}


async def test_self_and_ack_are_kept(world: World) -> None:
    person = world.person()
    room = f"room:{uuid4()}"
    async with wire(person) as raw:
        await raw.join(room, person.token, private=True, broadcast={"self": True, "ack": True})
        await raw.push(f"realtime:{room}", "broadcast", {"type": "broadcast", "event": "x", "payload": {"n": 1}})
        assert (await raw.read())["payload"] == {"type": "broadcast", "event": "x", "payload": {"n": 1}}
        assert (await raw.read())["payload"]["status"] == "ok"


async def test_an_expired_token_closes_the_channel(world: World) -> None:
    person = world.person()
    short = token("authenticated", person.id, lifetime=1)
    async with wire(person) as raw:
        assert (await raw.join(f"user:{person.id}", short, private=True))["status"] == "ok"
        told = await raw.read()
        assert (told["event"], told["payload"]["status"]) == ("system", "error")
        assert "Token has expired" in told["payload"]["message"]
        assert (await raw.read())["event"] == "phx_close"
        refused = await raw.join(f"user:{person.id}", short, private=True)
        assert refused["response"]["reason"].startswith("InvalidJWTToken")


async def test_a_fresh_token_keeps_the_channel_open(world: World) -> None:
    person = world.person()
    topic = f"user:{person.id}"
    short = token("authenticated", person.id, lifetime=1.5)
    until = time.monotonic() + 2
    async with wire(person) as raw:
        await raw.join(topic, short, private=True)
        await raw.push(f"realtime:{topic}", "access_token", {"access_token": person.token})
        await raw.push(f"realtime:{topic}", "access_token", {"access_token": None})
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(raw.socket.recv(), until - time.monotonic())
        await tell(world, topic, "still", {})
        assert (await raw.read())["payload"]["event"] == "still"


async def test_anothers_token_ends_a_channel_that_they_may_not_read(world: World) -> None:
    person, other = world.person(), world.person()
    topic = f"user:{person.id}"
    async with wire(person) as raw:
        await raw.join(topic, person.token, private=True)
        await raw.push(f"realtime:{topic}", "access_token", {"access_token": other.token})
        assert "Unauthorized" in (await raw.read())["payload"]["message"]
        assert (await raw.read())["event"] == "phx_close"


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ({"postgres_changes": [{"event": "*", "schema": "public"}]}, "postgres_changes"),
        ({"presence": {"enabled": True, "key": ""}}, "presence"),
        ({"private": True, "broadcast": {"replay": {"since": 1}}}, "replay"),
    ],
)
async def test_what_is_not_there_is_refused_by_name(world: World, config: dict[str, Any], name: str) -> None:
    person = world.person()
    async with wire(person) as raw:
        answer = await raw.join("room:x", person.token, **config)
        assert answer["status"] == "error"
        assert answer["response"]["reason"].startswith("UnsupportedFeature")
        assert name in answer["response"]["reason"]
        await raw.join("room:x", person.token)
        tracked = await raw.ask("realtime:room:x", "presence", {"event": "track", "payload": {}})
        assert "presence" in tracked["response"]["reason"]


async def test_a_frame_that_is_no_message_disturbs_nobody(world: World) -> None:
    person = world.person()
    async with wire(person) as raw:
        for frame in ("", "{", "3", "[]", '{"topic": 3, "event": "x"}', b"\x00", b"\x03\xff\xff\xff\xff\xff\x01x"):
            await raw.socket.send(frame)
        await raw.socket.send('{"topic": "realtime:x", "event": "phx_join", "payload": [1], "ref": 1}')
        assert (await raw.read())["payload"]["status"] == "ok"
        assert (await raw.ask("realtime:", "phx_join", {}))["status"] == "error"


async def test_without_a_good_key_there_is_no_connection(world: World) -> None:
    person = world.person()
    for apikey, version in (("nonsense", "1.0.0"), (token("anon", lifetime=-5), "1.0.0"), (person.token, "9")):
        with pytest.raises(InvalidStatus):
            async with wire(person, version, apikey):
                pass


async def test_messages_posted_over_http_are_all_sent_or_none(world: World) -> None:
    person = world.person()
    room, closed = f"room:{uuid4()}", f"user:{person.id}"
    url = world.url + "/realtime/v1/api/broadcast"

    def message(topic: str, event: str) -> dict[str, Any]:
        return {"topic": topic, "event": event, "payload": {}, "private": True}

    async with wire(person) as raw:
        await raw.join(room, person.token, private=True)
        refused = await world.http.post(
            url, json={"messages": [message(room, "no"), message(closed, "no")]}, headers=person.headers
        )
        assert refused.status_code == 403
        sent = await world.http.post(url, json={"messages": [message(room, "yes")]}, headers=person.headers)
        assert sent.status_code == 202
        assert (await raw.read())["payload"]["event"] == "yes"
    assert (await world.http.post(url, json={}, headers=person.headers)).status_code == 422
    assert (await world.http.post(url, json={"messages": []}, headers={"apikey": "x"})).status_code == 401


async def test_a_client_that_does_not_read_is_let_go(world: World) -> None:
    """Its socket is closed; the others get every message."""
    person = world.person()
    topic = f"user:{person.id}"
    async with wire(person) as slow, person.realtime() as client:
        await slow.join(topic, person.token, private=True)
        slow.socket.transport.pause_reading()
        _, arrived, _ = await subscribe(client, topic)
        for _ in range(20):
            await world.sql(
                "select realtime.send(jsonb_build_object('text', (select string_agg(md5(random()::text), '') "
                "from generate_series(1, 600 + 0 * n))), 'flood', %s) from generate_series(1, 50) n",
                topic,
            )
            for _ in range(50):
                assert (await asyncio.wait_for(arrived.get(), PATIENCE))["event"] == "flood"
        slow.socket.transport.resume_reading()
        with pytest.raises(ConnectionClosed):
            await slow.read_to_the_end()


# the serialiser ------------------------------------------------------------------------------------------------------


def test_a_binary_broadcast_of_a_client_is_read() -> None:
    parts = [b"1", b"2", b"realtime:room", b"event", b""]
    header = bytes([3, *map(len, parts), 1]) + b"".join(parts)
    assert decode(header + b'{"a":1}', "2.0.0") == Message(
        "realtime:room", "broadcast", {"type": "broadcast", "event": "event", "payload": {"a": 1}}, "2", "1"
    )
    raw = bytes([3, *map(len, parts), 0]) + b"".join(parts) + b"\xff\x00"
    message = decode(raw, "2.0.0")
    assert message.payload["payload"] == b"\xff\x00"
    frame = encode(message, "2.0.0")
    assert isinstance(frame, bytes)
    assert frame == bytes([4, 13, 5, 0, 0]) + b"realtime:roomevent\xff\x00"
    assert encode(message, "1.0.0") is None
    with pytest.raises(BadMessage):
        decode(header[:9], "2.0.0")
