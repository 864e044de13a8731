"""A listener is killed at every point of a job's way; another one finishes, and nothing tells the difference."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pipeline import faults
from pipeline.embedded.fakes.server import Fault
from pipeline.errors import SetupError
from pipeline.settings import Settings
from tests.faults.nursery import Nursery
from tests.faults.world import BATCH, Ground, World, cloned, document

DOCUMENT = document(2 * BATCH + 20, pages=3)
"""Three batches of vectors."""
LONG_DOCUMENT = document(3000, pages=200)

ON_THE_WAY = [
    "listen.begun",
    "claim.done",
    "fetch.block",
    "fetch.done",
    "parse.claimed",
    "parse.reserved",
    "parse.uploaded",
    "parse.remembered",
    "parse.bought",
    "parse.stored",
    "chunk.done",
    "embed.claimed",
    "call.answered",
    "call.answered:3",
    "embed.bought:2",
    "embed.stored:2",
    "publish.begun",
    "publish.done",
]
IN_FLIGHT = {"parse.uploaded", "call.answered", "embed.bought"}
"""Where something is paid for and not stored yet: it is bought once more, and the ledger says so."""
ELSEWHERE = {
    "outcome.begun",
    "outcome.stored",
    "lease.renewed",
    "release.begun",
    "release.done",
    "purge.step",
    "erasure.files",
    "erasure.step",
}


@pytest_asyncio.fixture(scope="module")
async def whole(ground, nursery, tmp_path_factory) -> list[dict[str, Any]]:
    """What a run without a fault publishes."""
    return await without_a_fault(ground, nursery, tmp_path_factory.mktemp("whole"), DOCUMENT)


@pytest_asyncio.fixture(scope="module")
async def long_whole(ground, nursery, tmp_path_factory) -> list[dict[str, Any]]:
    """The same of the long document."""
    return await without_a_fault(ground, nursery, tmp_path_factory.mktemp("whole"), LONG_DOCUMENT)


async def without_a_fault(ground: Ground, nursery: Nursery, folder: Path, content: bytes) -> list[dict[str, Any]]:
    """What is published of a document."""
    async with cloned(ground) as db, World.open(db, folder, nursery) as world:
        await world.upload(await db.sign_up(), "plan.txt", content)
        async with world.listening():
            await world.all_ended()
            await world.ledger_is_right()
        return await world.chunks()


async def finished_by_another(world: World, whole: list[dict[str, Any]], *, paid_again: int = 0) -> dict[str, Any]:
    """Another listener finishes what a killed one has left, as if nothing had happened; returns the job."""
    await world.db.move_time("5 minutes")  # its lease is over
    async with world.listening():
        [job] = await world.all_ended()
        assert (job["state"], job["error"]) == ("completed", None)
        assert await world.chunks() == whole
        await world.ledger_is_right()
    assert world.bought_twice() <= paid_again
    await world.is_sound()
    return job


@pytest.mark.parametrize("point", ON_THE_WAY)
async def test_a_kill_on_the_way_loses_and_doubles_nothing(world, whole, point):
    await killed_on_the_way(world, whole, point, DOCUMENT)


@pytest.mark.parametrize("point", [pytest.param(p, marks=pytest.mark.soak) for p in ON_THE_WAY])
async def test_nor_does_one_of_three_thousand_passages_on_two_hundred_pages(world, long_whole, point):
    await killed_on_the_way(world, long_whole, point, LONG_DOCUMENT)
    if point.partition(":")[0] not in IN_FLIGHT:
        bill = world.embedder.bill
        assert (world.parser.bill.pages, bill.inputs, len(set(bill.texts))) == (200, 3000, 3000)


async def killed_on_the_way(world: World, whole: list[dict[str, Any]], point: str, content: bytes) -> None:
    """A listener that is killed there, and another one that finishes; by the services' own bills."""
    owner = await world.db.sign_up()
    await world.upload(owner, "plan.txt", content)
    point, _, passage = point.partition(":")
    listener = await world.start(faults=f"{point}:kill:{passage or 1}", ready=False)
    assert await listener.end() == -signal.SIGKILL
    assert listener.lines("fault")[-1]["point"] == point
    in_flight = point in IN_FLIGHT and (point, passage) != ("call.answered", "")  # the first call is the parse
    job = await finished_by_another(world, whole, paid_again=BATCH if in_flight else 0)
    if point != "listen.begun":  # where it may have claimed already, or not
        assert job["attempt"] == (1 if point == "publish.done" else 2)
    assert world.parser.bill.uploads == (2 if point == "parse.uploaded" else 1)
    if point == "parse.uploaded":
        lost = await world.db.one("select sum(pages) as n from pipeline.ledger where state = 'unconfirmed'")
        assert lost["n"] > 0  # nobody knows whether the first upload is billed


@pytest.mark.parametrize("point", ["outcome.begun", "outcome.stored"])
async def test_a_kill_while_a_failure_is_reported(world, whole, point):
    world.embedder.script.add(Fault(status=500, headers={"retry-after": "0.1"}))
    await world.upload(await world.db.sign_up(), "plan.txt", DOCUMENT)
    listener = await world.start(faults=f"{point}:kill", ready=False)
    assert await listener.end() == -signal.SIGKILL
    job = await finished_by_another(world, whole)
    # the queue heard of a throttled attempt, which costs nothing, or of a listener that fell silent
    assert job["failures"] == (1 if point == "outcome.begun" else 0)


async def test_a_kill_after_a_heartbeat(world, whole):
    await world.upload(await world.db.sign_up(), "plan.txt", DOCUMENT)
    listener = await world.start(faults="embed.bought:hang lease.renewed:kill", ready=False, lease_seconds=6)
    assert await listener.end() == -signal.SIGKILL
    await finished_by_another(world, whole, paid_again=BATCH)


@pytest.mark.parametrize("point", ["release.begun", "release.done"])
async def test_a_kill_while_a_listener_stops(world, whole, point):
    await world.upload(await world.db.sign_up(), "plan.txt", DOCUMENT)
    listener = await world.start(faults=f"embed.bought:hang {point}:kill", drain_seconds=0)
    await listener.logged("fault")
    listener.signal(signal.SIGTERM)
    assert await listener.end() == -signal.SIGKILL
    job = await finished_by_another(world, whole, paid_again=BATCH)
    assert job["failures"] == (1 if point == "release.begun" else 0)


async def test_a_kill_in_the_middle_of_a_purge(world):
    owner = await world.db.sign_up()
    await world.upload(owner, "plan.txt", document(1100))
    async with world.listening():
        await world.all_ended()
    await world.db.delete(owner, "plan.txt")
    assert await world.chunks() == []
    listener = await world.start(faults="purge.step:kill", ready=False)
    assert await listener.end() == -signal.SIGKILL
    assert (await world.db.one("select count(*) as n from pipeline.chunks"))["n"] > 0
    async with world.listening():
        await world.until("select from pipeline.documents where purged_at is not null")
    for table in ("chunks", "embeddings", "embedding_purchases", "parses"):
        assert await world.db.all(f"select from pipeline.{table}") == []


@pytest.mark.parametrize("point", ["erasure.files", "erasure.step"])
async def test_a_kill_in_the_middle_of_an_erasure(world, point):
    owner = await world.db.sign_up()
    for name in ("plan.txt", "other.txt"):
        await world.upload(owner, name, document(60, topic=name))
    async with world.listening():
        await world.all_ended()
    await world.db.run("delete from auth.users where id = %s", owner)
    listener = await world.start(faults=f"{point}:kill", ready=False)
    assert await listener.end() == -signal.SIGKILL
    await world.db.move_time("2 minutes")  # its lease is over
    async with world.listening():
        await world.until("select from pipeline.erasures where emptied_at is not null")
        await world.db.move_time("15 minutes")
        receipt = await world.until("select * from pipeline.receipts where completed_at is not null")
    assert (receipt["files"], receipt["documents"], receipt["passages"]) == (2, 2, 120)
    assert world.store.files == {}
    for table in ("documents", "jobs", "chunks", "embeddings", "embedding_purchases", "parses"):
        assert await world.db.all(f"select from pipeline.{table}") == []


@pytest.mark.parametrize("point", ["fetch.done", "parse.bought", "embed.bought", "publish.begun"])
async def test_an_error_of_ours_costs_one_failure_and_tells_nobody_what_it_was(world, point):
    await world.upload(await world.db.sign_up(), "plan.txt", document())
    listener = await world.start(faults=f"{point}:raise")
    [job] = await world.all_ended()
    assert (job["state"], job["failures"], job["attempt"]) == ("completed", 1, 2)
    [failed] = listener.lines("job failed")
    assert failed["class"] == "transient" and "RuntimeError" in failed["detail"]
    assert "fault" not in failed["error"]
    await world.is_sound()


def test_every_point_is_tried():
    assert {point.partition(":")[0] for point in ON_THE_WAY} | ELSEWHERE == set(faults.POINTS)


@pytest.mark.parametrize("wrong", ["embed.store:kill", "embed.stored", "embed.stored:kil", "embed.stored:kill:x"])
def test_what_is_no_fault_is_refused(monkeypatch, wrong):
    monkeypatch.setenv(faults.VARIABLE, wrong)
    with pytest.raises(SetupError, match="is not point:action"):
        faults.arm("development")


def test_faults_are_refused_in_production(monkeypatch):
    monkeypatch.setenv(faults.VARIABLE, "embed.stored:kill")
    with pytest.raises(SetupError, match="production"):
        faults.arm(Settings(_env_file=None, environment="production").environment)  # type: ignore[call-arg]
