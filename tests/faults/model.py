"""The queue as it should be, small enough to be read at once: what hypothesis compares the real one with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

LIMIT = 2
MAX_FAILURES = 3
BACKOFF_BASE, BACKOFF_CAP = 10.0, 3600.0


@dataclass
class ModelJob:
    """Times are in seconds since the schedule began."""

    id: int
    owner: Any
    name: str
    state: str = "available"
    attempt: int = 0
    failures: int = 0
    due: float = 0.0
    lease_until: float = 0.0

    def end(self, state: str) -> None:
        self.state = state

    def wait_until(self, due: float) -> None:
        self.state, self.due = "available", due


@dataclass
class Model:
    """Files, jobs and one clock."""

    now: float = 0.0
    paused: bool = False
    jobs: dict[int, ModelJob] = field(default_factory=dict)
    newest: dict[tuple[Any, str], int] = field(default_factory=dict)
    """The job of the newest version of each file that is there."""

    def holds(self, job_id: int, attempt: int) -> bool:
        """Whether this attempt may write."""
        return self.runs(job_id, attempt) and self.jobs[job_id].lease_until > self.now

    def runs(self, job_id: int, attempt: int) -> bool:
        """Whether the job runs in this attempt, be its lease over or not."""
        job = self.jobs[job_id]
        return job.state == "running" and job.attempt == attempt

    def expired(self) -> list[ModelJob]:
        return [job for job in self.jobs.values() if job.state == "running" and job.lease_until <= self.now]

    def due(self) -> list[ModelJob]:
        """Jobs that a claim may hand out: due, and their owner below the limit."""
        return [
            job
            for job in self.jobs.values()
            if job.state == "available" and job.due <= self.now and self.running(job.owner) < LIMIT
        ]

    def running(self, owner: Any) -> int:
        return sum(job.state == "running" and job.owner == owner for job in self.jobs.values())

    # what happens

    def uploaded(self, job_id: int, owner: Any, name: str) -> None:
        self.stop_newest(owner, name)
        self.jobs[job_id] = ModelJob(job_id, owner, name, due=self.now)
        self.newest[owner, name] = job_id

    def deleted(self, owner: Any, name: str) -> None:
        self.stop_newest(owner, name)
        del self.newest[owner, name]

    def stop_newest(self, owner: Any, name: str) -> None:
        job = self.jobs.get(self.newest.get((owner, name), -1))
        if job is not None and job.state in ("available", "running"):
            job.end("cancelled")

    def claimed(self, job_id: int, lease: float) -> None:
        job = self.jobs[job_id]
        job.state, job.attempt, job.lease_until = "running", job.attempt + 1, self.now + lease

    def swept(self, job: ModelJob, due: float) -> None:
        job.failures += 1
        if job.failures >= MAX_FAILURES:
            job.end("dead")
        else:
            job.wait_until(due)

    def failed(self, job_id: int, error_class: str, due: float) -> None:
        job = self.jobs[job_id]
        job.failures += error_class in ("transient", "lost")
        if error_class == "permanent" or (error_class in ("transient", "lost") and job.failures >= MAX_FAILURES):
            job.end("dead")
        else:
            job.wait_until(due)

    def can_retry(self, job_id: int) -> bool:
        job = self.jobs[job_id]
        return job.state in ("dead", "cancelled") and self.newest.get((job.owner, job.name)) == job_id

    def retried(self, job_id: int) -> None:
        self.jobs[job_id].failures = 0
        self.jobs[job_id].wait_until(self.now)

    def shown(self) -> Iterable[tuple[int, str, int, int]]:
        """Id, state, attempt and failures of every job."""
        return [
            (job.id, job.state, job.attempt, job.failures) for job in sorted(self.jobs.values(), key=lambda j: j.id)
        ]


def backoff(failures: int) -> tuple[float, float]:
    """The least and the most seconds that a retry waits."""
    middle = min(BACKOFF_BASE * 2 ** (failures - 1), BACKOFF_CAP)
    return 0.75 * middle, 1.25 * middle
