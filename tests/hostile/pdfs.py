"""PDFs that are well-formed enough to be read, and made to be read badly."""

from __future__ import annotations

import functools
import random
import zlib
from collections.abc import Sequence

from tests import documents

_FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
_SAYS = b"BT /F 12 Tf 50 700 Td (The deductible for knee surgery is 500 dollars.) Tj ET"


def stream(body: bytes, entries: bytes = b"", length: int | None = None) -> bytes:
    return b"<<%s/Length %d>>stream\n%s\nendstream" % (entries, len(body) if length is None else length, body)


def pdf(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """A file of objects 1, 2, …; the first is the catalogue."""
    body, places = b"%PDF-1.7\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    start = len(body)
    return body + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (
        len(objects) + 1,
        table,
        len(objects) + 1,
        trailer,
        start,
    )


def one_page(content: bytes, page: bytes = b"", catalogue: bytes = b"", more: Sequence[bytes] = ()) -> bytes:
    """Objects: 1 catalogue, 2 pages, 3 page, 4 font, 5 content, 6 and on `more`."""
    return pdf(
        [
            b"<</Type/Catalog/Pages 2 0 R%s>>" % catalogue,
            b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 5 0 R/Resources<</Font<</F 4 0 R>>%s>>>>" % page,
            _FONT,
            content,
            *more,
        ]
    )


def ten_thousand_pages(rng: random.Random) -> bytes:
    return documents.pdf_pages(rng.choice([5001, 10_000]))


def one_page_ten_thousand_times(rng: random.Random) -> bytes:
    kids = b"3 0 R " * 10_000
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 5 0 R/Resources<</Font<</F 4 0 R>>>>>>"
    pages = b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, rng.choice([1, 10_000, 2**31 - 1]))
    return pdf([b"<</Type/Catalog/Pages 2 0 R>>", pages, page, _FONT, stream(_SAYS)])


def tree_in_a_circle(rng: random.Random) -> bytes:
    kids = rng.choice([b"2 0 R", b"3 0 R 2 0 R", b"1 0 R", b"99 0 R"])
    page = b"<</Type/Page/Parent 3 0 R/Kids[2 0 R]/Contents 5 0 R>>"
    return pdf(
        [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[%s]/Count 7>>" % kids, page, _FONT, stream(_SAYS)]
    )


def deep(rng: random.Random) -> bytes:
    depth = rng.choice([500, 5000, 100_000])
    opening, closing = rng.choice([(b"[", b"]"), (b"<</A", b">>"), (b"(", b")")])
    return one_page(stream(_SAYS), catalogue=b"/Nest " + opening * depth + closing * depth)


def packed_many_times(rng: random.Random) -> bytes:
    """A few kilobytes that unpack to hundreds of megabytes of blanks, line by line."""
    return _packed(rng.choice([50_000_000, 300_000_000]), rng.choice([1, 2, 3]))


@functools.cache
def _packed(size: int, layers: int) -> bytes:
    body = b" " * size + _SAYS
    for _ in range(layers):
        body = zlib.compress(body, 1)
    return one_page(stream(body, b"/Filter[%s]" % (b"/FlateDecode" * layers)))


def form_in_a_circle(rng: random.Random) -> bytes:
    form = stream(
        _SAYS + b" /X Do" * rng.choice([1, 2, 10]),
        b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 6 0 R>>/Font<</F 4 0 R>>>>",
    )
    return one_page(stream(_SAYS + b" /X Do"), page=b"/XObject<</X 6 0 R>>", more=[form])


def forms_that_double(rng: random.Random) -> bytes:
    """Each form draws the next one ten times: a billion laughs."""
    depth = rng.choice([5, 9])
    forms = [
        stream(b"/X Do " * 10, b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X %d 0 R>>>>" % (7 + n))
        for n in range(depth)
    ]
    last = stream(_SAYS, b"/Type/XObject/Subtype/Form/BBox[0 0 595 842]/Resources<</Font<</F 4 0 R>>>>")
    return one_page(stream(b"/X Do"), page=b"/XObject<</X 6 0 R>>", more=[*forms, last])


def many_operators(rng: random.Random) -> bytes:
    line = rng.choice(
        [b"q ", b"0 0 m 9 9 l S ", b"BT /F 1 Tf (a) Tj ET ", b"[(a)-9999(b)]TJ ", b"1e38 0 0 1e38 0 0 cm "]
    )
    return one_page(stream(zlib.compress(line * rng.choice([20_000, 300_000])), b"/Filter/FlateDecode"))


def huge_page(rng: random.Random) -> bytes:
    box = rng.choice([b"0 0 1e9 1e9", b"0 0 0 0", b"-2147483648 0 2147483647 1", b"9 9 1 1"])
    return one_page(stream(_SAYS)).replace(b"0 0 595 842", box)


def huge_picture(rng: random.Random) -> bytes:
    size = rng.choice([30_000, 100_000])
    image = stream(
        zlib.compress(bytes(1_000_000)),
        b"/Type/XObject/Subtype/Image/Width %d/Height %d/BitsPerComponent 8/ColorSpace/DeviceRGB/Filter/FlateDecode"
        % (size, size),
    )
    return one_page(stream(_SAYS + b" q 500 0 0 500 0 0 cm /X Do Q"), page=b"/XObject<</X 6 0 R>>", more=[image])


def actions(rng: random.Random, canary: str) -> bytes:
    """Scripts, programs to start, files inside, and pages to fetch when it is opened."""
    action = rng.choice(
        [
            b"/OpenAction<</S/JavaScript/JS(app.launchURL('%s'))>>",
            b"/OpenAction<</S/Launch/F(/bin/sh)/U(%s)>>",
            b"/OpenAction<</S/URI/URI(%s)>>",
            b"/OpenAction<</S/GoToR/F(%s)>>",
            b"/AA<</O<</S/SubmitForm/F(%s)>>>>",
            b"/Names<</EmbeddedFiles<</Names[(%s)<</Type/Filespec/EF<</F 6 0 R>>>>]>>>>",
        ]
    )
    return one_page(
        stream(_SAYS), catalogue=action % canary.encode(), more=[stream(b"MZ" + bytes(500), b"/Type/EmbeddedFile")]
    )


def lies(rng: random.Random) -> bytes:
    """Lengths, places and references that are not so."""
    data = one_page(stream(_SAYS, length=rng.choice([0, 1, 10**9, -5])))
    old, new = rng.choice(
        [
            (b"/Root 1 0 R", b"/Root 1 0 R/Prev 9"),
            (b"startxref\n", b"startxref\n9"),
            (b"/Size 6", b"/Size 99999999"),
            (b"/Parent 2 0 R", b"/Parent 3 0 R"),
            (b"/Contents 5 0 R", b"/Contents[5 0 R 5 0 R %s]" % (b"5 0 R " * 5000)),
            (b"%PDF-1.7", b"\x00" * 500 + b"%PDF-9.9"),
        ]
    )
    return data.replace(old, new, 1)


def unseen_letters(rng: random.Random) -> bytes:
    """Text whose letters are others than those that are drawn: mapped to marks, tags and overrides."""
    marks = rng.choice([b"<202E>", b"<200B>", b"<0000>", b"<DB40DC41>", b"<D800>", b"<FFFE>"])
    table = (
        b"/CIDInit/ProcSet findresource begin 12 dict begin begincmap 1 begincodespacerange <00><FF> "
        b"endcodespacerange 1 beginbfchar <64>%s endbfchar endcmap" % marks
    )
    font = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica/ToUnicode 6 0 R>>"
    return one_page(stream(_SAYS), more=[stream(table)]).replace(_FONT, font)


_PLAIN = (
    ten_thousand_pages, one_page_ten_thousand_times, tree_in_a_circle, deep, packed_many_times, form_in_a_circle,
    forms_that_double, many_operators, huge_page, huge_picture, lies, unseen_letters,
)  # fmt: skip


def makers(canary: str):
    """By what each is called; `canary` is an address that nobody may ask for anything."""

    def named(make):
        return lambda rng: ("pdf", make(rng))

    found = {f"PDF: {make.__name__.replace('_', ' ')}": named(make) for make in _PLAIN}
    return found | {"PDF: actions": lambda rng: ("pdf", actions(rng, canary))}
