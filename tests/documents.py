"""Real documents for tests, made by code: each function returns the bytes of one file, the same ones each time.

Employee handbooks and insurance terms, so that natural questions have an answer: 'How much is the deductible for knee
surgery?' finds 'The deductible for knee surgery is 500 dollars'.
"""

from __future__ import annotations

import io
import random
import textwrap
import zipfile
from collections.abc import Sequence

import docx as word
import openpyxl
import pptx as powerpoint
from pptx.util import Inches
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.lib.styles import getSampleStyleSheet
from reportlab.pdfgen import canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate

from cli import demo_documents as demo

KNEE = "The deductible for knee surgery is 500 dollars"
QUESTION = "How much is the deductible for knee surgery?"


def pdf_two_columns_with_table() -> bytes:
    """Two pages: two columns of text with headings, then a ruled table."""
    return demo.benefits_guide()


def pdf_scanned() -> bytes:
    """One page that is a picture."""
    return demo.scanned_letter()


def pdf_partly_scanned() -> bytes:
    """Page 1 has text, page 2 is a picture, page 3 is blank, page 4 has text."""
    pdf = demo.PdfWriter()
    pdf.page([demo.text_at(50, 780, f"{KNEE}.")])
    image = pdf.picture(64, 64, bytes(random.Random(3).choices(range(256), k=4096)))
    pdf.page(["q 595 0 0 842 0 0 cm /Scan Do Q"], resources=b"/XObject<</Scan %d 0 R>>" % image)
    pdf.page([])
    pdf.page([demo.text_at(50, 780, "The last page names the insurer.")])
    return pdf.finish()


def pdf_pages(count: int) -> bytes:
    """`count` short pages."""
    pdf = demo.PdfWriter()
    for number in range(1, count + 1):
        pdf.page([demo.text_at(50, 780, f"This is page {number} of the handbook.")])
    return pdf.finish()


def pdf_flowing(paragraphs: Sequence[str]) -> bytes:
    """Paragraphs in one column that flow over page breaks, without any heading."""
    style = getSampleStyleSheet()["BodyText"]
    style.fontSize, style.leading = 11, 15
    file = io.BytesIO()
    SimpleDocTemplate(file, invariant=1).build([Paragraph(text, style) for text in paragraphs])
    return file.getvalue()


def docx() -> bytes:
    """Headings, a list and a table, written by the usual library."""
    file, document = io.BytesIO(), word.Document()
    document.add_heading("Employee Handbook", 1)
    document.add_heading("Surgery", 2)
    document.add_paragraph(f"{KNEE}. It is due once a year.")
    for item in ("Bring your card", "Arrive an hour early"):
        document.add_paragraph(item, style="List Bullet")
    document.add_heading("Leave", 2)
    table = document.add_table(rows=0, cols=2)
    for row in (("Years of service", "Days"), ("up to 2", "25"), ("more than 2", "30")):
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.save(file)
    return file.getvalue()


def pptx() -> bytes:
    """Five slides: with a title, without, empty, with the first one's title again, and one with notes."""
    file, deck = io.BytesIO(), powerpoint.Presentation()
    titled, blank = deck.slide_layouts[1], deck.slide_layouts[6]
    first = deck.slides.add_slide(titled)
    first.shapes.title.text, first.placeholders[1].text = "Benefits", f"{KNEE}."
    second = deck.slides.add_slide(blank)
    second.shapes.add_textbox(0, 0, Inches(4), Inches(2)).text_frame.text = "Dental cleaning is free twice a year."
    deck.slides.add_slide(blank)
    fourth = deck.slides.add_slide(titled)
    fourth.shapes.title.text, fourth.placeholders[1].text = "Benefits", "Glasses are paid every two years."
    fifth = deck.slides.add_slide(titled)
    fifth.shapes.title.text = "Questions"
    fifth.notes_slide.notes_text_frame.text = "Mention the appeal within sixty days."
    deck.save(file)
    return file.getvalue()


def xlsx(rows: int = 40) -> bytes:
    """Two sheets: copays by service, and a long list of clinics."""
    file, book = io.BytesIO(), openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Copays"
    for row in (("Service", "Copay"), ("Knee surgery", 500), ("Specialist", 40)):
        sheet.append(row)
    clinics = book.create_sheet("Clinics")
    clinics.append(("Clinic", "City", "Beds", "Contact person"))
    for number in range(rows):
        clinics.append((f"Clinic number {number}", f"City {number % 7}", 20 + number, f"Reception desk {number}"))
    book.save(file)
    return file.getvalue()


def html() -> bytes:
    """A page with navigation, a script, a table and a remote picture."""
    return f"""<!doctype html><html><head><title>Plan</title><script>steal()</script></head><body>
<h1>Health plan</h1><h2>Surgery</h2><p>{KNEE} &amp; due once.</p><img src="http://tracker.example/x.png" alt="x">
<table><tr><th>Service</th><th>Copay</th></tr><tr><td>Specialist</td><td>40 dollars</td></tr></table>
<iframe src="http://remote.example/"></iframe></body></html>""".encode()


def markdown() -> bytes:
    return (
        f"# Health plan\n\n## Surgery\n\n{KNEE}.\n\n## Appeals\n\nAn appeal must arrive within sixty days.\n".encode()
    )


def csv() -> bytes:
    return b'Service;Copay\r\nKnee surgery;500\r\n"Specialist; second opinion";40\r\n'


def rtf() -> bytes:
    return rf"{{\rtf1\ansi {{\b Surgery}}\par {KNEE}.\par}}".encode()


def odt() -> bytes:
    """A minimal OpenDocument text."""
    base = "urn:oasis:names:tc:opendocument:xmlns"
    namespaces = f'xmlns:office="{base}:office:1.0" xmlns:text="{base}:text:1.0"'
    content = f"""<?xml version="1.0"?><office:document-content {namespaces}><office:body><office:text>
<text:h text:outline-level="1">Surgery</text:h><text:p>{KNEE}.</text:p></office:text></office:body>
</office:document-content>"""
    kind = "application/vnd.oasis.opendocument.text"
    manifest = f"""<?xml version="1.0"?><manifest:manifest xmlns:manifest="{base}:manifest:1.0">
<manifest:file-entry manifest:full-path="/" manifest:media-type="{kind}"/></manifest:manifest>"""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("mimetype", kind)
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", manifest)
    return file.getvalue()


def utf16_text() -> bytes:
    """With a byte order mark."""
    return f"{KNEE}. Größe und Maße.\r\nSecond line.\r\n".encode("utf-16")


def text_with_nul() -> bytes:
    return f"{KNEE}.\x00 The next sentence follows a NUL.\n".encode()


def japanese(sentences: int = 120) -> bytes:
    """Markdown in Japanese, with one long paragraph that has no blank."""
    long = "".join(f"第{n}条により、保険契約者は毎年{n}月までに届け出るものとします。" for n in range(1, sentences + 1))
    return f"# 保険約款\n\n## 手術\n\n膝の手術の自己負担額は五万円です。\n\n## 届け出\n\n{long}\n".encode()


def arabic(sentences: int = 80) -> bytes:
    """Markdown in Arabic, with direction marks between the words."""
    long = " ".join(f"يجب تقديم الطلب رقم {n} خلال ستين يوما من تاريخ العلاج." for n in range(1, sentences + 1))
    return f"# دليل التأمين\n\n\u202bمبلغ الخصم لجراحة الركبة هو خمسمائة دولار.\u202c\n\n{long}\n".encode()


def empty() -> bytes:
    return b""


def truncated_pdf() -> bytes:
    """The first half of a PDF."""
    whole = pdf_two_columns_with_table()
    return whole[: len(whole) // 2]


def encrypted_pdf() -> bytes:
    """Needs a password to open."""
    file = io.BytesIO()
    page = canvas.Canvas(file, encrypt=StandardEncryption("open sesame", "owner"), invariant=1)
    page.drawString(72, 720, KNEE)
    page.save()
    return file.getvalue()


def zip_bomb_docx(gigabytes: int = 1, *, honest: bool = True) -> bytes:
    """A small Word document that unpacks to a gigabyte; with `honest` false its directory claims a few bytes."""
    step = b"<w:p/>" * 1_000_000
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w", force_zip64=True) as part:
            for _ in range(max(1, gigabytes * 1_000_000_000 // len(step))):
                part.write(step)
    packed = bytearray(file.getvalue())
    if not honest:
        entry = packed.index(b"PK\x01\x02", packed.index(b"PK\x01\x02") + 4)
        packed[entry + 24 : entry + 28] = (1000).to_bytes(4, "little")
    return bytes(packed)


def killer_pdf() -> bytes:
    """A valid, tiny PDF that no parser survives within limits: forms that draw forms that draw forms, 10**12 times."""
    pdf = demo.PdfWriter()
    form = pdf.stream(b"/Type/XObject/Subtype/Form/BBox[0 0 595 842]", b"0 0 m 9 9 l S " * 10)
    for _ in range(12):
        resources = b"/Resources<</XObject<</X %d 0 R>>>>" % form
        form = pdf.stream(b"/Type/XObject/Subtype/Form/BBox[0 0 595 842]" + resources, b"/X Do " * 10)
    pdf.page(["/X Do"], resources=b"/XObject<</X %d 0 R>>" % form)
    return pdf.finish()


_SUBJECTS = [
    "The plan",
    "The insurer",
    "Each employee",
    "The policy holder",
    "A spouse",
    "The claims office",
    "Our physician",
    "The clinic",
]
_VERBS = [
    "covers",
    "reviews",
    "must report",
    "pays for",
    "may request",
    "declines",
    "confirms",
    "settles",
    "documents",
    "postpones",
]
_OBJECTS = [
    "the annual dental examination",
    "a second medical opinion",
    "the cost of physiotherapy",
    "every hospital stay",
    "the agreed deductible",
    "a new pair of glasses",
    "the rental of crutches",
    "each prescription",
    "the travel expenses",
    "any missed appointment",
    "the written appeal",
    "an early retirement",
]
_TAILS = [
    "within ten working days",
    "before the end of the quarter",
    "unless the contract says otherwise",
    "up to 400 dollars a year",
    "after a waiting period of six months",
    "when the form is signed",
    "at the nearest branch",
    "in every state but two",
]


def prose(paragraphs: int, *, seed: int = 1) -> list[str]:
    """Paragraphs of three to eight sentences; each has a number in it, so that few are alike."""
    pick = random.Random(seed)
    texts = []
    for _ in range(paragraphs):
        sentences = (
            f"{pick.choice(_SUBJECTS)} {pick.choice(_VERBS)} {pick.choice(_OBJECTS)} {pick.choice(_TAILS)}, "
            f"as clause {pick.randrange(10_000)} {pick.choice(('states', 'requires', 'explains'))}."
            for _ in range(pick.randint(3, 8))
        )
        texts.append(" ".join(sentences))
    return texts


def big_pdf(megabytes: int = 25, *, seed: int = 1) -> bytes:
    """A PDF of just under that size with some 77 pages a megabyte: each with 400 words and a small picture.

    That is the density of an ordinary document; 25 MB turn into about ten thousand passages. The answer to the usual
    question stands on page 7.
    """
    pick = random.Random(seed)
    texts = prose(1200, seed=seed)
    limit = megabytes * 1024 * 1024 - 65_536
    pdf, size, number = demo.PdfWriter(), 0, 0
    picture = pick.randbytes(8_400)
    while size < limit - 16_000:
        number += 1
        lines: list[str] = []
        if number == 7:
            lines += [f"{KNEE}.", ""]
        while len(lines) < 40:
            start = pick.randrange(100_000)
            lines += textwrap.wrap(f"Clause {start}. {pick.choice(texts)}", 88, break_on_hyphens=False)
        image = pdf.stream(
            b"/Type/XObject/Subtype/Image/Width 105/Height 80/ColorSpace/DeviceGray/BitsPerComponent 8",
            number.to_bytes(4, "big") + picture[4:],
            compress=False,
        )
        drawn = [demo.text_at(50, 790 - 16 * row, line, size=11) for row, line in enumerate(lines[:40])]
        drawn.append("q 70 0 0 80 480 40 cm /Seal Do Q")
        pdf.page(drawn, resources=b"/XObject<</Seal %d 0 R>>" % image, compress=False)
        size += 8_400 + sum(map(len, drawn)) + 500
    return pdf.finish()
