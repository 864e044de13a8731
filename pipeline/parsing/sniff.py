"""What a file is, from its bytes. What the client declared is ignored; the name only decides between kinds of text."""

from __future__ import annotations

import mmap
import re
import struct
from pathlib import Path, PurePosixPath

import filetype

from pipeline.errors import Permanent
from pipeline.parsing.text import BYTE_ORDER_MARKS, looks_like_utf16

PDF = ("application/pdf", ".pdf")
DOCX = ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx")
PPTX = ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx")
XLSX = ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx")
ODT = ("application/vnd.oasis.opendocument.text", ".odt")
ODS = ("application/vnd.oasis.opendocument.spreadsheet", ".ods")
ODP = ("application/vnd.oasis.opendocument.presentation", ".odp")
EPUB = ("application/epub+zip", ".epub")
DOC = ("application/msword", ".doc")
XLS = ("application/vnd.ms-excel", ".xls")
PPT = ("application/vnd.ms-powerpoint", ".ppt")
RTF = ("application/rtf", ".rtf")
HTML = ("text/html", ".html")
MARKDOWN = ("text/markdown", ".md")
CSV = ("text/csv", ".csv")
TEXT = ("text/plain", ".txt")

_BY_NAME = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".csv": CSV,
    ".tsv": CSV,
}
_SUPPORTED = "PDF, Word, PowerPoint, Excel, OpenDocument, EPUB, RTF, HTML, Markdown, CSV and plain text can be read"
_FAMILIES = {"image": "a picture", "audio": "a sound recording", "video": "a video"}
_SAMPLE = 65_536
_CENTRAL_DIRECTORY_LIMIT = 4_194_304
_OFFICE_PART = re.compile(rb"PK\x01\x02[\s\S]{42}(word|ppt|xl)/")
_OFFICE = {b"word": DOCX, b"ppt": PPTX, b"xl": XLSX}
_OLE = ((b"WordDocument", DOC), (b"Workbook", XLS), (b"PowerPoint Document", PPT), (b"Book", XLS))
# Control characters that no text holds; tab, newlines, form feed, backspace and escape are in use.
_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 11, 12, 13, 27})


def sniff(path: Path, name: str) -> tuple[str, str]:
    """The media type and the extension (lower case, with its dot) of the file at `path`.

    `name` is the object's name; it decides only between plain text, Markdown, HTML and CSV.
    Raises Permanent, in the owner's words, for an empty file and for what no parser here can read.
    """
    with path.open("rb") as file:
        sample = file.read(_SAMPLE)
        if not sample.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
            raise Permanent("The file is empty.")
        head = sample.lstrip(b" \t\r\n\xef\xbb\xbf")
        if head.startswith(b"%PDF-"):
            return PDF
        if sample.startswith(b"{\\rtf"):
            return RTF
        if sample.startswith(b"PK\x03\x04"):
            return _inside_zip(_central_directory(path), sample)
        if sample.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
            return _inside_ole(path)
    if _is_text(sample):
        return _text_kind(head, name)
    if b"%PDF-" in sample[:1024]:  # readers accept a little rubbish before the header, and so do we
        return PDF
    if (kind := filetype.guess(sample)) is not None:
        what = _FAMILIES.get(kind.mime.partition("/")[0], "a file of a kind")
        raise Permanent(f"This is {what} (.{kind.extension}) that holds no readable text. {_SUPPORTED}.")
    raise Permanent(f"The kind of this file could not be recognised. {_SUPPORTED}.")


def _is_text(sample: bytes) -> bool:
    if any(sample.startswith(mark) for mark, _ in BYTE_ORDER_MARKS) or looks_like_utf16(sample):
        return True
    if filetype.guess(sample) is not None and b"\x00" in sample[:512]:
        return False
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls <= len(sample) * 0.02 or (controls <= 3 and len(sample) < 512)


def _text_kind(head: bytes, name: str) -> tuple[str, str]:
    if (kind := _BY_NAME.get(PurePosixPath(name).suffix.lower())) is not None:
        return kind
    if re.match(rb"<(!doctype\s+html|html[\s>])", head[:64], re.IGNORECASE):
        return HTML
    return TEXT


def _central_directory(path: Path) -> bytes:
    """The list of names at the end of a ZIP file, cut at a bound: a hostile one may be as long as the file."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_557))
        tail = file.read()
        end = tail.rfind(b"PK\x05\x06")
        if end < 0 or len(tail) < end + 22:
            raise Permanent("The file is damaged: its end is missing. Upload it again, or save it anew.")
        length, offset = struct.unpack_from("<II", tail, end + 12)
        file.seek(min(offset, size))
        return file.read(min(length, _CENTRAL_DIRECTORY_LIMIT))


def _inside_zip(directory: bytes, sample: bytes) -> tuple[str, str]:
    # ODF and EPUB put their type uncompressed at a fixed place, for exactly this purpose.
    if sample[30:38] == b"mimetype":
        for kind in (EPUB, ODT, ODS, ODP):
            if sample[38:138].find(kind[0].encode()) >= 0:
                return kind
    if part := _OFFICE_PART.search(directory):
        return _OFFICE[part[1]]
    raise Permanent(f"This is a ZIP archive. Unpack it and upload the documents inside one by one. {_SUPPORTED}.")


def _inside_ole(path: Path) -> tuple[str, str]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data.find("EncryptedPackage".encode("utf-16-le")) >= 0:
            raise Permanent("The file is protected by a password. Upload a copy without one.")
        for stream, kind in _OLE:
            if data.find(stream.decode().encode("utf-16-le")) >= 0:
                return kind
    raise Permanent(f"The kind of this file could not be recognised. {_SUPPORTED}.")
