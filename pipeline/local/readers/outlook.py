"""Outlook's `.msg`: a compound file with a stream for each property of a message, and a folder for each attachment."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

from pipeline.errors import Permanent
from pipeline.files.ole import CompoundFile, Damaged
from pipeline.files.sentences import DAMAGED
from pipeline.files.text import clean, decode, has_words, words
from pipeline.local.readers.html import from_html
from pipeline.local.readers.mail import Message
from pipeline.local.readers.reader import converted

_SUBJECT, _BODY, _HTML, _RTF = 0x0037, 0x1000, 0x1013, 0x1009
_SENT, _RECEIVED, _START, _END = 0x0039, 0x0E06, 0x0060, 0x0061
_FIELDS = (("To", 0x0E04), ("Cc", 0x0E03), ("Bcc", 0x0E02), ("Location", 0x3FFB))
_NAME, _LONG_NAME, _TITLE, _DATA = 0x3704, 0x3707, 0x3001, 0x3701
_CODE_PAGES = (0x3FDE, 0x3FFD)  # of the body as it came, and of the message's own strings
_MAX_DEPTH = 8
_MAX_ATTACHMENTS = 2_000
# What each compressed RTF takes as read before its first byte.
_KNOWN = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans Serif"
    b"SymbolArialTimes New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u"
    rb"\tab\tx"
)


def parsed(data: bytes) -> Message:
    """The message in a `.msg`. Raises Permanent."""
    try:
        return _message(CompoundFile(data), (), 0)
    except (Damaged, struct.error) as fault:
        raise Permanent(DAMAGED, detail=f"compound file: {fault}") from None


class _Folder:
    """The properties in one folder of the file."""

    def __init__(self, file: CompoundFile, path: tuple[str, ...]) -> None:
        self.file, self.path = file, path
        raw = file.read((*path, "__properties_version1.0"), 1_048_576)
        head = 32 if not path else 24 if path[-1].startswith("__substg") else 8
        self.fixed = {
            struct.unpack_from("<I", raw, at)[0]: raw[at + 8 : at + 16] for at in range(head, len(raw) - 15, 16)
        }
        pages = [struct.unpack_from("<i", self.fixed[n << 16 | 3])[0] for n in _CODE_PAGES if n << 16 | 3 in self.fixed]
        self.code_page = next((f"cp{page}" for page in pages if page > 0), "cp1252").replace("cp65001", "utf-8")

    def bytes(self, number: int) -> bytes:
        return self.file.read((*self.path, f"__substg1.0_{number:04X}0102"))

    def text(self, number: int) -> str:
        wide = self.file.read((*self.path, f"__substg1.0_{number:04X}001F"))
        if wide:
            return wide.decode("utf-16-le", "replace").rstrip("\0")
        narrow = self.file.read((*self.path, f"__substg1.0_{number:04X}001E")).rstrip(b"\0")
        return decode(narrow, declared=self.code_page)

    def time(self, number: int) -> str:
        raw = self.fixed.get(number << 16 | 0x40)
        ticks = struct.unpack("<Q", raw)[0] if raw else 0
        if not 0 < ticks < 3_000_000_000_000_000_000:
            return ""
        return f"{datetime(1601, 1, 1, tzinfo=UTC) + timedelta(microseconds=ticks // 10):%a, %d %b %Y %H:%M:%S +0000}"


def _message(file: CompoundFile, path: tuple[str, ...], depth: int) -> Message:
    own = _Folder(file, path)
    found = Message(_line(own.text(_SUBJECT)))
    name, address = _line(own.text(0x0C1A) or own.text(0x0042)), _line(own.text(0x5D01) or own.text(0x0C1F))
    sender = f"{name} <{address}>" if name and "@" in address and address != name else name or address
    found.fields = [("From", sender), *((title, _line(own.text(number))) for title, number in _FIELDS)]
    found.fields.append(("Date", own.time(_SENT) or own.time(_RECEIVED)))
    found.fields += [("Start", own.time(_START)), ("End", own.time(_END))]
    found.fields = [(title, value) for title, value in found.fields if value]
    found.body = _body(own)
    folders = [name for name in file.names(path) if name.startswith("__attach_version1.0_")]
    for folder in sorted(folders)[:_MAX_ATTACHMENTS]:
        inside = _Folder(file, (*path, folder))
        title = _line(inside.text(_LONG_NAME) or inside.text(_NAME) or inside.text(_TITLE)) or "unnamed"
        message = (*path, folder, f"__substg1.0_{_DATA:04X}000D")
        if (
            message in file.entries
            and depth < _MAX_DEPTH
            and (
                f"__substg1.0_{_SUBJECT:04X}001F" in (names := file.names(message))
                or "__properties_version1.0" in names
            )
        ):
            found.attachments.append((title, _message(file, message, depth + 1)))
            continue
        content = inside.bytes(_DATA)
        found.attachments.append((title, content))
    return found


def _line(text: str) -> str:
    return " ".join(clean(text).split())


def _body(own: _Folder) -> str:
    """Of the same body in up to three forms, the best that says as much as any."""
    plain = own.text(_BODY).replace("\r\n", "\n").strip("\n")
    html = own.bytes(_HTML) or own.text(_HTML).encode()
    rich = from_html(decode(html, html=True, declared=own.code_page)) if html else ""
    if has_words(rich) and words(rich) >= 0.8 * words(plain):
        return rich
    if has_words(plain):
        return plain
    packed = own.bytes(_RTF)
    return converted(unpacked_rtf(packed), "rtf") if packed else rich


def unpacked_rtf(data: bytes) -> bytes:
    """The RTF in Outlook's own compression. Raises Permanent for what is none."""
    if len(data) < 16:
        raise Permanent(DAMAGED, detail="compressed RTF without a head")
    if data[8:12] == b"MELA":
        return data[16 : 16 + struct.unpack_from("<I", data, 4)[0]]
    window, written = bytearray(_KNOWN.ljust(4096, b"\0")), len(_KNOWN)
    out, at = bytearray(), 16
    while at < len(data):
        flags, at = data[at], at + 1
        for bit in range(8):
            if not flags >> bit & 1:
                places, at = (None,), at + 1
                if at > len(data):
                    return bytes(out)
            else:
                if at + 2 > len(data):
                    return bytes(out)
                place, length = data[at] << 4 | data[at + 1] >> 4, (data[at + 1] & 15) + 2
                if place == written % 4096:  # the end
                    return bytes(out)
                places, at = range(place, place + length), at + 2
            for place in places:  # a copy may run into what it writes itself
                letter = data[at - 1] if place is None else window[place % 4096]
                window[written % 4096] = letter
                written += 1
                out.append(letter)
    return bytes(out)
