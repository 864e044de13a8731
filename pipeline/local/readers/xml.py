"""XML by its text: SVG, FictionBook, Word and Excel in one XML file, and any other.

Nothing is known of a file's own tags but how they are used: what stands inside of a paragraph, or beside text, runs on;
all else is a line of its own, and the fields of a row share one. Entities are expanded by expat, within its own bound.
"""

from __future__ import annotations

import re
from html import unescape
from xml.parsers import expat

from pipeline.errors import Permanent
from pipeline.files.text import TOO_MUCH_TEXT, decode, has_words, words
from pipeline.local.readers.reader import TOO_DEEP, Options, Text

_PARAGRAPHS = frozenset(
    ["p", "para", "simpara", "text", "v", "subtitle", "title", "h1", "h2", "h3", "h4", "h5", "h6", "head", "heading"]
)
_ROWS = frozenset(["row", "tr", "table-row"])
_SKIPPED = frozenset(
    ["binary", "bindata", "binarydata", "script", "style", "defs", "metadata", "image", "object-data", "styles"]
)
_TITLES = {"title": 1, "h1": 1, "h2": 2, "h3": 3, "heading": 2}
_BREAKS = frozenset(["br", "tab", "line-break", "empty-line", "cr"])
_NOT_BASE64 = re.compile(r"[^A-Za-z0-9+/=\s]")
_TAG = re.compile(r"<[^<>]*>")
_PHRASE = re.compile(r"[^\W\d_]{2,} +[^\W_]")
_MAX_DEPTH = 10_000
_DECLARED = re.compile(rb"<\?xml[^<>]{0,200}encoding\s*=\s*[\"']([A-Za-z0-9_.:-]{2,40})")


class _Collector:
    def __init__(self, limit: int) -> None:
        self.left = limit
        self.lines: list[str] = []
        self.phrases: list[str] = []
        """Attributes that say something, as `name: value`."""
        self.run: list[str] = []
        self.stack: list[tuple[str, bool]] = []
        """Open elements: their local name, and whether text stands directly in them."""
        self.inline = self.rows = self.skipped = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        name = _local(tag)
        if len(self.stack) > _MAX_DEPTH:
            raise Permanent(TOO_DEEP, detail="nested elements")
        if not self.inline and not self.rows and not (self.stack and self.stack[-1][1]):
            self.flush()
        elif name in _BREAKS:
            self.run.append(" ")
        self.stack.append((name, False))
        self.inline += name in _PARAGRAPHS
        self.rows += name in _ROWS
        self.skipped += name in _SKIPPED
        if not self.skipped:
            for key, value in attributes.items():
                if has_words(value) and "://" not in value:
                    self.take(value)
                    self.phrases.append(f"{_local(key)}: {value}")

    def end(self, tag: str) -> None:
        name, mixed = self.stack.pop()
        self.inline -= name in _PARAGRAPHS
        self.rows -= name in _ROWS
        self.skipped -= name in _SKIPPED
        above_mixed = bool(self.stack) and self.stack[-1][1]
        if self.rows and not self.inline and not above_mixed:
            if self.run and self.run[-1] != " | ":
                self.run.append(" | ")
        elif not self.inline and not above_mixed:
            self.flush(_TITLES.get(name, 0))
        elif not mixed and name in _PARAGRAPHS:
            self.run.append(" ")

    def text(self, data: str) -> None:
        if self.skipped or not self.stack:
            return
        self.take(data)
        if not self.stack[-1][1] and not data.isspace():
            self.stack[-1] = (self.stack[-1][0], True)
        self.run.append(data)

    def take(self, data: str) -> None:
        self.left -= len(data)
        if self.left < 0:
            raise Permanent(TOO_MUCH_TEXT)

    def flush(self, level: int = 0) -> None:
        line = " ".join("".join(self.run).split()).strip("| ")
        self.run = []
        if line and not _is_base64(line):
            self.lines.append(f"{'#' * level} {line}" if level and len(line) < 200 else line)


def _is_base64(line: str) -> bool:
    """Whether it is bytes, in lines of 60 characters or more. A speech without a full stop is none: it has words."""
    return len(line) >= 400 and all(len(word) >= 60 for word in line.split()[:-1]) and _NOT_BASE64.search(line) is None


def _local(tag: str) -> str:
    return tag.rpartition(":")[2].lower()


def read(data: bytes, options: Options, text: Text) -> None:
    """Write the file's text as one page."""
    declared = _DECLARED.match(data[:400].lstrip(b"\xef\xbb\xbf \t\r\n"))
    source = decode(data, declared=declared[1].decode() if declared else None).lstrip("\ufeff \t\r\n")
    collector = _Collector(options.max_text_bytes)
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = collector.start, collector.end
    parser.CharacterDataHandler = collector.text
    parser.UseForeignDTD(True)  # an entity that nobody declared is no reason to stop
    parser.SkippedEntityHandler = lambda name, _: collector.text(unescape(f"&{name};"))
    parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_UNLESS_STANDALONE)

    def elsewhere(context: str, base: str | None, system: str | None, public: str | None) -> int:
        """Nothing is fetched; the definitions that expat assumes elsewhere are empty."""
        if system is None:
            parser.ExternalEntityParserCreate(context).Parse(b"", True)
        return 1

    parser.ExternalEntityRefHandler = elsewhere
    try:
        parser.Parse(source.encode("utf-8", "replace"), True)
    except expat.ExpatError as error:
        if "amplification" in str(error):
            raise Permanent(TOO_DEEP, detail=str(error)) from None
        # Not well formed: the tags are taken away.
        text.page(None, unescape(_TAG.sub(" ", source)))
        return
    collector.flush()
    found = "\n\n".join(collector.lines)
    # a file whose text stands in its attributes
    sparse = options.extension == ".xml" and words(found) < sum(map(words, collector.phrases))
    said = dict.fromkeys(p for p in collector.phrases if sparse or _PHRASE.search(p.partition(": ")[2]))
    if not text.page(None, "\n\n".join([found, *said])):
        text.page(None, source)  # a file without any text but its own tags
