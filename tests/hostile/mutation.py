"""Damage, as it happens and as it is done on purpose: to bytes, and to the parts inside an archive."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable

from cli import demo_documents as demo
from tests import documents
from tests.hostile.archives import archive, epub, unpacked
from tests.hostile.pictures import gif, jpeg, ole, png

Maker = Callable[[random.Random], tuple[str, bytes]]
"""Makes a file: its name's extension, and its bytes."""

SEEDS: dict[str, Callable[[], bytes]] = {
    "pdf": documents.pdf_two_columns_with_table,
    "scan.pdf": documents.pdf_partly_scanned,
    "long.pdf": functools.partial(documents.pdf_pages, 40),
    "docx": documents.docx,
    "pptx": documents.pptx,
    "xlsx": documents.xlsx,
    "odt": documents.odt,
    "epub": epub,
    "rtf": documents.rtf,
    "html": documents.html,
    "md": documents.markdown,
    "csv": documents.csv,
    "utf16.txt": documents.utf16_text,
    "ja.md": documents.japanese,
    "ar.md": documents.arabic,
    "png": png,
    "jpg": jpeg,
    "gif": gif,
    "doc": ole,
    "demo.docx": demo.employee_handbook,
}
ZIPPED = ("docx", "pptx", "xlsx", "odt", "epub", "demo.docx")


@functools.cache
def seed(kind: str) -> bytes:
    return SEEDS[kind]()


_NUMBERS = [b"-1", b"0", b"4294967295", b"9223372036854775808", b"1e309", b"2147483648", b"65536"]
_WORDS = [
    b"\x00",
    b"\xff" * 8,
    b"<!--",
    b"]]>",
    b"%n%s",
    b"{{{",
    b"endobj",
    b"PK\x05\x06",
    b"\xed\xa0\x80",
    b"\xe2\x80\xae",
]


def damaged(data: bytes, rng: random.Random, deeds: int | None = None) -> bytes:
    """`data` after a few deeds, each at a place of its own."""
    body = bytearray(data)
    for _ in range(deeds or rng.choice([1, 1, 2, 4, 16, 64])):
        if not body:
            return b"\x00"
        at, length = rng.randrange(len(body)), rng.choice([1, 2, 8, 64, 512])
        match rng.randrange(10):
            case 0:
                body[at] ^= 1 << rng.randrange(8)
            case 1:
                body[at : at + length] = rng.randbytes(length)
            case 2:
                del body[at : at + length]
            case 3:
                body[at:at] = body[at : at + length] * rng.choice([1, 2, 50])
            case 4:
                body[at : at + 4] = rng.choice([bytes(4), b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x00\x00\x00\x80"])
            case 5:
                body[at:at] = rng.choice(_WORDS)
            case 6:
                body[at : at + length] = bytes(length)
            case 7:
                other = seed(rng.choice(list(SEEDS)))
                start = rng.randrange(len(other))
                body[at : at + length] = other[start : start + length]
            case 8:
                digits = [i for i in range(at, min(at + 2000, len(body))) if 48 <= body[i] <= 57]
                if digits:
                    body[digits[0] : digits[0] + 1] = rng.choice(_NUMBERS)
            case _:
                if rng.random() < 0.2:
                    del body[at:]
    return bytes(body)


def any_seed(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(list(SEEDS))
    return kind, damaged(seed(kind), rng)


def pdf_bytes(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(["pdf", "scan.pdf", "long.pdf"])
    return kind, damaged(seed(kind), rng)


def inside_an_archive(rng: random.Random) -> tuple[str, bytes]:
    """A part of a document is damaged, and the archive around it is sound."""
    kind = rng.choice(ZIPPED)
    parts = unpacked(seed(kind))
    name = rng.choice([n for n in parts if n != "mimetype"])
    match rng.randrange(4):
        case 0:
            del parts[name]
        case 1:
            parts[name] = parts[rng.choice(list(parts))]
        case _:
            body = parts[name]
            parts[name] = damaged(body if isinstance(body, bytes) else body.encode(), rng)
    return kind, archive(parts)


def wrong_extension(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(list(SEEDS))
    return rng.choice(["pdf", "docx", "txt", "html", "csv", "md", "exe", "jpg"]), seed(kind)


def two_in_one(rng: random.Random) -> tuple[str, bytes]:
    """A polyglot: the end of one file behind another, so that each reader sees another document."""
    first, second = seed(rng.choice(list(SEEDS))), seed(rng.choice([*ZIPPED, "pdf", "html"]))
    glue = rng.choice([b"", b"\n", b"<!--", b"\x00" * 64])
    return rng.choice(["pdf", "docx", "html", "gif"]), first + glue + second


def cut_off(rng: random.Random) -> tuple[str, bytes]:
    kind = rng.choice(list(SEEDS))
    data = seed(kind)
    return kind, data[: rng.randrange(1, len(data))]


MAKERS: dict[str, Maker] = {
    "damaged bytes": any_seed,
    "damaged PDF": pdf_bytes,
    "damaged part of an archive": inside_an_archive,
    "wrong extension": wrong_extension,
    "polyglot": two_in_one,
    "truncated": cut_off,
}
