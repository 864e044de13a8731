"""From bytes to Markdown pages, one function a format. Runs only inside a parsing child."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from anydoc import _anydoc as anydoc  # the compiled half: the other one knows how to send files to a hosted service
from html_to_markdown import _html_to_markdown as html2md
from liteparse._liteparse import LiteParse

from pipeline.errors import Permanent
from pipeline.parsing.archive import check_archive
from pipeline.parsing.text import TOO_MUCH_TEXT, clean, decode, has_words

PDF_BATCH = 50  # pages held at once; progress is told after each batch
_MAX_SLIDES = 500
_MAX_COPIED = 1_000_000_000  # bytes of what all slides share, over all slides
_UNPACKED_PER_TEXT = 8  # XML around a text is several times as long as the text

DAMAGED = "The file is damaged or incomplete and cannot be read. Save it anew and upload it again."
PROTECTED = "The file is protected by a password. Upload a copy without one."
NEEDS_OCR = (
    "This PDF is a scan: its pages are pictures, without text. Reading it needs OCR (text recognition), which is "
    "switched off here; an operator switches it on with UPLOAD_PIPELINE_OCR=true. "
    "Or upload a version with a text layer."
)
NO_TEXT = "There is no text in this file."


@dataclass(frozen=True, slots=True)
class Options:
    """What the child is told about one file."""

    extension: str
    max_pages: int
    max_text_bytes: int
    ocr: bool = False
    tessdata_path: str | None = None
    ocr_language: str = "eng"


class Output(Protocol):
    """Where results go as they appear."""

    def page(self, number: int | None, markdown: str) -> None: ...
    def failed_page(self, number: int, reason: str) -> None: ...
    def progress(self, fraction: float) -> None: ...


def read(data: bytes, options: Options, output: Output) -> None:
    """Parse `data` into `output`. Raises Permanent for a file that can never be read."""
    text = _Text(output, options.max_text_bytes)
    _READERS[options.extension](data, options, text)
    if not text.words:
        raise Permanent(NO_TEXT)


class _Text:
    """Cleans and counts what goes to the output; skips what is blank."""

    def __init__(self, output: Output, limit: int) -> None:
        self.output, self.left, self.words = output, limit, False

    def page(self, number: int | None, markdown: str) -> bool:
        markdown = clean(markdown).strip("\n")
        if not has_words(markdown):
            return False
        self.left -= len(markdown.encode())
        if self.left < 0:
            raise Permanent(TOO_MUCH_TEXT)
        self.words = True
        self.output.page(number, markdown)
        return True


_EMPTY_FENCE = re.compile(r"\s*(```\w*\s*```)?\s*")


def _pdf(data: bytes, options: Options, text: _Text) -> None:
    # In a file that has rubbish before its header all offsets count from the header.
    start = data.find(b"%PDF-", 0, 1024)
    data = data[start:] if start > 0 else data
    try:
        blank = _pdf_pages(data, options, text)
        if not text.words:
            # Pages that are all alike look like nothing but running headers; then these are the text.
            blank = _pdf_pages(data, options, text, keep_headers_footers=True)
        pictures = _pictures(data, blank) if blank else []
    except (RuntimeError, ValueError) as error:
        raise _pdf_problem(error) from None
    if not text.words and pictures:
        raise Permanent(NEEDS_OCR if not options.ocr else "No text could be recognised in this scan.")
    for number in pictures:
        text.output.failed_page(number, "The page is a picture without text; reading it needs OCR.")


def _pdf_pages(data: bytes, options: Options, text: _Text, *, keep_headers_footers: bool = False) -> list[int]:
    """Send the pages that have text, and return the numbers of the others."""
    parser = LiteParse(
        output_format="markdown",
        image_mode="off",
        quiet=True,
        continue_on_page_error=True,
        max_pages=options.max_pages,
        num_workers=1,
        keep_headers_footers=keep_headers_footers,
        ocr_enabled=options.ocr,
        ocr_language=options.ocr_language if options.ocr else None,
        tessdata_path=options.tessdata_path if options.ocr else None,
        ocr_failure_fatal=False,
    )
    blank: list[int] = []
    session = parser.open_batch_session_bytes(data, PDF_BATCH)
    total = session.total_pages
    if total > options.max_pages:
        raise Permanent(f"The file has {total} pages; {options.max_pages} are allowed here. Upload it in parts.")
    while (batch := session.next_batch()) is not None:
        for page in batch.result.pages:
            markdown = page.markdown or ""
            if _EMPTY_FENCE.fullmatch(markdown) or not text.page(page.page_num, markdown):
                blank.append(page.page_num)
        for fault in batch.result.page_errors or ():
            text.output.failed_page(_page_of(fault), "The page is damaged.")
        text.output.progress(batch.end_page / max(total, 1))
    return blank


def _page_of(fault: object) -> int:
    number = getattr(fault, "page_num", None) or getattr(fault, "page_number", None) or 0
    return int(number)


def _pictures(data: bytes, pages: list[int]) -> list[int]:
    """Those of `pages` that show something, though they hold no text."""
    looker = LiteParse(ocr_enabled=False, quiet=True, target_pages=",".join(map(str, pages)), max_pages=len(pages))
    seen = looker.is_complex_bytes(data)
    return [page.page_number for page in seen if set(page.reasons) - {"no-text", "sparse-text"}]


def _pdf_problem(error: Exception) -> Permanent:
    said = str(error).lower()
    return Permanent(PROTECTED if "password" in said or "encrypt" in said else DAMAGED, detail=str(error)[:500])


def _convert(data: bytes, kind: Literal["csv"] | None = None) -> str:
    try:
        return anydoc.to_markdown_bytes(data, kind)
    except anydoc.EncryptedError as error:
        raise Permanent(PROTECTED, detail=str(error)[:500]) from None
    except anydoc.ResourceLimitError as error:
        raise Permanent("The file is too large or too deeply nested to be read.", detail=str(error)[:500]) from None
    except (anydoc.ConvertError, ValueError) as error:
        raise Permanent(DAMAGED, detail=str(error)[:500]) from None


def _office(data: bytes, options: Options, text: _Text) -> None:
    text.page(None, _convert(data))


def _zipped(data: bytes, options: Options, text: _Text) -> None:
    check_archive(data, max_bytes=options.max_text_bytes * _UNPACKED_PER_TEXT)
    text.page(None, _convert(data))


def _slides(data: bytes, options: Options, text: _Text) -> None:
    """A presentation, one page a slide.

    The converter does not say where a slide begins, so it is given one slide at a time, in a copy without media.
    """
    check_archive(data, max_bytes=options.max_text_bytes * _UNPACKED_PER_TEXT)
    try:
        pages = [anydoc.to_markdown_bytes(deck, "pptx") for deck in _single_slides(data, options.max_pages)]
    except Permanent:
        raise
    except Exception:  # an unusual deck is read as a whole, without slide numbers
        text.page(None, _convert(data))
        return
    if not any(map(has_words, pages)):
        text.page(None, _convert(data))
        return
    for number, page in enumerate(pages, 1):
        text.page(number, page)


def _single_slides(data: bytes, max_pages: int) -> Iterator[bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {n: archive.read(n) for n in archive.namelist() if n.endswith((".xml", ".rels"))}
    deck = parts["ppt/presentation.xml"]
    slides = re.findall(rb"<p:sldId\b[^>]*?(?:/>|>.*?</p:sldId>)", deck, re.DOTALL)
    if len(slides) > max_pages:
        raise Permanent(f"The file has {len(slides)} slides; {max_pages} are allowed here. Upload it in parts.")
    if not slides or len(slides) > _MAX_SLIDES:
        raise ValueError
    targets = dict(_relations(parts["ppt/_rels/presentation.xml.rels"]))
    own = {n for n in parts if n.startswith(("ppt/slides/", "ppt/notesSlides/", "ppt/comments/", "ppt/charts/"))}
    shared = {n: body for n, body in parts.items() if n not in own}
    if sum(map(len, shared.values())) * len(slides) > _MAX_COPIED:
        raise ValueError
    for slide in slides:
        found = re.search(rb"r:id=\"([^\"]+)\"", slide)
        name = targets[found[1].decode()].removeprefix("/ppt/") if found else ""
        needed = _reachable(f"ppt/{name}", parts, own)
        only = re.sub(
            rb"<p:sldIdLst>.*</p:sldIdLst>",
            lambda _, s=slide: b"<p:sldIdLst>" + s + b"</p:sldIdLst>",
            deck,
            flags=re.DOTALL,
        )
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as one:
            for part, body in {**shared, **needed, "ppt/presentation.xml": only}.items():
                one.writestr(part, body)
        yield packed.getvalue()


def _relations(xml: bytes) -> Iterator[tuple[str, str]]:
    for relation in re.findall(rb"<Relationship\b[^>]*>", xml):
        key, target = re.search(rb'\bId="([^"]+)"', relation), re.search(rb'\bTarget="([^"]+)"', relation)
        if key and target:
            yield key[1].decode(), target[1].decode("utf-8", "replace")


def _reachable(name: str, parts: dict[str, bytes], own: set[str]) -> dict[str, bytes]:
    """The slide `name`, with its notes, charts and comments."""
    found, todo = {name: parts[name]}, [name]
    while todo:
        folder, _, file = todo.pop().rpartition("/")
        rels = f"{folder}/_rels/{file}.rels"
        if rels not in parts:
            continue
        found[rels] = parts[rels]
        for _, target in _relations(parts[rels]):
            part = target.lstrip("/") if target.startswith("/") else target.replace("../", "ppt/", 1)
            # A note refers back to its slide, and a slide may link to another one; neither is followed.
            if part in own and part not in found and not part.startswith("ppt/slides/"):
                found[part] = parts[part]
                todo.append(part)
    return found


def _csv(data: bytes, options: Options, text: _Text) -> None:
    text.page(None, _convert(clean(decode(data)).encode(), "csv"))


_HTML_OPTIONS = html2md.ConversionOptions(
    extract_metadata=False,
    skip_images=True,
    autolinks=False,
    compact_tables=True,
    br_in_tables=False,
    exclude_selectors=["iframe", "object", "embed", "svg", "template", "noscript"],
    max_depth=500,
)


def _html(data: bytes, options: Options, text: _Text) -> None:
    text.page(None, html2md.convert(decode(data, html=True), _HTML_OPTIONS).content or "")


def _plain(data: bytes, options: Options, text: _Text) -> None:
    text.page(None, decode(data))


_READERS: dict[str, Callable[[bytes, Options, _Text], None]] = {
    ".pdf": _pdf,
    ".pptx": _slides,
    **dict.fromkeys((".docx", ".xlsx", ".odt", ".ods", ".odp", ".epub"), _zipped),
    **dict.fromkeys((".doc", ".xls", ".ppt", ".rtf"), _office),
    ".csv": _csv,
    ".html": _html,
    **dict.fromkeys((".md", ".txt"), _plain),
}
EXTENSIONS = frozenset(_READERS)
