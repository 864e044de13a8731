"""The processes of a queue, started, heard and counted from outside; and the server that they all work on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg

from bench import common
from bench.queue.contestant import Contestant
from pipeline.embedded.postgres import SUPERUSER, PostgresServer
from pipeline.operate import migrate

PATIENCE = 300.0
_PASSWORD = "bench"
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class Child:
    """One process: its count, or the moments that it printed."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.ready = asyncio.Event()
        self.last = 0
        self.told: asyncio.Queue[int] = asyncio.Queue()
        self.grew = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            if line == b"ready\n":
                self.ready.set()
            else:
                self.last = int(line)
                self.told.put_nowait(self.last)
            self.grew.set()
        self.ready.set()
        self.grew.set()

    def say(self, line: str) -> None:
        """Write a line to it."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())

    def check(self) -> None:
        """Raises RuntimeError when it has ended by itself."""
        if self.process.returncode is not None:
            raise RuntimeError(f"a process under measurement ended with {self.process.returncode}")

    async def answer(self) -> int:
        """What it prints next."""
        async with asyncio.timeout(PATIENCE):
            waiting = asyncio.create_task(self.told.get())
            await asyncio.wait({waiting, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                waiting.cancel()
                raise RuntimeError("a process under measurement ended early")
            return waiting.result()

    async def close(self) -> None:
        """End its standard input, and it when it does not follow."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        self._reading.cancel()


class Server:
    """The embedded Postgres with a database for each queue."""

    def __init__(self, postgres: PostgresServer, admin: psycopg.AsyncConnection) -> None:
        self._postgres = postgres
        self.admin = admin
        self._databases: dict[str, psycopg.AsyncConnection] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def start(cls, folder: Path) -> AsyncIterator[Server]:
        postgres = await PostgresServer.start(folder / "data")
        try:
            await migrate.apply(postgres.url("postgres"), worker_password=_PASSWORD)
            async with await _connect(postgres.url(SUPERUSER)) as admin:
                server = cls(postgres, admin)
                try:
                    yield server
                finally:
                    for connection in server._databases.values():
                        await connection.close()
        finally:
            await postgres.stop()

    async def install(self, contestant: Contestant) -> None:
        """Make its database and its tables."""
        if contestant.database not in self._databases:
            if contestant.database != "postgres":
                await self.admin.execute(f"create database {contestant.database}".encode())
            self._databases[contestant.database] = await _connect(self._postgres.url(SUPERUSER, contestant.database))
            async with self.child(contestant, "install") as child:
                async with asyncio.timeout(PATIENCE):
                    if await child.process.wait() != 0:
                        raise RuntimeError(f"{contestant.name} could not be installed")

    def database(self, contestant: Contestant) -> psycopg.AsyncConnection:
        """A connection of whoever measures; its statements are not counted."""
        return self._databases[contestant.database]

    @contextlib.asynccontextmanager
    async def child(self, contestant: Contestant, mode: str, jobs: int = 0) -> AsyncIterator[Child]:
        """One process in this mode."""
        if contestant.database == "postgres" and mode in ("count", "stamp"):
            url = self._postgres.url("pipeline_worker", password=_PASSWORD)
        else:
            url = self._postgres.url(SUPERUSER, contestant.database)
        process = await asyncio.create_subprocess_exec(
            *contestant.command(mode, url, jobs),
            cwd=common.ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(common.ROOT)},
        )
        child = Child(process)
        try:
            if mode != "install":
                async with asyncio.timeout(PATIENCE):
                    await child.ready.wait()
                child.check()
            yield child
        finally:
            await child.close()

    @contextlib.asynccontextmanager
    async def children(self, contestant: Contestant, mode: str, count: int) -> AsyncIterator[list[Child]]:
        """So many processes, all of them ready."""
        async with contextlib.AsyncExitStack() as stack:
            waiting = [stack.enter_async_context(self.child(contestant, mode)) for _ in range(count)]
            yield [await one for one in waiting]

    async def quiet(self, contestant: Contestant) -> None:
        """Wait until what ended processes have asked for is over."""
        left = (
            "select from pg_stat_activity where datname = current_database() and backend_type = 'client backend' "
            "and state <> 'idle' and pid <> pg_backend_pid()"
        )
        async with asyncio.timeout(PATIENCE):
            while await (await self.database(contestant).execute(left)).fetchone() is not None:
                await asyncio.sleep(0.01)

    async def busy(self, contestant: Contestant) -> bool:
        """Whether a job is not acknowledged yet."""
        row = await (await self.database(contestant).execute(contestant.busy.encode())).fetchone()
        assert row is not None
        return row[0]

    async def statements(self) -> int:
        """How many statements clients have sent since the server began."""
        row = await (
            await self.admin.execute("select coalesce(sum(calls), 0)::bigint from extensions.pg_stat_statements")
        ).fetchone()
        assert row is not None
        return row[0]

    def cpu_seconds(self, children: list[Child]) -> float | None:
        """Processor time of the server with all its backends, and of these processes; None where /proc is missing."""
        if not sys.platform.startswith("linux"):
            return None
        ticks = 0
        for pid in _tree(self._postgres.pid) + [child.process.pid for child in children]:
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12])
                if pid == self._postgres.pid:  # backends that have ended
                    ticks += int(fields[13]) + int(fields[14])
        return ticks / _TICK

    async def durable(self, on: bool) -> None:
        """fsync and synchronous_commit, for everybody."""
        for setting in ("fsync", "synchronous_commit"):
            await self.admin.execute(f"alter system set {setting} = {'on' if on else 'off'}".encode())
        await self.admin.execute("select pg_reload_conf()")
        while True:  # a new connection sees what the postmaster has read
            async with await _connect(self._postgres.url(SUPERUSER)) as probe:
                row: Any = await (await probe.execute("show synchronous_commit")).fetchone()
                if row[0] == ("on" if on else "off"):
                    return


def _tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


async def _connect(url: str) -> psycopg.AsyncConnection:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    await connection.execute("set pg_stat_statements.track = 'none'")
    await connection.execute("set statement_timeout = 0")
    return connection
