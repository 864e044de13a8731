"""PDFs that lose text, by kind; see docs/formats.md."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests import documents
from tests.corpus import Case
from tests.hostile.pdfs import one_page, pdf, stream

_FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
Lines = Sequence[str]


def lines(texts: Lines, *, x: int = 50, y: int = 780, matrix: str = "1 0 0 1") -> bytes:
    """The operators that write `texts` below each other."""
    down = {"1 0 0 1": (0, -16), "0 1 -1 0": (16, 0), "0 -1 1 0": (-16, 0), "-1 0 0 -1": (0, 16)}[matrix]
    shown = (
        f"BT /F 12 Tf {matrix} {x + down[0] * n} {y + down[1] * n} Tm ({text}) Tj ET" for n, text in enumerate(texts)
    )
    return "\n".join(shown).encode("cp1252")


def pages(
    contents: Sequence[bytes],
    *,
    font: bytes = _FONT,
    fonts: bytes = b"",
    more: Sequence[bytes] = (),
    resources: bytes = b"",
) -> bytes:
    """A page for each content. Objects: 1 catalogue, 2 pages, 3 font, 4 and on a page and its content, then `more`."""
    numbers = range(4, 4 + 2 * len(contents), 2)
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents %d 0 R/Resources<</Font<</F 3 0 R%s>>%s>>>>"
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    objects.append(b"<</Type/Pages/Kids[%s]/Count %d>>" % (b" ".join(b"%d 0 R" % n for n in numbers), len(contents)))
    objects.append(font)
    for number, content in zip(numbers, contents, strict=True):
        objects += [page % (number + 1, fonts, resources), stream(content)]
    return pdf([*objects, *more])


def letters() -> bytes:
    return pages(
        [
            lines(["May 5, 2023", "To Whom it may concern", f"There were {count} of them.", "Best regards, M."])
            for count in (20000, 30000)
        ]
    )


def table_at_the_top() -> bytes:
    rows = [("Service", "Copay"), ("Vision", "40 dollars"), ("Dental", "60 dollars"), ("Hearing", "80 dollars")]
    return pages([b"\n".join(lines([cell], x=50 + 200 * n, y=825 - 20 * r) for r, row in enumerate(rows)
                             for n, cell in enumerate(row))])  # fmt: skip


def running_lines() -> bytes:
    return pages(
        [
            lines(["The Employee Handbook"], y=815) + lines([f"Chapter {word} is about {word} things."], y=600)
            for word in ("one", "two", "three", "four")
        ]
    )


def sideways() -> bytes:
    return pages([lines(["Knee surgery is covered", "after a waiting period", "of six months"], x=100, y=100,
                        matrix="0 1 -1 0")])  # fmt: skip


def turned_page() -> bytes:
    return one_page(stream(lines(["Knee surgery is covered", "after a waiting period"])), page=b">>/Rotate 90/X<<")


def every_direction() -> bytes:
    texts = ["The cat sat on a warm mat", "The dog ran to its own bed", "The bird sang in the tall tree",
             "The fish swam round its bowl"]  # fmt: skip
    places = [(50, 780, "1 0 0 1"), (300, 300, "0 1 -1 0"), (400, 600, "0 -1 1 0"), (500, 100, "-1 0 0 -1")]
    return pages([b"\n".join(lines([t], x=x, y=y, matrix=m) for t, (x, y, m) in zip(texts, places, strict=True))])


def illustrator() -> bytes:
    return one_page(stream(lines(["The poster shows the new clinic."])), catalogue=b"/AIPrivateData1(x)")


def certificate() -> bytes:
    handler = b"/Encrypt<</Filter/Adobe.PubSec/SubFilter/adbe.pkcs7.s4/V 2/Length 128/Recipients[<00>]>>/ID[<00><00>]"
    return _with_trailer(handler)


def rights_managed() -> bytes:
    handler = b"/Encrypt<</Filter/EBX_HANDLER/V 4/Length 128>>/ID[<00><00>]"
    return _with_trailer(handler)


def _with_trailer(entries: bytes) -> bytes:
    whole = one_page(stream(lines(["A secret stands here."])))
    return whole.replace(b"/Root 1 0 R", b"/Root 1 0 R" + entries)


def rights_wrapper() -> bytes:
    return one_page(
        stream(lines(["This PDF file is protected.", "You need a different reader to open it."])),
        catalogue=b"/AF[6 0 R]",
        more=[b"<</Type/Filespec/AFRelationship/EncryptedPayload/UF(MicrosoftIRMServices Protected PDF.pdf)>>"],
    )


def portfolio() -> bytes:
    return one_page(
        stream(lines(["For the best experience, open this PDF portfolio in Acrobat X or later."])),
        catalogue=b"/Collection<</View/D>>",
    )


_WAIT = ["Please wait...", "If this message is not replaced, upgrade to the latest Adobe Reader."]


def xfa(template: bytes, data: bytes = b"") -> bytes:
    form = b"/AcroForm<</Fields[]/XFA[(template)6 0 R(datasets)7 0 R]>>/NeedsRendering true"
    return one_page(stream(lines(_WAIT)), catalogue=form, more=[stream(template), stream(data)])


def xfa_form() -> bytes:
    return xfa(
        b'<template><subform><draw><value><text>Claim for knee surgery</text></value></draw><field name="who"><caption>'
        b"<value><text>Insured &amp; payer</text></value></caption><event><script>var hidden;</script></event></field>"
        b"</subform></template>",
        b"<xfa:datasets><xfa:data><who>Ada Lovelace</who></xfa:data></xfa:datasets>",
    )


def xfa_without_text() -> bytes:
    return xfa(b"<template><subform/></template>")


def form_values() -> bytes:
    widget = b"<</Type/Annot/Subtype/Widget/Rect[50 %d 300 %d]%s>>"
    kinds = [
        b"/FT/Tx/T(a[0].name[0])/TU(Name of the insured)/V(Ada Lovelace)",
        b"/FT/Btn/T(member)/V/Yes/AS/Yes",
        b"/FT/Btn/T(refused)/V/Off/AS/Off",
        b"/FT/Ch/T(plan)/V(gold)/Opt[[(gold)(Golden plan)][(silver)(Silver plan)]]/Ff 131072",
    ]
    fields = b" ".join(b"%d 0 R" % n for n in range(6, 6 + len(kinds)))
    return one_page(
        stream(lines(["Enrolment"])),
        page=b">>/Annots[%s]/X<<" % fields,
        catalogue=b"/AcroForm<</Fields[%s]>>" % fields,
        more=[widget % (600 - 40 * n, 620 - 40 * n, kind) for n, kind in enumerate(kinds)],
    )


def notes() -> bytes:
    note = b"<</Type/Annot/Subtype/%s/Rect[50 500 300 550]/Contents(%s)/DA(/F 12 Tf)>>"
    return one_page(
        stream(lines(["The draft of the contract."])),
        page=b">>/Annots[%s%s]/X<<"
        % (note % (b"FreeText", b"Approved by the insurer"), note % (b"Text", b"Please check the deductible")),
    )


def _two_bytes(text: str) -> bytes:
    return b"<%s> Tj" % text.encode("utf-16-be").hex().encode()


def _font_with_table(table: int) -> bytes:
    """A font of two-byte codes, whose letters stand in object `table`."""
    return (
        b"<</Type/Font/Subtype/Type0/BaseFont/Some/Encoding/Identity-H/ToUnicode %d 0 R/DescendantFonts[<</Type/Font"
        b"/Subtype/CIDFontType2/BaseFont/Some/DW 1000/CIDSystemInfo<</Registry(Adobe)/Ordering(Identity)/Supplement 0>>"
        b"/FontDescriptor<</Type/FontDescriptor/FontName/Some/Flags 4/FontBBox[0 0 999 999]/ItalicAngle 0/Ascent 880"
        b"/Descent -120/CapHeight 880/StemV 80>>>>]>>" % table
    )


def _table(text: str, shift: int = 0) -> bytes:
    """The table of the letters of `text`, each `shift` places further on."""
    letters = sorted(set(map(ord, text)))
    return stream(
        b"/CIDInit/ProcSet findresource begin 12 dict begin begincmap/CMapName/X def/CMapType 2 def "
        b"1 begincodespacerange <0000><FFFF> endcodespacerange %d beginbfchar %s endbfchar "
        b"endcmap CMapName currentdict/CMap defineresource pop end end"
        % (len(letters), b" ".join(b"<%04X><%04X>" % (letter, letter + shift) for letter in letters))
    )


def unreadable_font(*before: bytes) -> bytes:
    """A page whose font gives each letter a number of its own, behind pages with the contents `before`."""
    text = "Nobody can read this page at all."
    contents = [*before, b"BT /G 12 Tf 50 700 Td %s ET" % _two_bytes(text)]
    table = 4 + 2 * len(contents)
    return pages(contents, fonts=b"/G %d 0 R" % (table + 1), more=[_table(text, 0xE000), _font_with_table(table)])


def chinese_font_outside() -> bytes:
    """A font that the file names and does not hold, in an encoding of the time before Unicode."""
    text = "再制造技术与工艺手册说明保险条款"
    shown = b"BT /F 20 Tf 50 700 Td <%s> Tj ET" % text.encode("gbk").hex().encode()
    font = (
        b"<</Type/Font/Subtype/Type0/BaseFont/SimSun/Encoding/GBK-EUC-H/DescendantFonts[<</Type/Font"
        b"/Subtype/CIDFontType2/BaseFont/SimSun/CIDSystemInfo<</Registry(Adobe)/Ordering(GB1)/Supplement 2>>"
        b"/FontDescriptor<</Type/FontDescriptor/FontName/SimSun/Flags 4/FontBBox[0 0 999 999]/ItalicAngle 0/Ascent 880"
        b"/Descent -120/CapHeight 880/StemV 80>>>>]>>"
    )
    return pages([shown], font=font)


def vertical_japanese() -> bytes:
    columns = ["膝の手術の自己負担額は", "五万円です毎年の届け出", "が必要です保険の説明書"]
    rows = [
        b"BT /F 12 Tf 1 0 0 1 300 %d Tm [%s] TJ ET"
        % (
            700 - 12 * n,
            b" -1000 ".join(b"<%s>" % letter.encode("utf-16-be").hex().encode() for letter in reversed(row)),
        )
        for n, row in enumerate(zip(*columns, strict=True))
    ]
    return pages([b"\n".join(rows)], font=_font_with_table(6), more=[_table("".join(columns))])


def divided_words() -> bytes:
    return pages([lines(["We trained a long model that is a dual-", "encoder of pictures and text, with the infor-",
                         "mation of before. The information is here."])])  # fmt: skip


def junk_line() -> bytes:
    return b"Content-Type: application/pdf\r\n\r\n" + pages([lines(["The deductible is due once a year."])])


def table_without_header() -> bytes:
    rows = [("Knee", "500", "yes"), ("Hip", "700", "no"), ("Eye", "300", "yes"), ("Ear", "200", "no")]
    return pages([b"\n".join(lines([cell], x=50 + 150 * n, y=600 - 20 * r) for r, row in enumerate(rows)
                             for n, cell in enumerate(row))])  # fmt: skip


def picture_among_pages() -> bytes:
    image = stream(
        bytes(random.Random(3).choices(range(256), k=4096)),
        b"/Type/XObject/Subtype/Image/Width 64/Height 64/ColorSpace/DeviceGray/BitsPerComponent 8",
    )
    contents = [lines(["The first page has text."]), b"q 595 0 0 842 0 0 cm /I Do Q"]
    return pages(contents, resources=b"/XObject<</I 8 0 R>>", more=[image])


CASES = (
    Case("letters that differ in a number", letters,
         ["There were 20000", "There were 30000", "To Whom", "Best regards"], pages=[1, 2]),
    Case("a table that reaches the top of the page", table_at_the_top, ["Service", "Copay", "Vision", "40 dollars"]),
    Case("a header that runs over all pages (it stays once)", running_lines,
         ["The Employee Handbook", "Chapter one", "Chapter four is about"], pages=[1, 2, 3, 4]),
    Case("text on its side", sideways, ["Knee surgery is covered after a waiting period of six months"], pages=[1]),
    Case("a turned page", turned_page, ["Knee surgery is covered after a waiting period"], pages=[1]),
    Case("text in every direction", every_direction,
         ["The cat sat on a warm mat", "The dog ran to its own bed", "The bird sang in the tall tree",
          "The fish swam round its bowl"]),
    Case("saved by Illustrator", illustrator, ["The poster shows the new clinic"]),
    Case("encrypted with a certificate", certificate, [], "encrypted for the holders of certain certificates"),
    Case("under a rights manager's lock", rights_managed, [], "protected by rights management"),
    Case("wrapped by a rights manager", rights_wrapper, [], "protected by rights management"),
    Case("encrypted with a password", documents.encrypted_pdf, [], "protected by a password"),
    Case("a portfolio", portfolio, [], "is a portfolio"),
    Case("an XFA form behind 'Please wait'", xfa_form, ["Claim for knee surgery", "Insured & payer", "Ada Lovelace"],
         absent=["Please wait", "hidden"]),
    Case("an XFA form without text", xfa_without_text, [], "is an XFA form"),
    Case("a form that is filled in", form_values,
         ["Enrolment", "Name of the insured: Ada Lovelace", "[x] member", "plan: Golden plan"],
         absent=["Silver", "refused"]),
    Case("notes and comments", notes, ["The draft", "Approved by the insurer", "Please check the deductible"]),
    Case("fonts that do not say their letters", unreadable_font, [], "fonts do not say which letters they show"),
    Case("one page with such fonts", lambda: unreadable_font(lines(["This page is fine."])),
         ["This page is fine"], "fonts do not say which letters they show", pages=[1]),
    Case("a Chinese font that is not in the file", chinese_font_outside, ["再制造技术与工艺手册说明保险条款"]),
    Case("Japanese from top to bottom", vertical_japanese,
         ["膝の手術の自己負担額は", "五万円です毎年の届け出", "が必要です保険の説明書"]),
    Case("words that are divided at the end of a line", divided_words,
         ["dual-encoder", "with the information of before"]),
    Case("behind lines of something else", junk_line, ["The deductible is due once a year"], absent=["Content-Type"]),
    Case("a table without a header", table_without_header,
         ["|  |  |  |", "| Knee | 500 | yes |", "| Ear | 200 | no |"]),
    Case("a scan", documents.pdf_scanned, [], "This PDF is a scan"),
    Case("a picture among pages of text", picture_among_pages, ["The first page has text"], "is a picture without text",
         pages=[1]),
)  # fmt: skip
