"""Looks into ZIP based documents before a parser does, and refuses what would unpack to too much."""

from __future__ import annotations

import errno
import io
import zipfile
import zlib

from pipeline.errors import Permanent

MAX_ENTRIES = 20_000
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError)
"""What zipfile raises for an entry that is damaged or packed in a way that nobody reads."""
_STEP = 1_048_576


def check_archive(data: bytes, *, max_bytes: int) -> None:
    """Refuse an archive with more than `max_bytes` of unpacked content, whatever its directory claims.

    The directory is asked first, which is free; then every entry is really inflated, one mebibyte at a time and kept
    nowhere, because a directory can lie and entries can share their bytes. Raises Permanent.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, UnicodeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the machine's fault; a damaged offset has no number, or is a wrong seek
        raise Permanent(
            "The file is damaged and cannot be opened. Save it anew and upload it again.", detail=repr(error)
        ) from None
    if len(entries) > MAX_ENTRIES:
        raise _too_much(f"{len(entries)} entries")
    if any(entry.flag_bits & 1 for entry in entries):
        raise Permanent("The file is protected by a password. Upload a copy without one.")
    if odd := {entry.compress_type for entry in entries} - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise Permanent(
            "The file is packed in a way that documents are not, and was not opened. Save it anew and upload it again.",
            detail=f"compression methods {sorted(odd)}",
        )
    if (claimed := sum(entry.file_size for entry in entries)) > max_bytes:
        raise _too_much(f"{claimed} bytes claimed")
    left = max_bytes
    for entry in entries:
        left -= _inflated_size(data, entry, left)
        if left < 0:
            raise _too_much("more bytes than the directory claims")


def _inflated_size(data: bytes, entry: zipfile.ZipInfo, limit: int) -> int:
    """The number of bytes that `entry` unpacks to, counted up to just beyond `limit`."""
    start = entry.header_offset
    if data[start : start + 4] != b"PK\x03\x04":
        return 0  # no parser can read it either
    name, extra = (
        int.from_bytes(data[start + 26 : start + 28], "little"),
        int.from_bytes(data[start + 28 : start + 30], "little"),
    )
    start += 30 + name + extra
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        return max(entry.file_size, entry.compress_size)
    inflater = zlib.decompressobj(-15)
    size, view = 0, memoryview(data)[start:]
    try:
        pending: bytes | memoryview = b""
        while not inflater.eof and size <= limit:
            if not pending:
                pending, view = view[:_STEP], view[_STEP:]
                if not pending:
                    break
            size += len(inflater.decompress(pending, _STEP))
            pending = inflater.unconsumed_tail
    except zlib.error:
        pass  # damaged: the parser says so
    return size


def _too_much(detail: str) -> Permanent:
    return Permanent(
        "The file unpacks to far more data than a document holds, so it was not opened. "
        "Remove large embedded objects, or upload it in parts.",
        detail=detail,
    )
