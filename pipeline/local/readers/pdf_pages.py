"""What a page of a PDF says: the library's Markdown, mended where words of the page are missing or spelt otherwise.

The library gives a page twice, as Markdown and as text items with their places. The Markdown has the better order and
structure; the items have everything. So each word of the items that the Markdown lacks comes behind it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol


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
_ALONE_LETTER = re.compile(f"[{_ALONE}]")
_RUN = re.compile(r"[^\W_]+")
_WORD = re.compile(rf"[{_ALONE}]|(?:(?![{_ALONE}])[^\W_])+")
_EMPTY_FENCE = re.compile(r"\s*(```\w*\s*```)?\s*")
_NO_LETTER = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ufffd\ue000-\uf8ff\U000f0000-\U0010ffff]")
_SOME_LETTERS = 1000
_SOME_CELLS = 30
_MANY_SCRIPTS = 4
_EAST_ASIAN = frozenset(
    ["CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "IDEOGRAPHIC"]
)
_BAND = 0.1
"""The part of a page, at its top and at its bottom, where running headers and footers stand."""
_MANY = 0.2
_RUNNING = 3
"""On so many pages a line is a running one."""
_EDGE_LINES = 4
_LETTERS = re.compile(r"[^\W\d_]+")
_LAST_LETTERS = re.compile(r"[^\W\d_]+$")
_LINE_END = re.compile(r"-(?=[ \t]*$|[ \t]{2})", re.MULTILINE)
_LINE_START = re.compile(r"(?:^|[ \t]{2})[ \t]*([^\W\d_]{2,})", re.MULTILINE)
_MARKS = " \t#*_`>"
_DELIMITERS = re.compile(r"\|(?:\s*:?-{3,}:?\s*\|)+\s*")
_NUMBER = re.compile(r"[-+(]?[$€£¥]?\s?\d[\d.,' ]*\s?(?:[%$€£¥)]|[A-Za-z]{1,3})?")
_YEAR = re.compile(r"(?:19|20)\d\d")
# What follows a hyphen at the end of a line and is no word by itself: there it only marks the end of the line.
_ENDING = re.compile(
    r"[a-z]{0,2}(?:[ts]ion(?:s|al|ally|ship)?|ments?|ness|(?:it|nc|gr?aph)(?:y|ies)|[ae]nces?|[ai]bl[ey]|tive|tures?|ical|ally|"
    r"log(?:y|ies))|[a-z]?(?:ings?|ers?|ed|es|ly|al|ous|ic)"
)


@dataclass(frozen=True, slots=True)
class PageText:
    """One page as the library gave it; its own object makes each of these anew whenever it is asked."""

    number: int
    width: float
    height: float
    markdown: str
    text: str
    items: list[Item]
    source: Any

    @classmethod
    def of(cls, page: Any) -> PageText:
        markdown = page.markdown or ""
        if _EMPTY_FENCE.fullmatch(markdown):
            markdown = ""
        return cls(page.page_num, page.width, page.height, markdown, page.text, page.text_items, page)


def words(text: str) -> list[str]:
    """The words that are compared."""
    return (_WORD if _ALONE_LETTER.search(text) else _RUN).findall(text)


@lru_cache(maxsize=256)
def page_words(text: str) -> Counter[str]:
    """The words of a whole page, of which several questions are asked while its batch is here. Not to be changed."""
    return Counter(words(text))


def has_foreign_letters(text: str) -> bool:
    """Whether there are letters of Chinese, Japanese or Thai."""
    return _ALONE_LETTER.search(text) is not None


def readable(text: str) -> bool:
    """Whether most characters of `text` are letters of a script, and not numbers of glyphs that only its font knows.

    Those numbers can stand for letters too, of ever other scripts.
    """
    unknown = len(_NO_LETTER.findall(text))
    if unknown and unknown >= sum(map(str.isalnum, text)):
        return False
    if len(text) - len(text.encode("ascii", "ignore")) < max(20, len(text) / 4):
        return True
    letters = [letter for letter in text if letter.isalpha()]
    foreign = [letter for letter in letters if not letter.isascii()][:_SOME_LETTERS]
    if len(foreign) < 20 or len(foreign) < min(len(letters), _SOME_LETTERS) / 2:
        return True
    scripts = Counter(_script(letter) for letter in foreign)
    often = [script for script, count in scripts.items() if count >= len(foreign) * 0.03]
    return len(often) < _MANY_SCRIPTS or scripts.most_common(1)[0][1] > len(foreign) * 0.6


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "").partition(" ")[0]
    return "CJK" if name in _EAST_ASIAN else name


def upright_columns(page: PageText) -> str:
    """The text of a page that is written from top to bottom, in columns from right to left; empty for any other.

    The library reads such a page across: its items are rows of letters that stand far apart, and the rows are tight.
    """
    cells: list[tuple[float, float, float, str]] = []
    apart = letters = 0
    for item in page.items:
        text = item.text
        if not has_foreign_letters(text) or item.rotation:
            continue
        count = len("".join(text.split()))
        letters += count
        apart += count if count == 1 or item.width / count > item.height * 1.4 else 0
        step = item.width / len(text)
        shown = ((i, letter) for i, letter in enumerate(text) if not letter.isspace())
        cells += ((item.x + step * (i + 0.5), item.y, item.height, letter) for i, letter in shown)
    if letters < _SOME_CELLS or apart < letters * 0.7:
        return ""
    columns: list[list[tuple[float, float, float, str]]] = []
    for cell in sorted(cells, reverse=True):
        if columns and columns[-1][0][0] - cell[0] < cell[2] * 0.6:
            columns[-1].append(cell)
        else:
            columns.append([cell])
    for column in columns:
        column.sort(key=lambda cell: cell[1])
    tight = sum(below[1] - above[1] < above[2] * 1.3 for column in columns for above, below in pairwise(column))
    if tight < letters * 0.6:
        return ""
    return "\n".join("".join(cell[3] for cell in column) for column in columns)


def turns(page: PageText) -> list[int]:
    """The quarter turns in degrees, clockwise (90, 180, 270), in which a fifth of a page's letters stand or more."""
    letters: Counter[int] = Counter()
    for item in page.items:
        rotation = item.rotation
        quarter = round(rotation / 90) if rotation else 0
        letters[quarter % 4 * 90 if abs(rotation - quarter * 90) < 2 else -1] += len(item.text)
    most = letters.total() * _MANY
    return [angle for angle in (90, 180, 270) if letters[angle] >= max(1, most)]


def lost_lines(markdown: str, page: PageText) -> str:
    """The lines of the page, with a line feed between them, that are not in its Markdown; in the order of reading."""
    have, shown = page_words(markdown), page_words(page.text)
    if all(have[word] >= count for word, count in shown.items()):
        return ""
    have = have.copy()
    return "\n".join(_lines([item for item in page.items if mostly_missing(item.text, have)]))


def mostly_missing(text: str, have: Counter[str]) -> bool:
    """Whether half of the words of `text` are not in `have`, from which the others are taken."""
    found = words(text)
    missing = 0
    for word in found:
        if have[word] > 0:
            have[word] -= 1
        else:
            missing += 1
    return missing * 2 >= len(found) > 0


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

    def note(self, page: PageText) -> None:
        """Look at a page; every page of a batch is looked at before one of them is stripped."""
        for key in set(_edges(page)):
            self.seen.setdefault(key, [page.number, 0])[1] += 1

    def strip(self, page: PageText) -> str:
        """The page's Markdown without the running lines that an earlier page had; never without its last word."""
        drop = set()
        for key in _edges(page):
            first, pages = self.seen.get(key, (page.number, 0))
            if pages >= _RUNNING and first != page.number:
                drop.add(key[0])
        markdown = page.markdown
        if not drop:
            return markdown
        lines = markdown.split("\n")
        full = [index for index, line in enumerate(lines) if line.strip()]
        gone = {i for i in (*full[:_EDGE_LINES], *full[-_EDGE_LINES:]) if lines[i].strip(_MARKS) in drop}
        kept = "\n".join(line for index, line in enumerate(lines) if index not in gone)
        return kept if words(kept) else markdown


def _edges(page: PageText) -> Iterator[tuple[str, int, int]]:
    top, bottom = page.height * _BAND, page.height * (1 - _BAND)
    for item in page.items:
        if item.y < top or item.y + item.height > bottom:
            yield item.text.strip(), round(item.x), round(item.y)


@dataclass(slots=True)
class Hyphens:
    """Words that a hyphen divides at the end of a line. The library joins them always, `dual-` and `encoder` too.

    A joined word that the document has elsewhere is one. Of the others, those keep their hyphen that have it elsewhere
    or are made of two words of the document; and nearly all do in a document that seems to divide no other words.
    """

    known: set[str] = field(default_factory=set)
    joined: int = 0
    familiar: int = 0
    """So many of the joined words are words of the document."""

    def note(self, page: PageText) -> None:
        """Look at a page; every page of a batch is looked at before one of them is mended."""
        divided = _joined(page)
        parts = {part for _, first, second in divided for part in (first, second)}
        self.known.update(page_words(page.text).keys() - parts, _hyphenated(page.text))
        for joined, _, _ in divided:
            self.joined += 1
            self.familiar += joined in self.known

    def mend(self, page: PageText, markdown: str) -> str:
        """`markdown` with the hyphens that belong to words."""
        for joined, first, second in _joined(page):
            if joined not in self.known and self._is_two(first, second):
                markdown = re.sub(rf"\b{joined}\b", f"{first}-{second}", markdown)
        return markdown

    def _is_two(self, first: str, second: str) -> bool:
        if f"{first}-{second}" in self.known:
            return True
        if self.familiar >= 2 or self.joined >= 5:
            return first in self.known and second in self.known
        return not _ENDING.fullmatch(second)


def _hyphenated(text: str) -> Iterator[str]:
    """The words with a hyphen inside of a line."""
    parts = text.split("-")
    for before, after in pairwise(parts):
        if before[-1:].isalpha() and after[:1].isalpha():
            first, second = _LAST_LETTERS.search(before[-40:]), _LETTERS.match(after[:40])
            if first and second:
                yield f"{first[0]}-{second[0]}"


def _joined(page: PageText) -> list[tuple[str, str, str]]:
    """The words of the Markdown that are two in the text, with a hyphen at the end of a line between them: the word,
    and both its parts."""
    text = page.text
    found = (_LAST_LETTERS.search(text[max(0, end.start() - 40) : end.start()]) for end in _LINE_END.finditer(text))
    ends = {end[0] for end in found if end}
    if not ends:
        return []
    starts = set(_LINE_START.findall(text))
    return [
        (joined, joined[:cut], joined[cut:])
        for joined in sorted(page_words(page.markdown).keys() - page_words(text).keys())
        for cut in range(2, len(joined) - 1)
        if joined[:cut] in ends and joined[cut:] in starts
    ]


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
