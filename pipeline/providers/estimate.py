"""How many pages a file has before anybody has parsed it; what a budget reserves, and the provider's bill corrects."""

from __future__ import annotations

import math
import re
from pathlib import Path

_BYTES_A_PAGE = {"application/pdf": 60_000, "text/plain": 3_000, "text/markdown": 3_000, "text/html": 6_000}
_OTHER_BYTES_A_PAGE = 20_000
_PDF_PAGE = re.compile(rb"/Type\s*/Page\b")
_PDF_COUNT = re.compile(rb"/Count\s+(\d{1,6})\b")


def pages(path: Path, media_type: str) -> int:
    """The pages of a file, at least 1. A PDF says them itself, unless it hides its page tree in compressed objects."""
    size = path.stat().st_size
    if media_type == "application/pdf":
        content = path.read_bytes()
        told = max((int(count) for count in _PDF_COUNT.findall(content)), default=0)
        if found := max(told, len(_PDF_PAGE.findall(content))):
            return found
    return max(1, math.ceil(size / _BYTES_A_PAGE.get(media_type, _OTHER_BYTES_A_PAGE)))
