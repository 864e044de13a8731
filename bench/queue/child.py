"""A process of one queue under measurement: `python -m bench.queue.child CONTESTANT MODE URL JOBS`."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time

import psycopg

from bench.queue.contestant import Contestant
from bench.queue.contestants import by_class
from pipeline.app import event_loop

_TELL_SECONDS = 0.005


class Work:
    """The no-op, and what the process says about it."""

    def __init__(self, stamp: bool) -> None:
        self.count = 0
        self.run = self._stamp if stamp else self._count
        if not stamp:
            threading.Thread(target=self._tell, daemon=True).start()

    def _stamp(self) -> None:
        say(time.monotonic_ns())

    def _count(self) -> None:
        self.count += 1

    def _tell(self) -> None:
        told = 0
        while True:
            time.sleep(_TELL_SECONDS)
            if self.count != told:
                told = self.count
                say(told)


def say(what: object) -> None:
    os.write(1, f"{what}\n".encode())


async def run(contestant: Contestant, mode: str, url: str, jobs: int) -> None:
    """Do what the mode says; `ready` and `go` in between."""
    going = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for _ in sys.stdin:
            loop.call_soon_threadsafe(going.set)
        os._exit(0)  # whoever measures is done with us

    async def go() -> None:
        threading.Thread(target=listen, daemon=True).start()
        say("ready")
        await going.wait()

    if mode == "install":
        await contestant.install(url)
    elif mode in ("single", "bulk"):
        began = 0

        async def timed() -> None:
            nonlocal began
            await go()
            began = time.monotonic_ns()

        await getattr(contestant, mode)(url, jobs, timed)
        say(time.monotonic_ns() - began)
    else:
        await contestant.work(url, Work(stamp=mode == "stamp").run, go)


def insert(contestant: Contestant, url: str) -> None:
    """Enqueue a job for each line that is read, and say when its commit was sent."""
    with psycopg.connect(url) as connection:
        say("ready")
        sys.stdin.readline()
        for _ in sys.stdin:
            connection.execute(contestant.insert.encode())
            sent = time.monotonic_ns()
            connection.commit()
            say(sent)


def main() -> None:
    name, mode, url, jobs = sys.argv[1:]
    logging.disable(logging.INFO)
    contestant = by_class(name)
    if mode == "insert":
        insert(contestant, url)
        return
    with asyncio.Runner(loop_factory=event_loop if contestant.uvloop else None) as runner:
        runner.run(run(contestant, mode, url, int(jobs)))


if __name__ == "__main__":
    main()
