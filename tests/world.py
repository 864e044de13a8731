"""Listeners on the project under test, and users who upload with the SDK."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import psycopg
import pytest_asyncio
from psycopg.rows import dict_row
from supabase_auth.types import AuthResponse

from pipeline.app import run_listener
from pipeline.settings import Settings
from supabase import AsyncClient, AuthApiError, acreate_client

PASSWORD = "a long password"


async def lift_quotas(db_url: str) -> None:
    """Let users of the tests upload as much as they like; what is tested about quotas sets its own."""
    async with await psycopg.AsyncConnection.connect(db_url, autocommit=True) as connection:
        await connection.execute("update pipeline.limits set uploads_per_day = null where owner_id is null")


class User:
    """A signed-in user with the SDK."""

    def __init__(self, client: AsyncClient, user_id: str, email: str) -> None:
        self.client = client
        self.id = user_id
        self.email = email

    @property
    def token(self) -> str:
        """The access token, as a client without the SDK sends it."""
        return self.client.options.headers["Authorization"].removeprefix("Bearer ")

    async def upload(self, name: str, content: bytes, *, upsert: bool = False) -> None:
        await self.client.storage.from_("documents").upload(
            f"{self.id}/{name}", content, {"upsert": "true" if upsert else "false"}
        )

    async def job(self, name: str) -> dict[str, Any]:
        """The newest job for the name."""
        answer = await (
            self.client.table("jobs")
            .select("*")
            .eq("name", f"{self.id}/{name}")
            .order("id", desc=True)
            .limit(1)
            .execute()
        )
        return answer.data[0]

    async def search(self, text: str, **more: Any) -> list[dict[str, Any]]:
        return (await self.client.rpc("search", {"query_text": text, **more}).execute()).data


async def new_user(project: Any) -> User:
    """Signed up, or made by the service key where a sign-up would have to answer a mail."""
    client = await acreate_client(project.api_url, project.anon_key)
    email = f"{uuid.uuid4()}@example.org"
    if project.sign_up_confirms:
        answer = await patiently(lambda: client.auth.sign_up({"email": email, "password": PASSWORD}))
    else:
        admin = await acreate_client(project.api_url, project.service_role_key)
        await admin.auth.admin.create_user({"email": email, "password": PASSWORD, "email_confirm": True})
        answer = await patiently(lambda: client.auth.sign_in_with_password({"email": email, "password": PASSWORD}))
    assert answer.user is not None
    return User(client, answer.user.id, email)


async def patiently(sign: Callable[[], Awaitable[AuthResponse]]) -> AuthResponse:
    """Sign in or up as soon as the project lets us: it counts sign-ins of five minutes from one address."""
    for _ in range(31):
        try:
            return await sign()
        except AuthApiError as error:
            if error.status != 429:
                raise
        await asyncio.sleep(10)
    return await sign()


class Watch:
    """Asks the database until it says what is awaited, or the time is up: no test sleeps and hopes."""

    def __init__(self, connection: psycopg.AsyncConnection[dict[str, Any]]) -> None:
        self.connection = connection

    async def until(self, query: str, *params: Any, timeout: float = 60) -> dict[str, Any]:
        """The first row of `query`, as soon as there is one."""
        async with asyncio.timeout(timeout):
            while True:
                row = await (await self.connection.execute(query.encode(), params)).fetchone()
                if row is not None:
                    return row
                await asyncio.sleep(0.02)

    async def ended(self, user: User, name: str, timeout: float = 60) -> dict[str, Any]:
        """The newest job for the name, once it has ended."""
        return await self.until(
            "select j.* from (select * from pipeline.jobs where name = %s order by id desc limit 1) j "
            "where j.finished_at is not null",
            f"{user.id}/{name}",
            timeout=timeout,
        )


@pytest_asyncio.fixture
async def user(project: Any) -> User:
    return await new_user(project)


@pytest_asyncio.fixture
async def other_user(project: Any) -> User:
    return await new_user(project)


@pytest_asyncio.fixture
async def watch(project: Any) -> AsyncIterator[Watch]:
    connection = await psycopg.AsyncConnection.connect(project.db_url, autocommit=True, row_factory=dict_row)
    async with connection:
        yield Watch(connection)


def listener_settings(project: Any, **more: Any) -> Settings:
    values: dict[str, Any] = {
        "supabase_url": project.api_url,
        "supabase_service_role_key": project.service_role_key,
        "database_url": project.worker_url,
        "poll_seconds": 3600,
        "drain_seconds": 5,
    }
    return Settings(_env_file=None, **(values | more))  # type: ignore[call-arg]


@pytest_asyncio.fixture
async def listen(project: Any) -> AsyncIterator[Callable[..., Awaitable[asyncio.Event]]]:
    """Start a listener; returns the event that stops it. By default it does not poll: notifications must do."""
    running: list[tuple[asyncio.Event, asyncio.Task[None]]] = []

    async def start(**more: Any) -> asyncio.Event:
        stop, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(run_listener(listener_settings(project, **more), stop=stop, ready=ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            task.result()
        running.append((stop, task))
        return stop

    yield start
    for stop, _ in running:
        stop.set()
    for _, task in running:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, timeout=30)
