"""Markdown pages as a stream of units: the sentences, list items, table rows and lines that a passage is made of.

Only as much Markdown is understood as cutting needs: headings, paragraphs, lists, tables and fenced code. In formats
with pages a parser can only guess where a paragraph ends, and guesses otherwise when the same text moves across a page
break. There, sentences are simply joined by blanks, so that an edit on one page does not change passages of later ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from pipeline.errors import Permanent
from pipeline.job import Page


class Break(IntEnum):
    """How well a text can be cut before a unit; lower is better."""

    BLOCK = 0
    """Before a paragraph, a list, or what follows a table."""
    PART = 1
    """Before a sentence, a list item, a row, a line of code."""
    BOUND = 2
    """Before a table or list, whose introduction stands before it."""
    WORD = 3
    """Inside a sentence."""


@dataclass(slots=True)
class Unit:
    """A piece that is never cut unless it is too long by itself."""

    text: str
    joint: str
    """What stands between it and the unit before it."""
    cut: Break
    page: int | None
    table: Table | None = None


@dataclass(slots=True)
class Table:
    header: str
    """The header row and the line below it; repeated wherever a passage holds rows of this table."""


@dataclass(slots=True)
class Section:
    """What stands between two headings."""

    path: tuple[str, ...]
    """The headings above it, outermost first."""
    units: list[Unit] = field(default_factory=list)
    page: int | None = None
    level: int = 0


_HEADING = re.compile(r" {0,3}(#{1,6})(?=[ \t]|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ITEM = re.compile(r"[ \t]*(?:[-*+•]|\d{1,9}[.)])[ \t]+\S")
_LATER_ITEM = re.compile(r"[ \t]*(?!0*1[.)])\d{1,9}[.)][ \t]")
"""A numbered item that begins no list, as in Markdown: a line of prose may well begin with a year and a full stop."""
_INITIAL = re.compile(r"\b[^\W\d_]\.$")
_ROW = re.compile(r"[ \t]*\|.*\|[ \t]*$")
_RULE = re.compile(r" {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$")
_DELIMITER_ROW = re.compile(r"[ \t]*\|?(?:[ \t]*:?-+:?[ \t]*\|)+[ \t]*(?::?-+:?[ \t]*)?$")

# After a full stop only what does not begin in lower case is a new sentence, and a single letter before it is an
# initial. Chinese and Japanese stops need no blank behind them.
_SENTENCE = re.compile(
    r"(?:(?<=[.!?؟۔।…])|(?<=[.!?؟۔।…][\"'”’»)\]]))(?<!\b[^\W\d_]\.)\s+(?=[^\sa-z])"
    r"|(?<=[。！？．])(?![。！？．」』）”’\s])|(?<=[。！？．][」』）”’])(?![。！？．])"
)
_CJK = re.compile(r"[\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff00-\uffef]")
_MARKUP = re.compile(r"(\*\*|__|\*|`|~~)(?=\S)(.+?)(?<=\S)\1")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")


# Characters; a Chinese or Japanese one counts as four. More is a paragraph in large type, too long for a path.
_LONGEST_HEADING = 200
_LONGEST_MARKUP = 2000
_MOST_UNITS = 1_000_000
_TOO_MANY = "The file has more than a million lines or sentences. Upload it in parts."


@dataclass(slots=True)
class _Block:
    kind: str
    lines: list[str]
    page: int | None
    level: int = 0


def sections(pages: Sequence[Page]) -> list[Section]:
    """The document as sections in reading order; those without any text are left out, except a heading that ends.

    Raises Permanent for more lines or sentences than a million, which would fill the memory.
    """
    if sum(page.markdown.count("\n") for page in pages) > _MOST_UNITS:
        raise Permanent(_TOO_MANY)
    paged = any(page.number is not None for page in pages)
    found = [Section(())]
    units = 0
    stack: list[tuple[int, str]] = []
    previous = ""
    for block in _joined(pages) if paged else _all_blocks(pages):
        # Looked for in what is not longer than a heading can be: on a hostile one the patterns take for ever.
        if block.kind == "heading" and len(block.lines[0]) > _LONGEST_MARKUP:
            block.kind = "text"
        title = plain(block.lines[0]) if block.kind == "heading" else ""
        if len(title) + 3 * len(_CJK.findall(title)) > _LONGEST_HEADING:
            block.kind = "text"
        if block.kind == "heading":
            while stack and stack[-1][0] >= block.level:
                stack.pop()
            if title:
                stack.append((block.level, title))
            found.append(Section(tuple(t for _, t in stack), page=block.page, level=block.level))
            previous = ""
            continue
        before = len(found[-1].units)
        found[-1].units.extend(_units(block, previous, paged))
        previous = block.kind
        units += len(found[-1].units) - before
        if units > _MOST_UNITS:
            raise Permanent(_TOO_MANY)
    return _with_lonely_headings(found)


def plain(text: str) -> str:
    """A heading's text without Markdown."""
    text = _LINK.sub(r"\1", text)
    for _ in range(3):
        text = _MARKUP.sub(r"\2", text)
    return " ".join(_ESCAPE.sub(r"\1", text).split())


def _with_lonely_headings(found: list[Section]) -> list[Section]:
    """A heading under which nothing stands, not even another heading, is text in its own right."""
    kept = []
    for section, following in zip(found, [*found[1:], None], strict=True):
        if section.units:
            kept.append(section)
        elif section.path and (following is None or following.level <= section.level):
            unit = Unit(section.path[-1], "", Break.BLOCK, section.page)
            kept.append(Section(section.path[:-1], [unit], section.page, section.level))
    return kept


def _all_blocks(pages: Sequence[Page]) -> Iterator[_Block]:
    for page in pages:
        yield from _blocks(page)


def _joined(pages: Sequence[Page]) -> Iterator[_Block]:
    """The blocks of all pages, where a sentence that flows over a page break is one again, on its first page."""
    held: _Block | None = None
    for page in pages:
        for index, block in enumerate(_blocks(page)):
            if held is not None and block.kind == held.kind == "text" and _flows(held, block, over_a_break=index == 0):
                first, *rest = split_sentences(" ".join(block.lines))
                held.lines[-1] += ("" if _CJK.match(first) and _CJK.match(held.lines[-1][-1]) else " ") + first
                if not rest:
                    continue
                block.lines = [_text_of(rest)]
            if held is not None:
                yield held
            held = block
    if held is not None:
        yield held


def _flows(before: _Block, after: _Block, *, over_a_break: bool) -> bool:
    """Whether a sentence goes on. Behind an initial none ends inside of a paragraph, so none does at its end either:
    where the page breaks must not matter."""
    last, first = before.lines[-1].rstrip(), after.lines[0].lstrip()
    if _INITIAL.search(last):
        return bool(first)
    goes_on = bool(last and first) and last[-1] not in ".!?:;؟۔।…。！？．\"”’»'" and not first.isdigit()
    return over_a_break and goes_on


def _text_of(sentences: list[str]) -> str:
    return "".join(s if _CJK.match(s) and i else (f" {s}" if i else s) for i, s in enumerate(sentences))


def _blocks(page: Page) -> Iterator[_Block]:
    lines = page.markdown.split("\n")
    current: _Block | None = None
    fence = ""
    for number, line in enumerate(lines):
        if fence:
            assert current is not None
            current.lines.append(line)
            if line.strip().startswith(fence) and not line.strip().strip(fence[0]):
                yield current
                current, fence = None, ""
            continue
        kind = _kind(line, lines[number + 1] if number + 1 < len(lines) else "", current)
        if kind == "underline":
            assert current is not None
            yield _Block("heading", [current.lines[0].strip()], page.number, 1 if "=" in line else 2)
            current = None
            continue
        if current is not None and kind != current.kind:
            yield current
            current = None
        match kind:
            case "blank":
                continue
            case "heading":
                found = _HEADING.match(line)
                assert found is not None
                title = line[found.end() :].strip()
                bare = title.rstrip("#")  # a closing mark stands alone: C# is a title
                title = bare.rstrip() if not bare or bare[-1] in " \t" else title
                yield _Block("heading", [title], page.number, len(found[1]))
            case "code":
                mark = _FENCE.match(line)
                assert mark is not None
                fence, current = mark[1], _Block("code", [line], page.number)
            case _:
                if current is None:
                    current = _Block(kind, [], page.number)
                current.lines.append(line.rstrip())
    if current is not None:
        yield current


def _kind(line: str, following: str, current: _Block | None) -> str:
    if not line.strip():
        return "blank"
    if current is not None and current.kind == "text" and len(current.lines) == 1 and _UNDERLINE.match(line):
        return "underline"
    if _HEADING.match(line):
        return "heading"
    if _FENCE.match(line):
        return "code"
    if _RULE.match(line):
        return "blank"
    if _ROW.match(line) and ((current is not None and current.kind == "table") or _DELIMITER_ROW.match(following)):
        return "table"
    if _ITEM.match(line) and not (current is not None and current.kind == "text" and _LATER_ITEM.match(line)):
        return "list"
    return "list" if current is not None and current.kind == "list" else "text"


def _units(block: _Block, previous: str, paged: bool) -> Iterator[Unit]:
    match block.kind:
        case "table":
            yield from _rows(block, previous)
        case "list":
            items: list[str] = []
            for line in block.lines:
                if _ITEM.match(line) or not items:
                    items.append(line)
                else:
                    items[-1] += "\n" + line
            for index, item in enumerate(items):
                first = Break.BOUND if previous == "text" else Break.BLOCK
                yield Unit(item, "\n" if index else "\n\n", Break.PART if index else first, block.page)
        case "code":
            yield Unit("\n".join(block.lines), "\n\n", Break.BLOCK, block.page)
        case _:
            yield from _sentence_units(block, previous, paged)


def _sentence_units(block: _Block, previous: str, paged: bool) -> Iterator[Unit]:
    if not paged:
        for index, sentence in enumerate(split_sentences("\n".join(block.lines))):
            joint = "" if _CJK.match(sentence) else " "
            yield Unit(sentence, joint if index else "\n\n", Break.PART if index else Break.BLOCK, block.page)
        return
    for index, sentence in enumerate(split_sentences(" ".join(block.lines))):
        joint = "" if _CJK.match(sentence) else " "
        if not index and previous not in ("", "text"):
            yield Unit(sentence, "\n\n", Break.BLOCK, block.page)
        else:
            yield Unit(sentence, joint, Break.PART, block.page)


def _rows(block: _Block, previous: str) -> Iterator[Unit]:
    headed = len(block.lines) > 1 and _DELIMITER_ROW.match(block.lines[1])
    rows = [line for line in (block.lines[2:] if headed else block.lines) if _has_words(line)]
    if headed and not rows:
        rows, headed = list(filter(_has_words, block.lines[:1])), None
    if headed and not _has_words(block.lines[0]):
        headed = None  # an empty header says nothing in any chunk
    table = Table("\n".join(block.lines[:2])) if headed else None
    for index, row in enumerate(rows):
        first = Break.BOUND if previous == "text" else Break.BLOCK
        yield Unit(row, "\n" if index else "\n\n", Break.PART if index else first, block.page, table)


def _has_words(line: str) -> bool:
    return any(map(str.isalnum, line))


def split_sentences(text: str) -> list[str]:
    """The sentences of a paragraph, in any script; wrong guesses cost nothing but a less beautiful cut."""
    parts = _SENTENCE.split(text, _MOST_UNITS)
    if len(parts) > _MOST_UNITS:
        raise Permanent(_TOO_MANY)
    return [part for raw in parts if (part := raw.strip())]
