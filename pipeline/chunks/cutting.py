"""From Markdown pages to passages: pure functions, the same passages for the same text, always.

Passages are cut where the *content* says so, never by counting from the start of the document. A boundary between
two units is an anchor when its rank, a hash of the text around it, is the lowest within one passage's length on either
side; between two anchors the text is divided evenly. So a paragraph that is inserted near the front moves the cuts up
to the next anchors, and every later passage, and what was paid for its vector, stays as it was.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import accumulate, pairwise

from semantic_text_splitter import TextSplitter

from pipeline.chunks.blocks import Break, Section, Table, Unit, sections
from pipeline.errors import Permanent
from pipeline.job import Chunk, Parsed

Count = Callable[[str], int]
LONGEST_WORD = 64
"""Characters; a longer run without blanks is divided before any token is counted, which takes time by the character."""
CHARACTERS_PER_TOKEN = 10
"""At most. Some tokenizers take a run of any length for one unknown token, and a passage must not grow without end."""


def chunk(
    parsed: Parsed,
    *,
    count_tokens: Count,
    max_tokens: int,
    overlap: float,
    input_limit: int,
    max_passages: int = 100_000,
) -> list[Chunk]:
    """The passages of `parsed`, in reading order.

    No content is empty or longer than `max_tokens` by `count_tokens`; with its heading path before it none is longer
    than `input_limit`. About `overlap` (a fraction of `max_tokens`) of a passage repeats the end of the one before it
    in the same section. Rows of a table that is cut stand below the table's header again.

    Raises Permanent for more than `max_passages`: each is paid for.
    """
    cutter = _Cutter(count_tokens, max_tokens, overlap, input_limit)
    passages: list[Passage] = []
    for section in sections(parsed.pages):
        for passage in cutter.section(section):
            if len(passages) == max_passages:
                raise Permanent(f"The file falls into more than {max_passages:,} passages. Upload it in parts.")
            passages.append(passage)
    return [Chunk(ordinal, page, heading, content) for ordinal, (page, heading, content) in enumerate(passages)]


Passage = tuple[int | None, str | None, str]
_PARTS = TextSplitter(LONGEST_WORD)
_SLICE = 1024
_LONG = 100_000
"""Characters that are too long for any passage; a tokenizer would take a hundred times as many bytes to say so."""
_KNOWN = 50_000
"""Words whose length is remembered."""
_BATCH = 20_000
"""Units that are held at once, or a bit more: a paragraph without an end has millions of words."""


class _Cutter:
    def __init__(self, count_tokens: Count, max_tokens: int, overlap: float, input_limit: int) -> None:
        self.count_tokens, self.max_tokens, self.input_limit = count_tokens, max_tokens, input_limit
        self.overlap = overlap
        # What a tokenizer adds to every text (begin and end marks); lengths of parts must not count it each time.
        self.extra = max(0, 2 * count_tokens("a") - count_tokens("a a"))
        self.known: dict[str, int] = {}

    def length(self, text: str) -> int:
        """Tokens of a part, without what is added to every text."""
        if len(text) > _LONG:
            return len(text) // CHARACTERS_PER_TOKEN
        if len(text) > 40:
            return max(1, self.count_tokens(text) - self.extra, len(text) // CHARACTERS_PER_TOKEN)
        if (tokens := self.known.get(text)) is None:
            if len(self.known) > _KNOWN:
                self.known.clear()
            tokens = self.known[text] = max(1, self.count_tokens(text) - self.extra)
        return tokens

    def section(self, section: Section) -> Iterator[Passage]:
        heading = self.heading(section.path)
        room = self.max_tokens - self.extra
        if heading:
            room = min(room, self.input_limit - self.count_tokens(f"{heading}\n\n") - 1)
        else:
            room = min(room, self.input_limit - self.extra)
        room = max(1, room)
        repeat = int(room * self.overlap)
        for units, lengths in _batches(self.measured(section.units, max(1, room - repeat))):
            for start, end in cuts(units, lengths, room - repeat if sum(lengths) > room else room):
                first = self.tail(units, lengths, start, repeat)
                yield from self.fitting(units, first, start, end, heading)

    def heading(self, path: tuple[str, ...]) -> str | None:
        """The path in at most a quarter of the input; the outermost headings are dropped first."""
        limit = max(8, min(self.input_limit // 4, self.input_limit - self.max_tokens // 2))
        while len(path) > 1 and self.count_tokens(" > ".join(path)) > limit:
            path = path[1:]
        if len(path) == 1 and self.count_tokens(path[0]) > limit:
            return self.pieces(path[0], limit)[0]
        return " > ".join(path) or None

    def measured(self, units: Sequence[Unit], room: int) -> Iterator[tuple[Unit, int]]:
        """The units with their lengths; one that is longer than `room` becomes words, and a word pieces."""
        headers: dict[int, int] = {}
        for unit in units:
            if unit.table is not None and id(unit.table) not in headers:
                headers[id(unit.table)] = size = self.length(unit.table.header) + 1
                if size > room // 2:
                    unit.table.header = ""
            tokens = self.length(unit.text) + ("\n" in unit.joint)
            header = headers[id(unit.table)] if unit.table is not None and unit.table.header else 0
            if tokens + header <= room:
                # Rows share a passage with their header; counting each one longer leaves the room for it.
                yield unit, tokens if not header else math.ceil(tokens * room / (room - header))
                continue
            for piece in self.words(unit, room - header):
                yield piece, self.length(piece.text)

    def words(self, unit: Unit, room: int) -> Iterator[Unit]:
        joint, cut, table = unit.joint, unit.cut, unit.table
        for line in unit.text.split("\n"):
            for word in line.split():
                for piece in self.parts(word, room):
                    yield Unit(piece, joint, cut, unit.page, table)
                    joint, cut, table = "", Break.WORD, None
                joint = " "
            joint = "\n"

    def parts(self, word: str, room: int) -> Iterator[str]:
        """`word`, or where it is too long its parts."""
        if len(word) <= LONGEST_WORD:
            found = [word]
        else:  # in slices, because the splitter's time grows faster than the text
            found = [p for i in range(0, len(word), _SLICE) for p in _PARTS.chunks(word[i : i + _SLICE])]
        for part in found:
            yield from [part] if self.length(part) <= room else self.pieces(part, room)

    def pieces(self, text: str, limit: int) -> list[str]:
        """`text` in parts of at most `limit` tokens, where no sentence or word helps."""
        limit = max(1, limit)
        parts = TextSplitter.from_callback(lambda part: self.count_tokens(part) - self.extra, limit).chunks(text)
        return parts or [text]

    def tail(self, units: list[Unit], lengths: list[int], start: int, repeat: int) -> int:
        """The index of the first unit before `start` that is repeated: whole units, within `repeat` tokens."""
        first = start
        if (
            start < len(units)
            and units[start].table is not None
            and start
            and units[start - 1].table is units[start].table
        ):
            return start  # the repeated header row does the work
        while first and lengths[first - 1] <= repeat and units[first - 1].table is None:
            first -= 1
            repeat -= lengths[first]
        return first

    def fitting(self, units: list[Unit], first: int, start: int, end: int, heading: str | None) -> list[Passage]:
        """One passage; when joining made it longer than its parts, without its overlap, or as several."""
        for begin in {first: None, start: None}:
            content = render(units[begin:end])
            if self.fits(content, heading):
                return [(units[begin].page, heading, content)] if content.strip() else []
        if end - start > 1:
            middle = (start + end) // 2
            return self.fitting(units, start, start, middle, heading) + self.fitting(
                units, middle, middle, end, heading
            )
        unit, limit = units[start], self.max_tokens - self.extra
        while limit > 1:
            limit = max(1, limit * 3 // 4)
            parts = self.pieces(unit.text, limit)
            if all(self.fits(part, heading) for part in parts):
                return [(unit.page, heading, part) for part in parts]
        return [(unit.page, None, part) for part in self.pieces(unit.text, 1)]

    def fits(self, content: str, heading: str | None) -> bool:
        tokens = self.count_tokens(content)
        if tokens > self.max_tokens:
            return False
        if heading is None:
            return tokens <= self.input_limit
        return self.count_tokens(f"{heading}\n\n{content}") <= self.input_limit


def _batches(measured: Iterator[tuple[Unit, int]]) -> Iterator[tuple[list[Unit], list[int]]]:
    """All units of a section, or where these are many as many as may be held, parted where the text itself says."""
    units: list[Unit] = []
    lengths: list[int] = []
    for unit, length in measured:
        units.append(unit)
        lengths.append(length)
        if len(units) >= _BATCH and (not _hash(unit.text) % 512 or len(units) >= 2 * _BATCH):
            yield units, lengths
            units, lengths = [], []
    yield units, lengths


def render(units: Sequence[Unit]) -> str:
    """The text of neighbouring units; rows of a table below its header."""
    parts: list[str] = []
    table: Table | None = None
    for unit in units:
        joint = unit.joint if parts else ""
        if unit.table is not None and unit.table is not table and unit.table.header:
            parts.append(("\n\n" if parts else "") + unit.table.header)
            joint = "\n"
        table = unit.table or (table if unit.cut is Break.WORD else None)
        parts.append(joint + unit.text)
    return "".join(parts)


def cuts(units: Sequence[Unit], lengths: Sequence[int], room: int) -> list[tuple[int, int]]:
    """Ranges of units of about `room` tokens or less, cut at anchors first and evenly between them."""
    starts = [0, *accumulate(lengths)]
    if not units:
        return []
    if starts[-1] <= room:
        return [(0, len(units))]
    ranks = [_rank(units, index) for index in range(len(units))]
    found: list[tuple[int, int]] = []
    edges = [0, *_anchors(ranks, starts, room), len(units)]
    for begin, end in pairwise(edges):
        found.extend(_divided(begin, end, starts, units, room))
    return found


def _rank(units: Sequence[Unit], index: int) -> tuple[int, int]:
    """How good it is to cut before a unit: by kind, then by a hash that depends only on the text on both sides."""
    around = units[index - 1].text[-48:] + "\n" + units[index].text[:48] if index else ""
    return units[index].cut, _hash(around)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _anchors(ranks: list[tuple[int, int]], starts: list[int], reach: int) -> list[int]:
    """The boundaries whose rank is the lowest of all that lie within `reach` tokens on either side."""
    anchors: list[int] = []
    margin = reach // 3  # from the ends, or a fragment remains there
    window: deque[int] = deque()  # of rising rank: its first is the lowest within reach
    ahead = 1
    for index in range(1, len(ranks)):
        while ahead < len(ranks) and starts[ahead] - starts[index] <= reach:
            while window and ranks[window[-1]] > ranks[ahead]:
                window.pop()
            window.append(ahead)
            ahead += 1
        while starts[index] - starts[window[0]] > reach:
            window.popleft()
        if window[0] == index and starts[index] >= margin and starts[-1] - starts[index] >= margin:
            anchors.append(index)
    return anchors


def _divided(begin: int, end: int, starts: list[int], units: Sequence[Unit], room: int) -> list[tuple[int, int]]:
    """Units `begin` to `end` in as few parts as possible, of about the same length, cut at the best boundaries."""
    parts: list[tuple[int, int]] = []
    while starts[end] - starts[begin] > room:
        rest = starts[end] - starts[begin]
        target = rest / math.ceil(rest / room)
        # The cut may lie anywhere from half of the target up to the room.
        low = bisect_left(starts, starts[begin] + target / 2, begin + 1, end)
        high = bisect_left(starts, starts[begin] + room + 1, begin + 1, end + 1)
        choices = range(max(begin + 1, low), min(high, end)) or (begin + 1,)
        cut = min(choices, key=lambda i: (units[i].cut, abs(starts[i] - starts[begin] - target)))
        parts.append((begin, cut))
        begin = cut
    parts.append((begin, end))
    return parts
