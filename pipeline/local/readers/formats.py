"""From bytes to Markdown pages, one reader a format. Runs only inside a parsing child."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace

from pipeline.errors import Permanent
from pipeline.files.archive import UNREADABLE, check_archive
from pipeline.files.ole import CompoundFile, Damaged
from pipeline.files.sentences import DAMAGED, PROTECTED
from pipeline.files.sniff import kind_of
from pipeline.files.text import decode, has_words
from pipeline.local.readers import mail, notebook, old_word, outlook, sheets, xml
from pipeline.local.readers.html import from_html
from pipeline.local.readers.pdf import read_pdf
from pipeline.local.readers.pictures import read_picture
from pipeline.local.readers.reader import NO_TEXT, UNPACKED_PER_TEXT, AnydocFormat, Options, Output, Text, converted
from pipeline.local.readers.tables import mended

_MAX_SLIDES = 500
_MAX_COPIED = 1_000_000_000  # bytes of what all slides share, over all slides

NO_SLIDE_TEXT = "There is no text in this presentation: its slides are empty, or are pictures."


def read(data: bytes, options: Options, output: Output) -> None:
    """Parse `data` into `output`. Raises Permanent for a file that can never be read."""
    text = Text(output, options.max_text_bytes)
    _READERS[options.extension](data, options, text)
    if not text.words:
        raise Permanent(NO_TEXT)


def _zipped(data: bytes, options: Options, text: Text) -> None:
    check_archive(data, max_bytes=options.max_text_bytes * UNPACKED_PER_TEXT)
    text.page(None, mended(converted(data, _FORMATS[options.extension])))


def _office(data: bytes, options: Options, text: Text) -> None:
    text.page(None, mended(converted(data, _FORMATS[options.extension])))


def _word(data: bytes, options: Options, text: Text) -> None:
    """A Word document before 2007. What the converter does not know or finds no text in is read by its pieces."""
    try:
        known = not old_word.is_word_6(CompoundFile(data))
    except Damaged:
        known = True
    problem = None
    if known:
        try:
            text.page(None, mended(converted(data, "doc")))
        except Permanent as found:
            problem = found
    if text.words or (problem is not None and problem.message == PROTECTED):
        if problem is not None:
            raise problem
        return
    if not text.page(None, old_word.text_of(data)) and problem is not None:
        raise problem


def _slides(data: bytes, options: Options, text: Text) -> None:
    """A presentation, one page a slide.

    The converter does not say where a slide begins, so it is given one slide at a time, in a copy without media.
    """
    check_archive(data, max_bytes=options.max_text_bytes * UNPACKED_PER_TEXT)
    try:
        pages = [converted(deck, "pptx") for deck in _single_slides(data, options.max_pages)]
    except OSError:
        raise
    except Permanent as problem:
        if problem.message != DAMAGED:
            raise
        _whole_deck(data, text)
        return
    except Exception:  # an unusual deck is read as a whole, without slide numbers
        _whole_deck(data, text)
        return
    if not any(map(has_words, pages)):
        _whole_deck(data, text)
        return
    for number, page in enumerate(pages, 1):
        text.page(number, mended(page))


def _whole_deck(data: bytes, text: Text) -> None:
    try:
        text.page(None, mended(converted(data, "pptx")))
    except Permanent as problem:
        # The converter calls a deck that is sound and says nothing unusable.
        if problem.message != DAMAGED or not _is_sound_deck(data):
            raise
    if not text.words:
        raise Permanent(NO_SLIDE_TEXT)


def _is_sound_deck(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            parts = [n for n in archive.namelist() if re.fullmatch(r"ppt/(presentation|slides/[^/]+)\.xml", n)]
            return "ppt/presentation.xml" in parts and all(b"</" in archive.read(n)[-200:] for n in parts)
    except UNREADABLE:
        return False


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


def _html(data: bytes, options: Options, text: Text) -> None:
    text.page(None, mended(from_html(decode(data, html=True))))


def _plain(data: bytes, options: Options, text: Text) -> None:
    text.page(None, decode(data))


_MESSAGES: dict[str, Callable[[bytes], list[mail.Message]]] = {
    ".eml": lambda data: [mail.parsed(data)],
    ".mhtml": lambda data: [mail.parsed(data, saved_page=True)],
    ".mbox": mail.parsed_box,
    ".msg": lambda data: [outlook.parsed(data)],
}


def _mail(data: bytes, options: Options, text: Text) -> None:
    def attached(content: bytes, name: str) -> str | list[mail.Message]:
        _, extension = kind_of(content, name)
        if extension in _MESSAGES:
            return _MESSAGES[extension](content)
        held = _Held()
        inside = Text(held, text.left)
        _READERS[extension](content, replace(options, extension=extension), inside)
        if not inside.words:
            raise Permanent(NO_TEXT)
        return "\n\n".join([*held.pages, *held.failed])

    mail.write(_MESSAGES[options.extension](data), options, text, attached)


class _Held:
    """An attachment's pages, for the page of its message."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.failed: list[str] = []

    def page(self, number: int | None, markdown: str) -> None:
        self.pages.append(markdown)

    def failed_page(self, number: int, reason: str) -> None:
        self.failed.append(f"Page {number} was not read: {reason}")

    def progress(self, fraction: float) -> None:
        """The message's own progress is not known."""


_FORMATS: dict[str, AnydocFormat] = {
    ".docx": "docx", ".odt": "odt", ".odp": "odp", ".epub": "epub", ".ppt": "ppt", ".rtf": "rtf",
}  # fmt: skip
_READERS: dict[str, Callable[[bytes, Options, Text], None]] = {
    ".pdf": read_pdf,
    ".pptx": _slides,
    **dict.fromkeys((".xlsx", ".ods"), sheets.read),
    ".xls": sheets.read_old,
    **dict.fromkeys((".docx", ".odt", ".odp", ".epub"), _zipped),
    ".doc": _word,
    **dict.fromkeys((".ppt", ".rtf"), _office),
    ".csv": sheets.read_csv,
    ".html": _html,
    **dict.fromkeys(_MESSAGES, _mail),
    ".ipynb": notebook.read,
    **dict.fromkeys((".svg", ".fb2", ".xml"), xml.read),
    **dict.fromkeys((".md", ".txt"), _plain),
    **dict.fromkeys((".png", ".jpg", ".tif"), read_picture),
}
EXTENSIONS = frozenset(_READERS)
