"""The ways in which a job can fail, and what each way costs.

    PipelineError
    ├── JobError                 one attempt of one job ended without a result
    │   ├── Transient            try again later with backoff; counts a failure
    │   │   └── Crashed          the same, of a parser that the file ended; the second time it is the file's fault
    │   ├── Lost                 Storage has the file's row and not its bytes; counts a failure
    │   ├── Throttled            a provider asked us to slow down; counts no failure
    │   ├── OverBudget           there is no money left for it before a certain day; counts no failure
    │   ├── Permanent            this file can never work; the job is dead at once
    │   └── Misconfigured        our key or setting is wrong; tried every minute, counts no failure
    ├── LeaseLost                the job is no longer ours; nothing may be written
    ├── Superseded               the object changed or went away under the job
    └── SetupError               the process cannot start; the message names the remedy

A message of a JobError reaches the owner of the file through `public.jobs.error`. It is written in
the owner's words: what is wrong with the file and what they can do. It never holds file content,
keys, paths of this machine or the text of an internal exception; those go to the log through `detail`.
"""

from __future__ import annotations

from collections.abc import Mapping


class PipelineError(Exception):
    """The root of all errors of ours."""


class JobError(PipelineError):
    """One attempt of one job ended without a result.

    `message` is for the owner of the file, `detail` for the operator's log.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.message = _storable(message)
        self.detail = _storable(detail)


def _storable(text: str) -> str:
    """A reason that quotes a file may hold what Postgres refuses; and a reason is no place for a long text."""
    return text[:2000].replace("\0", "").encode(errors="replace").decode()


class Transient(JobError):
    """Something that tends to mend itself failed; the job is tried again after a growing delay."""


class Lost(JobError):
    """Storage has the row of this version and does not hand out its bytes, while it hands out others'."""


class Crashed(Transient):
    """The process that read the file ended without a result. Once that may have had another cause, but the bytes of a
    job are always the same: the second time the job is dead."""


class Throttled(JobError):
    """A provider is over its limit or down. `retry_after` is in seconds; None lets the queue choose.

    `outage` is whether it is broken or away, and not merely busy; `may_be_bought`, whether it may have done the work
    all the same, and bill it; `limits`, what it told of them (see pipeline.providers.limits); `asked`, whether the
    provider itself was asked, and not only ours who keep its pace.
    """

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        retry_after: float | None = None,
        detail: str = "",
        outage: bool = False,
        may_be_bought: bool = False,
        limits: Mapping[str, float] | None = None,
        asked: bool = True,
    ) -> None:
        super().__init__(message, detail=detail)
        self.provider = provider
        self.retry_after = retry_after
        self.outage = outage
        self.may_be_bought = may_be_bought
        self.limits = dict(limits or {})
        self.asked = asked


class OverBudget(JobError):
    """The owner's budget, or everybody's, is used up for `retry_after` seconds; see pipeline.budgets."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Permanent(JobError):
    """This version of this file can never be processed; uploading another version is the remedy."""


class Misconfigured(JobError):
    """A key or setting of the listener is wrong; the file is fine and waits until an operator has mended it.

    `retry_after` is in seconds; None lets the queue choose.
    """

    def __init__(self, message: str, *, provider: str, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, detail=detail)
        self.provider = provider
        self.retry_after = retry_after


class LeaseLost(PipelineError):
    """The job was cancelled, superseded, or taken by another listener after the lease expired."""


class Superseded(PipelineError):
    """The stored object is no longer the version that the job was made for; its newer version has its own job."""


class SetupError(PipelineError):
    """The process cannot start with these settings; the message says what to change."""
