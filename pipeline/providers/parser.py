"""From a fetched file to Markdown pages: the protocol that every parser keeps, and how one is chosen."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Protocol, TypeGuard, runtime_checkable

from pipeline.job import FetchedFile, Parsed
from pipeline.settings import Settings

Progress = Callable[[float], Awaitable[None]]
"""Called with the fraction done, 0.0 to 1.0; may raise LeaseLost, which must be let through."""
Remember = Callable[[str], Awaitable[None]]
"""Called with the provider's own job id as soon as it is known, before waiting for the result."""

Turn = Callable[[], Awaitable[None]]
"""Awaited before each request but the first of a purchase: the provider's pace holds for it too. Raises Throttled."""


async def at_once() -> None:
    """For who has no pace to keep."""


def is_job_id(told: object) -> TypeGuard[str]:
    """Whether a provider's job id is one: it becomes a part of addresses and notifications."""
    return isinstance(told, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,200}", told) is not None


def reads_pictures(settings: Settings) -> bool:
    """Whether pictures are documents here: OCR is on, and Pillow is installed, which `pip install '.[ocr]'` does."""
    return settings.ocr and settings.parser == "local" and find_spec("PIL") is not None


class Parser(Protocol):
    """Turns a file into Markdown pages."""

    name: str
    """The provider's name: `local` or `llamaparse`; shown beside every chunk."""
    fingerprint: str
    """Changes whenever the same bytes could give another result: name, version, options."""

    async def parse(
        self, file: FetchedFile, *, resume: str | None, remember: Remember, progress: Progress, turn: Turn = at_once
    ) -> Parsed:
        """Parse `file`; `resume` is the provider's job id of an earlier attempt that was paid for but not collected.

        Raises Permanent for a file that can never work, and the other JobErrors as their docstrings say.
        """
        ...

    async def warm_up(self) -> None:
        """Start what the first call would otherwise wait for."""
        ...

    async def close(self) -> None: ...


@runtime_checkable
class Hinted(Protocol):
    """A parser whose provider may tell from outside that a parse has ended."""

    def hint(self, job_id: str) -> bool:
        """Look at this provider's job now instead of at the next poll; False where nobody here waits for it."""
        ...
