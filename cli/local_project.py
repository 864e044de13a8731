"""A whole project on this machine: the embedded Supabase, migrated, with the local model's space active."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.embedded import EmbeddedSupabase
from pipeline.operate import migrate
from pipeline.settings import PREFIX, Settings, load

SPACE = "all-MiniLM-L6-v2-int8-384"
LOCAL = {"parser": "local", "embedder": "local"}
"""Settings of a listener that needs neither keys nor network; SPACE is what it writes."""


@dataclass(frozen=True, slots=True)
class Local:
    """Where the project is, and its keys. They are of this machine alone and reach no further than 127.0.0.1."""

    api_url: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    jwt_secret: str
    db_url: str
    worker_db_url: str

    def environment(self, providers: Mapping[str, str] = LOCAL) -> dict[str, str]:
        """The settings with which a listener, or any other command, works on this project."""
        named = {f"{PREFIX}{name.upper()}": value for name, value in providers.items()}
        return named | {
            "UPLOAD_PIPELINE_SUPABASE_URL": self.api_url,
            "UPLOAD_PIPELINE_SUPABASE_ANON_KEY": self.anon_key,
            "UPLOAD_PIPELINE_SUPABASE_SERVICE_ROLE_KEY": self.service_role_key,
            "UPLOAD_PIPELINE_JWT_SECRET": self.jwt_secret,
            "UPLOAD_PIPELINE_DATABASE_URL": self.worker_db_url,
            "UPLOAD_PIPELINE_MIGRATION_DATABASE_URL": self.db_url,
        }

    def settings(self, providers: Mapping[str, str] = LOCAL) -> Settings:
        """The same for a listener in this process; its limits, concurrency and OCR come from the environment."""
        return load(
            supabase_url=self.api_url,
            supabase_anon_key=self.anon_key,
            supabase_service_role_key=self.service_role_key,
            jwt_secret=self.jwt_secret,
            database_url=self.worker_db_url,
            migration_database_url=self.db_url,
            worker_password="",
            **providers,
        )


@contextlib.asynccontextmanager
async def local_project(
    data_dir: Path | None = None, *, port: int | None = None, space: str = SPACE
) -> AsyncIterator[Local]:
    """Start it and stop it; search reads `space`.

    Without a folder it is temporary; with one, port and passwords stay where they can.
    """
    if data_dir is not None and not data_dir.exists():
        # What a developer uploads is nobody else's business; started by root, Postgres is another user, who must pass.
        data_dir.mkdir(parents=True, mode=0o711 if _root() else 0o700)
    kept = _recall(data_dir)
    password = str(kept.get("worker_password") or secrets.token_urlsafe(24))
    if port is None and isinstance(old := kept.get("port"), int) and _free(old):
        port = old
    async with EmbeddedSupabase.start(data_dir, port=port) as project:
        await migrate.apply(project.db_url, worker_password=password, activate_space=space)
        if data_dir is not None:
            _remember(data_dir, {"port": int(project.api_url.rpartition(":")[2]), "worker_password": password})
        yield Local(
            api_url=project.api_url,
            anon_key=project.anon_key,
            service_role_key=project.service_role_key,
            publishable_key=project.publishable_key,
            secret_key=project.secret_key,
            jwt_secret=project.jwt_secret,
            db_url=project.db_url,
            worker_db_url=project.url_as("pipeline_worker", password),
        )


@contextlib.asynccontextmanager
async def listener(settings: Settings, stop: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    """A listener in this process, from when it is about to claim until `stop`; raises what it raises."""
    from pipeline.app import run_listener

    ready = asyncio.Event()
    task = asyncio.create_task(run_listener(settings, stop=stop, ready=ready.set), name="listener")
    waiting = asyncio.create_task(ready.wait())
    try:
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        yield task
    finally:
        waiting.cancel()
        stop.set()
        await task


def _root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def _state(data_dir: Path) -> Path:
    return data_dir / "dev.json"


def _recall(data_dir: Path | None) -> dict[str, object]:
    try:
        return json.loads(_state(data_dir).read_text()) if data_dir else {}
    except (OSError, ValueError):
        return {}


def _remember(data_dir: Path, state: dict[str, object]) -> None:
    with os.fdopen(os.open(_state(data_dir), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(state, file)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
