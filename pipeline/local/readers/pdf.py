"""From a PDF to Markdown pages. What a person can read in it is found, or the page is named with the reason."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from liteparse._liteparse import LiteParse

from pipeline.errors import Permanent
from pipeline.files.kinds import RIGHTS_MANAGED
from pipeline.files.sentences import DAMAGED, PROTECTED
from pipeline.files.text import has_words
from pipeline.local.readers.pdf_forms import beside, xfa_text
from pipeline.local.readers.pdf_pages import (
    Hyphens,
    PageText,
    RunningLines,
    has_foreign_letters,
    headless,
    lost_lines,
    mostly_missing,
    page_words,
    readable,
    turns,
    upright_columns,
    words,
)
from pipeline.local.readers.pdf_second import SecondReader

if TYPE_CHECKING:
    from pipeline.local.readers.reader import Options, Text

BATCH = 50  # pages held at once; progress is told after each batch

NEEDS_OCR = (
    "This PDF is a scan: its pages are pictures, without text. Reading it needs OCR (text recognition), which is "
    "switched off here; an operator switches it on with UPLOAD_PIPELINE_OCR=true. "
    "Or upload a version with a text layer."
)
NOTHING_RECOGNISED = "No text could be recognised in this scan."
UNREADABLE = (
    "The text of this PDF cannot be read: its fonts do not say which letters they show. Print it to a new PDF with "
    "another program, or upload the document that it was made from."
)
CERTIFICATE = "The file is encrypted for the holders of certain certificates. Upload a copy without encryption."
PORTFOLIO = (
    "This PDF is a portfolio: a folder of other files. Open it in Acrobat, save the files in it and upload them one by "
    "one."
)
XFA = (
    "This PDF is an XFA form without text of its own, which only Adobe's programs show. Open it there, print it to a "
    "new PDF and upload that."
)
PAGE_DAMAGED = "The page is damaged."
PAGE_IS_PICTURE = "The page is a picture without text; reading it needs OCR."
PAGE_NOT_RECOGNISED = "The page is a picture in which no text could be recognised."
PAGE_UNREADABLE = "The page's fonts do not say which letters they show; reading it needs OCR."

_HANDLER = re.compile(rb"/Filter\s*/(Adobe\.PubSec|Standard|[A-Za-z][\w.]*)")
_COLLECTION = re.compile(rb"/Collection\s*(?:<<|\d+\s+\d+\s+R)")
_OBJECT_STREAM = re.compile(rb"/ObjStm\b[^>]*(?:>(?!>)[^>]*)*>>\s*stream\r?\n")
_WRAPPED = re.compile(rb"MicrosoftIRMServices|/EncryptedPayload")
_OUR_FAULT = re.compile(r"os error|permission denied|no such file|conversion error|unsupported file format")
_FEW_WORDS = 200
"""A page that stands for something that it is not itself has no more."""
_SPARSE_LETTERS = 800
_SOME_GLYPHS = 50
_LARGEST_LOOK = 4_000_000


def read_pdf(data: bytes, options: Options, text: Text) -> None:
    """Send the pages of `data`. Raises Permanent for what cannot be read, in the words of its owner."""
    # In a file that has rubbish before its header all offsets count from the header.
    start = data.find(b"%PDF-", 0, 1024)
    data = data[start:] if start > 0 else data
    # The library takes a PDF with this name in it for another format, which it hands to a program outside.
    data = data.replace(b"AIPrivateData", b"AiPrivateData")
    try:
        _Pdf(data, options, text).read()
    except (RuntimeError, ValueError) as error:
        said = str(error).lower()
        if _OUR_FAULT.search(said):
            raise
        raise _refusal(data, said) from None


def _refusal(data: bytes, said: str) -> Permanent:
    handlers = {found[1] for found in _HANDLER.finditer(data)} if b"/Encrypt" in data else set()
    if b"Adobe.PubSec" in handlers:
        return Permanent(CERTIFICATE, detail=said[:500])
    if handlers & {b"MicrosoftIRMServices", b"Adobe.APS", b"EBX_HANDLER", b"FOPN_fLock", b"FOPN_foweb"}:
        return Permanent(RIGHTS_MANAGED, detail=said[:500])
    return Permanent(PROTECTED if "password" in said or "encrypt" in said else DAMAGED, detail=said[:500])


class _Pdf:
    """One file on its way."""

    def __init__(self, data: bytes, options: Options, text: Text) -> None:
        self.data, self.options, self.text = data, options, text
        self.running, self.hyphens = RunningLines(), Hyphens()
        self.second = SecondReader(data, lambda: _structure(data))
        self.blank: list[int] = []
        self.failed: dict[int, str] = {}

    def read(self) -> None:
        total = 0
        for pages, first, last, total in self._batches():
            if first == 1 and total <= 3 and self._stands_for_another(pages):
                return
            self._send(pages)
            self.text.output.progress(last / max(total, 1))
        self._account()

    def _library(self, **more: Any) -> LiteParse:
        ocr = self.options.ocr
        settings: dict[str, Any] = {
            "output_format": "markdown",
            "image_mode": "off",
            "quiet": True,
            "continue_on_page_error": True,
            "num_workers": 1,
            "keep_headers_footers": True,
            "extract_annotations": True,
            "extract_form_fields": True,
            "extract_content_bounds": True,
            "ocr_enabled": ocr,
            "ocr_language": self.options.ocr_language if ocr else None,
            "tessdata_path": self.options.tessdata_path if ocr else None,
            "ocr_failure_fatal": False,
        }
        return LiteParse(**settings | more)

    def _batches(self) -> Iterator[tuple[list[PageText], int, int, int]]:
        """The pages, batch by batch: they, the first number, the last one, and the number of pages of the file."""
        allowed = self.options.max_pages
        session = self._library(max_pages=allowed).open_batch_session_bytes(self.data, BATCH)
        total = session.total_pages
        if total > allowed:
            raise Permanent(f"The file has {total} pages; {allowed} are allowed here. Upload it in parts.")
        for first in range(1, total + 1, BATCH):
            last = min(first + BATCH - 1, total)
            pages: list[PageText] | None = None
            if session is not None:
                with _panics() as panicked:
                    batch = session.next_batch()
                    if batch is None:
                        return
                    pages = self._pages_of(batch.result)
                if panicked:
                    session = None
            if pages is None:
                pages = [page for number in range(first, last + 1) for page in self._page(number)]
            yield pages, first, last, total

    def _pages_of(self, result: Any) -> list[PageText]:
        for fault in result.page_errors or ():
            self.failed[_page_of(fault)] = PAGE_DAMAGED
        return [PageText.of(page) for page in result.pages]

    def _page(self, number: int) -> list[PageText]:
        """One page by itself: as Markdown, or as plain text where only finding its structure goes wrong."""
        for form in ("markdown", "text"):
            with _panics():
                alone = self._library(output_format=form, target_pages=str(number), max_pages=1)
                return self._pages_of(alone.parse_bytes(self.data))
        self.failed[number] = PAGE_DAMAGED
        return []

    def _send(self, pages: list[PageText]) -> None:
        sideways = self._sideways(pages)
        for page in pages:
            self.running.note(page)
            self.hyphens.note(page)
        for page in pages:
            if not readable(page.text):
                self.failed[page.number] = PAGE_UNREADABLE
            elif not self.text.page(page.number, self._markdown(page, sideways.get(page.number, ""))):
                self.blank.append(page.number)

    def _markdown(self, page: PageText, sideways: str) -> str:
        """All that the page says; `sideways` is what of it lies on its side."""
        if columns := upright_columns(page):
            page = replace(page, markdown=columns)
        lost = lost_lines(f"{page.markdown}\n{sideways}" if sideways else page.markdown, page)
        markdown = headless(self.hyphens.mend(page, self.running.strip(page)))
        parts = (markdown, sideways, lost, beside(page.source, page.text), self._second_opinion(page))
        return "\n\n".join(part for part in parts if part)

    def _sideways(self, pages: list[PageText]) -> dict[int, str]:
        """By page, the Markdown of the text that lies on its side, where it is a large part: the library makes Markdown
        of upright text alone, so such pages are turned and read once more."""
        directions = {page.number: angles for page in pages if (angles := turns(page))}
        have = {page.number: page_words(page.markdown).copy() for page in pages if page.number in directions}
        found = dict.fromkeys(directions, "")
        for angle in (90, 180, 270):
            numbers = [number for number, angles in directions.items() if angle in angles]
            if not numbers:
                continue
            library = self._library(
                page_orientation_corrections=[(number, angle) for number in numbers],
                target_pages=",".join(map(str, numbers)),
                max_pages=len(numbers),
            )
            with _panics():
                for page in library.parse_bytes(self.data).pages:
                    seen = have[page.page_num]
                    lines = (page.markdown or "").split("\n")
                    new = (line for line in lines if not words(line) or mostly_missing(line, seen))
                    found[page.page_num] = "\n".join([found[page.page_num], "", *new]).strip("\n")
        return found

    def _second_opinion(self, page: PageText) -> str:
        """The lines that another reader finds on a page where letters seem to be missing. Names the page where they
        stay missing."""
        second = self.second
        sparse = _is_sparse(page)
        asked = (sparse or second.of_use or has_foreign_letters(page.text)) and second.worth_asking
        if not sparse and not asked:
            return ""
        letters = sum(map(str.isalnum, page.text))
        missing = sparse and second.glyphs(page.number) > letters * 3 + _SOME_GLYPHS
        if not missing and not asked:
            second.gained(False)
            return ""
        other = second.text(page.number)
        have = page_words(page.text).copy()
        lines = "\n".join(line for line in other.splitlines() if mostly_missing(line, have))
        second.gained(bool(lines))
        if missing and sum(map(str.isalnum, other)) < letters * 2 + _SOME_GLYPHS:
            self.failed[page.number] = PAGE_UNREADABLE
        return lines

    def _stands_for_another(self, pages: list[PageText]) -> bool:
        """Whether these pages only say that something else is in the file; sends that, or raises Permanent."""
        shown = " ".join(page.text for page in pages)
        if len(words(shown)) > _FEW_WORDS:
            return False
        if _WRAPPED.search(self.data):
            raise Permanent(RIGHTS_MANAGED)
        if any(_COLLECTION.search(part) for part in _structure(self.data)):
            raise Permanent(PORTFOLIO)
        if any(page.source.form_fields for page in pages) or (words(shown) and "adobe" not in shown.casefold()):
            return False
        looker = self._library(extract_xfa_packets=True, ocr_enabled=False, target_pages="1", max_pages=1)
        if not (xfa := looker.parse_bytes(self.data).xfa_packets):
            return False
        if not self.text.page(1, xfa_text(xfa)):
            raise Permanent(XFA)
        return True

    def _account(self) -> None:
        """Name the pages that could not be read, pictures among them; or refuse the file, if that is all of it."""
        ocr = self.options.ocr
        picture = PAGE_NOT_RECOGNISED if ocr else PAGE_IS_PICTURE
        if self.blank:
            self.failed |= dict.fromkeys(_pictures(self.data, self.blank), picture)
        if not self.text.words:
            reasons = set(self.failed.values())
            if PAGE_UNREADABLE in reasons:
                raise Permanent(UNREADABLE)
            if picture in reasons:
                raise Permanent(NOTHING_RECOGNISED if ocr else NEEDS_OCR)
            if reasons:
                raise Permanent(DAMAGED)
        for number, reason in sorted(self.failed.items()):
            self.text.output.failed_page(number, reason)


@contextlib.contextmanager
def _panics() -> Iterator[list[BaseException]]:
    """Lets the library's own bugs pass, which end a parse in an exception that is none of Python's usual ones; the list
    has them afterwards."""
    found: list[BaseException] = []
    try:
        yield found
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        found.append(error)


def _is_sparse(page: PageText) -> bool:
    """Whether far less of the page is letters than what it shows takes room."""
    shown = page.source.content_bounds
    if shown is None or len(page.text) > _SPARSE_LETTERS:
        return False
    if not has_words(page.text):
        return True
    area = min(shown.width, page.width) * min(shown.height, page.height)
    letters = sum(item.width * item.height for item in page.items)
    return area > page.width * page.height * 0.2 and letters < area * 0.03


def _page_of(fault: object) -> int:
    number = getattr(fault, "page_num", None) or getattr(fault, "page_number", None) or 0
    return int(number)


def _pictures(data: bytes, pages: list[int]) -> list[int]:
    """Those of `pages` that show something, though they hold no text."""
    looker = LiteParse(ocr_enabled=False, quiet=True, target_pages=",".join(map(str, pages)), max_pages=len(pages))
    seen = looker.is_complex_bytes(data)
    return [page.page_number for page in seen if set(page.reasons) - {"no-text", "sparse-text"}]


def _structure(data: bytes) -> Iterator[bytes]:
    """The parts of the file where its catalogue can stand: itself, and what its object streams unpack to."""
    yield data
    left = _LARGEST_LOOK
    for found in _OBJECT_STREAM.finditer(data):
        if left <= 0:
            return
        try:
            unpacked = zlib.decompressobj().decompress(memoryview(data)[found.end() :], left)
        except zlib.error:
            continue
        left -= len(unpacked)
        yield unpacked
