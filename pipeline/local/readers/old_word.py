"""The plain text of a Word document before 2007: for Word 6 and 95, which the converter does not know, and for what it
finds no text in, since it reads neither headers nor footers nor text boxes.

A document's characters lie in pieces; a table of pieces gives their order. Layout is not looked at.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from pipeline.errors import Permanent
from pipeline.files import kinds
from pipeline.files.ole import CompoundFile, Damaged
from pipeline.files.sentences import DAMAGED, PROTECTED
from pipeline.files.text import decode

_FIRST_OF_97 = 105  # the number of the format's version; 101 to 104 are Word 6 and 95
_COMPLEX, _ENCRYPTED, _TABLE_1 = 0x0004, 0x0100, 0x0200
_MOST_PIECES = 1_000_000
_CODE_PAGES = {
    **dict.fromkeys((0x05, 0x0E, 0x15, 0x18, 0x1A, 0x1B, 0x1C, 0x24), "cp1250"),
    **dict.fromkeys((0x02, 0x19, 0x22, 0x23, 0x2F), "cp1251"),
    **{0x08: "cp1253", 0x1F: "cp1254", 0x0D: "cp1255", 0x01: "cp1256", 0x29: "cp1256", 0x1E: "cp874"},
    **{0x25: "cp1257", 0x26: "cp1257", 0x27: "cp1257", 0x2A: "cp1258", 0x11: "cp932", 0x12: "cp949"},
}  # by the lower ten bits of the language's number
# A field's instruction stands between its begin and its separator; only its result is seen.
_INSTRUCTION = re.compile("\x13[^\x13\x14\x15]*(?:\x14|(?=\x15))|\x15")


def is_word_6(file: CompoundFile) -> bool:
    """Whether a Word document is older than Word 97."""
    head = file.read((_stream(file, "worddocument"),), 12)
    return len(head) == 12 and 0 < struct.unpack_from("<H", head, 2)[0] < _FIRST_OF_97


def text_of(data: bytes) -> str:
    """All text of a document. Raises Permanent for one that is protected or damaged."""
    try:
        file = CompoundFile(data)
        old = is_word_6(file)
        stream = file.read((_stream(file, "worddocument"),))
        (flags,) = struct.unpack_from("<H", stream, 10)
        if flags & _ENCRYPTED:
            raise Permanent(PROTECTED)
        raw = list(_pieces(file, stream, flags, old))
    except (Damaged, struct.error) as error:
        raise Permanent(kinds.OLD_WORD if _claims_word_6(data) else DAMAGED, detail=repr(error)) from None
    text = (
        _decoded(b"".join(part for part, _ in raw), stream) if old else "".join(p.decode(e, "replace") for p, e in raw)
    )
    for _ in range(8):  # fields stand in fields
        text, found = _INSTRUCTION.subn("", text)
        if not found:
            break
    text = text.replace("\x07\x07", "\n").replace("\x07", " | ").replace("\x1e", "-").replace("\r", "\n\n")
    return text.translate({0x0B: "\n", 0x0C: "\n\n", 0x0E: "\n", 0x1F: None, 0x01: None, 0x08: None, 0x02: None})


def _claims_word_6(data: bytes) -> bool:
    try:
        return is_word_6(CompoundFile(data))
    except Damaged:
        return False


def _stream(file: CompoundFile, name: str) -> str:
    return next((found for found in file.names() if found.lower() == name), name)


def _decoded(text: bytes, stream: bytes) -> str:
    """Word 6 names a language; where that is a western one, which is the default, the bytes are looked at."""
    (language,) = struct.unpack_from("<H", stream, 6)
    named = {0x0804: "cp936", 0x0404: "cp950"}.get(language, _CODE_PAGES.get(language & 0x3FF))
    return text.decode(named, "replace") if named else decode(text)


def _pieces(file: CompoundFile, stream: bytes, flags: int, old: bool) -> Iterator[tuple[bytes, str]]:
    """The characters in their order, each piece with its encoding; Word 6 has one for all."""
    first, last = struct.unpack_from("<II", stream, 0x18)
    if old and not flags & _COMPLEX:
        yield stream[first:last], ""
        return
    at, size = struct.unpack_from("<II", stream, 0x160 if old else 0x1A2)
    table = stream if old else file.read((_stream(file, "1table" if flags & _TABLE_1 else "0table"),))
    pieces = _piece_table(table[at : at + size])
    count = min((len(pieces) - 4) // 12, _MOST_PIECES)
    if count < 1:
        yield stream[first:last], "cp1252"
        return
    ends = struct.unpack_from(f"<{count + 1}I", pieces)
    left = 2 * len(stream)  # pieces may share their characters, but a document has no more of them than its file
    for number in range(count):
        (place,) = struct.unpack_from("<I", pieces, 4 * (count + 1) + 8 * number + 2)
        length = max(0, ends[number + 1] - ends[number])
        left -= length
        if left < 0:
            return
        if old:
            yield stream[place : place + length], ""
        elif place & 0x40000000:
            place = (place & 0x3FFFFFFF) // 2
            yield stream[place : place + length], "cp1252"
        else:
            yield stream[place : place + 2 * length], "utf-16-le"


def _piece_table(clx: bytes) -> bytes:
    at = 0
    while at + 5 <= len(clx):
        if clx[at] == 1:
            at += 3 + struct.unpack_from("<H", clx, at + 1)[0]
        elif clx[at] == 2:
            return clx[at + 5 : at + 5 + struct.unpack_from("<I", clx, at + 1)[0]]
        else:
            break
    return b""
