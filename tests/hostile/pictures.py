"""Pictures and an old Word file, as small as they can be, and pictures that are larger than they look."""

from __future__ import annotations

import random
import struct
import zlib


def png(width: int = 8, height: int = 8, rows: bytes | None = None) -> bytes:
    """A grey picture; `rows` may be anything, and the size a lie."""
    raw = rows if rows is not None else (b"\x00" + bytes(width)) * height

    def part(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(raw)) + part(b"IEND", b"")


def jpeg() -> bytes:
    """The beginning of one."""
    return bytes.fromhex("ffd8ffe000104a46494600010101006000600000ffdb0043") + b"\x10" * 66 + b"\xff\xd9"


def gif() -> bytes:
    return bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b")


def ole(name: str = "WordDocument") -> bytes:
    """A compound file with one stream, whose content is nothing that Word has written."""
    free, end, fat = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    header += struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, 1, 1, 0, 4096, end, 0, end, 0) + struct.pack("<I", 0) + b"\xff" * 432
    table = struct.pack("<128I", fat, end, *range(3, 10), end, *[free] * 118)

    def entry(title: str, kind: int, child: int, start: int, size: int) -> bytes:
        spelled = title.encode("utf-16-le").ljust(64, b"\x00")
        length = len(title) * 2 + 2
        return (
            spelled
            + struct.pack("<HBBIII", length, kind, 1, free, free, child)
            + bytes(36)
            + struct.pack("<IQ", start, size)
        )

    folder = entry("Root Entry", 5, 1, end, 0) + entry(name, 2, free, 2, 4096) + bytes(256)
    return (header + table + folder + b"\xec\xa5" + b"The deductible is 500 dollars. " * 130)[: 512 * 11].ljust(
        512 * 11, b"\x00"
    )


def picture_bomb(rng: random.Random) -> tuple[str, bytes]:
    return "png", png(rng.choice([60_000, 2**31 - 1]), 60_000, bytes(10_000_000))


def old_office(rng: random.Random) -> tuple[str, bytes]:
    """A compound file whose chain of sectors goes round in a circle, or leads nowhere."""
    kind = rng.choice(["WordDocument", "Workbook", "PowerPoint Document"])
    data = bytearray(ole(kind))
    for _ in range(rng.randrange(1, 20)):
        struct.pack_into("<I", data, 512 + 4 * rng.randrange(12), rng.choice([1, 2, 5, 127, 0x7FFFFFFF, 0xFFFFFFFE]))
    return {"WordDocument": "doc", "Workbook": "xls"}.get(kind, "ppt"), bytes(data)


MAKERS = {"picture larger than it looks": picture_bomb, "old Office": old_office}
