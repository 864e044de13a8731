"""What the readers of single formats share: their options, where their text goes, and the two converters."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, Protocol

from anydoc import _anydoc as anydoc  # the compiled half: the other one knows how to send files to a hosted service

from pipeline.errors import Permanent
from pipeline.files.sentences import DAMAGED, PROTECTED
from pipeline.files.text import TOO_MUCH_TEXT, clean, has_words

NO_TEXT = "There is no text in this file."
TOO_DEEP = "The file is too large or too deeply nested to be read."
UNPACKED_PER_TEXT = 8  # XML around a text is several times as long as the text


@dataclass(frozen=True, slots=True)
class Options:
    """What the child is told about one file."""

    extension: str
    max_pages: int
    max_text_bytes: int
    ocr: bool = False
    tessdata_path: str | None = None
    ocr_language: str = "eng"
    seconds: float = 120.0
    """The wall time of the whole file; what a mail brings along is read as long as half of it lasts."""


class Output(Protocol):
    """Where results go as they appear."""

    def page(self, number: int | None, markdown: str) -> None: ...
    def failed_page(self, number: int, reason: str) -> None: ...
    def progress(self, fraction: float) -> None: ...


class Text:
    """Cleans and counts what goes to the output; skips what is blank."""

    def __init__(self, output: Output, limit: int) -> None:
        self.output, self.left, self.words = output, limit, False
        self.began = time.monotonic()

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

    def elapsed(self) -> float:
        """Seconds since the file was begun."""
        return time.monotonic() - self.began


AnydocFormat = Literal["doc", "docx", "odt", "pdf", "ppt", "pptx", "rtf", "epub", "xlsx", "ods", "odp", "csv"]


def converted(data: bytes, kind: AnydocFormat | None) -> str:
    """The Markdown of an Office file. Raises Permanent, and lets an I/O error through: that is no fault of the file."""
    try:
        return anydoc.to_markdown_bytes(data, kind)
    except anydoc.EncryptedError as error:
        raise Permanent(PROTECTED, detail=str(error)[:500]) from None
    except anydoc.ResourceLimitError as error:
        raise Permanent(TOO_DEEP, detail=str(error)[:500]) from None
    except (anydoc.ConvertError, ValueError) as error:
        if "(os error " in str(error):
            raise OSError(str(error)) from error
        raise Permanent(DAMAGED, detail=str(error)[:500]) from None
