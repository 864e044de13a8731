"""The checks that every vector passes before anything is stored: the last guard against silent zeros."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.providers.answers import PassageRefused, malformed
from pipeline.providers.embedder import Vectors


def unit_vectors(raw: npt.ArrayLike | Sequence[object], *, provider: str, count: int, dimensions: int) -> Vectors:
    """`raw` as float32 of shape (count, dimensions), each row of length 1.

    Raises Transient for another shape, NaN, infinity or a zero vector.
    """
    try:
        wide = np.asarray(raw, dtype=np.float64)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise malformed(provider, "the vectors are no numbers, or differ in length") from None
    if wide.shape != (count, dimensions):
        raise malformed(provider, f"vectors of shape {wide.shape} where {(count, dimensions)} was asked for")
    if not np.isfinite(wide).all():
        raise malformed(provider, "a vector holds NaN or infinity")
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    # What is shorter than this is zero but for rounding; dividing by it would make a direction out of noise.
    if (lengths < 1e-6).any():
        raise malformed(provider, "a vector is zero")
    unit = (wide / lengths).astype(np.float32)
    if not np.allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-4):
        raise malformed(provider, "a vector cannot be brought to length 1")
    return unit


def check_texts(texts: Sequence[str], counts: Sequence[int], max_tokens: int) -> None:
    """Refuse, before anything is bought, what no model embeds: an empty text, or one longer than it reads.

    Raises PassageRefused with the place of the first such text.
    """
    for index, (text, tokens) in enumerate(zip(texts, counts, strict=True)):
        if not text.strip():
            raise PassageRefused("A passage of this file is empty and cannot be embedded.", index=index)
        if tokens > max_tokens:
            raise PassageRefused(
                f"A passage of this file is longer than the embedding model reads ({tokens} of {max_tokens} tokens).",
                index=index,
            )
