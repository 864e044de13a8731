"""From texts to vectors: the protocol that every embedder keeps, and how one is chosen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pipeline.job import Space
from pipeline.providers.limiter import Spend, free

Vectors = npt.NDArray[np.float32]

Keep = Callable[[int, Vectors], Awaitable[None]]
"""Takes the vectors of one request as they come: of `texts[place : place + len(vectors)]`, `place` from 0."""


async def unkept(place: int, vectors: Vectors) -> None:
    """For who needs them all or none."""


class Embedder(Protocol):
    """Turns texts into unit vectors of one space."""

    provider: str
    """`local` or `openai`."""
    space: Space
    max_tokens: int
    """The longest input, in the tokens of `count_tokens`; a longer one is an error, never cut silently."""
    batch_size: int
    """How many inputs one `embed` call should hold, so that progress shows and a crash loses little."""

    def count_tokens(self, text: str) -> int: ...

    async def embed(self, texts: Sequence[str], *, spend: Spend = free, keep: Keep = unkept) -> Vectors:
        """Vectors of shape (len(texts), dimensions), float32, finite, of length 1, in the order of `texts`.

        Each call of a paid provider is made inside `spend`, and what it gave goes to `keep` before the next is made:
        what is raised later takes nothing of it back. Raises the JobErrors as their docstrings say; a wrong count,
        dimension, NaN or zero vector is Transient.
        """
        ...

    async def warm_up(self) -> None:
        """Load what the first call would otherwise wait for."""
        ...

    async def close(self) -> None: ...
