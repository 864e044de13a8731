"""Listeners on several hosts, which share nothing but what they reach over TCP: network namespaces stand for hosts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.faults.nursery import ROOT
from tests.faults.proxy import Proxy
from tests.faults.world import BATCH, World, document


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


@dataclass(frozen=True)
class Host:
    name: str
    cable: str
    settings: dict[str, str]
    """Where it finds the database and the services."""

    def unplug(self) -> None:
        """Packets vanish; no connection is closed."""
        ip("link", "set", self.cable, "down")

    def plug_in(self) -> None:
        ip("link", "set", self.cable, "up")


@contextlib.asynccontextmanager
async def host(world: World, number: int) -> AsyncIterator[Host]:
    """A namespace with one cable to this one. The listener speaks to its own 127.0.0.1, where a forwarder stands for the
    TLS that a remote database asks for."""
    name, cable = f"faults-{os.getpid()}-{number}", f"f{os.getpid() % 10**7}x{number}"
    net = f"10.{64 + os.getpid() // 256 % 128}.{os.getpid() % 256}"
    here, there = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"
    async with contextlib.AsyncExitStack() as stack:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "del", name)
        ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{here}/30", "dev", cable)
        ip("link", "set", cable, "up")
        for command in (
            ("addr", "add", f"{there}/30", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
            ("link", "set", "lo", "up"),
        ):
            ip("-n", name, *command)
        settings = {}
        for key in ("supabase_url", "llamaparse_base_url", "openai_base_url", "database_url"):
            url = urlsplit(str(world.settings[key]))
            assert url.hostname is not None and url.port is not None
            bridge = await stack.enter_async_context(Proxy((url.hostname, url.port), here).serve())
            reached = f"{here}:{bridge.port}"
            if key == "database_url":
                forwarder = await asyncio.create_subprocess_exec(
                    *("ip", "netns", "exec", name, sys.executable, "-m", "tests.faults.proxy", "127.0.0.1:0", reached),
                    cwd=ROOT,
                    stdout=asyncio.subprocess.PIPE,
                )
                stack.push_async_callback(forwarder.wait)
                stack.callback(forwarder.kill)
                assert forwarder.stdout is not None
                reached = f"127.0.0.1:{(await forwarder.stdout.readline()).decode().strip()}"
            settings[key] = str(world.settings[key]).replace(f"{url.hostname}:{url.port}", reached)
        yield Host(name, cable, settings)


@pytest.fixture
async def hosts(world: World) -> AsyncIterator[list[Host]]:
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("Several hosts are not tested: network namespaces need Linux, root and iproute2.")
    async with contextlib.AsyncExitStack() as stack:
        try:
            yield [await stack.enter_async_context(host(world, number)) for number in range(2)]
        except OSError as error:
            pytest.skip(f"Several hosts are not tested: {error}")
        finally:
            for listener in world.listeners:
                listener.signal(9)


async def test_two_hosts_share_the_work_and_one_that_is_unplugged_loses_it(world, hosts):
    first, second = hosts
    a = await world.start(host=first.name, concurrency=1, **first.settings)
    b = await world.start(host=second.name, concurrency=1, **second.settings)
    for n in range(8):
        await world.upload(await world.db.sign_up(), "plan.txt", document(topic=f"case {n}"))
    jobs = await world.all_ended()
    assert {(job["state"], job["attempt"]) for job in jobs} == {("completed", 1)}
    assert all(listener.lines("job completed") for listener in (a, b))
    b.signal(9)
    await b.end()

    owner = await world.db.sign_up()
    cut_off = await world.start(host=second.name, lease_seconds=2, faults="embed.bought:freeze:2", **second.settings)
    a.signal(9)
    await a.end()
    await world.upload(owner, "long.txt", document(2 * BATCH))
    await cut_off.logged("fault")
    second.unplug()
    cut_off.signal(18)
    await world.start(host=first.name, **first.settings)
    job = (await world.all_ended())[-1]
    assert (job["state"], job["attempt"]) == ("completed", 2)
    await cut_off.logged("heartbeat failed; trying again", timeout=40)
    second.plug_in()
    await cut_off.logged("lease lost")
    assert not cut_off.ended.done()
    await world.is_sound()
