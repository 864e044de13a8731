"""Other programs and libraries that turn a file into text, where they are installed, for `bench parse`.

The first one of a format is its judge: the words that it finds are those that a file holds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import multiprocessing
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

SECONDS = 60.0
"""What one reader may take for one file."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One way to text. `needs` is the program or the module without which it is left out."""

    name: str
    extensions: frozenset[str]
    needs: str
    read: Callable[[Path], str]

    @property
    def installed(self) -> bool:
        return shutil.which(self.needs) is not None or importlib.util.find_spec(self.needs) is not None

    def text(self, path: Path) -> str | None:
        """The text of `path`; None where it failed, crashed or took longer than SECONDS."""
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_send, args=(theirs, self.read, path), daemon=True)
        process.start()
        theirs.close()
        try:
            return ours.recv() if ours.poll(SECONDS) else None
        except EOFError:
            return None
        finally:
            process.kill()
            process.join()
            ours.close()


def installed(extension: str) -> list[Reader]:
    """The readers of a format that this machine has, its judge first."""
    return [reader for reader in READERS if extension in reader.extensions and reader.installed]


def _send(pipe: Connection, read: Callable[[Path], str], path: Path) -> None:
    with contextlib.suppress(Exception), contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
        pipe.send(read(path))


def _program(*command: str) -> Callable[[Path], str]:
    def read(path: Path) -> str:
        done = subprocess.run(
            [part.replace("FILE", str(path)) for part in command], capture_output=True, check=True, timeout=SECONDS
        )
        return done.stdout.decode("utf-8", "replace")

    return read


def _pypdf(path: Path) -> str:
    from pypdf import PdfReader  # type: ignore[import-not-found]

    return "\n".join(page.extract_text() for page in PdfReader(path).pages)


def _pdfminer(path: Path) -> str:
    from pdfminer.high_level import extract_text  # type: ignore[import-not-found]

    return extract_text(str(path))


def _pypdfium2(path: Path) -> str:
    import pypdfium2  # type: ignore[import-not-found]

    return "\n".join(page.get_textpage().get_text_bounded() for page in pypdfium2.PdfDocument(path))


def _docx(path: Path) -> str:
    import docx

    return "\n".join(
        node.text or "" for node in docx.Document(str(path)).element.body.iter() if node.tag.endswith("}t")
    )


def _pptx(path: Path) -> str:
    import pptx

    slides = pptx.Presentation(str(path)).slides
    return "\n".join(n.text or "" for slide in slides for n in slide.element.iter() if n.tag.endswith("}t"))


def _xlsx(path: Path) -> str:
    import openpyxl

    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    rows = (row for sheet in book.worksheets for row in sheet.iter_rows(values_only=True))
    return "\n".join(" ".join(str(cell) for cell in row if cell is not None) for row in rows)


READERS = (
    Reader("poppler", frozenset({".pdf"}), "pdftotext", _program("pdftotext", "-q", "-enc", "UTF-8", "FILE", "-")),
    Reader("pypdfium2", frozenset({".pdf"}), "pypdfium2", _pypdfium2),
    Reader("pypdf", frozenset({".pdf"}), "pypdf", _pypdf),
    Reader("pdfminer.six", frozenset({".pdf"}), "pdfminer", _pdfminer),
    Reader("python-docx", frozenset({".docx"}), "docx", _docx),
    Reader("python-pptx", frozenset({".pptx"}), "pptx", _pptx),
    Reader("openpyxl", frozenset({".xlsx"}), "openpyxl", _xlsx),
    Reader("antiword", frozenset({".doc"}), "antiword", _program("antiword", "-m", "UTF-8.txt", "-w", "0", "FILE")),
    Reader("catdoc", frozenset({".doc"}), "catdoc", _program("catdoc", "-d", "utf-8", "-w", "FILE")),
    Reader("xls2csv", frozenset({".xls"}), "xls2csv", _program("xls2csv", "-d", "utf-8", "-q", "0", "FILE")),
    Reader("catppt", frozenset({".ppt"}), "catppt", _program("catppt", "-d", "utf-8", "FILE")),
    Reader("odt2txt", frozenset({".odt", ".ods", ".odp"}), "odt2txt", _program("odt2txt", "--width=-1", "FILE")),
    Reader(
        "lynx", frozenset({".html"}), "lynx", _program("lynx", "-dump", "-nolist", "-display_charset=utf-8", "FILE")
    ),
)
