"""Names of files that Storage takes.

Storage refuses names with letters beyond ASCII, `#`, `%`, brackets and more. Such a name is written as in
quoted-printable mail, `=` and two hexadecimal digits for each byte in UTF-8: nothing is lost, two files never fall
together, and what this command line prints is the name that the person knows.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_TAKEN = re.compile(r"[A-Za-z0-9_/!\-.*'() &$@=;:+,?]")
_ESCAPE = re.compile(r"=[0-9A-F]{2}")
_ESCAPES = re.compile(r"(?:=[0-9A-F]{2})+")


def stored(name: str) -> str:
    """The name under which a file is stored; the same name where Storage takes it as it is."""
    result = []
    for place, character in enumerate(name):
        if not _TAKEN.fullmatch(character) or (character == "=" and _ESCAPE.match(name, place)):
            # surrogateescape: a name of Linux need not be UTF-8
            result += [f"={byte:02X}" for byte in character.encode("utf-8", "surrogateescape")]
        else:
            result.append(character)
    return "".join(result)


def readable(name: str) -> str:
    """The name that a person knows; what was not made by `stored` stays as it is."""

    def decode(match: re.Match[str]) -> str:
        try:
            text = bytes.fromhex(match[0].replace("=", "")).decode()
        except UnicodeDecodeError:
            return match[0]
        return text if text.isprintable() else match[0]

    return _ESCAPES.sub(decode, name)


def below(prefix: str, relative: PurePosixPath) -> str:
    """The stored name of a file at `relative`, below `prefix`, without empty, `.` or `..` parts."""
    parts = [part for part in (*prefix.split("/"), *relative.parts) if part not in ("", ".", "..", "/")]
    return stored("/".join(parts))
