"""What the measurements share: a project in processes of its own, users, percentiles."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from pipeline.db.connection import connect
from pipeline.embedded.postgres import PostgresServer
from pipeline.operate import migrate

ROOT = Path(__file__).resolve().parent.parent
PIPELINE = [sys.executable, "-m", "cli.main"]


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p95 of durations, in milliseconds."""
    ordered = sorted(seconds)
    return {
        "p50_ms": round(statistics.median(ordered) * 1000, 2),
        "p95_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))] * 1000, 2),
    }


@contextlib.asynccontextmanager
async def command(*arguments: str, cwd: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A command of ours in its own process, without the settings of whoever measures; ended by SIGTERM."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("UPLOAD_PIPELINE_")}
    process = await asyncio.create_subprocess_exec(
        *PIPELINE,
        *arguments,
        cwd=cwd,
        env=environment | {"PYTHONPATH": str(ROOT), "UPLOAD_PIPELINE_LOG_LEVEL": "WARNING"},
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await process.communicate()


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder that Postgres can reach, whoever it runs as."""
    with tempfile.TemporaryDirectory(prefix="pipeline-bench-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@contextlib.asynccontextmanager
async def database(space: str, settings: Mapping[str, str] | None = None) -> AsyncIterator[PostgresServer]:
    """A migrated Postgres with that embedding space, removed at the end; `settings` are Postgres's own."""
    with folder() as path:
        server = await PostgresServer.start(path / "data", settings=settings)
        try:
            await migrate.apply(server.url("postgres"), activate_space=space)
            yield server
        finally:
            await server.stop()


@contextlib.asynccontextmanager
async def dev(cwd: Path, *options: str) -> AsyncIterator[tuple[dict[str, str], asyncio.subprocess.Process]]:
    """`pipeline dev` in its own process without the quota of uploads, with what it printed."""
    async with command("dev", "--json", "--data-dir", str(cwd / "project"), *options, cwd=cwd) as process:
        assert process.stdout is not None
        line = await process.stdout.readline()
        if not line:
            raise RuntimeError("pipeline dev did not start")
        project = json.loads(line)
        async with await connect(project["db_url"]) as connection:
            await connection.execute("update pipeline.limits set uploads_per_day = null where owner_id is null")
        yield project, process


@dataclass(frozen=True, slots=True)
class User:
    """A signed-up user over plain HTTP: an SDK's own time is not what is measured."""

    http: httpx.AsyncClient
    id: str

    async def upload(self, name: str, content: bytes) -> None:
        """Upload as the SDKs do, in a multipart body."""
        answer = await self.http.post(
            f"/storage/v1/object/documents/{self.id}/{name}", files={"file": (name, content, "text/plain")}
        )
        answer.raise_for_status()


async def sign_up(stack: contextlib.AsyncExitStack, line: dict[str, str]) -> User:
    """A new account, with a connection of its own that is kept alive."""
    http = await stack.enter_async_context(
        httpx.AsyncClient(base_url=line["api_url"], headers={"apikey": line["anon_key"]}, timeout=30)
    )
    answer = await http.post(
        "/auth/v1/signup", json={"email": f"{uuid.uuid4().hex}@example.com", "password": uuid.uuid4().hex}
    )
    answer.raise_for_status()
    session = answer.json()
    http.headers["authorization"] = f"Bearer {session['access_token']}"
    return User(http, session["user"]["id"])
