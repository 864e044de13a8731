"""Raw HTTP against the project under test: what an attacker sends whom no SDK holds back."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg

from pipeline.app import run_listener
from tests.world import User, listener_settings, new_user

MARK = "zanzibar"
"""Stands in the victim's text and file name, and nowhere else."""
TEXT = f"The launch code is {MARK} 4711."


@dataclass
class Street:
    """A project, a victim with a published document, an attacker with one, and a client that sends what it likes."""

    project: Any
    http: httpx.AsyncClient
    alice: User
    mallory: User
    alices_name: str

    def headers(self, who: User | str | None = None) -> dict[str, str]:
        """A user's, or those of a key or token; the public key's without."""
        token = who.token if isinstance(who, User) else who or self.project.anon_key
        return {"apikey": self.project.anon_key, "authorization": f"Bearer {token}"}

    async def send(self, method: str, path: str, who: User | str | None = None, **options: Any) -> httpx.Response:
        """`path` goes out as it is: a URL would be folded here already, and `..` never reach the server."""
        headers = self.headers(who) | options.pop("headers", {})
        raw = {"target": path.encode()}
        return await self.http.request(method, self.project.api_url, headers=headers, extensions=raw, **options)

    def nothing_of_alice(self, answer: httpx.Response | Any) -> None:
        text = answer.text if isinstance(answer, httpx.Response) else json.dumps(answer, default=str)
        assert MARK not in text and self.alice.id not in text, text[:500]

    async def sql(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        async with await psycopg.AsyncConnection.connect(self.project.db_url, autocommit=True) as connection:
            cursor = await connection.execute(query.encode(), params or None)
            return await cursor.fetchall() if cursor.description else []


@contextlib.asynccontextmanager
async def open_street(project: Any) -> AsyncIterator[Street]:
    """A listener works until both documents are published, and no longer: other tests look at jobs that wait."""
    alice, mallory = await new_user(project), await new_user(project)
    stop, ready = asyncio.Event(), asyncio.Event()
    listening = asyncio.create_task(run_listener(listener_settings(project), stop=stop, ready=ready.set))
    try:
        for person, name, text in ((alice, f"{MARK}.md", TEXT), (mallory, "own.md", "The launch day is friday.")):
            await person.upload(name, text.encode())
            async with asyncio.timeout(60):
                while (await person.job(name))["state"] != "completed":
                    if listening.done():
                        listening.result()
                    await asyncio.sleep(0.05)
    finally:
        stop.set()
        await listening
    async with httpx.AsyncClient(timeout=30) as http:
        yield Street(project, http, alice, mallory, f"{alice.id}/{MARK}.md")
