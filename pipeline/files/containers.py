"""What lies in a ZIP file or a compound file: told by the container's own files, not by what else its bytes contain."""

from __future__ import annotations

import mmap
import re
import struct
import zlib
from collections.abc import Iterator

from pipeline.errors import Permanent
from pipeline.files import kinds
from pipeline.files.kinds import Kind
from pipeline.files.ole import CompoundFile, Damaged
from pipeline.files.sentences import DAMAGED, PROTECTED

_DIRECTORY_LIMIT = 4_194_304
_PEEK = 1_048_576
END_MISSING = "The file is damaged: its end is missing. Upload it again, or save it anew."

# The type of an OOXML package's main part, as its list of content types states it.
_MAIN_PARTS: tuple[tuple[bytes, Kind | str], ...] = (
    (b"wordprocessingml.document.main+xml", kinds.DOCX),
    (b"wordprocessingml.template.main+xml", kinds.DOCX),
    (b"ms-word.document.macroenabled.main+xml", kinds.DOCX),
    (b"ms-word.template.macroenabledtemplate.main+xml", kinds.DOCX),
    (b"presentationml.presentation.main+xml", kinds.PPTX),
    (b"presentationml.slideshow.main+xml", kinds.PPTX),
    (b"presentationml.template.main+xml", kinds.PPTX),
    (b"ms-powerpoint.presentation.macroenabled.main+xml", kinds.PPTX),
    (b"ms-powerpoint.slideshow.macroenabled.main+xml", kinds.PPTX),
    (b"ms-powerpoint.template.macroenabled.main+xml", kinds.PPTX),
    (b"spreadsheetml.sheet.main+xml", kinds.XLSX),
    (b"spreadsheetml.template.main+xml", kinds.XLSX),
    (b"ms-excel.sheet.macroenabled.main+xml", kinds.XLSX),
    (b"ms-excel.template.macroenabled.main+xml", kinds.XLSX),
    (b"ms-excel.addin.macroenabled.main+xml", kinds.XLSX),
    (b"ms-excel.sheet.binary.macroenabled.main", kinds.XLSX),
    (b"ms-visio.drawing", kinds.VISIO),
    (b"ms-visio.template", kinds.VISIO),
    (b"ms-visio.stencil", kinds.VISIO),
    (b"ms-package.xps-fixeddocument", kinds.XPS),
    (b"openxps-fixeddocument", kinds.XPS),
)
_ODF = "application/vnd.oasis.opendocument."
_BY_MIMETYPE: tuple[tuple[str, Kind | str], ...] = (
    (kinds.EPUB[0], kinds.EPUB),
    (f"{_ODF}text", kinds.ODT),
    (f"{_ODF}spreadsheet", kinds.ODS),
    (f"{_ODF}presentation", kinds.ODP),
    (f"{_ODF}graphics", kinds.ODF_DRAWING),
    (_ODF, kinds.ODF_OTHER),
    ("application/vnd.sun.xml.", kinds.STAR_OFFICE),
    ("application/hwp+zip", kinds.HANGUL),
)
# In the root of a compound file, with letters of any case.
_STREAMS: tuple[tuple[str, Kind | str], ...] = (
    ("worddocument", kinds.DOC),
    ("workbook", kinds.XLS),
    ("book", kinds.XLS),
    ("powerpoint document", kinds.PPT),
    ("pp40", kinds.OLD_POWERPOINT),
    ("pp97_dualstorage", kinds.PPT),
    ("__properties_version1.0", kinds.MSG),
    ("visiodocument", kinds.VISIO),
    ("quill", kinds.PUBLISHER),
    ("matost", kinds.WORKS),
    ("mn0", kinds.WORKS),
    ("hwpsummaryinformation", kinds.HANGUL),
    ("\x05hwpsummaryinformation", kinds.HANGUL),
    ("perfectoffice_main", kinds.WORDPERFECT),
    ("nativecontent_main", kinds.LOTUS),
    ("starwriterdocument", kinds.STAR_OFFICE),
    ("starcalcdocument", kinds.STAR_OFFICE),
    ("stardrawdocument3", kinds.STAR_OFFICE),
)


def inside_zip(data: bytes | mmap.mmap) -> Kind:
    """The kind of document in a ZIP file. Raises Permanent with the owner's sentence for anything else."""
    entries = dict(_entries(data))
    if not entries:
        raise Permanent(DAMAGED if data.find(b"PK\x01\x02") >= 0 else END_MISSING)
    names = {name.replace("\\", "/").lower(): name for name in entries}

    def peek(name: str) -> bytes:
        return _peek(data, entries[names[name]]) if name in names else b""

    told = peek("mimetype").decode("utf-8", "replace").strip("\ufeff\0 \r\n\t")
    if not told and "content.xml" in names:
        manifest = peek("meta-inf/manifest.xml")
        root = re.search(rb"<[^<>]{0,500}full-path=[\"']/[\"'][^<>]{0,500}>", manifest[:65_536])
        stated = re.search(rb"media-type=[\"']([^\"']{1,200})", root[0] if root else b"")
        told = stated[1].decode("utf-8", "replace") if stated else ""
    for start, kind in _BY_MIMETYPE:
        if told.startswith(start):
            return _settled(kind)
    if "meta-inf/container.xml" in names and any(name.endswith(".opf") for name in names):
        return kinds.EPUB
    types = peek("[content_types].xml").replace(b"\0", b"").lower()  # the zeros are UTF-16
    for part, kind in _MAIN_PARTS:
        if part in types:
            return _settled(kind)
    for folder, kind in (
        ("word/document", kinds.DOCX),
        ("ppt/presentation", kinds.PPTX),
        ("xl/workbook", kinds.XLSX),
        ("visio/", kinds.VISIO),
        ("contents/section0.xml", kinds.HANGUL),
    ):
        if any(name.startswith(folder) for name in names):
            return _settled(kind)
    if any(name.endswith(".fpage") for name in names):
        raise Permanent(kinds.XPS)
    if any(
        name.endswith((".iwa", "index.apxl", "index.apxl.gz", "index/index.zip", "index.zip")) for name in names
    ) or ("index.xml" in names and "buildversionhistory.plist" in names):
        raise Permanent(_iwork(names))
    raise Permanent(kinds.ARCHIVE)


def _settled(kind: Kind | str) -> Kind:
    if isinstance(kind, str):
        raise Permanent(kind)
    return kind


def _iwork(names: dict[str, str]) -> str:
    """Which of the three programs: each puts something of its own into the file."""
    if any(name.endswith("index.apxl") or "/slide" in name or name.startswith("presentation.key") for name in names):
        return kinds.KEYNOTE
    if any("calculationengine" in name for name in names):
        tables = any(name.startswith("index/tables/") for name in names)
        pages = any("documentstylesheet" in name and "annotationauthor" in name for name in names)
        return kinds.IWORK if tables or pages else kinds.PAGES
    return kinds.IWORK


def _entries(data: bytes | mmap.mmap) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """The names in a ZIP file's directory, cut at a bound, each with its method, packed length and place."""
    end = data.rfind(b"PK\x05\x06", max(0, len(data) - 65_557))
    if end < 0 or len(data) < end + 22:
        raise Permanent(END_MISSING)
    length, offset = struct.unpack_from("<II", data, end + 12)
    # What stands before the archive moves everything in it.
    moved = 0 if offset == 0xFFFFFFFF or data[offset : offset + 4] == b"PK\x01\x02" else max(0, end - length - offset)
    directory = data[offset + moved : offset + moved + min(length, _DIRECTORY_LIMIT)]
    if not directory.startswith(b"PK\x01\x02"):  # ZIP64, or a wrong length: what looks like an entry is one
        first = data.find(b"PK\x01\x02", max(0, end - _DIRECTORY_LIMIT))
        directory = data[first:end] if 0 <= first < end else b""
    at = 0
    while directory[at : at + 4] == b"PK\x01\x02" and at + 46 <= len(directory):
        flags, method = struct.unpack_from("<HH", directory, at + 8)
        packed, _, name, extra, comment = struct.unpack_from("<IIHHH", directory, at + 20)
        (place,) = struct.unpack_from("<I", directory, at + 42)
        raw = directory[at + 46 : at + 46 + name]
        yield raw.decode("utf-8" if flags & 0x800 else "cp437", "replace"), (method, packed, place + moved)
        at += 46 + name + extra + comment


def _peek(data: bytes | mmap.mmap, entry: tuple[int, int, int]) -> bytes:
    """The first mebibyte of an entry; b"" where it cannot be had."""
    method, packed, place = entry
    if data[place : place + 4] != b"PK\x03\x04":
        return b""
    name, extra = struct.unpack_from("<HH", data[place + 26 : place + 30].ljust(4, b"\0"))
    start = place + 30 + name + extra
    raw = data[start : start + min(packed, _PEEK)]
    if method == 0:
        return raw
    try:
        return zlib.decompressobj(-15).decompress(raw, _PEEK) if method == 8 else b""
    except zlib.error:
        return b""


def inside_ole(data: bytes | mmap.mmap) -> Kind:
    """The kind of document in a compound file. Raises Permanent with the owner's sentence for anything else."""
    try:
        file = CompoundFile(data)
    except Damaged as fault:
        raise Permanent(DAMAGED, detail=f"compound file: {fault}") from None
    names = {name.lower() for name in file.names()}
    if "encryptedpackage" in names:
        spaces = " ".join(file.names(("\x06DataSpaces", "DataSpaceInfo"))).lower()
        raise Permanent(kinds.RIGHTS_MANAGED if "drm" in spaces else PROTECTED)
    if "\x09drmcontent" in names:
        raise Permanent(kinds.RIGHTS_MANAGED)
    kind = next((kind for stream, kind in _STREAMS if stream in names), None)
    if kind is kinds.XLS and "quill" in names:
        raise Permanent(kinds.PUBLISHER)
    if kind is not None:
        return _settled(kind)
    if any(name.startswith("__substg1.0_") for name in names):
        return kinds.MSG
    about = file.read(("\x01CompObj",), 4096)
    for words, sentence in ((b"Works", kinds.WORKS), (b"MSProject", kinds.PROJECT), (b"Publisher", kinds.PUBLISHER)):
        if words in about:
            raise Permanent(sentence)
    raise Permanent(kinds.UNKNOWN)
