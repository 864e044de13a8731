"""One websocket and its channels: join, leave, token refresh and expiry, broadcasts both ways."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import psycopg
from starlette.websockets import WebSocket, WebSocketDisconnect

from pipeline.embedded.gateway.realtime import authorize
from pipeline.embedded.gateway.realtime.hub import Hub, Topic
from pipeline.embedded.gateway.realtime.wire import BadMessage, Message, decode, encode

log = logging.getLogger(__name__)

PREFIX = "realtime:"
MAX_CHANNELS = 100

CLOSE_RESTART = 1012
CLOSE_SLOW = 1013


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a token speaks for; `expires` is in Unix seconds."""

    role: str
    claims: dict[str, Any]
    expires: float | None


class TokenRefused(Exception):
    """A token that cannot be used; the message is the reason that a client is told."""


@dataclass(frozen=True, slots=True)
class Services:
    """What a socket needs of the gateway; a client that leaves more than `max_unread` bytes waiting is let go."""

    hub: Hub
    verify: Callable[[str], Identity]
    connection: Callable[[], AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]]
    max_unread: int = 64_000_000


class Refused(Exception):
    """A join or push that is answered with an error; the message is the reason."""


class Channel:
    """A joined topic of one socket."""

    def __init__(self, socket: Socket, topic: str, join_ref: str | None, config: dict[str, Any]) -> None:
        broadcast = _object(config.get("broadcast"))
        self.socket = socket
        self.topic = topic
        self.join_ref = join_ref
        self.private = config.get("private") is True
        self.ack = broadcast.get("ack") is True
        self.echo = broadcast.get("self") is True
        self.token = ""
        self.identity: Identity | None = None
        self.writable: bool | None = None
        self._expiry: asyncio.TimerHandle | None = None

    @property
    def key(self) -> Topic:
        """The topic as the hub knows it."""
        return self.topic.removeprefix(PREFIX), self.private

    async def authorise(self, token: str) -> None:
        """Take a token, or raise Refused with Realtime's reason."""
        services = self.socket.services
        try:
            identity = services.verify(token)
        except TokenRefused as error:
            raise Refused(str(error)) from None
        if self.private:
            async with services.connection() as connection:
                allowed = await authorize.may_read(connection, identity.role, identity.claims, self.key[0])
            if not allowed:
                raise Refused(
                    f"Unauthorized: You do not have permissions to read from this Channel topic: {self.key[0]}"
                )
        self.token, self.identity, self.writable = token, identity, None
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if identity.expires is not None:
            wait = max(0.0, identity.expires - time.time())
            self._expiry = asyncio.get_running_loop().call_later(wait, self.fail, "Token has expired 0 seconds ago")

    async def may_write(self) -> bool:
        """Whether the policies let this channel's caller send; asked once a token."""
        if not self.private:
            return True
        if self.writable is None and self.identity is not None:
            async with self.socket.services.connection() as connection:
                self.writable = await authorize.may_write(
                    connection, self.identity.role, self.identity.claims, self.key[0]
                )
        return bool(self.writable)

    def deliver(self, content: dict[str, Any]) -> None:
        """Push one broadcast."""
        self.socket.push(Message(self.topic, "broadcast", content))

    def restart(self) -> None:
        """The source of broadcasts was interrupted."""
        self.socket.close(CLOSE_RESTART, "the database connection was lost")

    def fail(self, reason: str) -> None:
        """Tell why, and close this channel."""
        payload = {"channel": self.key[0], "extension": "system", "message": reason, "status": "error"}
        self.socket.push(Message(self.topic, "system", payload, join_ref=self.join_ref))
        self.leave()
        self.socket.push(Message(self.topic, "phx_close", {}, self.join_ref, self.join_ref))

    def leave(self) -> None:
        """Stop taking broadcasts."""
        if self._expiry is not None:
            self._expiry.cancel()
        self.socket.services.hub.unsubscribe(self.key, self)
        if self.socket.channels.get(self.topic) is self:
            del self.socket.channels[self.topic]


class Socket:
    """One accepted websocket, from its first message to its end."""

    def __init__(self, websocket: WebSocket, version: str, apikey: str, services: Services) -> None:
        self.services = services
        self.channels: dict[str, Channel] = {}
        self._websocket = websocket
        self._version = version
        self._apikey = apikey
        self._outgoing: asyncio.Queue[str | bytes | None] = asyncio.Queue()
        self._unread = 0
        self._closing: tuple[int, str] | None = None

    async def run(self) -> None:
        """Serve until either side closes."""
        writer = asyncio.create_task(self._write(), name="realtime writer")
        try:
            async for frame in self._frames():
                try:
                    message = decode(frame, self._version)
                except BadMessage as error:
                    log.info("realtime: dropped a frame: %s", error)
                    continue
                await self._handle(message)
        finally:
            for channel in tuple(self.channels.values()):
                channel.leave()
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    def push(self, message: Message) -> None:
        """Queue a message; a client that does not read for long is disconnected rather than served from memory."""
        frame = encode(message, self._version)
        if frame is None or self._closing is not None:
            return
        self._unread += len(frame)
        if self._unread > self.services.max_unread:
            self.close(CLOSE_SLOW, "too many unread messages")
            return
        self._outgoing.put_nowait(frame)

    def close(self, code: int, reason: str) -> None:
        """Close the websocket after what is queued."""
        if self._closing is None:
            self._closing = (code, reason)
            self._outgoing.put_nowait(None)

    async def _write(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError, OSError):  # the reader notices the same end
            while (frame := await self._outgoing.get()) is not None:
                if isinstance(frame, str):
                    await self._websocket.send_text(frame)
                else:
                    await self._websocket.send_bytes(frame)
                self._unread -= len(frame)
            code, reason = self._closing or (1000, "")
            await self._websocket.close(code, reason)

    async def _frames(self) -> AsyncIterator[str | bytes]:
        while True:
            event = await self._websocket.receive()
            if event["type"] != "websocket.receive":
                return
            frame = event.get("text")
            yield frame if frame is not None else event.get("bytes") or b""

    async def _handle(self, message: Message) -> None:
        payload = _object(message.payload)
        if message.topic == "phoenix" and message.event == "heartbeat":
            self._reply(message, {})
            return
        try:
            if message.event == "phx_join":
                await self._join(message, payload)
                return
            channel = self.channels.get(message.topic)
            if channel is None:
                self._reply(message, {"reason": "unmatched topic"}, status="error")
                return
            match message.event:
                case "phx_leave":
                    self._reply(message, {})
                    channel.leave()
                    self.push(Message(channel.topic, "phx_close", {}, channel.join_ref, channel.join_ref))
                case "access_token":
                    await self._refresh(channel, payload.get("access_token"))
                case "broadcast":
                    await self._broadcast(channel, message, payload)
                case "presence":
                    raise Refused("UnsupportedFeature: the embedded Realtime does not support presence")
                case event:
                    raise Refused(f"UnknownEvent: the embedded Realtime does not know the event {event}")
        except Refused as error:
            self._reply(message, {"reason": str(error)}, status="error")
        except psycopg.Error as error:
            log.warning("realtime: the database failed: %s", error)
            self._reply(message, {"reason": "DatabaseError: Realtime could not ask the database"}, status="error")

    async def _join(self, message: Message, payload: dict[str, Any]) -> None:
        topic = message.topic
        if not topic.startswith(PREFIX) or topic == PREFIX:
            raise Refused("TopicNameRequired: You must provide a topic name")
        if former := self.channels.get(topic):
            former.leave()
        if len(self.channels) >= MAX_CHANNELS:
            raise Refused(f"ChannelRateLimitReached: Too many channels, at most {MAX_CHANNELS} a connection")
        config = _object(payload.get("config"))
        if config.get("postgres_changes"):
            raise Refused(
                "UnsupportedFeature: the embedded Realtime does not support postgres_changes; "
                "send a broadcast from the database (realtime.send) instead"
            )
        if _object(config.get("presence")).get("enabled") is True:
            raise Refused("UnsupportedFeature: the embedded Realtime does not support presence")
        if _object(config.get("broadcast")).get("replay"):
            raise Refused("UnsupportedFeature: the embedded Realtime does not support the replay of broadcasts")
        channel = Channel(self, topic, message.join_ref or message.ref, config)
        token = payload.get("access_token") or payload.get("user_token")
        await channel.authorise(token if isinstance(token, str) and _is_jwt(token) else self._apikey)
        self.channels[topic] = channel
        await self.services.hub.subscribe(channel.key, channel)
        self._reply(message, {"postgres_changes": []})

    async def _refresh(self, channel: Channel, token: Any) -> None:
        if not _is_jwt(token) or token == channel.token:
            return
        try:
            await channel.authorise(token)
        except Refused as error:
            channel.fail(str(error))

    async def _broadcast(self, channel: Channel, message: Message, payload: dict[str, Any]) -> None:
        if not isinstance(payload.get("event"), str):
            raise Refused("UnableToBroadcast: a broadcast needs an event")
        if not await channel.may_write():
            raise Refused(f"Unauthorized: You do not have permissions to write to this Channel topic: {channel.key[0]}")
        content = {"type": "broadcast", "event": payload["event"], "payload": payload.get("payload", {})}
        self.services.hub.broadcast(channel.key, content, besides=None if channel.echo else channel)
        if channel.ack:
            self._reply(message, {})

    def _reply(self, message: Message, response: dict[str, Any], *, status: str = "ok") -> None:
        payload = {"status": status, "response": response}
        self.push(Message(message.topic, "phx_reply", payload, message.ref, message.join_ref))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_jwt(token: Any) -> bool:
    """New API keys travel where a token may, but speak for nobody in particular."""
    return isinstance(token, str) and token != "" and not token.startswith("sb_")
