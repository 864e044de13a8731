"""Office files: sheets and their headers, containers in unusual order, and what came before 2007."""

from __future__ import annotations

import datetime
import io
import struct
from collections.abc import Callable

import openpyxl
import pptx

from tests import documents
from tests.corpus import Case
from tests.corpus.containers import compound, zipped
from tests.hostile import archives


def workbook(fill: Callable[[openpyxl.Workbook], None]) -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    fill(book)
    book.save(file)
    return file.getvalue()


def titled_sheet() -> bytes:
    """A merged title and a blank row above the header; a percentage, money, a date, a formula."""

    def fill(book: openpyxl.Workbook) -> None:
        sheet = book.active
        assert sheet is not None
        for row in (["Copays of 2026"], [], ["Service", "Copay", "Since", "Share"]):
            sheet.append(row)
        sheet.append(["Dentist", 40.5, datetime.date(2024, 5, 3), 0.25])
        sheet.append(["Total", "=SUM(B4:B4)"])
        sheet.merge_cells("A1:D1")
        sheet["B4"].number_format, sheet["D4"].number_format = '"$"#,##0.00', "0%"

    return workbook(fill)


def hidden_sheet() -> bytes:
    def fill(book: openpyxl.Workbook) -> None:
        sheet = book.active
        assert sheet is not None
        for row in (["Name", "Town"], ["Ada", "Lisbon"], ["Filtered", "Porto"]):
            sheet.append(row)
        sheet.row_dimensions[3].hidden = True
        sheet.column_dimensions["B"].hidden = True
        other = book.create_sheet("Rates")
        other.append(["Key", "Rate"])
        other.append(["Knee", 500])
        other.sheet_state = "hidden"

    return workbook(fill)


def far_cell() -> bytes:
    rows = '<row r="1"><c r="A1" t="inlineStr"><is><t>near</t></is></c></row>'
    return archives.sheet(rows + '<row r="1048576"><c r="XFD1048576" t="inlineStr"><is><t>far</t></is></c></row>')


def far_cell_ods() -> bytes:
    cell = "<table:table-cell><text:p>{}</text:p></table:table-cell>"
    gap = '<table:table-cell table:number-columns-repeated="16383"/>'
    rows = (
        f"<table:table-row>{cell.format('near')}</table:table-row>"
        f'<table:table-row table:number-rows-repeated="1048574">{gap}</table:table-row>'
        f"<table:table-row>{gap}{cell.format('far')}</table:table-row>"
    )
    return archives.open_document(f'<table:table table:name="T">{rows}</table:table>', "spreadsheet")


def sparse_sheet() -> bytes:
    def fill(book: openpyxl.Workbook) -> None:
        sheet = book.active
        assert sheet is not None
        sheet.append([f"Question {n}" for n in range(12)])
        for n in range(1, 11):
            sheet.cell(n + 1, n, f"answer {n}")

    return workbook(fill)


def late_mimetype() -> bytes:
    """An OpenDocument text whose type is neither first nor stored."""
    parts = archives.unpacked(documents.odt())
    return zipped(
        *((name, body) for name, body in parts.items() if name != "mimetype"), ("mimetype", parts["mimetype"])
    )


def without_mimetype() -> bytes:
    parts = archives.unpacked(documents.odt())
    entry = (
        '<manifest:file-entry manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.text"/>'
    )
    root = '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
    manifest = f"{root}{entry}</manifest:manifest>"
    return zipped(
        ("META-INF/manifest.xml", manifest),
        *((n, b) for n, b in parts.items() if n not in ("mimetype", "META-INF/manifest.xml")),
    )


def late_epub() -> bytes:
    parts = archives.unpacked(archives.epub())
    return zipped(*((name, body) for name, body in parts.items() if name != "mimetype"))


def elsewhere_docx() -> bytes:
    """A Word document whose parts lie in a folder of another name."""
    parts = archives.unpacked(documents.docx())
    moved = {n.replace("word/", "text/"): b for n, b in parts.items()}
    for name in ("[Content_Types].xml", "_rels/.rels"):
        body = moved[name]
        moved[name] = (body if isinstance(body, bytes) else body.encode()).replace(b"word/", b"text/")
    return zipped(*moved.items())


def odf(kind: str) -> bytes:
    return zipped(("mimetype", f"application/vnd.oasis.opendocument.{kind}"), ("content.xml", "<x/>"))


def word_6(
    text: str = f"{documents.KNEE}.\rIt is due once a year.\r", *, encoding: str = "cp1252", language: int = 0x409
) -> bytes:
    """A Word 6 document: a header of 768 bytes, and then its text."""
    body = text.encode(encoding)
    head = bytearray(768)
    struct.pack_into("<HHxxH", head, 0, 0xA5DC, 101, language)
    struct.pack_into("<II", head, 0x18, 768, 768 + len(body))
    return compound({"WordDocument": (bytes(head) + body).ljust(4096, b"\0")})


def empty_deck() -> bytes:
    deck, file = pptx.Presentation(), io.BytesIO()
    deck.slides.add_slide(deck.slide_layouts[6])
    deck.save(file)
    return file.getvalue()


_BOOK = "Book".encode("utf-16-le")
CASES = (
    Case(
        "title.xlsx",
        titled_sheet,
        ("Copays of 2026", "| Service | Copay | Since | Share |", "| Dentist | $40.50 |", "25%", "=SUM(B4:B4)"),
        absent=("|  |  |  |  |",),
    ),
    Case("hidden.xlsx", hidden_sheet, ("| Name | Town |", "Filtered | Porto", "Rates (hidden)", "| Knee | 500 |")),
    Case("far.xlsx", far_cell, ("near", "far")),
    Case("far.ods", far_cell_ods, ("near", "far")),
    Case("sparse.xlsx", sparse_sheet, ("Question 0: answer 1", "Question 9: answer 10"), absent=("|  |",)),
    Case("no-header.csv", lambda: b"1;2\n3;4\n", ("1 | 2", "3 | 4"), absent=("---",)),
    Case(
        "sep.csv",
        lambda: b"sep=;\r\nService;Copay\r\nDentist;40\r\n",
        ("| Service | Copay |", "| Dentist | 40 |"),
        absent=("sep",),
    ),
    Case(
        "caret.csv",
        lambda: b"sep=^\nService^Copay\nDentist, child^40\n",
        ("| Service | Copay |", "| Dentist, child | 40 |"),
    ),
    Case(
        "title.csv",
        lambda: b"Copays of 2026\n\nService,Copay,Days\nDentist,40,3\n",
        ("Copays of 2026", "| Service | Copay | Days |"),
    ),
    Case("late.odt", late_mimetype, (documents.KNEE,)),
    Case("none.odt", without_mimetype, (documents.KNEE,)),
    Case("late.epub", late_epub, (documents.KNEE,)),
    Case("elsewhere.docx", elsewhere_docx, (documents.KNEE,)),
    Case("behind-junk.docx", lambda: b"PK00" + documents.docx(), (documents.KNEE,)),
    Case("a.odg", lambda: odf("graphics"), sentence="OpenDocument drawing.*Export it as PDF"),
    Case("a.odb", lambda: odf("base"), sentence="OpenDocument chart, formula, picture or database"),
    Case(
        "a.hwpx",
        lambda: zipped(("mimetype", "application/hwp+zip"), ("Contents/section0.xml", "<x/>")),
        sentence="Hangul",
    ),
    Case(
        "a.pages",
        lambda: zipped(("Index/Document.iwa", b"x"), ("Index/DocumentStylesheet.iwa", b"x")),
        sentence="Apple",
    ),
    Case(
        "a.key", lambda: zipped(("Index/Document.iwa", b"x"), ("Index/Slide.iwa", b"x")), sentence="Keynote.*PowerPoint"
    ),
    Case(
        "a.vsdx",
        lambda: zipped(
            ("[Content_Types].xml", '<a ContentType="application/vnd.ms-visio.drawing.main+xml"/>'),
            ("visio/document.xml", "<x/>"),
        ),
        sentence="Visio drawing.*PDF",
    ),
    Case("a.xps", lambda: zipped(("Documents/1/Pages/1.fpage", "<x/>")), sentence="XPS"),
    Case("a.zip", lambda: zipped(("letter.docx", b"x")), sentence="ZIP archive. Unpack it"),
    Case("word6.doc", word_6, (documents.KNEE, "It is due once a year.")),
    Case(
        "russian.doc",
        lambda: word_6("Москва является столицей России и большим городом.\r", encoding="cp1251"),
        ("Москва является столицей",),
    ),
    Case(
        "secret.doc",
        lambda: compound({"WordDocument": struct.pack("<HH6xH", 0xA5DC, 101, 0x100).ljust(4096, b"\0")}),
        sentence="protected by a password",
    ),
    Case(
        "broken.doc",
        lambda: compound({"WordDocument": struct.pack("<HH", 0xA5DC, 101).ljust(12, b"\0")}),
        sentence="old Word format.*Save it as .docx",
    ),
    Case("word2.doc", lambda: b"\xdb\xa5\x2d\x00" + bytes(500), sentence="old Word format"),
    Case("excel4.xls", lambda: b"\x09\x04\x06\x00" + bytes(500), sentence="old Excel format.*Save it as .xlsx"),
    Case("powerpoint4.ppt", lambda: compound({"PP40": bytes(100)}), sentence="old PowerPoint format"),
    Case(
        "a.pub",
        lambda: compound({"Quill": {"QuillSub": {"CONTENTS": _BOOK * 300}}, "Contents": _BOOK}),
        sentence="Publisher",
    ),
    Case("a.vsd", lambda: compound({"VisioDocument": b"WordDocument".ljust(100)}), sentence="Visio"),
    Case("secret.docx", lambda: compound({"EncryptedPackage": bytes(100)}), sentence="password"),
    Case(
        "rights.docx",
        lambda: compound(
            {"EncryptedPackage": bytes(100), "\x06DataSpaces": {"DataSpaceInfo": {"DRMEncryptedDataSpace": bytes(8)}}}
        ),
        sentence="rights management",
    ),
    Case("empty.pptx", empty_deck, sentence="no text in this presentation"),
)
