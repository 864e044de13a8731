"""Which encoding bytes are in that say nothing about it.

For an alphabet of up to 128 letters each encoding is tried with each language that it was made for: letters that the
language uses often speak for it, letters in the wrong case or in impossible company against it. Where no alphabet fits
(Chinese, Japanese, Korean), charset-normalizer decides.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter

SAMPLE = 65_536

_TYPOGRAPHY = "“”‘’„‚–—…«»•€£°§©®™´·\xa0ªº½¼²³"
_LATIN = {
    "en": "“”‘’–—…•é©®°£€",
    "de": "äöüßé", "fr": "éèàùçâêîôûëïœÉÀÈ", "es": "ñáéíóúü¿¡", "pt": "ãõçáéíóúâêôàü", "it": "àèéìòù",
    "nordic": "åäöæøéüÅÄÖØ", "is": "þðæöáéíóúýÞ", "nl": "ëïéèöü", "ca": "àçéèíïóòúü·",
    "pl": "ąćęłńóśźż", "cs": "áčďéěíňóřšťúůýž", "sk": "áäčďéíľĺňóôŕšťúýž",
    "hu": "áéíóöőúüű", "ro": "ăâîşţșț", "hr": "čćđšž",
    "tr": "ğışçöüİâî", "lt": "ąčęėįšųūž", "lv": "āčēģīķļņšūž", "et": "äõöüšž",
}  # fmt: skip
# The more frequent half first; the rest after the bar.
_OTHERS = {
    "ru": "оеаинтсрвлкмдпу|яыьгзбчйхжшюцщэфъёё",
    "uk": "оанивтеіркслдумпїє|язьбгчйхцжюшфщґ",
    "bg": "аиоетнрсвлкдпмъ|зуягбчйхцжшющфьн",
    "el": "αοιετσνηυρπκλμςάίόέήύώ|δγχθωφβξζψϊϋΐΰ", "he": "יוהלאתרבמשנםחק|דפכסעגטץןזףצך",
    "ar": "ابتدرسعفقلمنهويةأ|إآؤئءثجحخذزشصضطظغىـ،؟",
    "th": "านรอกเงมยลวดทส่้ีัิ์|ะาแโใไำุูึืคขจชซฐณตถธบปผฝพฟภศษหฬฮๆฯฎฏฑญฉ",
}  # fmt: skip
_WEST = ("en", "de", "fr", "es", "pt", "it", "nordic", "is", "nl", "ca")
_EAST = ("pl", "cs", "sk", "hu", "ro", "hr")
_CANDIDATES = (
    ("cp1252", _WEST), ("cp1250", _EAST), ("iso8859_2", _EAST), ("mac_roman", _WEST), ("cp850", _WEST),
    ("cp437", _WEST),
    ("cp852", _EAST), ("mac_latin2", _EAST), ("iso8859_15", _WEST), ("cp1254", ("tr",)), ("cp1257", ("lt", "lv", "et")),
    ("cp1251", ("ru", "uk", "bg")), ("koi8_r", ("ru",)), ("koi8_u", ("uk",)), ("cp866", ("ru", "uk", "bg")),
    ("iso8859_5", ("ru", "uk", "bg")), ("mac_cyrillic", ("ru", "uk", "bg")), ("cp1253", ("el",)),
    ("iso8859_7", ("el",)),
    ("cp1255", ("he",)), ("iso8859_8", ("he",)), ("cp862", ("he",)), ("cp1256", ("ar",)), ("iso8859_6", ("ar",)),
    ("cp874", ("th",)),
)  # fmt: skip
_WORD = re.compile(rb"[A-Za-z\x80-\xff]*[\x80-\xff][A-Za-z\x80-\xff]*")
_WRONG_CASE = re.compile(
    r"(?:[a-zß-öø-ÿ\u0430-\u044f\u0450-\u045f\u03b1-\u03ce])(?:[À-ÖØ-Þ\u0410-\u042f\u0401-\u040f\u0391-\u03a9])"
)
# No word is written in Latin letters and in Greek, Cyrillic, Hebrew, Arabic or Thai ones.
_MIXED = re.compile("[A-Za-z][\u0370-\u06ff\u0e00-\u0e7f]|[\u0370-\u06ff\u0e00-\u0e7f][A-Za-z]")
_LONG_RUN = re.compile(r"[À-ɏ]{3,}")
_ENOUGH = 0.62


def guessed(data: bytes) -> str:
    """The name of an encoding for `data`, which is not UTF-8."""
    first = re.search(rb"[\x80-\xff]", data)
    sample = data[max(0, first.start() - 1024) if first else 0 :][:SAMPLE]
    words = _WORD.findall(sample)
    counts = Counter(b"".join(words))
    total = sum(n for byte, n in counts.items() if byte >= 0x80)
    joined = b" ".join(words)
    best, found = _ENOUGH, None
    for encoding, languages in _CANDIDATES:
        try:
            text = joined.decode(encoding)
        except UnicodeDecodeError:
            continue
        faults = (
            len(_WRONG_CASE.findall(text))
            + len(_MIXED.findall(text))
            + sum(len(run) for run in _LONG_RUN.findall(text))
        )
        for language in languages:
            weights = _weights(encoding, language)
            score = (sum(n * weights[byte - 0x80] for byte, n in counts.items() if byte >= 0x80) - faults) / max(
                1, total
            )
            if score > best + 0.001:
                best, found = score, encoding
    return found or _by_statistics(sample)


@functools.cache
def _weights(encoding: str, language: str) -> list[float]:
    """For each byte from 128 on, what it says for the language, 1 to -2."""
    often, _, seldom = _OTHERS.get(language, _LATIN.get(language, "")).partition("|")
    latin = language in _LATIN
    found = []
    for byte in range(0x80, 0x100):
        letter = bytes((byte,)).decode(encoding, "replace")
        small = letter.lower() if len(letter.lower()) == 1 else letter
        if letter in often or (latin and small in often):
            found.append(1.0 if letter in often else 0.8)
        elif small in often or small in seldom:
            found.append(0.7 if small in often else 0.4)
        elif letter in _TYPOGRAPHY:
            found.append(0.6)
        elif unicodedata.category(letter) in ("Cc", "Cn", "Co", "So") and letter != "\x85":
            found.append(-2.0)
        else:
            found.append(-0.5 if letter.isalpha() else -1.0)
    return found


def _by_statistics(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    return best.encoding if best else "cp1252"


def unmarked_utf16(sample: bytes) -> str | None:
    """`utf-16-le`, `utf-16-be` or None, for text without a byte order mark.

    Every other byte of ASCII is zero. In other scripts blanks, line ends and stops are, and what is decoded is letters.
    """
    pairs = len(sample) // 2
    if pairs < 4 or 0 not in sample:
        return None
    even, odd = sample[0 : pairs * 2 : 2].count(0), sample[1 : pairs * 2 : 2].count(0)
    if odd > pairs * 0.3 and even < pairs * 0.05:
        return "utf-16-le"
    if even > pairs * 0.3 and odd < pairs * 0.05:
        return "utf-16-be"
    if max(even, odd) > pairs * 0.6 or abs(even - odd) < 2:
        return None
    encoding = "utf-16-be" if even > odd else "utf-16-le"
    text = sample[: min(pairs * 2, 8192)].decode(encoding, "replace")
    plain = sum(letter.isalnum() or letter in " \t\r\n" or unicodedata.category(letter)[0] in "PM" for letter in text)
    blocks = Counter(ord(letter) >> 8 for letter in text)
    few = sum(n for _, n in blocks.most_common(4)) if max(blocks, default=0) < 0x30 else len(text)
    return encoding if plain >= 0.97 * len(text) and few >= 0.95 * len(text) else None
