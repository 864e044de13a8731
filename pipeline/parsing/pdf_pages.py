"""What a page of a PDF says: the library's Markdown, mended where words of the page are missing or spelt otherwise.

The library gives a page twice, as Markdown and as text items with their places. The Markdown has the better order and
structure; the items have everything. So each word of the items that the Markdown lacks comes behind it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol


class Item(Protocol):
    """A run of text at its place, in points from the top left corner."""

    text: str
    x: float
    y: float
    width: float
    height: float
    rotation: float
    """Degrees, clockwise."""


# Scripts that are written without spaces: each of their letters is compared by itself.
_ALONE = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])[^\W_])+")
_NO_LETTER = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff]")
_BAND = 0.1
"""The part of a page, at its top and at its bottom, where running headers and footers stand."""
_RUNNING = 3
"""On so many pages a line is a running one."""
_EDGE_LINES = 4
_MARKS = " \t#*_`>"
_DELIMITERS = re.compile(r"\|(?:\s*:?-{3,}:?\s*\|)+\s*")
_NUMBER = re.compile(r"[-+(]?[$€£¥]?\s?\d[\d.,' ]*\s?(?:[%$€£¥)]|[A-Za-z]{1,3})?")
_YEAR = re.compile(r"(?:19|20)\d\d")
# What follows a hyphen at the end of a line and is no word by itself: there it only marks the end of the line.
_ENDING = re.compile(
    r"[a-z]{0,2}(?:tions?|sions?|ments?|ness|(?:it|nc|gr?aph)(?:y|ies)|[ae]nces?|[ai]bly|tive|tures?|ous|ical|ally|log(?:y|ies))"
)


def words(text: str) -> list[str]:
    """The words that are compared."""
    return _WORD.findall(text)


def readable(text: str) -> bool:
    """Whether most characters of `text` are letters of a script, and not numbers of glyphs that only its font knows."""
    unknown = len(_NO_LETTER.findall(text))
    return not unknown or unknown < sum(map(str.isalnum, text))


def turned(items: Sequence[Item]) -> int:
    """The quarter turn in degrees, clockwise, in which most letters of a page stand: 0, 90, 180 or 270."""
    letters: Counter[int] = Counter()
    for item in items:
        quarter = round(item.rotation / 90)
        if abs(item.rotation - quarter * 90) < 2:
            letters[quarter % 4 * 90] += len(item.text)
    most = letters.most_common(1)
    return most[0][0] if most and most[0][1] * 2 > sum(len(item.text) for item in items) else 0


def lost_lines(markdown: str, text: str, items: Iterable[Item]) -> str:
    """The lines of the page, with a line feed between them, that are not in its Markdown; in the order of reading."""
    have = Counter(words(markdown))
    if not Counter(words(text)) - have:
        return ""
    lost: list[Item] = []
    for item in items:
        found = words(item.text)
        missing = 0
        for word in found:
            if have[word] > 0:
                have[word] -= 1
            else:
                missing += 1
        if missing * 2 >= len(found) > 0:
            lost.append(item)
    return "\n".join(_lines(lost))


def _lines(items: Sequence[Item]) -> Iterator[str]:
    """`items` as lines: those of one direction together, along it, and across it from line to line."""
    for angle in dict.fromkeys(round(item.rotation) % 360 for item in items):
        along, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
        placed: list[tuple[float, float, float, str]] = []
        for item in items:
            if round(item.rotation) % 360 == angle:
                x, y = item.x + item.width / 2, item.y + item.height / 2
                thickness = max(1.0, min(item.width, item.height))
                placed.append((y * along - x * down, x * along + y * down, thickness, item.text.strip()))
        placed.sort()
        line: list[tuple[float, str]] = []
        at = -math.inf
        for across, where, thickness, text in placed:
            if line and across - at > thickness / 2:
                yield " ".join(part for _, part in sorted(line))
                line = []
            if not line:
                at = across
            line.append((where, text))
        if line:
            yield " ".join(part for _, part in sorted(line))


@dataclass(slots=True)
class RunningLines:
    """The lines that stand at the top or the bottom of many pages, alike to the letter: one of them is enough."""

    seen: dict[tuple[str, int, int], list[int]] = field(default_factory=dict)
    """By text and place: the first page, and the number of pages."""

    def note(self, number: int, height: float, items: Iterable[Item]) -> None:
        """Look at a page; every page of a batch is looked at before one of them is stripped."""
        for key in set(_edges(height, items)):
            self.seen.setdefault(key, [number, 0])[1] += 1

    def strip(self, number: int, height: float, items: Iterable[Item], markdown: str) -> str:
        """`markdown` without the running lines that an earlier page had; never without its last word."""
        drop = set()
        for key in _edges(height, items):
            first, pages = self.seen.get(key, (number, 0))
            if pages >= _RUNNING and first != number:
                drop.add(key[0])
        if not drop:
            return markdown
        lines = markdown.split("\n")
        full = [index for index, line in enumerate(lines) if line.strip()]
        gone = {i for i in (*full[:_EDGE_LINES], *full[-_EDGE_LINES:]) if lines[i].strip(_MARKS) in drop}
        kept = "\n".join(line for index, line in enumerate(lines) if index not in gone)
        return kept if words(kept) else markdown


def _edges(height: float, items: Iterable[Item]) -> Iterator[tuple[str, int, int]]:
    for item in items:
        if item.y < height * _BAND or item.y + item.height > height * (1 - _BAND):
            yield item.text.strip(), round(item.x), round(item.y)


def hyphens(markdown: str, text: str, known: set[str]) -> str:
    """`markdown` with the hyphen of `dual-` and `encoder`, on two lines, where `dualencoder` is no word of the file.

    The library joins them always. `known` are the words of the document.
    """
    ends = set(re.findall(r"([^\W\d_]{2,})-[ \t]*$", text, re.MULTILINE))
    if not ends:
        return markdown
    starts = set(re.findall(r"(?:^|[ \t]{2})[ \t]*([^\W\d_]{2,})", text, re.MULTILINE))
    for joined in set(words(markdown)) - known:
        for cut in range(2, len(joined) - 1):
            first, second = joined[:cut], joined[cut:]
            if first in ends and second in starts and not _ENDING.fullmatch(second):
                markdown = re.sub(rf"\b{joined}\b", f"{first}-{second}", markdown)
                break
    return markdown


def headless(markdown: str) -> str:
    """`markdown` with an empty header over each table whose first row is a row of data, as those below it are."""
    if "|" not in markdown:
        return markdown
    lines = markdown.split("\n")
    for index in range(len(lines) - 1, 0, -1):  # from below, since lines are put in
        first = lines[index - 1]
        if _DELIMITERS.fullmatch(lines[index]) and first.startswith("|") and _is_data(first, lines[index + 1 :]):
            lines[index - 1 : index + 1] = ["|" + "  |" * len(_cells(first)), lines[index], first]
    return "\n".join(lines)


def _is_data(first: str, below: Sequence[str]) -> bool:
    rows = []
    for line in below[:50]:
        if not line.startswith("|"):
            break
        rows.append(_cells(line))
    if len(rows) < 2:
        return False
    for place, cell in enumerate(_cells(first)):
        column = [row[place] for row in rows if place < len(row) and row[place]]
        if _NUMBER.fullmatch(cell) and not _YEAR.fullmatch(cell):
            return sum(_NUMBER.fullmatch(below) is not None for below in column) * 2 > len(column)
    return False


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", row.strip())[1:-1]]
