"""Uploads that are under way: their bytes so far and what was declared about them, kept across a restart.

    root/
        abcdef…         the bytes so far of the version whose uuid is abcdef…; its size is the upload's offset
        abcdef….json    which object it will be, its length and metadata, and when it began

When the last byte is there, the bytes become that version's blob, and the `.json` stays until the upload expires, so
that a client that asks again learns that it is complete. Files are named by the uuid that was drawn here, never by what
a client sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import UUID, uuid4

from pipeline.embedded.gateway.storage.blobs import BlobStore, Stored

log = logging.getLogger(__name__)

LIFETIME = 24 * 60 * 60
"""Seconds in which an upload has to be finished, as on a hosted project."""
SWEEP_EVERY = 10 * 60
"""Seconds between two looks for uploads that have expired."""
LOCK_PATIENCE = 15
"""Seconds to wait for an earlier request to the same upload, which has been told to stop."""


class NoSuchUpload(Exception):
    """Nothing is known of it."""


class UploadGone(Exception):
    """It has expired, or its bytes were removed: its final write was refused, or the object was replaced."""


class Interrupted(Exception):
    """Another request wants the upload."""


@dataclass(slots=True)
class Upload:
    """One upload. `length` is None until it is known; `began` in seconds since 1970; `metadata` as it was declared."""

    bucket: str
    name: str
    length: int | None
    metadata: dict[str, str | None]
    version: str = field(default_factory=lambda: str(uuid4()))
    began: float = 0.0


class Turn:
    """The right to write to an upload, and whether another request waits for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = asyncio.Event()
        self.users = 0


class UploadStore:
    """The uploads under one directory. Their finished bytes go to `blobs`."""

    def __init__(
        self, root: Path, blobs: BlobStore, *, lifetime: float = LIFETIME, clock: Callable[[], float] = time.time
    ) -> None:
        self._root = root
        self._blobs = blobs
        self._lifetime = lifetime
        self._clock = clock
        self._turns: dict[str, Turn] = {}
        root.mkdir(mode=0o700, parents=True, exist_ok=True)

    def create(self, upload: Upload) -> None:
        upload.began = self._clock()
        self._part(upload.version).touch(mode=0o600)
        self.save(upload)

    def save(self, upload: Upload) -> None:
        info = self._info(upload.version)
        whole = info.with_suffix(".new")  # a half-written file would never be read again
        whole.write_text(json.dumps(asdict(upload)))
        whole.replace(info)

    def get(self, bucket: str, name: str, version: str) -> Upload:
        """Raises NoSuchUpload; that an upload has expired shows in `offset`."""
        try:
            upload = Upload(**json.loads(self._info(version).read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            raise NoSuchUpload from None
        if (upload.bucket, upload.name) != (bucket, name):
            raise NoSuchUpload
        return upload

    def offset(self, upload: Upload) -> int:
        """How many bytes have come. Raises UploadGone."""
        if self._clock() > self.expires(upload):
            raise UploadGone
        try:
            return self._part(upload.version).stat().st_size
        except FileNotFoundError:
            size = self._blobs.size(upload.version)
            if size is None:
                raise UploadGone from None
            return size

    def expires(self, upload: Upload) -> float:
        """When the upload ends, in seconds since 1970."""
        return upload.began + self._lifetime

    async def append(self, upload: Upload, chunks: AsyncIterator[bytes], room: int) -> bool:
        """Write what comes, until there is no room for it; False when there was none. What was written stays."""
        part = self._part(upload.version)
        # complete ones have no such file any more, and must not get another one
        with part.open("r+b", buffering=0) if part.exists() else io.BytesIO() as file:
            file.seek(0, io.SEEK_END)
            async for chunk in chunks:
                room -= len(chunk)
                if room < 0:
                    return False
                view = memoryview(chunk)
                while view:
                    view = view[file.write(view) :]
        return True

    async def finish(self, upload: Upload) -> Stored:
        """Make the bytes the version's blob. May be repeated, since the final write behind it may have been cut off."""
        with contextlib.suppress(FileNotFoundError):
            self._blobs.adopt(self._part(upload.version), upload.version)
        digest, size = await asyncio.to_thread(self._digest, upload.version)
        return Stored(upload.version, size, f'"{digest}"')

    def _digest(self, version: str) -> tuple[str, int]:
        digest, size = hashlib.md5(usedforsecurity=False), 0
        with self._blobs.open(version) as file:
            while piece := file.read(1024 * 1024):
                digest.update(piece)
                size += len(piece)
        return digest.hexdigest(), size

    def remove(self, version: str) -> None:
        """Forget an upload, with the bytes that are not a blob yet."""
        self._part(version).unlink(missing_ok=True)
        self._info(version).unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def turn(self, version: str) -> AsyncIterator[asyncio.Event]:
        """Nobody else writes to the upload in the block. The event tells that another request waits for it.

        A client whose connection broke comes back before its former request is known to be dead: that one is told to
        stop and keeps what it has written. Raises NoSuchUpload and TimeoutError.
        """
        key = self._part(version).name
        turn = self._turns.setdefault(key, Turn())
        turn.users += 1
        try:
            if turn.lock.locked():
                turn.wanted.set()
            async with asyncio.timeout(LOCK_PATIENCE):
                await turn.lock.acquire()
            turn.wanted.clear()
            try:
                yield turn.wanted
            finally:
                turn.lock.release()
        finally:
            turn.users -= 1
            if not turn.users:
                self._turns.pop(key, None)

    def sweep(self) -> int:
        """Remove the uploads that have expired, and return their number. Blobs of finished ones stay."""
        removed = 0
        for path in list(self._root.iterdir()):
            info = path.with_suffix(".json")
            if path != info and info.exists():
                continue  # it goes with its description
            try:
                began = json.loads(path.read_text())["began"] if path == info else path.stat().st_mtime
                if self._clock() > began + self._lifetime and path.stem not in self._turns:
                    info.with_suffix("").unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
                    removed += 1
            except (OSError, ValueError, KeyError, TypeError):
                log.exception("an upload cannot be removed: %s", path.name)
        return removed

    async def sweep_forever(self) -> None:
        while True:
            try:
                self.sweep()
            except OSError:
                log.exception("expired uploads cannot be looked for")
            await asyncio.sleep(SWEEP_EVERY)

    def _part(self, version: str) -> Path:
        try:
            return self._root / UUID(version).hex
        except ValueError:
            raise NoSuchUpload from None

    def _info(self, version: str) -> Path:
        return self._part(version).with_suffix(".json")
