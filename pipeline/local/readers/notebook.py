"""Jupyter notebooks: the cells in their order, with what running them printed. Pictures are left out."""

from __future__ import annotations

import json
import re
from typing import Any

from pipeline.errors import Permanent
from pipeline.files.sentences import DAMAGED
from pipeline.files.text import decode
from pipeline.local.readers.html import from_html
from pipeline.local.readers.reader import TOO_DEEP, Options, Text

_COLOURS = re.compile(r"\x1b\[[0-9;]{0,20}m")
_FENCES = re.compile(r"^[ \t]*(`{3,})", re.MULTILINE)


def read(data: bytes, options: Options, text: Text) -> None:
    """Write the notebook as one page. Raises Permanent for what is no notebook."""
    try:
        book = json.loads(decode(data))
    except RecursionError:
        raise Permanent(TOO_DEEP, detail="nested JSON") from None
    except ValueError as error:
        raise Permanent(DAMAGED, detail=f"notebook: {error}"[:500]) from None
    if not isinstance(book, dict):
        raise Permanent(DAMAGED, detail="a notebook without cells")
    kernel, info = ((_dict(book.get("metadata")).get(key)) for key in ("kernelspec", "language_info"))
    language = _dict(info).get("name") or _dict(kernel).get("language") or ""
    # Until its fourth version a notebook had worksheets.
    cells = [c for sheet in [book, *_list(book.get("worksheets"))] for c in _list(_dict(sheet).get("cells"))]
    parts = [part for cell in cells for part in _cell(_dict(cell), language if isinstance(language, str) else "")]
    text.page(None, "\n\n".join(part for part in parts if part.strip()))


def _cell(cell: dict[str, Any], language: str) -> list[str]:
    source = _joined(cell.get("source", cell.get("input")))
    match cell.get("cell_type"):
        case "code":
            parts = [_fenced(source, re.sub(r"\W", "", language)[:20]), *map(_output, _list(cell.get("outputs")))]
        case "heading":
            level = cell.get("level")
            parts = [f"{'#' * (level if isinstance(level, int) and 1 <= level <= 6 else 1)} {source}"]
        case "raw":
            parts = [_fenced(source)]
        case _:
            parts = [source]
    return parts


def _output(raw: object) -> str:
    """What a reader sees of an output: of several forms of the same, the one with most of a text's structure."""
    output = _dict(raw)
    if output.get("output_type") in ("error", "pyerr"):
        return _fenced(_COLOURS.sub("", f"{_joined(output.get('ename'))}: {_joined(output.get('evalue'))}"))
    data = _dict(output.get("data")) or output
    if markdown := _joined(data.get("text/markdown")):
        return markdown
    html = _joined(data.get("text/html", data.get("html") if data is output else None))
    if "<table" in html[:20_000].lower():
        return from_html(html)
    plain = _joined(data.get("text/plain", data.get("text")))
    if plain.startswith("<") and html:  # a Python object's name
        return from_html(html)
    return _fenced(_COLOURS.sub("", plain)) if plain else from_html(html)


def _fenced(text: str, language: str = "") -> str:
    if not text.strip():
        return ""
    longest = max((len(found) for found in _FENCES.findall(text)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _joined(value: object) -> str:
    """A text, which may be stored as a list of lines."""
    if isinstance(value, list):
        return "".join(line for line in value if isinstance(line, str))
    return value if isinstance(value, str) else ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
