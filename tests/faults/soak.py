"""Many jobs while listeners are killed, stopped and frozen and the database crashes, at the moments that a seed gives.

    python -m tests.faults.soak --jobs 10000 --seed 1 2    prints its report as Markdown

A supervisor starts a listener again when it has ended, as systemd or Kubernetes would; nothing else is ever mended.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from pipeline.embedded.fakes.openai import vector
from tests.faults.nursery import Listener, Nursery
from tests.faults.world import DIMENSIONS, MOST_RUNNING, Ground, World, cloned, reconnect


@dataclass(frozen=True)
class Plan:
    """Times are in seconds."""

    jobs: int
    seed: int
    owners: int = 50
    listeners: int = 2
    concurrency: int = 8
    lease: float = 5
    calm: tuple[float, float] = (0.3, 2.5)
    """How long nothing happens between two faults."""
    away: tuple[float, float] = (0, 5)
    """How long the database stays away."""


@dataclass
class Report:
    """What is counted once every job has ended. Everything but the faults comes from the database and the logs."""

    plan: Plan
    faults: dict[str, int] = field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    seconds: float = 0.0
    completed: int = 0
    dead: int = 0
    lost: int = 0
    published_twice: int = 0
    wrong_text: int = 0
    violations: int = 0
    stale_writes: int = 0
    stale_refused: int = 0
    most_running: int = 0
    attempts: int = 0
    bought_twice: int = 0
    again: str = ""
    why_dead: str = ""
    recoveries: list[float] = field(default_factory=list)
    """After each fault, until the next job was completed."""

    def rows(self) -> dict[str, object]:
        """What a reader wants to know, by what it is called."""
        share = 100 / self.plan.jobs
        return {
            "jobs, owners, listeners": f"{self.plan.jobs:,}, {self.plan.owners}, {self.plan.listeners}",
            **{FAULTS[kind]: count for kind, count in self.faults.items()},
            "duration": f"{self.seconds / 60:.1f} min",
            "jobs lost": self.lost,
            "versions published twice": self.published_twice,
            "documents with a wrong text or vector": self.wrong_text,
            "rows in `invariant_violations`": self.violations,
            "writes of stale attempts that took effect": self.stale_writes,
            "stale attempts that were told so": self.stale_refused,
            "most jobs of one owner at once (limit 2)": self.most_running,
            "attempts": f"{self.attempts:,}",
            "attempts without a result": self.again,
            "why jobs died": self.why_dead or "-",
            "inputs paid for twice (in flight when a listener died)": self.bought_twice,
            "success (floor: over 95 %)": f"{self.completed * share:.2f} %",
            "errors (floor: under 1 %)": f"{self.dead * share:.2f} %",
            "from a fault to the next completed job, median": f"{statistics.median(self.recoveries or [0]):.1f} s",
            "the same, longest (floor: under 5 min)": f"{max(self.recoveries, default=0):.1f} s",
        }


def markdown(*reports: Report) -> str:
    """A table with a column for each seed."""
    columns = [report.rows() for report in reports]
    lines = [["seed", *(str(report.plan.seed) for report in reports)], ["---"] * (1 + len(reports))]
    lines += [[name, *(str(column[name]) for column in columns)] for name in columns[0]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


FAULTS = {
    "kill": "kills of a listener",
    "stop": "stops by SIGTERM",
    "freeze": "freezes past the lease",
    "crash": "crashes of Postgres",
}
_WEIGHTS = (6, 2, 2, 1)

_ENQUEUE = """
insert into storage.objects (bucket_id, name, owner_id, version, metadata)
select 'documents', f.name, split_part(f.name, '/', 1), gen_random_uuid(), jsonb_build_object('size', f.size)
  from unnest(%s::text[], %s::integer[]) f (name, size)
"""
_COUNTS = """
select count(*) filter (where j.state = 'completed') as completed,
       count(*) filter (where j.state = 'dead') as dead,
       sum(j.attempt) as attempts
  from pipeline.jobs j
"""
_AGAIN = """
select string_agg(why || ': ' || n, ', ' order by n desc) as told
  from (select coalesce(e.error_class, 'given back') as why, count(*) as n
          from pipeline.job_events e
         where e.from_state = 'running' and e.to_state in ('available', 'dead')
         group by 1) w
"""
_WHY_DEAD = """
select string_agg(why, '; ') as told
  from (select string_agg(e.error_class, ', ' order by e.id) as why
          from pipeline.jobs j join pipeline.job_events e on e.job_id = j.id
         where j.state = 'dead' and e.error_class is not null
         group by j.id) d
"""
_WRONG_TEXT = """
select d.name
  from pipeline.jobs j
  join pipeline.documents d on d.id = j.document_id
 where j.state = 'completed'
   and (select array_agg(c.content) from pipeline.chunks c where c.document_id = d.id)
       is distinct from array['This is the file ' || d.name || '.']
"""
_PUBLISHED_TWICE = """
select count(*) as n
  from (select from pipeline.job_events where to_state = 'completed' group by job_id having count(*) > 1) s
"""


def text_of(name: str) -> str:
    return f"This is the file {name}."


class Soak:
    """One run on a world of its own."""

    def __init__(self, plan: Plan, ground: Ground, world: World) -> None:
        self.plan = plan
        self.report = Report(plan)
        self._ground = ground
        self._world = world
        self._dice = random.Random(plan.seed)
        self._listeners: list[Listener] = []
        self._faults_at: list[float] = []

    async def run(self, patience: float) -> Report:
        """Raises TimeoutError when not every job has ended after `patience` seconds."""
        await self._enqueue()
        began = time.monotonic()
        helpers = [asyncio.create_task(self._supervise()), asyncio.create_task(self._disturb())]
        try:
            async with asyncio.timeout(patience):
                await self._all_ended(helpers)
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
        self.report.seconds = time.monotonic() - began
        for listener in self._listeners:
            listener.signal(signal.SIGCONT)
            listener.signal(signal.SIGTERM)
        await asyncio.gather(*(listener.end() for listener in self._listeners))
        await self._count()
        return self.report

    async def _enqueue(self) -> None:
        owners = [await self._world.db.sign_up() for _ in range(self.plan.owners)]
        names = [f"{owners[n % len(owners)]}/{n}.txt" for n in range(self.plan.jobs)]
        for start in range(0, len(names), 500):
            part = names[start : start + 500]
            self._world.store.files |= {name: text_of(name).encode() for name in part}
            async with self._world.db.admin.transaction():
                await self._world.db.run("set local role service_role")
                await self._world.db.run(_ENQUEUE, part, [len(text_of(name)) for name in part])

    async def _all_ended(self, helpers: list[asyncio.Task[None]]) -> None:
        query = "select from pipeline.jobs where state in ('available', 'running') limit 1"
        while True:
            for helper in helpers:
                if helper.done():
                    helper.result()
            try:
                if not await self._world.db.all(query):
                    return
            except psycopg.OperationalError:
                with contextlib.suppress(psycopg.OperationalError):
                    await reconnect(self._world.db)
            await asyncio.sleep(0.2)

    async def _supervise(self) -> None:
        settings = {
            "parser": "local",
            "chunk_tokens": 200,
            "lease_seconds": self.plan.lease,
            "concurrency": self.plan.concurrency,
            "poll_seconds": 1,
            "drain_seconds": 2,
        }
        while True:
            while sum(not listener.ended.done() for listener in self._listeners) < self.plan.listeners:
                self._listeners.append(await self._world.start(ready=False, **settings))
            await asyncio.sleep(0.5)

    async def _disturb(self) -> None:
        while True:
            await asyncio.sleep(self._dice.uniform(*self.plan.calm))
            [kind] = self._dice.choices(list(FAULTS), _WEIGHTS)
            alive = [listener for listener in self._listeners if not listener.ended.done()]
            if kind != "crash" and not alive:
                continue
            self.report.faults[kind] += 1
            self._faults_at.append(time.time())
            match kind:
                case "kill":
                    self._dice.choice(alive).signal(signal.SIGKILL)
                case "stop":
                    self._dice.choice(alive).signal(signal.SIGTERM)
                case "freeze":
                    frozen = self._dice.choice(alive)
                    frozen.signal(signal.SIGSTOP)
                    await asyncio.sleep(self.plan.lease + 1)
                    frozen.signal(signal.SIGCONT)
                case _:
                    await self._ground.crash()
                    await asyncio.sleep(self._dice.uniform(*self.plan.away))
                    await self._ground.start()

    async def _count(self) -> None:
        report, db = self.report, self._world.db
        counts = await db.one(_COUNTS)
        report.completed, report.dead, report.attempts = counts["completed"], counts["dead"], counts["attempts"]
        report.lost = self.plan.jobs - report.completed - report.dead
        report.again = (await db.one(_AGAIN))["told"] or "-"
        report.why_dead = (await db.one(_WHY_DEAD))["told"] or ""
        report.published_twice = (await db.one(_PUBLISHED_TWICE))["n"]
        report.wrong_text = len(await db.all(_WRONG_TEXT)) + await self._wrong_vectors()
        report.violations = len(await db.all("select * from pipeline.invariant_violations"))
        report.most_running = max(row["most"] for row in await db.all(MOST_RUNNING))
        report.bought_twice = self._world.bought_twice()
        completed = await db.all(
            "select job_id, attempt, extract(epoch from at)::float as at from pipeline.job_events "
            "where to_state = 'completed' order by id"
        )
        # What a listener believes that it has completed must be what the history says, attempt for attempt.
        truly = {(row["job_id"], row["attempt"]) for row in completed}
        for listener in self._listeners:
            believed = {(line["job"], line["attempt"]) for line in listener.lines("job completed")}
            report.stale_writes += len(believed - truly)
            report.stale_refused += len(listener.lines("lease lost"))
        for fault_at in self._faults_at:
            later = [row["at"] for row in completed if row["at"] > fault_at]
            if later:
                report.recoveries.append(min(later) - fault_at)

    async def _wrong_vectors(self) -> int:
        """Of a hundred documents, whose vector is not that of their text."""
        rows = await self._world.db.all(
            "select d.name, e.embedding::text as embedding from pipeline.documents d "
            "join pipeline.chunks c on c.document_id = d.id "
            "join pipeline.embeddings e on e.owner_id = c.owner_id and e.input_sha256 = c.input_sha256 "
            "order by d.id limit 100"
        )
        return sum(not _alike(row["embedding"], text_of(row["name"])) for row in rows)


def _alike(stored: str, text: str) -> bool:
    got = [float(x) for x in stored.strip("[]").split(",")]
    return all(abs(a - b) < 0.002 for a, b in zip(got, vector(text, DIMENSIONS), strict=True))


async def soak(plan: Plan, patience: float) -> Report:
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pipeline-soak-")))
        ground = await stack.enter_async_context(Ground.open())
        nursery = await stack.enter_async_context(Nursery.open())
        db = await stack.enter_async_context(cloned(ground))
        world = await stack.enter_async_context(World.open(db, folder, nursery))
        return await Soak(plan, ground, world).run(patience)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, nargs="+", default=[random.SystemRandom().randrange(10**6)])
    parser.add_argument("--minutes", type=float, default=30, help="give up after so many for each seed")
    given = parser.parse_args()
    print("seeds", *given.seed, file=sys.stderr)
    reports = [asyncio.run(soak(Plan(given.jobs, seed), given.minutes * 60)) for seed in given.seed]
    print(f"Measured on {datetime.now(UTC):%Y-%m-%d} by `python -m tests.faults.soak`:\n\n{markdown(*reports)}")


if __name__ == "__main__":
    main()
