"""Who listens to which topic, and what is delivered to them: rows of realtime.messages, and clients' own broadcasts.

One connection of the process listens for `realtime_messages`; each notification holds ids of rows, which are read and
pushed to the topic's subscribers in commit order. When that connection is lost, every socket is closed with 1012: what
was sent meanwhile is unknown, and SDKs answer a closed socket by connecting and joining again, after which the
application reads anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from typing import Any, Protocol

import psycopg

log = logging.getLogger(__name__)

_ROWS = """
select m.id::text, m.topic, coalesce(m.event, '') as event, m.payload, coalesce(m.private, false) as private
from unnest(%s::uuid[]) with ordinality as wanted (id, position)
join realtime.messages m on m.id = wanted.id
where m.extension = 'broadcast'
order by wanted.position
"""

_CHUNK = 100  # rows read at once

Topic = tuple[str, bool]  # the name and whether it is private: the two are different topics


class Subscriber(Protocol):
    """A channel that takes broadcasts; neither call may block."""

    def deliver(self, content: dict[str, Any]) -> None: ...

    def restart(self) -> None: ...


class Hub:
    """The subscribers of one gateway."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url
        self._subscribers: dict[Topic, set[Subscriber]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None
        self._listening = asyncio.Event()

    async def subscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        """Deliver a topic's broadcasts from now on; returns once the database is being listened to."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._listen(), name="realtime listener")
        self._subscribers[topic].add(subscriber)
        await self._listening.wait()

    def unsubscribe(self, topic: Topic, subscriber: Subscriber) -> None:
        """Stop delivering."""
        self._subscribers[topic].discard(subscriber)
        if not self._subscribers[topic]:
            del self._subscribers[topic]

    def broadcast(self, topic: Topic, content: dict[str, Any], *, besides: Subscriber | None = None) -> None:
        """Push to every subscriber of a topic, but `besides`."""
        for subscriber in tuple(self._subscribers.get(topic, ())):
            if subscriber is not besides:
                subscriber.deliver(content)

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, application_name="realtime listener"
                ) as connection:
                    await connection.execute("set role service_role")
                    await connection.execute("set statement_timeout = 0")
                    await connection.execute("listen realtime_messages")
                    self._listening.set()
                    await self._follow(connection)
            except psycopg.OperationalError as error:
                log.warning("realtime: the listening connection was lost: %s", error)
            finally:
                if self._listening.is_set():
                    self._listening.clear()
                    for subscriber in {one for many in self._subscribers.values() for one in many}:
                        subscriber.restart()
            await asyncio.sleep(0.5)

    async def _follow(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            notes = [note.payload async for note in connection.notifies(timeout=30, stop_after=1)]
            if not notes:
                await connection.execute("select 1")  # tells a dead connection from a quiet one
                continue
            notes += [note.payload async for note in connection.notifies(timeout=0)]
            ids = [message_id for note in notes for message_id in note.split(",")]
            for start in range(0, len(ids), _CHUNK):
                await self._push(connection, ids[start : start + _CHUNK])

    async def _push(self, connection: psycopg.AsyncConnection[Any], ids: list[str]) -> None:
        try:
            rows = await (await connection.execute(_ROWS, (ids,))).fetchall()
        except psycopg.DataError:  # anyone may notify, and with anything; only ids count
            log.info("realtime: dropped notifications that were no ids")
            return
        for message_id, topic, event, payload, private in rows:
            content = {"type": "broadcast", "event": event, "payload": payload, "meta": {"id": message_id}}
            self.broadcast((topic, private), content)
