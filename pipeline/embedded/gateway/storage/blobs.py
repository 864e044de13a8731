"""The bytes of objects, one file for one version.

    blob_dir/
        ab/abcdef…    the bytes of the version whose uuid is abcdef…, complete before a row names it, never changed

The file's name comes from the version that this gateway drew, never from the object's name. A blob without a row (the
process died in between) is waste and nothing worse. Writes are not forced to disk: losing power may lose the last
uploads, which a development server may.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO
from uuid import UUID, uuid4


@dataclass(frozen=True, slots=True)
class Stored:
    """What was written: the version's uuid, the size in bytes and the quoted MD5 that serves as ETag."""

    version: str
    size: int
    etag: str


class BlobWriter:
    """One version while it arrives. Leaving the block without `finish` removes the file."""

    def __init__(self, path: Path, version: str) -> None:
        self._path = path
        self._version = version
        self._file = path.open("xb", buffering=0)
        self._hash = hashlib.md5(usedforsecurity=False)
        self._finished = False
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]

    def finish(self) -> Stored:
        self._finished = True
        return Stored(self._version, self.size, f'"{self._hash.hexdigest()}"')

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._finished or kind is not None:
            self._path.unlink(missing_ok=True)


class BlobStore:
    """All versions under one directory, which is made when it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(256):
            (root / f"{number:02x}").mkdir(exist_ok=True)

    def write(self) -> BlobWriter:
        """Begin a new version, under a uuid drawn here."""
        version = str(uuid4())
        return BlobWriter(self._path(version), version)

    def adopt(self, file: Path, version: str) -> None:
        """Make a file of this disk the bytes of a version; FileNotFoundError when it is not there."""
        file.replace(self._path(version))

    def size(self, version: str) -> int | None:
        """In bytes, or None when the version has none here."""
        try:
            return self._path(version).stat().st_size
        except FileNotFoundError:
            return None

    def open(self, version: str | None) -> BinaryIO:
        """The bytes of a version; FileNotFoundError when there are none."""
        return self._path(version).open("rb")

    def duplicate(self, version: str | None, copy: str) -> None:
        """The same bytes under another version, at no cost where the disk can link; FileNotFoundError."""
        source, target = self._path(version), self._path(copy)
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:
            shutil.copyfile(source, target)

    def remove(self, *versions: str | None) -> None:
        """Remove versions that no row names any more; one that is gone already is fine."""
        for version in versions:
            try:
                self._path(version).unlink(missing_ok=True)
            except FileNotFoundError:
                continue

    def _path(self, version: str | None) -> Path:
        try:
            name = UUID(version or "").hex
        except ValueError:
            # a row that was written by SQL names whatever it likes; it has no bytes here
            raise FileNotFoundError(version) from None
        return self._root / name[:2] / name
