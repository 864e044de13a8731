"""A second reader for the pages of a PDF on which the first one seems to drop letters; it is slow, and asked seldom.

The first one knows nothing of fonts that a file names and does not hold, in the older encodings of Chinese, Japanese
and Korean; nor does it tell how many glyphs it had no letters for.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import time
from collections.abc import Callable, Iterable

import pypdf

from pipeline.local.readers.pdf_pages import readable

logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it says of a file is for nobody

_ENCODINGS = (b"-EUC-", b"RKSJ-", b"UCS2-H", b"UCS2-V", b"UTF16-H", b"UTF16-V", b"B5pc-", b"-B5-", b"-UHC-", b"GBK2K-")
_STRING = re.compile(rb"\(((?:[^()\\]|\\.)*)\)|<([0-9A-Fa-f\s]+)>", re.DOTALL)
_LARGEST_CONTENT = 1_000_000
_LARGEST_GUESS = 1_000_000
"""Of a larger file it is too slow to ask without a hint."""
_SECONDS = 20.0
"""The most processor time that it takes for one file."""
_TRIES = 3
"""After so many pages in a row that gained nothing, the first reader is believed."""


class SecondReader:
    """One file. Never raises: what it cannot read is empty."""

    def __init__(self, data: bytes, parts: Callable[[], Iterable[bytes]]) -> None:
        """`parts` gives those of the file in which a font can be described."""
        self._data, self._parts = data, parts
        self._file: pypdf.PdfReader | None = None
        self._spent = 0.0
        self._in_vain = 0
        self.of_use = False
        """Whether it found something on an earlier page."""
        self._hinted: bool | None = None

    @property
    def worth_asking(self) -> bool:
        """Whether there is a reason to ask about each page."""
        if self._hinted is None:
            self._hinted = any(name in part for part in self._parts() for name in _ENCODINGS)
        return self._hinted and self._in_vain < _TRIES and self._spent < _SECONDS

    def text(self, number: int) -> str:
        """The text of page `number`, from 1."""
        with self._clock():
            page = self._page(number)
            if len(_content(page)) <= _LARGEST_CONTENT:
                text = page.extract_text()
                return text if readable(text) else ""
        return ""

    def glyphs(self, number: int) -> int:
        """About how many glyphs page `number` shows, whether they are letters or not."""
        if len(self._data) > _LARGEST_GUESS or self._in_vain >= _TRIES:
            return 0
        with self._clock():
            content = _content(self._page(number))
            if len(content) > _LARGEST_CONTENT:
                return 0
            plain = wide = 0
            for found in _STRING.finditer(content):
                plain += len(found[1] or b"")
                wide += len(found[2] or b"") // 4
            return wide + (plain // 2 if b"\0" in content else plain)
        return 0

    def gained(self, something: bool) -> None:
        """Tell whether the last page's text was of use."""
        self._in_vain = 0 if something else self._in_vain + 1
        self.of_use = self.of_use or something

    def _page(self, number: int) -> pypdf.PageObject:
        if self._spent > _SECONDS:
            raise TimeoutError
        if self._file is None:
            self._file = pypdf.PdfReader(io.BytesIO(self._data), strict=False)
        return self._file.pages[number - 1]

    @contextlib.contextmanager
    def _clock(self):
        began = time.process_time()
        try:
            with contextlib.suppress(Exception):
                yield
        finally:
            self._spent += time.process_time() - began


def _content(page: pypdf.PageObject) -> bytes:
    contents = page.get_contents()
    return contents.get_data() if contents is not None else b""
