"""Hostile files, made from a seed: the same number always gives the same file."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.hostile import archives, mails, mutation, pdfs, pictures, texts
from tests.hostile.mutation import Maker


@dataclass(frozen=True, slots=True)
class Hostile:
    """One file, under a name that nobody chose with care."""

    number: int
    kind: str
    name: str
    content: bytes


def makers(canary: str) -> dict[str, Maker]:
    """By what each makes. Damage, which finds what nobody thought of, takes half of the turns."""
    made = pdfs.makers(canary) | archives.makers(canary) | texts.makers(canary) | pictures.MAKERS | mails.MAKERS
    often = -(-len(made) // len(mutation.MAKERS))
    damage = {f"{kind} {n}": make for n in range(often) for kind, make in mutation.MAKERS.items()}
    return {kind: make for pair in zip(made.items(), damage.items(), strict=False) for kind, make in pair}


def corpus(count: int, *, seed: int = 7, canary: str = "http://127.0.0.1:9/") -> Iterator[Hostile]:
    """`count` files, every kind in turn."""
    known = list(makers(canary).items())
    for number in range(count):
        kind, make = known[number % len(known)]
        extension, content = make(random.Random(f"{seed} {number}"))
        yield Hostile(number, kind.rstrip(" 0123456789"), f"{number}.{extension}", content)
