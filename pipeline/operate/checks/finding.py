"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `ok` is None where it could not be judged, or is the operator's to judge."""

    name: str
    ok: bool | None
    detail: str
    remedy: str = ""
