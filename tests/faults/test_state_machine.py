"""Random schedules of everything that can happen to the queue, against a model of it, on a real database.

Several listeners claim, and every attempt that was ever handed out stays in play, so most writes come from listeners
that have lost their lease long ago. The clock stands still between the steps.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from pipeline.embedded.postgres import SUPERUSER
from tests.faults.model import LIMIT, MAX_FAILURES, Model, backoff
from tests.faults.world import DIMENSIONS, MOST_RUNNING
from tests.sql.conftest import Database

LEASE = 60.0
BEGINNING = "timestamptz '2030-01-01 00:00:00+00'"
NAMES = ("a.txt", "b.txt", "c.txt")

_PREPARE = f"""
create table pipeline.test_clock as select {BEGINNING} as at;
create or replace function pipeline.now() returns timestamptz language sql stable set search_path = ''
  as $$ select at from pipeline.test_clock $$;
grant select on pipeline.test_clock to public;
update pipeline.settings set max_failures = {MAX_FAILURES}, backoff_base = '10 seconds';
"""
_CLEAN = f"""
set local session_replication_role = replica;
delete from storage.objects;
delete from pipeline.job_events;
delete from pipeline.jobs;
delete from pipeline.documents;
delete from pipeline.chunks;
delete from pipeline.embeddings;
delete from pipeline.embedding_purchases;
delete from pipeline.wakeups;
delete from pipeline.queue;
delete from pipeline.lease_checks;
delete from pipeline.owner_stops;
delete from pipeline.owners;
delete from realtime.messages;
update pipeline.settings set paused = false, paused_at = null;
update pipeline.test_clock set at = {BEGINNING};
"""
_UNFENCED = """
select s.job_id, s.attempt
  from (select e.job_id, e.attempt, e.to_state,
               row_number() over (partition by e.job_id, e.to_state order by e.id) as nth
          from pipeline.job_events e) s
 where (s.to_state = 'running' and s.attempt <> s.nth) or (s.to_state = 'completed' and s.nth > 1)
"""
"""Claims that are not the next attempt, and versions that were published twice."""
_VECTOR = "[1" + ",0" * (DIMENSIONS - 1) + "]"
_SHA = b"\7" * 32


class Ground:
    """Connections that all schedules share, and three owners."""

    def __init__(self, db: Database) -> None:
        self.admin = psycopg.connect(db.url("postgres"), autocommit=True)
        self.root = psycopg.connect(db.server.url(SUPERUSER, db.name), autocommit=True)
        self.admin.execute(_PREPARE.encode())
        self.owners = [uuid.uuid4() for _ in range(3)]
        for owner in self.owners:
            self.admin.execute(
                "insert into auth.users (id, aud, role, email) values (%s, 'authenticated', 'authenticated', %s)",
                (owner, f"{owner}@example.org"),
            )

    def close(self) -> None:
        self.clean()
        self.admin.close()
        self.root.close()

    def clean(self) -> None:
        with self.root.transaction():
            self.root.execute(_CLEAN.encode())


class Queue(RuleBasedStateMachine):
    ground: Ground

    def __init__(self) -> None:
        super().__init__()
        self.ground.clean()
        self.model = Model()
        self.leases: list[tuple[int, int]] = []
        """Every (job, attempt) that was ever handed out."""

    # asking the database

    def rows(self, query: str, *params: Any) -> list[tuple[Any, ...]]:
        return self.ground.admin.execute(query.encode(), params).fetchall()

    def value(self, query: str, *params: Any) -> Any:
        return self.rows(query, *params)[0][0]

    def seconds(self, column: str, job_id: int) -> float:
        """A time of a job, in the model's seconds."""
        return float(
            self.value(f"select extract(epoch from {column} - {BEGINNING}) from pipeline.jobs where id = %s", job_id)
        )

    def settle(self) -> None:
        """Leases that a claim has swept."""
        for job in self.model.expired():
            if self.value("select state from pipeline.jobs where id = %s", job.id) != "running":
                self.model.swept(job, self.seconds("available_at", job.id))
                if job.state == "available":
                    self.waits(job.due, *backoff(job.failures))

    def waits(self, due: float, least: float, most: float) -> None:
        assert least - 0.001 <= due - self.model.now <= most + 0.001

    # files

    @rule(owner=st.integers(0, 2), name=st.sampled_from(NAMES))
    def upload(self, owner: int, name: str) -> None:
        user = self.ground.owners[owner]
        with self.ground.admin.transaction():
            self.ground.admin.execute("set local role service_role")
            version = str(uuid.uuid4())
            self.ground.admin.execute(
                "insert into storage.objects (bucket_id, name, owner_id, version, metadata) "
                "values ('documents', %s, %s, %s, %s) on conflict (bucket_id, name) do update "
                "set version = excluded.version, metadata = excluded.metadata",
                (f"{user}/{name}", str(user), version, json.dumps({"size": 4, "eTag": '"x"'})),
            )
        job_id = self.value("select id from pipeline.jobs where object_version = %s", version)
        self.model.uploaded(job_id, user, name)

    @precondition(lambda self: self.model.newest)
    @rule(which=st.integers(0, 8))
    def delete(self, which: int) -> None:
        owner, name = list(self.model.newest)[which % len(self.model.newest)]
        with self.ground.root.transaction():
            self.ground.root.execute("set local storage.allow_delete_query = 'true'")
            self.ground.root.execute("delete from storage.objects where name = %s", (f"{owner}/{name}",))
        self.model.deleted(owner, name)

    @rule()
    def purge(self) -> None:
        self.rows("select pipeline.purge()")

    # listeners

    @rule(listener=st.sampled_from("xyz"), count=st.integers(1, 4))
    def claim(self, listener: str, count: int) -> None:
        jobs = self.rows("select * from pipeline.claim(%s, %s, '60 seconds', 1)", listener, count)
        self.settle()
        if self.model.paused:
            assert jobs == []
            return
        assert self.model.expired() == []
        due = {job.id for job in self.model.due()}
        assert len(jobs) <= count
        assert jobs or not due
        for job_id, attempt, *_ in jobs:
            assert job_id in due
            self.model.claimed(job_id, LEASE)
            assert attempt == self.model.jobs[job_id].attempt
            self.leases.append((job_id, attempt))
        assert all(self.model.running(owner) <= LIMIT for owner in self.ground.owners)

    @rule()
    def claim_for_another_schema(self) -> None:
        assert self.rows("select * from pipeline.claim('old', 4, '60 seconds', 0)") == []
        self.settle()

    def some(self, picks: Sequence[int]) -> list[tuple[int, int]]:
        """Attempts, with the newest the likeliest."""
        return list({self.leases[-1 - pick % len(self.leases)] for pick in picks})

    has_leases = precondition(lambda self: self.leases)
    picks = st.lists(st.integers(0, 9), min_size=1, max_size=3)

    @has_leases
    @rule(picks=picks)
    def heartbeat(self, picks: list[int]) -> None:
        mine = self.some(picks)
        kept = self.rows(
            "select * from pipeline.heartbeat(%s::bigint[], %s::integer[], '60 seconds')",
            *map(list, zip(*mine, strict=True)),
        )
        held = [lease for lease in mine if self.model.holds(*lease)]
        assert {row[0] for row in kept} == {job_id for job_id, _ in held}
        for job_id, _ in held:
            self.model.jobs[job_id].lease_until = self.model.now + LEASE

    @has_leases
    @rule(pick=st.integers(0, 9), stage=st.sampled_from(["fetch", "parse", "chunk", "embed", "publish"]))
    def report(self, pick: int, stage: str) -> None:
        [lease] = self.some([pick])
        assert self.value("select pipeline.report(%s, %s, %s, 0.5)", *lease, stage) == self.model.holds(*lease)

    @has_leases
    @rule(picks=picks)
    def complete(self, picks: list[int]) -> None:
        mine = self.some(picks)
        done = self.rows(
            "select * from pipeline.complete(%s::bigint[], %s::integer[])", *map(list, zip(*mine, strict=True))
        )
        held = [lease for lease in mine if self.model.holds(*lease)]
        assert {row[0] for row in done} == {job_id for job_id, _ in held}
        for job_id, _ in held:
            self.model.jobs[job_id].end("completed")

    @has_leases
    @rule(pick=st.integers(0, 9))
    def publish(self, pick: int) -> None:
        [(job_id, attempt)] = self.some([pick])
        held = self.model.holds(job_id, attempt)
        if held:
            self.publish_chunk(job_id, attempt)
            self.model.jobs[job_id].end("completed")
        else:
            with pytest.raises(psycopg.Error) as refused:
                self.publish_chunk(job_id, attempt)
            assert refused.value.sqlstate == "PL001", refused.value

    def publish_chunk(self, job_id: int, attempt: int) -> None:
        with self.ground.admin.transaction():
            space = self.value("select id from pipeline.spaces where active")
            self.ground.admin.execute(
                "insert into pipeline.embeddings (owner_id, space_id, input_sha256, embedding, document_id) "
                "select owner_id, %s, %s, %s::extensions.halfvec, document_id from pipeline.jobs where id = %s "
                "on conflict do nothing",
                (space, _SHA, _VECTOR, job_id),
            )
            self.rows(
                "select pipeline.publish(%s, %s, %s, %s, 'text/plain', 1, '{}', 'test', "
                "array[1], array[null]::text[], array['text'], %s)",
                *(job_id, attempt, space, _SHA, [_SHA]),
            )

    @has_leases
    @rule(
        pick=st.integers(0, 9),
        error_class=st.sampled_from(["transient", "lost", "throttled", "permanent", "configuration"]),
        retry_after=st.none() | st.sampled_from([5.0, 120.0]),
    )
    def fail(self, pick: int, error_class: str, retry_after: float | None) -> None:
        [(job_id, attempt)] = self.some([pick])
        told = self.value(
            "select pipeline.fail(%s, %s, %s, 'why', null, make_interval(secs => %s))",
            *(job_id, attempt, error_class, retry_after),
        )
        if not self.model.holds(job_id, attempt):
            assert told is None
            return
        self.model.failed(job_id, error_class, self.seconds("available_at", job_id))
        job = self.model.jobs[job_id]
        assert told == job.state
        if job.state == "available":
            match error_class:
                case "transient" | "lost":
                    self.waits(job.due, *((retry_after, retry_after) if retry_after else backoff(job.failures)))
                case "throttled":
                    self.waits(job.due, retry_after or 30, 1.2 * (retry_after or 30))
                case _:
                    self.waits(job.due, retry_after or 60, retry_after or 60)

    @has_leases
    @rule(picks=picks)
    def release(self, picks: list[int]) -> None:
        mine = self.some(picks)
        given = self.rows(
            "select * from pipeline.release(%s::bigint[], %s::integer[])", *map(list, zip(*mine, strict=True))
        )
        # a lease that is over and that nobody has taken yet may still be given back
        held = [lease for lease in mine if self.model.runs(*lease)]
        assert {row[0] for row in given} == {job_id for job_id, _ in held}
        for job_id, _ in held:
            self.model.jobs[job_id].wait_until(self.model.now)

    @has_leases
    @rule(pick=st.integers(0, 9))
    def supersede(self, pick: int) -> None:
        [lease] = self.some([pick])
        # What runs has its row in Storage's table, or the trigger had cancelled it.
        assert self.value("select pipeline.supersede(%s, %s)", *lease) is False

    # people

    def any_job(self, which: int) -> int:
        return list(self.model.jobs)[which % len(self.model.jobs)]

    @precondition(lambda self: self.model.jobs)
    @rule(which=st.integers(0, 20))
    def cancel(self, which: int) -> None:
        job = self.model.jobs[self.any_job(which)]
        if job.state in ("available", "running"):
            job.end("cancelled")
        assert self.value("select pipeline.cancel(%s)", job.id) == job.state

    @precondition(lambda self: self.model.jobs)
    @rule(which=st.integers(0, 20))
    def retry(self, which: int) -> None:
        job_id = self.any_job(which)
        if self.model.can_retry(job_id):
            assert self.value("select pipeline.retry(%s)", job_id) == "available"
            self.model.retried(job_id)
        else:
            with pytest.raises(psycopg.Error) as refused:
                self.value("select pipeline.retry(%s)", job_id)
            assert refused.value.sqlstate == "PT409"

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        self.ground.admin.execute(
            "update pipeline.settings set paused = %s, paused_at = case when %s then pipeline.now() end",
            (paused, paused),
        )
        self.model.paused = paused

    @rule(seconds=st.sampled_from([1, 20, 59, 61, 600, 7200, -30]))
    def time_passes(self, seconds: int) -> None:
        self.ground.admin.execute(
            "update pipeline.test_clock set at = at + make_interval(secs => %s)", (float(seconds),)
        )
        self.model.now += seconds

    # what must hold

    @invariant()
    def every_job_is_where_the_model_has_it(self) -> None:
        assert self.rows("select id, state, attempt, failures from pipeline.jobs order by id") == self.model.shown()

    def teardown(self) -> None:
        assert self.rows("select * from pipeline.invariant_violations") == []
        assert all(most <= LIMIT for _, most in self.rows(MOST_RUNNING))
        assert self.rows(_UNFENCED) == []


def run(db: Database, schedules: int, steps: int, *, derandomize: bool) -> None:
    ground = Ground(db)
    machine = type("Queue", (Queue,), {"ground": ground})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=schedules,
                stateful_step_count=steps,
                deadline=None,
                derandomize=derandomize,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        ground.close()


def test_a_sample_of_schedules(db):
    run(db, 200, 50, derandomize=True)


@pytest.mark.soak
def test_thousands_of_schedules(db):
    run(db, 3000, 60, derandomize=False)
