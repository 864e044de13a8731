"""E-mail, notebooks, XML and compound files: parts without end, loops, and little that becomes much."""

from __future__ import annotations

import base64
import json
import random
import struct

from tests import documents
from tests.corpus.containers import compound, outlook
from tests.hostile import archives

_SAYS = f"{documents.KNEE}."
_HEAD = b"From: a@example.com\nSubject: knee\nMIME-Version: 1.0\n"


def mail_in_parts(rng: random.Random) -> tuple[str, bytes]:
    """Parts in parts, or beside each other."""
    many = rng.choice([90, 400, 20_000])
    if rng.random() < 0.5:
        heads = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(min(many, 3000))
        )
        return "eml", _HEAD + heads + b"\n" + _SAYS.encode()
    part = (
        b"--b\nContent-Type: "
        + rng.choice([b"text/plain", b"image/png", b"message/rfc822"])
        + b"\n\n"
        + _HEAD
        + b"\nx\n"
    )
    return "eml", _HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + part * many


def mail_in_mail(rng: random.Random) -> tuple[str, bytes]:
    inner = _HEAD + b"\n" + _SAYS.encode()
    for _ in range(rng.choice([5, 60, 500])):
        inner = _HEAD + b"Content-Type: message/rfc822\n\n" + inner
    return "eml", inner


def mail_heads(rng: random.Random) -> tuple[str, bytes]:
    """Header fields that are too many, too long, or that have words of words to decode."""
    field = rng.choice(
        [
            b"To: " + b"a@example.com, " * 60_000,
            b"Subject: " + b"=?utf-8?q?=C3?= " * 40_000,
            b"Subject: " + b"=?" * 300_000,
            b"To: x\n" * 100_000,
            b"Content-Type: text/plain; " + b"; ".join(b"name*%d*=utf-8''%%C3" % n for n in range(20_000)),
            b'Content-Disposition: attachment; filename="' + b"\\" * 200_000,
            b"Content-Type: text/plain; charset="
            + rng.choice([b"rot13", b"zlib_codec", b"idna", b"\xff", b"x" * 9000]),
            b"Content-Transfer-Encoding: " + rng.choice([b"uuencode", b"base64", b"quoted-printable"]),
        ]
    )
    return "eml", _HEAD + field + b"\n\n" + _SAYS.encode() + b"=\xff" * rng.choice([1, 50_000])


def mail_bomb(rng: random.Random) -> tuple[str, bytes]:
    """Attachments that unpack to too much, hundreds of times."""
    bomb = base64.encodebytes(rng.choice([archives.bomb(True), archives.overlapping(500), documents.killer_pdf()]))
    head = b'--b\nContent-Disposition: attachment; filename="a"\nContent-Transfer-Encoding: base64\n\n'
    many = min(rng.choice([1, 30]), 8_000_000 // len(bomb) + 1)
    return "eml", _HEAD + b"Content-Type: multipart/mixed; boundary=b\n\n" + (
        head + bomb
    ) * many + b"--b\n\n" + _SAYS.encode()


def looped_message(rng: random.Random) -> tuple[str, bytes]:
    """An Outlook message whose sectors or folders lead back to where they came from, or one in another without end."""
    tree = outlook({0x0037: "knee", 0x1000: _SAYS * 200})
    for _ in range(rng.choice([0, 1, 30])):
        tree = outlook({0x0037: "knee"}, ({"__substg1.0_3701000D": tree},))
    data = bytearray(compound(tree))
    for _ in range(rng.choice([0, 1, 20])):
        at = rng.choice(
            [rng.randrange(48, 560), rng.randrange(512, len(data) - 4), len(data) - 512 + rng.randrange(508)]
        )
        struct.pack_into("<I", data, at, rng.choice([0, 1, 2, 0xFFFFFFFE, rng.randrange(len(data) // 512)]))
    return "msg", bytes(data)


def endless_notebook(rng: random.Random) -> tuple[str, bytes]:
    if rng.random() < 0.4:
        deep = rng.choice([500, 200_000])
        return "ipynb", b'{"cells": ' + b'[{"cell_type": ' * deep + b"1" + b"}]" * deep + b"}"
    out = {
        "output_type": "stream",
        "text": rng.choice(["x", ["line\n"], 7, "<" * 9, "`" * 50]),
        "data": rng.choice([{}, [], None]),
    }
    cell = {"cell_type": "code", "source": _SAYS, "outputs": [out] * rng.choice([1, 20_000])}
    return "ipynb", json.dumps({"cells": [cell] * rng.choice([1, 10]), "nbformat": 4}).encode()


def bottomless_xml(rng: random.Random) -> tuple[str, bytes]:
    kind, name = rng.choice([("xml", "list"), ("svg", "svg"), ("fb2", "FictionBook")])
    match rng.randrange(4):
        case 0:
            lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
            body = f'<!DOCTYPE {name} [<!ENTITY l0 "laugh">{lines}]><{name}><p>{_SAYS}</p>&l9;</{name}>'
        case 1:
            depth = rng.choice([500, 300_000])
            body = f"<{name}><p>{_SAYS}</p>{'<a>' * depth}x{'</a>' * depth}</{name}>"
        case 2:
            body = f'<!DOCTYPE {name} SYSTEM "file:///etc/passwd"><{name}><p>{_SAYS}</p>&what;{"<" * 300_000}'
        case _:
            many = "".join(f'<p a{n}="{_SAYS}">{n}</p>' for n in range(50_000))
            body = f"<{name}>{many}</{name}>"
    return kind, f'<?xml version="1.0"?>{body}'.encode()


MAKERS = {
    make.__name__.replace("_", " "): make
    for make in (mail_in_parts, mail_in_mail, mail_heads, mail_bomb, looped_message, endless_notebook, bottomless_xml)
}
