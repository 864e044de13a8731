"""From bytes of unknown encoding to clean text: decoded, without hidden characters, composed, with plain newlines."""

from __future__ import annotations

import codecs
import re
import unicodedata

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
_SAMPLE = 65_536

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


def looks_like_utf16(sample: bytes) -> str | None:
    """`utf-16-le`, `utf-16-be` or None, for text without a byte order mark: every other byte of ASCII is zero."""
    pairs = len(sample) // 2
    if pairs < 4:
        return None
    even, odd = sample[0 : pairs * 2 : 2].count(0), sample[1 : pairs * 2 : 2].count(0)
    if odd > pairs * 0.3 and even < pairs * 0.05:
        return "utf-16-le"
    if even > pairs * 0.3 and odd < pairs * 0.05:
        return "utf-16-be"
    return None


def decode(data: bytes, *, html: bool = False) -> str:
    """Decode text of any usual encoding; bytes that are wrong in it become U+FFFD, never an error.

    The order: a byte order mark, UTF-16 without one, UTF-8, what an HTML page declares, and then a guess.
    """
    for mark, encoding in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if encoding := looks_like_utf16(data[:_SAMPLE]):
        return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if html and (declared := _META_CHARSET.search(data, 0, 4096)):
        try:
            return data.decode(declared[1].decode("ascii"), "replace")
        except LookupError:
            pass
    text = data.decode("utf-8", "replace")
    wrong = text.count("�")
    foreign = sum(map(len, re.findall(r"[^\x00-\x7f]+", text)))
    if wrong * 10 <= foreign:  # UTF-8 with a few damaged bytes
        return text
    return data.decode(_guess(data), "replace")


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    # The detector judges a sample; one that begins where the first foreign byte stands says most.
    foreign = re.search(rb"[\x80-\xff]", data)
    start = max(0, foreign.start() - 1024) if foreign else 0
    best = from_bytes(data[start : start + _SAMPLE]).best()
    return best.encoding if best else "cp1252"
