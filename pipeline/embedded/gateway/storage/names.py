"""Which names Storage takes, for objects and for buckets, and which media types a bucket takes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.embedded.gateway.storage import errors

_OBJECT_NAME = re.compile(r"[A-Za-z0-9_/!.*'() &$=@;:+,?-]+")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9_!.*'() &$=@;:+,?-]{1,100}")
_ALLOWED_TYPE = re.compile(r"[a-zA-Z0-9\-+.]+/([a-zA-Z0-9\-+.]+(;\s*charset=[a-zA-Z0-9\-]+)?|\*)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(gb|mb|kb|b)", re.IGNORECASE)
_BAD_SIZE = (
    'body/file_size_limit must be integer, body/file_size_limit must pass "finite" keyword validation, '
    'body/file_size_limit must match pattern "^[0-9]+(?:\\.[0-9]+)?(?:[gG][bB]|[mM][bB]|[kK][bB]|[bB])$", '
    "body/file_size_limit must match a schema in anyOf"
)
_MAX_PART_BYTES = 255
_UNITS = {"gb": 10**9, "mb": 10**6, "kb": 10**3, "b": 1}


def check_object_name(name: str) -> str:
    """The name itself; raises InvalidKey. `..`, quotes and `&` pass: a name is never a path on this machine."""
    if not _OBJECT_NAME.fullmatch(name):
        raise errors.invalid_key(name)
    return name


def check_length(name: str) -> None:
    """The real server keeps an object under its name, and breaks at a folder or file of more than 255 bytes."""
    if any(len(part.encode()) > _MAX_PART_BYTES for part in name.split("/")):
        raise errors.internal()


def check_bucket_name(name: str) -> str:
    if not _BUCKET_NAME.fullmatch(name) or name != name.strip():
        raise errors.invalid_bucket_name()
    return name


def is_folder_placeholder(name: str) -> bool:
    """Studio marks an empty folder by such an object; it is empty whatever the bucket allows."""
    return name.endswith(".emptyFolderPlaceholder")


def check_media_type(declared: str, allowed: Sequence[str] | None) -> None:
    """Compare the *declared* type with the bucket's list, parameters included, as the real server does."""
    if not allowed:
        return
    kind, slash, subtype = declared.partition("/")
    if slash:
        for pattern in allowed:
            allowed_kind, _, allowed_subtype = pattern.partition("/")
            if allowed_kind == kind and allowed_subtype in ("*", subtype):
                return
    raise errors.invalid_mime_type(declared)


def check_allowed_types(allowed: object) -> list[str] | None:
    """A bucket's list of media types as a client sends it; empty entries are dropped."""
    if allowed is None:
        return None
    if not isinstance(allowed, list) or not all(isinstance(entry, str) for entry in allowed):
        raise errors.invalid("body/allowed_mime_types must be array")
    entries = [entry for entry in allowed if entry]
    for entry in entries:
        if entry != "*" and (len(entry) > 1000 or not _ALLOWED_TYPE.fullmatch(entry)):
            raise errors.invalid_mime_type(entry)
    return entries


def parse_size(value: object, limit: int) -> int | None:
    """A bucket's file_size_limit in bytes, from a number or a text like 20MB (powers of ten)."""
    if value is None:
        return None
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        size = int(float(match[1]) * _UNITS[match[2].lower()])
    else:
        try:
            size = int(value)  # type: ignore[call-overload]
        except (TypeError, ValueError, OverflowError):
            size = -1
    if size < 0 or isinstance(value, bool):
        raise errors.invalid(_BAD_SIZE)
    if size > limit:
        raise errors.too_large()
    return size
