"""From a PDF to Markdown pages. What a person can read in it is found, or the page is named with the reason."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from liteparse._liteparse import LiteParse

from pipeline.errors import Permanent
from pipeline.parsing.pdf_forms import beside, xfa_text
from pipeline.parsing.pdf_pages import RunningLines, headless, hyphens, lost_lines, readable, turned, words
from pipeline.parsing.sentences import DAMAGED, PROTECTED

if TYPE_CHECKING:
    from pipeline.parsing.readers import Options, Text

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
RIGHTS = (
    "The file is protected by rights management: only the program that protected it can open it. "
    "Upload a copy without that protection."
)
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

_EMPTY_FENCE = re.compile(r"\s*(```\w*\s*```)?\s*")
_HANDLER = re.compile(rb"/Filter\s*/(Adobe\.PubSec|Standard|[A-Za-z][\w.]*)")
_COLLECTION = re.compile(rb"/Collection\s*(?:<<|\d+\s+\d+\s+R)")
_OBJECT_STREAM = re.compile(rb"/ObjStm\b[^>]*(?:>(?!>)[^>]*)*>>\s*stream\r?\n")
_WRAPPED = re.compile(rb"MicrosoftIRMServices|/EncryptedPayload")
_OUR_FAULT = re.compile(r"os error|permission denied|no such file|conversion error|unsupported file format")
_FEW_WORDS = 200
"""A page that stands for something that it is not itself has no more."""
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
        return Permanent(RIGHTS, detail=said[:500])
    return Permanent(PROTECTED if "password" in said or "encrypt" in said else DAMAGED, detail=said[:500])


class _Pdf:
    """One file on its way."""

    def __init__(self, data: bytes, options: Options, text: Text) -> None:
        self.data, self.options, self.text = data, options, text
        self.running = RunningLines()
        self.known: set[str] = set()
        self.blank: list[int] = []
        self.unreadable: list[int] = []
        self.damaged = 0

    def read(self) -> None:
        options, text = self.options, self.text
        session = self._library(max_pages=options.max_pages).open_batch_session_bytes(self.data, BATCH)
        total = session.total_pages
        if total > options.max_pages:
            raise Permanent(f"The file has {total} pages; {options.max_pages} are allowed here. Upload it in parts.")
        while (batch := session.next_batch()) is not None:
            pages = list(batch.result.pages)
            if batch.start_page == 1 and total <= 3 and self._stands_for_another(pages, batch.result.xfa_packets or ()):
                return
            self._send(pages)
            for fault in batch.result.page_errors or ():
                self.damaged += 1
                text.output.failed_page(_page_of(fault), PAGE_DAMAGED)
            text.output.progress(batch.end_page / max(total, 1))
        self._account()

    def _library(self, **more: Any) -> LiteParse:
        ocr = self.options.ocr
        return LiteParse(
            output_format="markdown",
            image_mode="off",
            quiet=True,
            continue_on_page_error=True,
            num_workers=1,
            keep_headers_footers=True,
            extract_annotations=True,
            extract_form_fields=True,
            extract_xfa_packets=True,
            ocr_enabled=ocr,
            ocr_language=self.options.ocr_language if ocr else None,
            tessdata_path=self.options.tessdata_path if ocr else None,
            ocr_failure_fatal=False,
            **more,
        )

    def _send(self, pages: list[Any]) -> None:
        pages = self._upright(pages)
        for page in pages:
            self.running.note(page.page_num, page.height, page.text_items)
            self.known.update(words(page.text))
        for page in pages:
            if not readable(page.text):
                self.unreadable.append(page.page_num)
            elif not self.text.page(page.page_num, self._markdown(page)):
                self.blank.append(page.page_num)

    def _markdown(self, page: Any) -> str:
        """All that the page says."""
        markdown, text, items = page.markdown or "", page.text, page.text_items
        if _EMPTY_FENCE.fullmatch(markdown):
            markdown = ""
        lost = lost_lines(markdown, text, items)
        markdown = self.running.strip(page.page_num, page.height, items, markdown)
        markdown = headless(hyphens(markdown, text, self.known))
        return "\n\n".join(part for part in (markdown, lost, beside(page, text)) if part)

    def _upright(self, pages: list[Any]) -> list[Any]:
        """`pages`, read once more and turned where most letters lie on their side: Markdown has the upright ones alone."""
        angles = {page.page_num: angle for page in pages if (angle := turned(page.text_items))}
        if not angles:
            return pages
        again = self._library(
            page_orientation_corrections=list(angles.items()),
            target_pages=",".join(map(str, angles)),
            max_pages=len(angles),
        ).parse_bytes(self.data)
        upright = {page.page_num: page for page in again.pages if not turned(page.text_items)}
        return [upright.get(page.page_num, page) for page in pages]

    def _stands_for_another(self, pages: list[Any], xfa: Any) -> bool:
        """Whether these pages only say that something else is in the file; sends that, or raises Permanent."""
        shown = " ".join(page.text for page in pages)
        if len(words(shown)) > _FEW_WORDS:
            return False
        if _WRAPPED.search(self.data):
            raise Permanent(RIGHTS)
        if any(_COLLECTION.search(part) for part in _structure(self.data)):
            raise Permanent(PORTFOLIO)
        if not xfa or any(page.form_fields for page in pages) or (words(shown) and "adobe" not in shown.casefold()):
            return False
        if not self.text.page(1, xfa_text(xfa)):
            raise Permanent(XFA)
        return True

    def _account(self) -> None:
        """Name the pages without text that show something; or refuse the file, where there is no text at all."""
        ocr, text = self.options.ocr, self.text
        pictures = _pictures(self.data, self.blank) if self.blank else []
        if not text.words:
            if self.unreadable:
                raise Permanent(UNREADABLE)
            if pictures:
                raise Permanent(NOTHING_RECOGNISED if ocr else NEEDS_OCR)
            if self.damaged:
                raise Permanent(DAMAGED)
        for number in pictures:
            text.output.failed_page(number, PAGE_NOT_RECOGNISED if ocr else PAGE_IS_PICTURE)
        for number in self.unreadable:
            text.output.failed_page(number, PAGE_UNREADABLE)


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
