"""The documents of `pipeline demo`, and the questions that they answer. Written by hand: no library makes them."""

from __future__ import annotations

import io
import random
import textwrap
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 595, 842
"""A4, in points."""


class PdfWriter:
    """Just enough PDF: pages of text in Helvetica, lines, and grey pictures."""

    def __init__(self) -> None:
        self._objects: list[bytes] = [b"", b""]  # catalog and page tree come last, and get the first numbers
        self._pages: list[int] = []
        self._fonts = b" ".join(
            b"/%s %d 0 R"
            % (name, self._add(b"<</Type/Font/Subtype/Type1/BaseFont/%s/Encoding/WinAnsiEncoding>>" % font))
            for name, font in ((b"F", b"Helvetica"), (b"B", b"Helvetica-Bold"))
        )

    def _add(self, body: bytes) -> int:
        self._objects.append(body)
        return len(self._objects)

    def stream(self, dictionary: bytes, content: bytes, *, compress: bool = True) -> int:
        """Add a stream object and return its number."""
        if compress:
            content, dictionary = zlib.compress(content), dictionary + b"/Filter/FlateDecode"
        return self._add(b"<<%s/Length %d>>stream\n%s\nendstream" % (dictionary, len(content), content))

    def page(self, operators: Iterable[str], *, resources: bytes = b"", compress: bool = True) -> None:
        """Add a page that shows what `operators` draw."""
        content = self.stream(b"", "\n".join(operators).encode("cp1252", "replace"), compress=compress)
        self._pages.append(
            self._add(
                b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 %d %d]/Contents %d 0 R/Resources<</Font<<%s>>%s>>>>"
                % (WIDTH, HEIGHT, content, self._fonts, resources)
            )
        )

    def picture(self, width: int, height: int, grey: bytes) -> int:
        """Add an image of one byte a pixel and return its number."""
        head = b"/Type/XObject/Subtype/Image/Width %d/Height %d/ColorSpace/DeviceGray/BitsPerComponent 8"
        return self.stream(head % (width, height), grey)

    def finish(self) -> bytes:
        """The whole file."""
        kids = b" ".join(b"%d 0 R" % number for number in self._pages)
        self._objects[0] = b"<</Type/Catalog/Pages 2 0 R>>"
        self._objects[1] = b"<</Type/Pages/Count %d/Kids[%s]>>" % (len(self._pages), kids)
        file, offsets = io.BytesIO(), []
        file.write(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
        for number, body in enumerate(self._objects, 1):
            offsets.append(file.tell())
            file.write(b"%d 0 obj\n%s\nendobj\n" % (number, body))
        start = file.tell()
        file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
        file.writelines(b"%010d 00000 n \n" % offset for offset in offsets)
        file.write(b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % (len(offsets) + 1, start))
        return file.getvalue()


def text_at(x: float, y: float, text: str, *, size: float = 10, font: str = "F") -> str:
    """The operators that write one line."""
    quoted = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"BT /{font} {size} Tf {x:g} {y:g} Td ({quoted}) Tj ET"


def paragraph(x: float, y: float, text: str, *, characters: int, size: float = 10) -> tuple[list[str], float]:
    """The operators of a wrapped paragraph, and the height below it."""
    lines = textwrap.wrap(text, characters)
    return [text_at(x, y - i * size * 1.35, line, size=size) for i, line in enumerate(lines)], (
        y - len(lines) * size * 1.35 - size * 0.8
    )


def table(x: float, y: float, widths: Sequence[int], rows: Sequence[Sequence[str]], *, size: float = 10) -> list[str]:
    """The operators of a table with ruled lines, its first row in bold."""
    row_height, right, bottom = size * 2, x + sum(widths), y - len(rows) * size * 2
    edges = [x + sum(widths[:i]) for i in range(len(widths) + 1)]
    drawn = [f"0.7 w {edge} {y} m {edge} {bottom} l S" for edge in edges]
    drawn += [f"{x} {y - i * row_height} m {right} {y - i * row_height} l S" for i in range(len(rows) + 1)]
    for i, row in enumerate(rows):
        font = "F" if i else "B"
        drawn += [
            text_at(edge + 5, y - i * row_height - size * 1.4, cell, size=size, font=font)
            for edge, cell in zip(edges, row, strict=False)
        ]
    return drawn


_LEFT = (
    (
        "Who is covered",
        "Every employee who works at least twenty hours a week is covered from the first day of the "
        "month after hiring. Spouses and children up to the age of twenty-six can be added within thirty days of a "
        "wedding, a birth or an adoption.",
    ),
    (
        "Deductibles",
        "A deductible is what you pay yourself before the plan pays. The deductible for knee surgery "
        "is 500 dollars. For all other operations it is 750 dollars a year, and preventive care "
        "has no deductible at all.",
    ),
)
_RIGHT = (
    (
        "Emergencies",
        "Go to the nearest hospital. An ambulance ride is covered in full, and a visit to the emergency "
        "room costs a copay of 150 dollars, which is waived when you are admitted.",
    ),
    (
        "Filing a claim",
        "Send the itemised bill within ninety days of treatment. Most claims are settled within ten "
        "working days. An appeal against a decision must reach us in writing within sixty days.",
    ),
    ("Abroad", "Urgent treatment abroad is covered for journeys of up to eight weeks."),
)
_SCHEDULE = (
    ("Service", "Your copay", "Plan pays"),
    ("Visit to a doctor", "25 dollars", "100 %"),
    ("Specialist", "40 dollars", "100 %"),
    ("Physiotherapy, per session", "15 dollars", "90 %"),
    ("Glasses, every two years", "none", "200 dollars"),
    ("Dental cleaning", "none", "100 %"),
    ("Hearing aid", "none", "1,200 dollars"),
)


def benefits_guide() -> bytes:
    """A PDF of two pages: two columns of text, then a table."""
    pdf = PdfWriter()
    first = [text_at(50, 780, "Health Benefits Guide", size=22, font="B")]
    for x, column in ((50, _LEFT), (310, _RIGHT)):
        y: float = 735
        for heading, text in column:
            first.append(text_at(x, y, heading, size=14, font="B"))
            lines, y = paragraph(x, y - 20, text, characters=46)
            first.extend(lines)
            y -= 8
    pdf.page(first)
    second = [text_at(50, 780, "Schedule of Benefits", size=18, font="B")]
    lines, y = paragraph(50, 750, "What you pay at each visit, and what the plan pays of the rest.", characters=90)
    second += lines + table(50, y - 5, (200, 140, 140), _SCHEDULE)
    second += paragraph(50, y - 175, "All amounts are for providers inside the network.", characters=90)[0]
    pdf.page(second)
    return pdf.finish()


def scanned_letter() -> bytes:
    """A PDF whose only page is a picture, as a scanner makes it: paper noise and dark strokes, and no text."""
    noise = random.Random(7)  # noqa: S311
    width, height = 300, 424
    rows = [bytearray(noise.choices(range(232, 256), k=width)) for _ in range(height)]
    for top in range(50, 330, 14):
        x = 35
        while x < width - noise.choice((35, 45, 90)):
            word = noise.randint(8, 30)
            for y in range(top, top + 7):
                for column in range(x, min(x + word, width - 30)):
                    if noise.random() < 0.55:
                        rows[y][column] = noise.randint(20, 90)
            x += word + 6
    pdf = PdfWriter()
    image = pdf.picture(width, height, b"".join(rows))
    pdf.page([f"q {WIDTH} 0 0 {HEIGHT} 0 0 cm /Scan Do Q"], resources=b"/XObject<</Scan %d 0 R>>" % image)
    return pdf.finish()


def docx(blocks: Sequence[tuple[str, str]], rows: Sequence[Sequence[str]] = ()) -> bytes:
    """A Word document of (style, text) blocks, style one of `1`, `2` (headings) or ``, with a table at its end."""
    w = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = "".join(
        f"<w:p>{f'<w:pPr><w:pStyle w:val={chr(34)}Heading{style}{chr(34)}/></w:pPr>' if style else ''}"
        f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r></w:p>'
        for style, text in blocks
    )
    if rows:
        cells = (
            "".join(f"<w:tc><w:tcPr/><w:p><w:r><w:t>{escape(cell)}</w:t></w:r></w:p></w:tc>" for cell in row)
            for row in rows
        )
        body += "<w:tbl><w:tblPr/>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl><w:p/>"
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{n}"><w:name w:val="heading {n}"/>'
        f'<w:pPr><w:outlineLvl w:val="{n - 1}"/></w:pPr></w:style>'
        for n in (1, 2)
    )
    office = "application/vnd.openxmlformats-officedocument.wordprocessingml"
    return package(
        {"/word/document.xml": f"{office}.document.main+xml", "/word/styles.xml": f"{office}.styles+xml"},
        {
            "_rels/.rels": _relations(("officeDocument", "word/document.xml")),
            "word/_rels/document.xml.rels": _relations(("styles", "styles.xml")),
            "word/document.xml": f"<w:document {w}><w:body>{body}</w:body></w:document>",
            "word/styles.xml": f"<w:styles {w}>{styles}</w:styles>",
        },
    )


def xlsx(sheets: dict[str, Sequence[Sequence[str | float]]]) -> bytes:
    """An Excel workbook of the named sheets."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    relation = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    office = "application/vnd.openxmlformats-officedocument.spreadsheetml"
    parts: dict[str, str] = {"_rels/.rels": _relations(("officeDocument", "xl/workbook.xml"))}
    kinds = {"/xl/workbook.xml": f"{office}.sheet.main+xml"}
    listed = ""
    for number, (name, rows) in enumerate(sheets.items(), 1):
        listed += f'<sheet name="{escape(name)}" sheetId="{number}" r:id="rId{number}"/>'
        kinds[f"/xl/worksheets/sheet{number}.xml"] = f"{office}.worksheet+xml"
        body = "".join(
            f'<row r="{r}">{"".join(_cell(r, c, value) for c, value in enumerate(row))}</row>'
            for r, row in enumerate(rows, 1)
        )
        parts[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{main}"><sheetData>{body}</sheetData></worksheet>'
        )
    parts["xl/workbook.xml"] = f'<workbook xmlns="{main}" xmlns:r="{relation}"><sheets>{listed}</sheets></workbook>'
    targets = [("worksheet", f"worksheets/sheet{number}.xml") for number in range(1, len(sheets) + 1)]
    parts["xl/_rels/workbook.xml.rels"] = _relations(*targets)
    return package(kinds, parts)


def _cell(row: int, column: int, value: str | float) -> str:
    place = f"{chr(ord('A') + column)}{row}"
    if isinstance(value, str):
        return f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
    return f'<c r="{place}"><v>{value}</v></c>'


def _relations(*targets: tuple[str, str]) -> str:
    base = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    listed = "".join(
        f'<Relationship Id="rId{i}" Type="{base}/{t}" Target="{p}"/>' for i, (t, p) in enumerate(targets, 1)
    )
    return (
        f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{listed}</Relationships>'
    )


def package(kinds: dict[str, str], parts: dict[str, str]) -> bytes:
    """An Office file: `parts` in a ZIP archive, with the content types `kinds`. Always the same bytes."""
    overrides = "".join(f'<Override PartName="{part}" ContentType="{kind}"/>' for part, kind in kinds.items())
    types = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
    )
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, xml in {"[Content_Types].xml": types, **parts}.items():
            entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n{xml}')
    return packed.getvalue()


def employee_handbook() -> bytes:
    """A Word document with headings and a table."""
    return docx(
        [
            ("1", "Employee Handbook"),
            ("2", "Parental leave"),
            (
                "",
                "Parents may take sixteen weeks of paid leave after a birth or an adoption. The leave can be split "
                "into two parts within the first year.",
            ),
            ("2", "Working from home"),
            (
                "",
                "You may work from home up to three days a week. Ask your manager before the first time. The company "
                "pays 300 dollars once for a desk and a chair.",
            ),
            ("2", "Vacation days by years of service"),
            ("", "Unused days can be carried over until the end of March."),
        ],
        [("Years of service", "Days a year"), ("up to 2", "25"), ("3 to 5", "27"), ("more than 5", "30")],
    )


TRAVEL_POLICY = """# Travel policy

## Booking

Book trains in second class and flights in economy class. A flight of more than six hours may be booked in premium
economy.

## Daily allowance

The daily allowance for meals is 45 dollars in the country and 60 dollars abroad. Hotels are paid up to 180 dollars a
night; in capitals up to 240 dollars.

## Receipts

Hand in receipts within two weeks of your return. A lost receipt can be replaced by a signed statement up to 30 dollars.
"""

OFFICE_PAGE = """<!doctype html>
<html lang="en"><head><title>Visiting the warehouse</title><style>body { color: #222 }</style></head>
<body><h1>Visiting the warehouse</h1>
<h2>Opening hours</h2><p>The warehouse is open from 6 in the morning until 9 in the evening, Monday to Saturday.</p>
<h2>Safety</h2><ul><li>Safety shoes and a helmet must be worn beyond the yellow line.</li>
<li>Forklifts always have the right of way.</li></ul>
<h2>Parking</h2><p>Visitors park on the north side and get a badge at gate four.</p>
<script>track()</script></body></html>
"""

JAPANESE_RULES = """# 倉庫の利用規則

## 営業時間

倉庫の営業時間は、月曜日から土曜日までの午前六時から午後九時までです。日曜日と祝日は休業します。

## 荷物の保管料

保管料は一日につき一箱百二十円です。三十日を超える場合は、一箱につき一日八十円になります。
危険物はお預かりできません。

## 返品

返品は商品の到着から十四日以内に受け付けます。送料はお客様のご負担となります。
"""


def price_list() -> bytes:
    """An Excel workbook of two sheets."""
    return xlsx(
        {
            "Storage": [
                ("Pallet size", "Price per week", "Minimum weeks"),
                ("Half pallet", 4.5, 2),
                ("Euro pallet", 7, 2),
                ("Industrial pallet", 9.5, 4),
                ("Cooled euro pallet", 16, 1),
            ],
            "Delivery": [("Region", "Price", "Working days"), ("City", 25, 1), ("Country", 60, 3), ("Islands", 140, 7)],
        }
    )


def demo_documents() -> dict[str, dict[str, bytes]]:
    """The files by user and file name. A file with `scan` in its name has no text, and ends dead with a reason."""
    return {
        "employee": {
            "benefits-guide.pdf": benefits_guide(),
            "handbook.docx": employee_handbook(),
            "travel-policy.md": TRAVEL_POLICY.encode(),
        },
        "supplier": {
            "prices.xlsx": price_list(),
            "warehouse.html": OFFICE_PAGE.encode(),
            "倉庫規則.md": JAPANESE_RULES.encode(),
            "scanned-letter.pdf": scanned_letter(),
        },
    }


def demo_questions() -> dict[str, list[str]]:
    """Questions by user; each has its answer in one of that user's documents."""
    return {
        "employee": [
            "How much is the deductible for knee surgery?",
            "How many weeks of leave do new parents get?",
            "What can I spend on meals while travelling abroad?",
        ],
        "supplier": [
            "What does a cooled pallet cost per week?",
            "When is the warehouse open?",
            "返品は何日以内ですか？",
        ],
    }
