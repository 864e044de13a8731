"""Small files made by code, each with what must be found in it: one or more for each way in which text gets lost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One file. Where `sentence` is given it is refused with it; else all of `words` are read, in their order."""

    name: str
    """With an extension, as an owner would name it."""
    make: Callable[[], bytes]
    words: tuple[str, ...] = ()
    sentence: str | None = None
    pages: tuple[int | None, ...] | None = None
    """The numbers of its pages."""
    absent: tuple[str, ...] = ()
    """What must not be in the text."""
