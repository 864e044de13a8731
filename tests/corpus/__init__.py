"""The smallest file of each kind that real files lose text by, made by code, with what a reader must find in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """One file: its words are found, or it is refused with a sentence."""

    name: str
    """Its file name, or what is special about it."""
    make: Callable[[], bytes]
    words: Sequence[str] = ()
    """Runs of words that stand in the text as they are here, and in this order."""
    sentence: str | None = None
    """What its owner reads, or a part of it, where the file, or one page of it, cannot be read."""
    pages: Sequence[int | None] | None = None
    """The numbers of the pages that have text; None where they do not matter."""
    absent: Sequence[str] = ()
    """What must not be in the text."""
