"""From bytes of unknown encoding to clean text: decoded, without hidden characters, composed, with plain newlines."""

from __future__ import annotations

import codecs
import re
import unicodedata

from pipeline.files.encodings import SAMPLE, guessed, unmarked_utf16

TOO_MUCH_TEXT = "The file holds more text than one document may have here. Upload it in parts."
"""What every parser says of a file over its limit of text."""
BYTE_ORDER_MARKS = (  # UTF-32 before UTF-16, whose mark is the beginning of UTF-32's
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([A-Za-z0-9_:.-]{2,40})""", re.IGNORECASE)
_SHIFTED = re.compile(rb"\x1b\$[@B()A]")
_SHIFTING = (
    "iso2022_jp",
    "iso2022_jp_1",
    "iso2022_jp_2",
    "iso2022_jp_3",
    "iso2022_jp_2004",
    "iso2022_jp_ext",
    "iso2022_kr",
)
_NOT_IN_TEXT = re.compile("[\ufffd\x80-\x84\x86-\x9f]")

_EMPTY_LINES = re.compile(r"^(?:[ \t]*+\n){3,}", re.MULTILINE)
_NEWLINES = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
_HIDDEN = re.compile(
    "["
    "\x00-\x08\x0e-\x1f\x7f-\x9f"  # controls
    # what Unicode calls ignorable: soft hyphen, joiners and fillers, zero width, direction marks and overrides,
    # variation selectors, and the tags, a whole invisible alphabet
    "\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
    "\ud800-\udfff"  # halves of pairs, which are no text
    "\ufdd0-\ufdef\ufffe\uffff"  # nor are these
    "]+"
)
# The two joiners are spelling in Persian and the scripts of India; elsewhere they only hide the parts of a word.
_JOINERS = re.compile("(?<![\u0600-\u0dff\u1000-\u109f\u1780-\u17ff])[\u200c\u200d]+")


def clean(text: str) -> str:
    """`text` composed (NFC), with `\\n` for newlines, no more than two empty lines, and no control, bidirectional
    or zero-width characters.

    What a reader cannot see must not reach the search: it hides words from it, or instructions from the reader.
    """
    text = _NEWLINES.sub("\n", text)
    text = _JOINERS.sub("", _HIDDEN.sub("", text))
    text = _EMPTY_LINES.sub("\n\n", text)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def has_words(text: str) -> bool:
    """Whether there is a letter or a digit at all."""
    return any(map(str.isalnum, text))


def words(text: str) -> int:
    """How many words there are, where blanks part them."""
    return sum(map(has_words, text.split()))


def decode(data: bytes, *, html: bool = False, declared: str | None = None) -> str:
    """Decode text of any usual encoding; bytes that are wrong in it become U+FFFD, never an error.

    The order: a byte order mark, UTF-16 without one, UTF-8, what is declared (by `declared`, or an HTML page) where the
    bytes bear it out, and then a guess: what is declared is often another program's default.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if encoding := unmarked_utf16(data[:SAMPLE]):
        return data.decode(encoding, "replace")
    if html and declared is None and (found := _META_CHARSET.search(data, 0, 4096)):
        declared = found[1].decode("ascii")
    declared = _known(declared)
    try:
        if _SHIFTED.search(data):  # seven bits with escape sequences, which are UTF-8 too
            return data.decode(declared if declared in _SHIFTING else "iso2022_jp")
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if declared and declared != "utf-8":
        text = _as_declared(data, declared)
        if not _NOT_IN_TEXT.search(text[:SAMPLE]):
            return text
    text = data.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    foreign = sum(map(len, re.findall(r"[^\x00-\x7f]+", text)))
    if wrong * 10 <= foreign:  # UTF-8 with a few damaged bytes
        return text
    return data.decode(guessed(data), "replace")


def _as_declared(data: bytes, encoding: str) -> str:
    try:
        return data.decode(encoding, "replace")
    except UnicodeError:  # some encodings are of names alone, and replace nothing
        return "\ufffd"


def _known(name: str | None) -> str | None:
    """The codec of that name, for the encodings of text alone; what pages call Latin-1 is Windows' superset of it."""
    try:
        codec = codecs.lookup(name) if name else None
    except (LookupError, ValueError):
        return None
    # UTF-16 has been looked for in the bytes, whatever a page in ASCII says of itself.
    odd = ("utf-16", "utf-32", "idna", "punycode", "unicode", "raw-unicode")
    if codec is None or not getattr(codec, "_is_text_encoding", True) or codec.name.replace("_", "-").startswith(odd):
        return None
    same = {
        "iso8859-1": "cp1252",
        "ascii": None,
        "gb2312": "gb18030",
        "gbk": "gb18030",
        "euc_kr": "cp949",
        "shift_jis": "cp932",
    }
    return same.get(codec.name, codec.name)
