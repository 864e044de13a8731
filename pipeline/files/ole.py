"""The directory of a compound file: the container of Word, Excel and PowerPoint before 2007, and of Outlook's messages.

Only what is needed to tell such files apart and to read single streams. Every chain of sectors is followed for at most
as many steps as the file has sectors, so a loop ends; nothing is trusted that the header says about lengths.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass

SIGNATURE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_LAST = 0xFFFFFFFA  # this and what is above are marks, not sectors
_ENTRY = struct.Struct("<64sHBBIII36xIQ")
_MOST_ENTRIES = 65_536
_STORAGE, _STREAM, _ROOT = 1, 2, 5


class Damaged(Exception):
    """What cannot be followed in a compound file."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stream, or a storage, which is a folder."""

    name: str
    storage: bool
    start: int
    size: int


class CompoundFile:
    """`data` may be bytes or a mapped file. Raises Damaged when there is no directory."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        if len(data) < 512 or data[:8] != SIGNATURE:
            raise Damaged("no header")
        shift, self._small_shift = struct.unpack_from("<HH", data, 30)
        if shift not in (9, 12) or self._small_shift != 6:
            raise Damaged(f"sectors of 2^{shift} and 2^{self._small_shift} bytes")
        self._data, self._size = data, 1 << shift
        self._count = len(data) // self._size
        first, _, self._cutoff, small, _, more, _ = struct.unpack_from("<7I", data, 48)
        self._tables = self._table_sectors(more)
        self._small_start = small
        self._small: tuple[list[int], bytes] | None = None
        self.entries = self._directory(first)
        """By path, such as ("WordDocument",)."""

    def names(self, folder: tuple[str, ...] = ()) -> list[str]:
        """What stands directly in `folder`."""
        return [path[-1] for path in self.entries if path[:-1] == folder]

    def read(self, path: tuple[str, ...], limit: int = 1 << 62) -> bytes:
        """A stream's first `limit` bytes, or fewer where it is cut short; b"" where there is none."""
        entry = self.entries.get(path)
        if entry is None or entry.storage:
            return b""
        size = min(entry.size, limit, len(self._data))
        if entry.size >= self._cutoff:
            return b"".join(self._sectors(entry.start, size))[:size]
        table, content = self._small_stream()
        step, sector, parts = 1 << self._small_shift, entry.start, []
        for _ in range(-(-size // step)):
            if sector >= _LAST or sector >= len(table):
                break
            parts.append(content[sector * step : (sector + 1) * step])
            sector = table[sector]
        return b"".join(parts)[:size]

    def _table_sectors(self, more: int) -> list[int]:
        """The sectors of the table that says which sector follows which."""
        found = [n for n in struct.unpack_from("<109I", self._data, 76) if n < self._count]
        for _ in range(self._count):
            if more >= self._count or len(found) >= self._count:
                break
            listed = struct.unpack(f"<{self._size // 4}I", self._sector(more))
            found.extend(n for n in listed[:-1] if n < self._count)
            more = listed[-1]
        return found[: self._count]

    def _sector(self, number: int) -> bytes:
        start = (number + 1) * self._size
        return self._data[start : start + self._size].ljust(self._size, b"\0")

    def _next(self, number: int) -> int:
        table, place = divmod(number, self._size // 4)
        if table >= len(self._tables):
            return _LAST
        at = (self._tables[table] + 1) * self._size + place * 4
        return struct.unpack_from("<I", self._data, at)[0] if at + 4 <= len(self._data) else _LAST

    def _sectors(self, number: int, size: int) -> Iterator[bytes]:
        for _ in range(min(self._count, -(-size // self._size))):
            if number >= _LAST or number >= self._count:
                return
            yield self._sector(number)
            number = self._next(number)

    def _small_stream(self) -> tuple[list[int], bytes]:
        if self._small is None:
            table = b"".join(self._sectors(self._small_start, len(self._data)))
            content = b"".join(self._sectors(self._root_start, len(self._data)))
            self._small = list(struct.unpack(f"<{len(table) // 4}I", table)), content
        return self._small

    def _directory(self, first: int) -> dict[tuple[str, ...], Entry]:
        raw = b"".join(self._sectors(first, _MOST_ENTRIES * _ENTRY.size))
        rows = [_ENTRY.unpack_from(raw, at) for at in range(0, len(raw) - _ENTRY.size + 1, _ENTRY.size)]
        if not rows or rows[0][2] != _ROOT:
            raise Damaged("no directory")
        self._root_start = rows[0][7]
        found: dict[tuple[str, ...], Entry] = {}
        seen: set[int] = set()
        todo: list[tuple[int, tuple[str, ...]]] = [(rows[0][6], ())]
        while todo:
            number, folder = todo.pop()
            if number >= len(rows) or number in seen:
                continue
            seen.add(number)
            name, length, kind, _, left, right, child, start, size = rows[number]
            path = (*folder, name[: max(0, min(length, 64) - 2)].decode("utf-16-le", "replace").rstrip("\0"))
            # The upper half of the size is rubbish in files with small sectors.
            found[path] = Entry(path[-1], kind == _STORAGE, start, size & 0xFFFFFFFF if self._size == 512 else size)
            todo += [(left, folder), (right, folder)]
            if kind == _STORAGE and len(path) < 64:
                todo.append((child, path))
        if not found:
            raise Damaged("an empty directory")
        return found
