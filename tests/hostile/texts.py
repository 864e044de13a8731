"""HTML, RTF, CSV and plain text: without an end, without a bottom, and with what a reader does not see."""

from __future__ import annotations

import random

from tests import documents

_SAYS = f"{documents.KNEE}."


def deep_html(rng: random.Random) -> tuple[str, bytes]:
    tag, depth = (
        rng.choice(["div", "table><tr><td", "ul><li", "b", "blockquote", "svg><g"]),
        rng.choice([600, 20_000, 300_000]),
    )
    return "html", (f"<!doctype html><p>{_SAYS}</p>" + f"<{tag}>" * depth + _SAYS).encode()


def hungry_html(rng: random.Random, canary: str) -> tuple[str, bytes]:
    """What a browser would run or fetch."""
    parts = [
        f'<img src="{canary}i.png" srcset="{canary}s.png 2x">',
        f'<iframe src="{canary}f"></iframe>',
        f'<link rel="stylesheet" href="{canary}c.css">',
        f'<script src="{canary}s.js"></script><script>steal()</script>',
        f'<meta http-equiv="refresh" content="0;url={canary}">',
        f'<base href="{canary}"><object data="o"></object>',
        f'<svg><image href="{canary}v"/><use href="{canary}u#x"/></svg>',
        f'<video src="{canary}v" poster="{canary}p"></video>',
        f"<style>@import url({canary}style);</style>",
        '<img src="file:///etc/passwd">',
        f'<?xml-stylesheet href="{canary}x"?>',
    ]
    rng.shuffle(parts)
    return "html", f"<!doctype html><body><p>{_SAYS}</p>{''.join(parts[: rng.randrange(1, 9)])}</body>".encode()


def wide_html(rng: random.Random) -> tuple[str, bytes]:
    cell = f'<td colspan="{rng.choice([1000, 10**9])}" rowspan="{rng.choice([1, 65_534, 10**9])}">x</td>'
    many = rng.choice([1, 30, 3000])
    return "html", f"<!doctype html><p>{_SAYS}</p><table>{f'<tr>{cell * 3}</tr>' * many}</table>".encode()


def broken_html(rng: random.Random) -> tuple[str, bytes]:
    noise = rng.choice(
        [
            b"&#0;&#x110000;&#xD800;",
            b"&lt" * 50_000,
            b"<" * 100_000,
            b"<a " + b"b='" * 30_000,
            b"<!--" * 30_000,
            b"<![CDATA[" * 9000,
            b"</p>" * 50_000,
            b"\x00<p\x00>" * 500,
            b"<a href='" + b"x" * 1_000_000,
        ]
    )
    return "html", b"<!doctype html><meta charset='" + rng.choice(
        [b"utf-7", b"none", b"utf-16", b"shift_jis"]
    ) + b"'><p>" + _SAYS.encode() + noise


def deep_rtf(rng: random.Random) -> tuple[str, bytes]:
    depth = rng.choice([200, 10_000, 300_000])
    inside = rng.choice(
        [rb"\b x", rb"\'", rb"\bin99999999 x", rb"\u-32768?\uc9999 x", rb"\*\objdata 0105", rb"\trowd\cellx99999999"]
    )
    return "rtf", rb"{\rtf1\ansi " + _SAYS.encode() + b"{" * depth + inside + b"}" * rng.choice([0, depth, 2 * depth])


def wide_csv(rng: random.Random) -> tuple[str, bytes]:
    match rng.randrange(5):
        case 0:
            return "csv", b"a," * rng.choice([5000, 500_000]) + b"\n1,2\n"
        case 1:
            return "csv", b'"' * rng.randrange(1, 10_001) + b"a,b\n" * 1000
        case 2:
            return "csv", b"a;b\n" + b"=cmd|'/c calc'!A1;@sum(1)\n" * 500
        case 3:
            return "csv", b"name,value\n" + b"\x00,\xff\n" * 200 + b"knee,500\n" * 2000
        case _:
            return "tsv", b"\t" * 100_000 + b"knee\t500\n"


def one_line(rng: random.Random) -> tuple[str, bytes]:
    size = rng.choice([50_000, 400_000])
    unit = rng.choice(
        [
            b"x",
            b"a ",
            b"a.",
            "字".encode(),
            b">",
            b"# ",
            b"|",
            "e\u0301".encode(),
            b"- ",
            b"`",
            b"*_",
            b"[a](",
            b"\t",
            b"0",
        ]
    )
    return rng.choice(["txt", "md"]), _SAYS.encode() + b" " + unit * (size // len(unit))


def endless_text(rng: random.Random) -> tuple[str, bytes]:
    """More than a document may hold here, or a heading for each line."""
    line = rng.choice([b"%d\n", b"# %d\n", b"- %d\n", b"%d. A\n\n", b"|%d|\n"])
    return "md", b"".join(line % n for n in range(rng.choice([20_000, 1_000_100])))


_HIDDEN = [
    "\u200b",
    "\u00ad",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\U000e0041",
    "\u180e",
    "\ufe0f",
    "\x00",
    "\x08",
    "\x1b[2J",
    "\u2028",
    "\u3164",
]


def unseen(rng: random.Random) -> tuple[str, bytes]:
    """Marks between the letters of words, and overrides that turn a line round."""
    marks = rng.sample(_HIDDEN, rng.randrange(1, 5))
    text = "".join(letter + (rng.choice(marks) if rng.random() < 0.3 else "") for letter in _SAYS * 20)
    return rng.choice(["txt", "md", "html", "csv"]), text.encode(rng.choice(["utf-8", "utf-8", "utf-8-sig"]))


def wrong_bytes(rng: random.Random) -> tuple[str, bytes]:
    """No encoding at all, or half of one."""
    kind = rng.choice(["utf-16", "utf-16-le", "utf-32", "cp1252", "shift_jis", "utf-8"])
    text = bytearray((_SAYS * 50 + "Größe").encode(kind, "replace"))
    for _ in range(rng.randrange(1, 60)):
        at = rng.randrange(len(text))
        text[at : at + 1] = rng.choice(
            [b"\x80", b"\xff\xfe", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"\x00", b"\xc0\xaf", b""]
        )
    return rng.choice(["txt", "csv", "md"]), bytes(text)


def nothing(rng: random.Random) -> tuple[str, bytes]:
    return "txt", rng.choice(
        [b"\n" * 9, b"\x00" * 1000, b"\xef\xbb\xbf", b" ", b"...", "\u200b".encode() * 500, rng.randbytes(5000)]
    )


_PLAIN = (
    deep_html, wide_html, broken_html, deep_rtf, wide_csv, one_line, endless_text, unseen, wrong_bytes, nothing,
)  # fmt: skip


def makers(canary: str):
    """By what each is called; `canary` is an address that nobody may ask for anything."""
    found = {make.__name__.replace("_", " "): make for make in _PLAIN}
    return found | {"HTML that fetches": lambda rng: hungry_html(rng, canary)}
