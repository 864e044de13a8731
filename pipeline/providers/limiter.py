"""What stands between a job and a provider that costs money: ask before each call, tell how it ended.

All knowledge is in Postgres (the migrations `providers` and `money`), so that every listener sees the same. A call is
made inside

    async with spend(inputs=1, tokens=n) as call:
        answer = await …
        call.tokens = answer.usage.total_tokens
        call.tell(answer.headers)

and how it ended is read from what the block raises; see pipeline.errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import psycopg

from pipeline import faults
from pipeline.errors import JobError, LeaseLost, Lost, Misconfigured, OverBudget, Permanent, Throttled
from pipeline.job import Job
from pipeline.providers.answers import SERVICE, limits, price_wanted

T = TypeVar("T")
_log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""A provider that asks for a longer pause gets it with the job back in the queue."""
BUSY_SECONDS = 120.0
"""A provider that has given nothing but refusals for so long is left alone by the job, which goes back to the queue."""
ELSEWHERE_SECONDS = 1.0
"""A job that met a key of ours that is refused may be another listener's soon: no claim gives it to this one."""


def fingerprint(*parts: str) -> str:
    """A short name for a key and what it is used with, which tells nothing of the key."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Account:
    """One key at one provider. Listeners that use the same share its pace, cooldown and circuit."""

    provider: str
    stage: str
    """`fetch`, `parse` or `embed`."""
    model: str
    """The embedding model, or the parser's tier; what prices go by. Empty for Storage."""
    fingerprint: str


@dataclass(slots=True)
class Call:
    """One call under way, and what its answer told."""

    id: int | None = None
    pages: int | None = None
    """As the provider billed them."""
    credits: float | None = None
    tokens: int | None = None
    """As the provider counted them."""
    begun: bool = False
    """Whether the provider has taken it on: it may bill that, however the attempt ends."""
    let_through: bool = True
    """Whether its last request was, once there is another."""
    limits: dict[str, float] = field(default_factory=dict)
    """`limit` and `remaining` of `requests` and `tokens`, where the provider told them."""

    def tell(self, headers: Mapping[str, str]) -> None:
        """Read the provider's limits from the headers of its answer."""
        self.limits |= limits(headers)


class TooMuch(Exception):
    """A minute's limit does not hold all inputs of the call; each half may be asked for by itself."""


class Spend(Protocol):
    """Makes room for one call.

    Raises the JobErrors of a key that is shut or a budget that is spent, LeaseLost, and for several inputs TooMuch.
    """

    def __call__(self, *, pages: int = 0, inputs: int = 0, tokens: int = 0) -> AbstractAsyncContextManager[Call]: ...


@contextlib.asynccontextmanager
async def free(*, pages: int = 0, inputs: int = 0, tokens: int = 0) -> AsyncIterator[Call]:
    """For what costs nothing, and for calls that no job makes."""
    yield Call()


@dataclass(frozen=True, slots=True)
class Admission:
    """What the database answered; see the SQL function `reserve`."""

    status: str
    call_id: int | None
    wait: float
    """Seconds."""
    reason: str | None


class Books(Protocol):
    """The database's side."""

    async def reserve(
        self, job: Job, account: Account, *, pages: int, inputs: int, tokens: int, parse_id: int | None
    ) -> Admission: ...

    async def ask_again(self, call: Call) -> float: ...

    async def resume_call(self, job: Job, parse_id: int) -> int | None: ...

    async def settle(
        self, call: Call, outcome: str, *, may_be_bought: bool, retry_after: float | None, reason: str | None
    ) -> None: ...

    async def note_work(self, job: Job, account: Account, *, pages: int, inputs: int, tokens: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Limiter:
    """Makes room for the calls of all jobs of a listener at one account; without one, for what costs nothing."""

    books: Books
    account: Account | None

    def of(self, job: Job) -> Spend:
        """What the job's calls are made through."""

        def spend(*, pages: int = 0, inputs: int = 0, tokens: int = 0) -> AbstractAsyncContextManager[Call]:
            return self.spend(job, pages=pages, inputs=inputs, tokens=tokens)

        return spend

    @contextlib.asynccontextmanager
    async def spend(
        self,
        job: Job,
        *,
        pages: int = 0,
        inputs: int = 0,
        tokens: int = 0,
        parse_id: int | None = None,
        resumes: bool = False,
    ) -> AsyncIterator[Call]:
        """One call. With `resumes` it collects what an earlier attempt has bought as `parse_id`."""
        if self.account is None:
            yield Call()
            return
        call = Call(begun=resumes)
        if resumes and parse_id is not None:
            call.id = await self.books.resume_call(job, parse_id)
            call.let_through = call.id is None
        if call.id is None:
            call.id = await self._admitted(job, pages=pages, inputs=inputs, tokens=tokens, parse_id=parse_id)
        try:
            yield call
        except JobError as error:
            outcome, may_be_bought, retry_after = outcome_of(error)
            if isinstance(error, Throttled):
                call.limits = error.limits
            await self._settle(
                call, outcome, may_be_bought=may_be_bought or call.begun, retry_after=retry_after, reason=error.detail
            )
            if isinstance(error, Misconfigured):
                error.retry_after = ELSEWHERE_SECONDS
            raise
        await faults.point("call.answered")
        # Whatever else ends the block ends the attempt, and the call is booked with its lease.
        await self._settle(call, "bought")

    async def began(self, job: Job, call: Call, *, pages: int, parse_id: int) -> None:
        """The provider has taken the call on. Once more means that an earlier one was of no use: both are booked."""
        if call.begun:
            await self._settle(call, "unclear", may_be_bought=True)
            call.id = await self._admitted(job, pages=pages, inputs=0, tokens=0, parse_id=parse_id)
        call.begun = True

    async def turn(self, call: Call) -> None:
        """Wait until one more request of the call may be made; raises Throttled where that takes too long."""
        if self.account is None:
            return
        wait = await self.books.ask_again(call)
        call.let_through = True
        if wait > PATIENCE_SECONDS:
            raise self._busy("cooling", wait, f"{self.account.provider} {self.account.fingerprint} is cooling")
        await asyncio.sleep(wait)

    async def note(self, job: Job, *, pages: int = 0, inputs: int = 0, tokens: int = 0) -> None:
        """Say what the job's result is made of, bought or reused."""
        if self.account is not None:
            await self.books.note_work(job, self.account, pages=pages, inputs=inputs, tokens=tokens)

    async def _admitted(self, job: Job, *, pages: int, inputs: int, tokens: int, parse_id: int | None) -> int:
        assert self.account is not None
        while True:
            answer = await self.books.reserve(
                job, self.account, pages=pages, inputs=inputs, tokens=tokens, parse_id=parse_id
            )
            match answer.status:
                case "go":
                    assert answer.call_id is not None
                    await asyncio.sleep(answer.wait)
                    return answer.call_id
                case "later":
                    await asyncio.sleep(answer.wait)
                case "smaller":
                    raise TooMuch
                case "lost":
                    raise LeaseLost
                case status:
                    raise self._shut(status, answer)

    def _shut(self, status: str, answer: Admission) -> JobError:
        assert self.account is not None
        provider, service = self.account.provider, self._service
        detail = f"{provider} {self.account.fingerprint} is {status}: {answer.reason}"
        match status:
            case "budget":
                return OverBudget(answer.reason or "The budget is used up.", retry_after=answer.wait)
            case "unpriced":
                return Misconfigured(
                    f"Waiting for the operator: nobody has said yet what the {service} costs here. The file is fine "
                    "and continues when that is mended.",
                    provider=provider,
                    detail=f"A budget holds and {provider} {self.account.model} has no price. "
                    + price_wanted(answer.reason or ""),
                    retry_after=answer.wait,
                )
            case "refused":
                return Misconfigured(
                    f"Waiting for the operator: the {service} does not let this installation in. The file is fine and "
                    "continues when that is mended.",
                    provider=provider,
                    detail=detail,
                    retry_after=ELSEWHERE_SECONDS,
                )
        return self._busy(status, answer.wait, detail)

    @property
    def _service(self) -> str:
        assert self.account is not None
        return SERVICE.get(self.account.provider, self.account.provider)

    def _busy(self, status: str, wait: float, detail: str) -> Throttled:
        assert self.account is not None
        busy = "is busy" if status == "cooling" else "is not working at the moment"
        return Throttled(
            f"The {self._service} {busy}; this file continues by itself.",
            provider=self.account.provider,
            retry_after=wait,
            detail=detail,
            outage=status == "down",
            may_be_bought=True,
            asked=False,
        )

    async def _settle(
        self,
        call: Call,
        outcome: str,
        *,
        may_be_bought: bool = False,
        retry_after: float | None = None,
        reason: str | None = None,
    ) -> None:
        try:
            await self.books.settle(call, outcome, may_be_bought=may_be_bought, retry_after=retry_after, reason=reason)
        except psycopg.Error as error:
            # What was bought is worth more than its receipt: the call is booked as unconfirmed when the attempt ends.
            _log.warning("a call could not be settled", extra={"call": call.id, "reason": type(error).__name__})


def outcome_of(error: JobError) -> tuple[str, bool, float | None]:
    """How a call ended for `settle`, whether it may have been bought, and the pause that was asked for in seconds."""
    match error:
        case Misconfigured():
            return "refused", False, None
        case Throttled(asked=False):
            return "unclear", error.may_be_bought, None
        case Throttled():
            return "down" if error.outage else "limited", error.may_be_bought, error.retry_after
        case Permanent() | Lost():
            return "declined", False, None
    return "unclear", True, None


async def asked(ask: Callable[[], Awaitable[T]]) -> T:
    """What `ask` gives. It is asked again where the provider is merely busy, and not for long: the next call waits."""
    first = None
    while True:
        try:
            return await ask()
        except Throttled as error:
            first = first or time.monotonic()
            if error.outage or (error.retry_after or 0) > PATIENCE_SECONDS or time.monotonic() - first > BUSY_SECONDS:
                raise
