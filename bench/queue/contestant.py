"""What the measurement asks of each queue, and what its processes say to it.

A queue is measured from outside, the same way for all. Its processes are started, connect, print `ready`, and begin
when they read `go`; they end with their standard input. A worker counts the no-op jobs that it ran and prints the
count as it grows, or prints the moment at which each began. Moments are nanoseconds of the machine's monotonic clock,
which Python and Node read alike. That a job is done, though, only the queue's own table says.
"""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

Go = Callable[[], Awaitable[None]]
"""Says `ready` and returns when the measurement says `go`."""
NoOp = Callable[[], None]

BULK = 1000
"""Jobs in one statement of a bulk enqueue."""


class Contestant:
    """One queue. The class attributes describe it; the methods run in processes of their own."""

    name: ClassVar[str]
    settings: ClassVar[str]
    """What it was told, for the table: its best documented settings."""
    database: ClassVar[str]
    """The database that it has for itself."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions that it needs; the first one's version is shown."""
    uvloop: ClassVar[bool] = False
    """Whether its own command runs on uvloop."""
    share: ClassVar[float] = 1.0
    """The part of the jobs that a slow queue drains, so that a run ends; its rate does not depend on it."""
    wakes: ClassVar[bool] = True
    """Whether its wake-ups are timed, and its enqueues: not of a variant that differs in the drain alone."""
    clear: ClassVar[str]
    """Empties its tables."""
    busy: ClassVar[str]
    """Whether any job is not acknowledged yet."""
    insert: ClassVar[str]
    """Enqueues one job; committed by whoever runs it."""

    def missing(self) -> str | None:
        """What is missing, and how to get it; None when it can be measured."""
        for package in self.packages:
            try:
                importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                return "not installed: pip install -e '.[peers]'"
        return None

    def version(self) -> str:
        """The installed version; empty for our own code."""
        return importlib.metadata.version(self.packages[0]) if self.packages else ""

    def command(self, mode: str, url: str, jobs: int) -> list[str]:
        """The process for one of the modes install, single, bulk, insert, count, stamp."""
        return [sys.executable, "-m", "bench.queue.child", type(self).__name__, mode, url, str(jobs)]

    async def install(self, url: str) -> None:
        """Make its tables."""
        raise NotImplementedError

    async def single(self, url: str, jobs: int, go: Go) -> None:
        """Enqueue one job a transaction."""
        raise NotImplementedError

    async def bulk(self, url: str, jobs: int, go: Go) -> None:
        """Enqueue BULK jobs a statement."""
        raise NotImplementedError

    async def work(self, url: str, no_op: NoOp, go: Go) -> Any:
        """Run jobs until cancelled."""
        raise NotImplementedError
