"""Listeners on several hosts, which share nothing but what they reach over TCP: network namespaces stand for hosts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
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
    """A namespace with one cable to this one.

    The listener speaks to its own 127.0.0.1, where a forwarder stands for the TLS that a remote database asks for.
    """
    name, cable = f"faults-{os.getpid()}-{number}", f"f{os.getpid() % 10**7}x{number}"
    net = f"10.{64 + os.getpid() // 256 % 128}.{os.getpid() % 256}"
    here, there = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"
    async with contextlib.AsyncExitStack() as stack:
        ip("netns", "add", name)
        stack.callback(ip, "netns", "del", name)
        ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", f"{here}/30", "dev", cable)
        ip("link", "set", cable, "up")
        ip("-n", name, "addr", "add", f"{there}/30", "dev", "eth0")
        for device in ("eth0", "lo"):
            ip("-n", name, "link", "set", device, "up")
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
                listener.signal(signal.SIGKILL)


async def test_two_hosts_share_the_work(world, hosts):
    listeners = [await world.start(host=host.name, concurrency=1, **host.settings) for host in hosts]
    for n in range(8):
        await world.upload(await world.db.sign_up(), "plan.txt", document(topic=f"case {n}"))
    assert {(job["state"], job["attempt"]) for job in await world.all_ended()} == {("completed", 1)}
    assert all(listener.lines("job completed") for listener in listeners)
    await world.is_sound()


@pytest.mark.soak
async def test_a_host_that_is_unplugged_loses_its_job_to_another_and_comes_back(world, hosts):
    first, second = hosts
    await world.upload(await world.db.sign_up(), "plan.txt", document(2 * BATCH))
    unplugged = await world.start(host=first.name, lease_seconds=2, faults="embed.bought:freeze:2", **first.settings)
    await unplugged.logged("fault")
    first.unplug()
    unplugged.signal(signal.SIGCONT)
    other = await world.start(host=second.name, **second.settings)
    [job] = await world.all_ended()
    assert (job["state"], job["attempt"]) == ("completed", 2)
    await unplugged.logged("heartbeat failed; trying again", timeout=40)
    first.plug_in()
    await unplugged.logged("lease lost")
    other.signal(signal.SIGKILL)
    await other.end()
    await world.upload(job["owner_id"], "next.txt", document(topic="teeth"))
    assert [job["state"] for job in await world.all_ended()] == ["completed"] * 2
    assert unplugged.lines("job completed")
    await world.is_sound()
