"""Forks listeners from a process that has imported everything: one starts in tenths of a second instead of seconds.

What runs in the child is `pipeline listen`, in its own folder, environment and log. The other end is `Nursery`. Orders
come as JSON lines on standard input, pids and ends leave as JSON lines on standard output; when the input ends, so do
the children.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parents[2]
_PRELOADED = (
    "cli.listen",
    "pipeline.app",
    "pipeline.providers.openai",
    "pipeline.providers.llamaparse",
    "pipeline.local.parser",
)


class Listener:
    """A listener process."""

    def __init__(self, pid: int, log: Path) -> None:
        self.pid = pid
        self.log = log
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def signal(self, number: int) -> None:
        """Does nothing when it has ended."""
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self, timeout: float = 60) -> int:
        """Wait for its end; the exit code, or minus the signal."""
        return await asyncio.wait_for(asyncio.shield(self.ended), timeout)

    def lines(self, event: str | None = None) -> list[dict[str, Any]]:
        """What it has logged; a line that a kill has cut off is left out."""
        found = []
        for line in self.log.read_text(errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                if event is None or entry.get("event") == event:
                    found.append(entry)
        return found

    async def logged(self, event: str, timeout: float = 60, count: int = 1) -> dict[str, Any]:
        """Wait until it has logged an event so often."""
        deadline = time.monotonic() + timeout
        while len(found := self.lines(event)) < count:
            assert time.monotonic() < deadline and not self.ended.done(), f"no {event!r} in:\n{self.log.read_text()}"
            await asyncio.sleep(0.02)
        return found[-1]


class Nursery:
    """The test's end."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._children: dict[int, Listener] = {}
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._birth = asyncio.Lock()
        self._count = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator[Nursery]:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.faults.nursery",
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        nursery = cls(process)
        reading = asyncio.create_task(nursery._read())
        try:
            yield nursery
        finally:
            assert process.stdin is not None
            process.stdin.close()
            await process.wait()
            await reading

    async def start(self, folder: Path, environment: dict[str, str], host: str | None = None) -> Listener:
        """A listener in `folder` and, if given, in a network namespace; it may still be on its way to listening."""
        assert self._process.stdin is not None
        self._count += 1
        log = folder / f"listener-{self._count}.log"
        log.touch(mode=0o600)
        order = {"folder": str(folder), "log": str(log), "environment": environment, "host": host}
        async with self._birth:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            pid = await asyncio.wait_for(self._born.get(), 60)
            return self._children[pid]

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if "log" in told:
                self._children[told["pid"]] = Listener(told["pid"], Path(told["log"]))
                self._born.put_nowait(told["pid"])
            else:
                self._children.pop(told["pid"]).ended.set_result(told["code"])


def _listen(order: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if order["host"] is not None:
            with open(f"/run/netns/{order['host']}") as namespace:
                assert ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) == 0, ctypes.get_errno()
        os.chdir(order["folder"])
        log = os.open(order["log"], os.O_WRONLY | os.O_APPEND)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for descriptor, source in ((0, nothing), (1, log), (2, log)):
            os.dup2(source, descriptor)
        os.environ.update(order["environment"])
        tempfile.tempdir = None  # where the environment says, not where this process looked before
        from cli.main import app

        app(["listen"])
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _tell(**what: Any) -> None:
    os.write(1, json.dumps(what).encode() + b"\n")


def main() -> None:
    for name in [name for name in os.environ if name.startswith(("UPLOAD_PIPELINE_", "PIPELINE_"))]:
        del os.environ[name]
    for module in _PRELOADED:
        importlib.import_module(module)
    children: set[int] = set()

    def reap(*_: object) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            children.discard(pid)
            _tell(pid=pid, code=os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    for line in sys.stdin:
        order = json.loads(line)
        # a child that ends at once must not be told of before its birth
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
            _listen(order)
        children.add(pid)
        _tell(pid=pid, log=order["log"])
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
