"""Tables of a converter that knows no header row: which row names the columns, and what is empty.

A chunk of a long table repeats the table's header; an empty one, or a title, says nothing there. So lines above the
header become text, empty rows and columns go, and a table that is mostly empty, or has no names for its columns,
becomes a list of what each row holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pipeline.files.text import has_words

_DELIMITER = re.compile(r"\|(?: *:?-+:? *\|)+")
_NUMBER = re.compile(
    r"[-+−(]?[^\w\s]{0,3} ?[-+−]?[\d.,'’\s/:%-]*\d[\d.,'’\s/:%-]*(?:[eE][-+]?\d+)?[\s)%€$£¥]*|TRUE|FALSE|#\S+"
)
_SPECIAL = re.compile(r"(?=#{1,6} |[-*+>] |```|~~~|\d{1,9}[.)] |[-=]{2,}$)")
_SPARSE = 0.35
_WIDE = 6  # columns


def mended(markdown: str) -> str:
    """`markdown` with each of its tables mended; everything else as it is."""
    if "| ---" not in markdown:
        return markdown
    lines = markdown.split("\n")
    out: list[str] = []
    at = 0
    while at < len(lines):
        if not (lines[at].startswith("|") and at + 1 < len(lines) and _DELIMITER.fullmatch(lines[at + 1])):
            out.append(lines[at])
            at += 1
            continue
        end = at + 2
        while end < len(lines) and lines[end].startswith("|"):
            end += 1
        out.extend(_table(lines[at:end]))
        at = end
    return "\n".join(out)


def _table(lines: list[str]) -> Iterator[str]:
    empty = sum(line.count("  |") for line in lines)
    width = max(1, lines[0].count(" |"))
    if has_words(lines[0]) and empty == 0:
        yield from lines
        return
    rows = [_cells(line) for line in (lines[0], *lines[2:])]
    stated = _filled(rows[0]) > 0
    rows = [row for row in rows if any(row)]
    used = sorted({number for row in rows for number, cell in enumerate(row) if cell})
    if len(used) < width:
        rows = [[row[n] if n < len(row) else "" for n in used] for row in rows]
    titles: list[list[str]] = []
    if len(used) > 1:
        while len(rows) > 1 and _filled(rows[0]) == 1:
            titles.append(rows.pop(0))
            stated = False
        # A row of groups, each over some columns, is above the row that names the columns.
        if not stated and len(rows) > 2 and _is_group(rows[0], rows[1], len(used)):
            titles.append(rows.pop(0))
    for row in titles:
        yield from (_line(row), "")
    if (len(used) == 1 and not stated) or not rows:
        for row in rows:
            yield from (_line(row), "")
        return
    header = rows.pop(0) if stated or (len(rows) > 1 and _names(rows[0])) else None
    filled = sum(map(_filled, rows))
    sparse = len(used) >= _WIDE and rows and filled < _SPARSE * len(rows) * len(used)
    if header is None or sparse:
        if header and any(name and not any(row[n] for row in rows if n < len(row)) for n, name in enumerate(header)):
            yield from (_line(header), "")  # some of its names stand over nothing
        joint = "; " if header else " | "
        for row in rows:
            yield f"- {joint.join(_named(header, number, cell) for number, cell in enumerate(row) if cell)}"
        return
    yield _row(header)
    yield _row(["---"] * len(used))
    for row in rows:
        yield _row(row)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line[2:-2].split(" | ")]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _line(row: list[str]) -> str:
    """A row as a line of text, which is no Markdown of its own."""
    text = " | ".join(cell for cell in row if cell)
    return f"\\{text}" if _SPECIAL.match(text) and not text[0].isdigit() else text


def _filled(row: list[str]) -> int:
    return sum(map(bool, row))


def _is_group(row: list[str], below: list[str], width: int) -> bool:
    return _names(row) and _names(below) and 2 * _filled(row) <= width and _filled(row) < _filled(below)


def _names(row: list[str]) -> bool:
    """Whether a row can name columns: at least two words, and more of them than numbers."""
    filled = [cell for cell in row if cell]
    labels = sum(not _NUMBER.fullmatch(cell) and has_words(cell) for cell in filled)
    return len(filled) >= 2 and labels >= 0.5 * len(filled)


def _named(header: list[str] | None, number: int, cell: str) -> str:
    name = header[number] if header and number < len(header) else ""
    return f"{name}: {cell}" if name else cell
