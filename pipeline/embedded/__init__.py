"""A Supabase without Docker: a real Postgres from a wheel, and a gateway that speaks what the SDKs need.

For development, demos and tests. What listens on 127.0.0.1 here behaves as a hosted project does where the pipeline can
tell, and refuses by name what it does not support. Nothing that runs in production imports this package.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from pipeline.embedded.gateway.tokens import Algorithm, Keys
from pipeline.embedded.postgres import SUPERUSER, PostgresServer
from pipeline.errors import SetupError

__all__ = ["EmbeddedSupabase"]


@dataclass(frozen=True, slots=True)
class EmbeddedSupabase:
    """A running project: where it is and its keys."""

    api_url: str
    anon_key: str
    service_role_key: str
    publishable_key: str
    secret_key: str
    jwt_secret: str
    keys: Keys
    postgres: PostgresServer

    @property
    def db_url(self) -> str:
        """As `postgres`, who is no superuser."""
        return self.postgres.url("postgres")

    @property
    def superuser_url(self) -> str:
        """As the real superuser, whom a hosted project gives to nobody; for tests."""
        return self.postgres.url(SUPERUSER)

    def url_as(self, role: str, password: str | None = None) -> str:
        return self.postgres.url(role, password=password)

    @classmethod
    @contextlib.asynccontextmanager
    async def start(
        cls,
        data_dir: Path | None = None,
        *,
        port: int | None = None,
        bare: bool = False,
        signing: Algorithm = "HS256",
    ) -> AsyncIterator[EmbeddedSupabase]:
        """Start a project, in `data_dir` or in a temporary folder that is removed at the end.

        `bare` leaves the gateway out. Migrations are not applied. Raises SetupError when the port is taken or the
        folder cannot be used.
        """
        temporary = data_dir is None
        folder = Path(tempfile.mkdtemp(prefix="pipeline-")) if data_dir is None else data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if temporary:
                # Started by root, Postgres is another user, who must be able to pass.
                folder.chmod(0o711)
            postgres = await PostgresServer.start(folder / "database")
            try:
                keys = Keys.load(folder / "keys.json", signing)
                async with contextlib.AsyncExitStack() as stack:
                    url = "" if bare else await stack.enter_async_context(_gateway(postgres, keys, folder, port))
                    yield cls(
                        url,
                        keys.anon,
                        keys.service_role,
                        keys.publishable,
                        keys.secret,
                        keys.jwt_secret,
                        keys,
                        postgres,
                    )
            finally:
                await postgres.stop()
        finally:
            if temporary:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class _Server(uvicorn.Server):
    """A server in somebody else's process: signals are its host's business."""

    @contextlib.contextmanager
    def capture_signals(self):
        yield


@contextlib.asynccontextmanager
async def _gateway(postgres: PostgresServer, keys: Keys, folder: Path, port: int | None) -> AsyncIterator[str]:
    from pipeline.embedded.gateway.app import create_app

    # named as TCP, or asyncio does not turn Nagle's algorithm off, and each answer waits 40 ms for an acknowledgement
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port or 0))
    except OSError:
        listening.close()
        raise SetupError(f"port {port} on 127.0.0.1 is taken; choose another one") from None
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = create_app(postgres, keys, folder / "blobs", [url])
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", ws_max_size=4_000_000)
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="gateway")
    try:
        while not server.started:
            if serving.done():
                serving.result()
                raise SetupError("the gateway did not start")
            await asyncio.sleep(0.005)
        yield url
    finally:
        server.should_exit = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(serving), timeout=5)
        server.force_exit = True
        await serving
        listening.close()
