"""What a file is, from its bytes. What the client declared is ignored; the name only decides between kinds of text."""

from __future__ import annotations

import mmap
import re
from pathlib import Path, PurePosixPath

import filetype

from pipeline.errors import Permanent
from pipeline.files import kinds, ole
from pipeline.files.containers import inside_ole, inside_zip
from pipeline.files.encodings import unmarked_utf16
from pipeline.files.kinds import Kind
from pipeline.files.text import BYTE_ORDER_MARKS

_BY_NAME = {
    ".md": kinds.MARKDOWN,
    ".markdown": kinds.MARKDOWN,
    ".html": kinds.HTML,
    ".htm": kinds.HTML,
    ".xhtml": kinds.HTML,
    ".csv": kinds.CSV,
    ".tsv": kinds.CSV,
}
_FAMILIES = {"image": "a picture", "audio": "a sound recording", "video": "a video"}
_SAMPLE = 65_536
# Control characters that no text holds; tab, newlines, form feed, backspace and escape are in use.
_CONTROLS = bytes(set(range(32)) - {8, 9, 10, 11, 12, 13, 27})

_HTML = re.compile(rb"(?:<!--(?:(?!-->)[\s\S]){0,4000}-->\s*)*<(!doctype\s+html|html[\s>])", re.IGNORECASE)
_XML_HEAD = re.compile(rb"(?:<\?(?:(?!\?>)[\s\S]){0,4000}\?>|<!--(?:(?!-->)[\s\S]){0,4000}-->|<!DOCTYPE[^<>\[]{0,400}"
                       rb"(?:\[[^\]]{0,20000}\]\s*)?>|\s)*")  # fmt: skip
_ROOT = re.compile(rb"<(?:[\w.-]{1,40}:)?([A-Za-z_][\w.-]{0,60})[\s/>]")
_XML_ROOTS = {b"html": kinds.HTML, b"svg": kinds.SVG, b"FictionBook": kinds.FICTION_BOOK}
_FIELD = re.compile(rb"[!-9;-~]{1,60}:")
_MAIL_FIELD = re.compile(
    rb"(message-id|mime-version|received|return-path|delivered-to|dkim-signature|x-mailer|x-originating-ip):",
    re.IGNORECASE,
)
_MBOX = re.compile(rb"From \S{1,200}[ ]+\w{3} \w{3} +\d{1,2} [\d:]{5,8}")


def sniff(path: Path, name: str, *, pictures: bool = False) -> Kind:
    """The media type and the extension (lower case, with its dot) of the file at `path`.

    `name` is the object's name; it decides only between kinds of text. `pictures` is whether those can be read too.
    Raises Permanent, in the owner's words, for an empty file and for what no parser here can read, and OSError.
    """
    with path.open("rb") as file:
        if not file.read(1):
            raise Permanent("The file is empty.")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return kind_of(data, name, pictures=pictures)


def kind_of(data: bytes | mmap.mmap, name: str, *, pictures: bool = False) -> Kind:
    """See sniff."""
    sample = data[:_SAMPLE]
    if not sample.strip(b"\x00 \t\r\n\xef\xbb\xbf\xff\xfe"):
        raise Permanent("The file is empty.")
    head = sample.lstrip(b" \t\r\n\xef\xbb\xbf")
    if head.startswith(b"%PDF-"):
        return kinds.PDF
    if head.startswith(b"{\\rtf"):
        return kinds.RTF
    if sample.startswith((b"PK\x03\x04", b"PK\x07\x08PK\x03\x04", b"PK00PK\x03\x04")):
        return inside_zip(data)
    if sample.startswith(ole.SIGNATURE):
        return inside_ole(data)
    for signature, sentence in kinds.BY_SIGNATURE:
        if sample.startswith(signature) and not (signature == b"%!PS" and b"%PDF-" in sample[:1024]):
            raise Permanent(sentence)
    if sample[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        raise Permanent(kinds.KINDLE)
    if _is_pdf_behind_junk(sample):
        return kinds.PDF
    if _is_text(sample):
        return _text_kind(head, name)
    if b"%PDF-" in sample[:1024]:  # readers accept a little rubbish before the header, and so do we
        return kinds.PDF
    if (guess := filetype.guess(sample)) is not None:
        if pictures and guess.mime in kinds.PICTURES:
            return kinds.PICTURES[guess.mime]
        what = _FAMILIES.get(guess.mime.partition("/")[0], "a file of a kind")
        raise Permanent(f"This is {what} (.{guess.extension}) that holds no readable text. {kinds.SUPPORTED}.")
    raise Permanent(kinds.UNKNOWN)


def _is_pdf_behind_junk(sample: bytes) -> bool:
    """Lines of text before the header, as a mail or web server puts them there; a text about PDFs has no objects."""
    header = re.search(rb"(?:^|[\r\n])%PDF-\d\.\d", sample[:1024])
    return header is not None and re.search(rb"[\r\n]\s{0,8}\d{1,10} \d{1,5} obj\b", sample[header.end() :]) is not None


def _is_text(sample: bytes) -> bool:
    if any(sample.startswith(mark) for mark, _ in BYTE_ORDER_MARKS) or unmarked_utf16(sample):
        return True
    if filetype.guess(sample) is not None and b"\x00" in sample[:512]:
        return False
    controls = len(sample) - len(sample.translate(None, _CONTROLS))
    return controls <= len(sample) * 0.02 or (controls <= 3 and len(sample) < 512)


def _text_kind(head: bytes, name: str) -> Kind:
    suffix = PurePosixPath(name).suffix.lower()
    if (kind := _BY_NAME.get(suffix)) is not None:
        return kind
    # UTF-16 shows its ASCII between zeros.
    head = head.replace(b"\0", b"").lstrip(b"\xff\xfe \t\r\n")
    if _HTML.match(head):
        return kinds.HTML
    if head.startswith(b"<") and (kind := _xml_kind(head)) is not None:
        return kind
    if _MBOX.match(head):
        return kinds.MBOX
    if (kind := _mail_kind(head, suffix)) is not None:
        return kind
    if head.startswith(b"{") and (suffix == ".ipynb" or b'"cell_type"' in head) and b'"cells"' in head:
        return kinds.NOTEBOOK
    return kinds.TEXT


def _xml_kind(head: bytes) -> Kind | None:
    before = _XML_HEAD.match(head)
    root = _ROOT.match(head, before.end() if before else 0)
    if root is None:
        return kinds.XML if head.startswith(b"<?xml") else None
    if (kind := _XML_ROOTS.get(root[1])) is not None:
        return kind
    return kinds.XML if head.startswith((b"<?xml", b"<!DOCTYPE")) or b"xmlns" in head[:2000] else None


def _mail_kind(head: bytes, suffix: str) -> Kind | None:
    """An e-mail begins with its header fields, and some that no letter has are among them."""
    fields, _, _ = head.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = [line for line in fields.split(b"\n") if line[:1] not in (b" ", b"\t")]
    sure = sum(_MAIL_FIELD.match(line) is not None for line in lines)
    if not lines or not _FIELD.match(lines[0]) or (not sure and suffix not in (".eml", ".mht", ".mhtml")):
        return None
    if sum(_FIELD.match(line) is not None for line in lines[:20]) < min(2, len(lines[:20])):
        return None
    saved_page = suffix in (".mht", ".mhtml") or b"\nsnapshot-content-location:" in fields.lower()
    return kinds.MHTML if saved_page else kinds.MAIL
