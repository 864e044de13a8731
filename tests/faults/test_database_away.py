"""The database crashes, restarts, stays away, or is behind a connection that leads nowhere."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Any

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.faults.proxy import Proxy
from tests.faults.world import BATCH, World, document, reconnect


async def embedding(world: World) -> None:
    """A job is being embedded."""
    await world.until("select from pipeline.jobs where state = 'running' and stage = 'embed'")


async def published_whole(world: World, files: int) -> None:
    jobs = await world.all_ended()
    assert [job["state"] for job in jobs] == ["completed"] * files
    per_file = len(await world.chunks()) / files
    assert per_file == int(per_file) > 0
    await world.is_sound()


async def test_a_crash_of_the_database_in_the_middle_of_a_job(ground, world):
    owner = await world.db.sign_up()
    await world.upload(owner, "plan.txt", document(2 * BATCH, pages=3))
    listener = await world.start(faults="embed.bought:freeze:2", lease_seconds=3)
    await listener.logged("fault")
    await ground.crash()
    listener.signal(signal.SIGCONT)
    await listener.logged("listen connection lost")
    await ground.start()
    back = time.monotonic()
    await reconnect(world.db)
    await published_whole(world, 1)
    assert time.monotonic() - back < 60
    await world.upload(owner, "next.txt", document(topic="teeth"))
    await world.all_ended()
    assert not listener.ended.done()
    # the batch that was in hand when the database went is the only one that is paid for again
    assert world.bought_twice() <= BATCH
    assert world.parser.bill.uploads == 2


@pytest.mark.parametrize("seconds", [0, pytest.param(60, marks=pytest.mark.soak)])
async def test_a_database_that_is_away_for_a_while_costs_no_file_a_failure(ground, world, seconds):
    """The listener stays, complains, and goes on within seconds of the database's return."""
    owner = await world.db.sign_up()
    listener = await world.start()
    await ground.crash()
    await listener.logged("listen connection lost")
    await asyncio.sleep(seconds)
    assert not listener.ended.done()
    await ground.start()
    await reconnect(world.db)
    back = time.monotonic()
    await world.upload(owner, "plan.txt", document())
    [job] = await world.all_ended()
    assert (job["state"], job["failures"], job["attempt"]) == ("completed", 0, 1)
    assert time.monotonic() - back < 20


@pytest.fixture
async def proxy(world: World):
    """What stands between the listener and its database."""
    address = conninfo_to_dict(world.settings["database_url"])
    async with Proxy((str(address["host"]), int(str(address["port"])))).serve() as proxy:
        world.settings["database_url"] = world.settings["database_url"].replace(
            f":{address['port']}/", f":{proxy.port}/"
        )
        yield proxy


async def test_connections_that_are_cut_at_rest(world, proxy):
    """The poll is rare: what was missed is caught when the listener hears again.

    Only a claim whose answer is cut off on its way needs the poll, once the lease is over that nobody knows of.
    """
    owner = await world.db.sign_up()
    listener = await world.start(poll_seconds=30, lease_seconds=5)
    heard: dict[str, Any] = {"backend_start": "-infinity"}
    for n in range(3):
        heard = await world.until(
            "select backend_start from pg_stat_activity where datname = current_database() "
            "and application_name = 'pipeline listen' and state = 'idle' and backend_start > %s",
            heard["backend_start"],
        )
        proxy.cut()
        await world.upload(owner, f"{n}.txt", document(topic=f"case {n}"))
        await listener.logged("listen connection lost", count=n + 1)
        await published_whole(world, n + 1)


async def test_connections_that_are_cut_at_work(world, proxy):
    await world.upload(await world.db.sign_up(), "plan.txt", document(2 * BATCH))
    listener = await world.start(faults="embed.bought:freeze:2", lease_seconds=3)
    await listener.logged("fault")
    proxy.refuse()
    listener.signal(signal.SIGCONT)
    await listener.logged("listen connection lost")
    proxy.refuse(False)
    await published_whole(world, 1)
    assert world.bought_twice() <= BATCH


async def test_a_half_open_listen_connection_is_noticed(world, proxy):
    """Nothing closes: it is the silence that tells. What was missed meanwhile is caught up."""
    owner = await world.db.sign_up()
    listener = await world.start(poll_seconds=30, lease_seconds=4)
    proxy.stall()
    await world.upload(owner, "plan.txt", document())
    await listener.logged("listen connection lost", timeout=40)
    proxy.cut()
    proxy.resume()
    await published_whole(world, 1)


@pytest.mark.soak
async def test_half_open_connections_of_a_working_listener_are_noticed(world, proxy):
    """Another listener, which reaches the database, takes the job over; the first one goes on when it can."""
    owner = await world.db.sign_up()
    await world.upload(owner, "plan.txt", document(2 * BATCH))
    cut_off = await world.start(faults="embed.bought:freeze:2", lease_seconds=2)
    await cut_off.logged("fault")
    proxy.stall()
    cut_off.signal(signal.SIGCONT)
    direct = world.settings["database_url"].replace(f":{proxy.port}/", f":{world.db.server.port}/")
    async with world.listening(database_url=direct):
        await published_whole(world, 1)
    assert world.bought_twice() <= BATCH
    await cut_off.logged("heartbeat failed; trying again", timeout=40)
    proxy.cut()
    proxy.resume()
    await world.upload(owner, "next.txt", document(2 * BATCH, topic="teeth"))
    await published_whole(world, 2)
    assert not cut_off.ended.done()


@pytest.mark.soak
async def test_a_heartbeat_on_a_connection_that_leads_nowhere_costs_no_lease(world, proxy):
    await world.upload(await world.db.sign_up(), "plan.txt", document())
    listener = await world.start(faults="embed.bought:hang", lease_seconds=45)
    await listener.logged("fault")
    before = await world.db.one("select * from pipeline.jobs")
    proxy.forget()
    job = await world.until(
        "select * from pipeline.jobs where lease_expires_at > %s::timestamptz + interval '16 seconds' or attempt > 1",
        before["lease_expires_at"],
    )
    assert (job["state"], job["attempt"], job["failures"]) == ("running", 1, 0)
    listener.signal(signal.SIGKILL)
    await listener.end()
    await world.db.move_time("5 minutes")
    async with world.listening():
        await published_whole(world, 1)
