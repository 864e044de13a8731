"""Writers of the two containers: ZIP files with parts in any order, and compound files."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping

Tree = Mapping[str, "bytes | Tree"]
_END, _FREE, _FAT = 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFFD


def zipped(*parts: tuple[str, bytes | str], stored: bool = False) -> bytes:
    """The parts in their order, deflated."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as archive:
        for name, body in parts:
            archive.writestr(name, body)
    return file.getvalue()


def compound(tree: Tree) -> bytes:
    """A compound file with these streams and storages: 512-byte sectors, and a small stream for what is short."""
    rows: list[list[int | str | bytes]] = [["Root Entry", 5, _FREE, b""]]  # name, kind, child, content
    right: dict[int, int] = {}

    def add(folder: Tree) -> int:
        first = last = _FREE
        for name, content in folder.items():
            number = len(rows)
            rows.append([name, 2, _FREE, content] if isinstance(content, bytes) else [name, 1, _FREE, b""])
            if last != _FREE:
                right[last] = number
            first, last = (number if first == _FREE else first), number
            if not isinstance(content, bytes):
                rows[number][2] = add(content)
        return first

    rows[0][2] = add(tree)
    sectors: list[bytes] = []
    table: list[int] = []

    def chain(content: bytes) -> int:
        if not content:
            return _END
        start = len(sectors)
        for at in range(0, len(content), 512):
            sectors.append(content[at : at + 512].ljust(512, b"\0"))
            table.append(len(sectors))
        table[-1] = _END
        return start

    small, small_table, places = b"", [], {}
    for number, (_, kind, _, content) in enumerate(rows):
        assert isinstance(content, bytes)
        if kind != 2 or not content:
            continue
        if len(content) >= 4096:
            places[number] = chain(content)
            continue
        places[number] = len(small) // 64
        count = -(-len(content) // 64)
        small_table += [places[number] + n + 1 for n in range(count - 1)] + [_END]
        small += content.ljust(count * 64, b"\0")
    rows[0][3] = small
    places[0] = chain(small)
    small_start = chain(b"".join(struct.pack("<I", n) for n in small_table))
    entries = b""
    for number, (name, kind, child, content) in enumerate(rows):
        raw = str(name).encode("utf-16-le")
        entries += raw.ljust(64, b"\0") + struct.pack(
            "<HBBIII36xIQ", len(raw) + 2, kind, 1, _FREE, right.get(number, _FREE), child,
            places.get(number, _END), len(content),  # type: ignore[arg-type]
        )  # fmt: skip
    directory = chain(entries)
    tables = 1
    while len(sectors) + tables > tables * 128:
        tables += 1
    first_table = len(sectors)
    whole = table + [_FAT] * tables
    whole += [_FREE] * (tables * 128 - len(whole))
    sectors += [struct.pack("<128I", *whole[n * 128 : n * 128 + 128]) for n in range(tables)]
    listed = [first_table + n for n in range(tables)] + [_FREE] * (109 - tables)
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    numbers = struct.pack("<9I", 0, tables, directory, 0, 4096, small_start, int(bool(small_table)), _END, 0)
    return head + numbers + struct.pack("<109I", *listed) + b"".join(sectors)


def outlook(properties: Mapping[int, str | bytes], attachments: tuple[Tree, ...] = (), *, inside: bool = False) -> Tree:
    """A message's streams: properties by number, text as UTF-16 and bytes as they are."""
    streams: dict[str, bytes | Tree] = {"__properties_version1.0": bytes(24 if inside else 32)}
    for number, value in properties.items():
        name = f"__substg1.0_{number:04X}{'001F' if isinstance(value, str) else '0102'}"
        streams[name] = value.encode("utf-16-le") if isinstance(value, str) else value
    for number, attachment in enumerate(attachments):
        streams[f"__attach_version1.0_#{number:08X}"] = {"__properties_version1.0": bytes(8), **attachment}
    return streams
