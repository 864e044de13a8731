"""The kinds of files that can be read, and what the owner of another one reads."""

from __future__ import annotations

Kind = tuple[str, str]
"""A media type, and an extension in lower case with its dot."""

PDF = ("application/pdf", ".pdf")
DOCX = ("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx")
PPTX = ("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx")
XLSX = ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx")
ODT = ("application/vnd.oasis.opendocument.text", ".odt")
ODS = ("application/vnd.oasis.opendocument.spreadsheet", ".ods")
ODP = ("application/vnd.oasis.opendocument.presentation", ".odp")
EPUB = ("application/epub+zip", ".epub")
DOC = ("application/msword", ".doc")
XLS = ("application/vnd.ms-excel", ".xls")
PPT = ("application/vnd.ms-powerpoint", ".ppt")
MSG = ("application/vnd.ms-outlook", ".msg")
RTF = ("application/rtf", ".rtf")
HTML = ("text/html", ".html")
MAIL = ("message/rfc822", ".eml")
MHTML = ("multipart/related", ".mhtml")
MBOX = ("application/mbox", ".mbox")
NOTEBOOK = ("application/x-ipynb+json", ".ipynb")
FICTION_BOOK = ("application/x-fictionbook+xml", ".fb2")
SVG = ("image/svg+xml", ".svg")
XML = ("application/xml", ".xml")
MARKDOWN = ("text/markdown", ".md")
CSV = ("text/csv", ".csv")
TEXT = ("text/plain", ".txt")
PICTURES = {
    "image/png": ("image/png", ".png"),
    "image/jpeg": ("image/jpeg", ".jpg"),
    "image/tiff": ("image/tiff", ".tif"),
}
"""By media type; documents where OCR is on."""

SUPPORTED = (
    "PDF, Word, PowerPoint, Excel, OpenDocument, EPUB, RTF, HTML, e-mail, notebooks, XML, Markdown, CSV and plain text "
    "can be read"
)
RIGHTS_MANAGED = (
    "The file is protected by rights management, so only people whom its author chose can open it. "
    "Upload a copy without that protection."
)
UNKNOWN = f"The kind of this file could not be recognised. {SUPPORTED}."
ARCHIVE = f"This is a ZIP archive. Unpack it and upload the documents inside one by one. {SUPPORTED}."
OLD_WORD = "This is an old Word format (Word 6 or 95, or older). Save it as .docx and upload it again."
OLD_EXCEL = "This is an old Excel format (Excel 4 or older). Save it as .xlsx and upload it again."
OLD_POWERPOINT = "This is an old PowerPoint format (PowerPoint 95 or older). Save it as .pptx and upload it again."


def _save_as(what: str, how: str) -> str:
    return f"This is {what}, which cannot be read here. {how} and upload that."


_AS_PDF = "Export it as PDF"
PAGES = _save_as("an Apple Pages document", "Export it as PDF or Word (.docx)")
KEYNOTE = _save_as("an Apple Keynote presentation", "Export it as PDF or PowerPoint (.pptx)")
NUMBERS = _save_as("an Apple Numbers spreadsheet", "Export it as Excel (.xlsx)")
IWORK = _save_as("an Apple iWork document", "Export it as PDF, or in the format of Word, Excel or PowerPoint,")
VISIO = _save_as("a Visio drawing", _AS_PDF)
PUBLISHER = _save_as("a Publisher document", _AS_PDF)
PROJECT = _save_as("a Microsoft Project plan", _AS_PDF)
WORKS = _save_as("a Microsoft Works document", "Save it as .docx or .xlsx")
ONENOTE = _save_as("a OneNote section", "Export it as PDF or Word (.docx)")
ACCESS = _save_as("an Access database", "Export its tables as .xlsx or .csv")
WORDPERFECT = _save_as("a WordPerfect document", "Save it as .docx")
LOTUS = _save_as("a Lotus 1-2-3 or Quattro Pro spreadsheet", "Save it as .xlsx")
STAR_OFFICE = _save_as("a StarOffice document", "Save it in an OpenDocument format (.odt, .ods, .odp)")
HANGUL = _save_as("a Hangul (HWP) document", "Export it as PDF or Word (.docx)")
XPS = _save_as("an XPS document", "Print or save it as PDF")
ODF_DRAWING = _save_as("an OpenDocument drawing", _AS_PDF)
ODF_OTHER = _save_as("an OpenDocument chart, formula, picture or database", _AS_PDF)
CAD = _save_as("a CAD drawing", _AS_PDF)
EPS = _save_as("a PostScript or EPS file", _AS_PDF)
DJVU = _save_as("a DjVu document", _AS_PDF)
KINDLE = _save_as("a Kindle or Mobipocket book", "Convert it to EPUB")
HELP = _save_as("a Windows help file", "Convert it to HTML or PDF")
SIGNED = _save_as("a signed or encrypted e-mail (S/MIME)", "Open it in the mail program, save it without encryption")
EXECUTABLE = f"This is a program, not a document. {SUPPORTED}."

# The first bytes of what is neither a ZIP file, a compound file, nor text.
BY_SIGNATURE = (
    (b"\x31\xbe\x00\x00", OLD_WORD),
    (b"\x32\xbe\x00\x00", OLD_WORD),
    (b"\xdb\xa5", OLD_WORD),
    (b"\x9b\xa5", OLD_WORD),
    (b"\xfe\x37\x00", OLD_WORD),
    (b"\x09\x00\x04\x00", OLD_EXCEL),
    (b"\x09\x02\x06\x00", OLD_EXCEL),
    (b"\x09\x04\x06\x00", OLD_EXCEL),
    (b"\x09\x02\x04\x00", OLD_EXCEL),
    (b"\x0b\xad\xde\xed", OLD_POWERPOINT),
    (b"\xed\xde\xad\x0b", OLD_POWERPOINT),
    (b"\xffWPC", WORDPERFECT),
    (b"\x00\x00\x02\x00\x04\x04", LOTUS),
    (b"\x00\x00\x02\x00\x06\x04", LOTUS),
    (b"\x00\x00\x1a\x00", LOTUS),
    (b"\x00\x00\x02\x00", LOTUS),
    (b"\xc5\xd0\xd3\xc6", EPS),
    (b"%!PS", EPS),
    (b"\x04%!PS", EPS),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d", ONENOTE),
    (b"\x00\x01\x00\x00Standard ", ACCESS),
    (b"AC10", CAD),
    (b"AT&TFORM", DJVU),
    (b"ITSF", HELP),
    (b"HWP Document File", HANGUL),
    (b"MZ\x90", EXECUTABLE),
    (b"\x7fELF", EXECUTABLE),
)
