"""Workbooks and CSV files, before and after the converter.

The converter leaves hidden rows, columns and sheets out. A reader unhides them with a click, so they are read, a hidden
sheet under a heading that says so. It refuses a sheet whose cells lie far apart; such cells are moved together.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
import zipfile
from collections.abc import Callable

from pipeline.errors import Permanent
from pipeline.files.archive import UNREADABLE, check_archive
from pipeline.files.text import clean, decode
from pipeline.local.readers.reader import UNPACKED_PER_TEXT, Options, Text, converted
from pipeline.local.readers.tables import mended

# The parts that may be changed; the texts of a workbook, often the longest part, are not.
_CHANGEABLE = re.compile(r"/worksheets/[^/]+\.xml$|workbook\.xml$|^(?:content|styles)\.xml$")
_HIDDEN = re.compile(rb"(<(?:\w{1,10}:)?(?:row|col)\b[^<>]{0,2000}?)\s(?:hidden|collapsed)=\"(?:1|true)\"")
_HIDDEN_SHEET = re.compile(rb"<(?:\w{1,10}:)?sheet\b[^<>]{0,2000}?\sstate=\"(?:hidden|veryHidden)\"[^<>]{0,2000}>")
_STATE = re.compile(rb"\sstate=\"\w+\"")
_SHEET_NAME = re.compile(rb"(\sname=\"[^\"]{0,200})\"")
_FORMULA = re.compile(rb"<c\b([^<>]*)><f\b[^<>]*>([^<>]+)</f>(?:<v\s*/>|<v>\s*</v>)?</c>")
_TYPE = re.compile(rb"\s(?:t|s)=\"[^\"]*\"")
_FAR = "max_grid_slots"
_ROW = re.compile(rb"<row\b([^<>]*)>(.*?)</row>", re.DOTALL)
_CELL = re.compile(rb"<c\b([^<>]*?)(/>|>.*?</c>)", re.DOTALL)
_PLACE = re.compile(rb"\sr=\"([A-Z]{1,3})(\d{1,7})\"")
_EXTENT = re.compile(rb"<dimension\b[^<>]*/>|<mergeCells\b.*?</mergeCells>|<cols>.*?</cols>", re.DOTALL)
_EMPTY_CELLS = re.compile(
    rb"(<table:(?:covered-)?table-cell\b(?![^<>]*office:value)[^<>]*?)\stable:number-columns-repeated=\"\d{3,}\"([^<>]*/>)"
)
_EMPTY_ROWS = re.compile(
    rb"(<table:table-row\b[^<>]*?)\stable:number-rows-repeated=\"\d{2,}\"([^<>]*>\s*"
    rb"(?:<table:(?:covered-)?table-cell\b(?![^<>]*office:value)[^<>]*/>\s*)*</table:table-row>)"
)
_ODS_HIDDEN = re.compile(rb"\stable:visibility=\"(?:collapse|filter)\"")
_ODS_SHEET_HIDDEN = re.compile(rb"table:display=\"false\"")
TOO_WIDE = (
    "A sheet of this workbook has cells that lie too far apart to be read. Delete what stands far away from the rest, "
    "or save it as .xlsx, and upload it again."
)


def read(data: bytes, options: Options, text: Text) -> None:
    """An .xlsx or .ods workbook."""
    check_archive(data, max_bytes=options.max_text_bytes * UNPACKED_PER_TEXT)
    kind = "ods" if options.extension == ".ods" else "xlsx"
    data = _changed(data, _ods_part if kind == "ods" else _xlsx_part)
    try:
        found = converted(data, kind)
    except Permanent as problem:
        if _FAR not in problem.detail:
            raise
        try:
            found = converted(_changed(data, _together), kind)
        except Permanent as again:
            raise Permanent(TOO_WIDE if _FAR in again.detail else again.message, detail=again.detail) from None
    text.page(None, mended(found))


def read_old(data: bytes, options: Options, text: Text) -> None:
    """An .xls workbook."""
    try:
        text.page(None, mended(converted(data, None)))
    except Permanent as problem:
        raise Permanent(TOO_WIDE if _FAR in problem.detail else problem.message, detail=problem.detail) from None


def read_csv(data: bytes, options: Options, text: Text) -> None:
    source = clean(decode(data)).lstrip("\n")
    if source[:4].lower() == "sep=" and source[5:6] in ("\n", ""):  # Excel's own first line names the delimiter
        delimiter, source = source[4], source[6:]
        if delimiter not in ",;\t|":
            out = io.StringIO()
            with contextlib.suppress(csv.Error):  # a field that is too long: as it stands, then
                csv.writer(out).writerows(csv.reader(io.StringIO(source), delimiter=delimiter))
                source = out.getvalue()
    text.page(None, mended(converted(source.encode(), "csv")))


def _changed(data: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The archive with some parts changed; the same bytes where none is."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        changed = {}
        for entry in archive.infolist():
            if _CHANGEABLE.search(entry.filename):
                try:
                    before = archive.read(entry)
                except UNREADABLE:
                    continue  # the converter says what is wrong with it
                if (after := change(entry.filename, before)) is not before:
                    changed[entry.filename] = after
        if not changed:
            return data
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as copy:
            for entry in archive.infolist():
                try:
                    copy.writestr(entry.filename, changed.get(entry.filename) or archive.read(entry))
                except UNREADABLE:
                    continue
        return packed.getvalue()


def _xlsx_part(name: str, body: bytes) -> bytes:
    if name.endswith("workbook.xml"):
        if b'idden"' not in body:
            return body
        return _HIDDEN_SHEET.sub(
            lambda sheet: _SHEET_NAME.sub(rb'\1 (hidden)"', _STATE.sub(b"", sheet[0]), count=1), body
        )
    if "/worksheets/" not in name:
        return body
    after = _HIDDEN.sub(rb"\1", body) if b" hidden=" in body else body
    if b"</f></c>" in body or b"</f><v/>" in body or b"</f><v></v>" in body:
        # A formula that no program has worked out yet is shown itself.
        after = _FORMULA.sub(
            lambda f: b'<c%s t="inlineStr"><is><t>=%s</t></is></c>' % (_TYPE.sub(b"", f[1]), f[2]), after
        )
    return body if after == body else after


def _ods_part(name: str, body: bytes) -> bytes:
    if name not in ("content.xml", "styles.xml"):
        return body
    after = _EMPTY_ROWS.sub(rb"\1\2", body) if b"-repeated=" in body else body
    after = _EMPTY_CELLS.sub(rb"\1\2", after) if b"-repeated=" in after else after
    after = _ODS_HIDDEN.sub(b"", after)
    after = _ODS_SHEET_HIDDEN.sub(b'table:display="true"', after)
    return body if after == body else after


def _together(name: str, body: bytes) -> bytes:
    """The sheet without its empty rows and columns."""
    if "/worksheets/" not in name:
        return body
    rows = [_CELL.findall(row[2]) for row in _ROW.finditer(body)]
    places = sorted({_number(place[1]) for row in rows for cell, _ in row if (place := _PLACE.search(cell))})
    column = {number: _letters(index) for index, number in enumerate(places)}
    out = []
    for number, row in enumerate((row for row in rows if row), 1):
        cells = []
        for cell, rest in row:
            if place := _PLACE.search(cell):
                cells.append(b'<c%s r="%s%d"%s' % (_PLACE.sub(b"", cell), column[_number(place[1])], number, rest))
        out.append(b'<row r="%d">%s</row>' % (number, b"".join(cells)))
    start, end = body.find(b"<sheetData"), body.find(b"</sheetData>")
    if start < 0 or end < 0:
        return body
    return _EXTENT.sub(b"", body[:start]) + b"<sheetData>" + b"".join(out) + _EXTENT.sub(b"", body[end:])


def _number(letters: bytes) -> int:
    found = 0
    for letter in letters:
        found = found * 26 + letter - 64
    return found


def _letters(index: int) -> bytes:
    found, index = b"", index + 1
    while index:
        index, rest = divmod(index - 1, 26)
        found = bytes((65 + rest,)) + found
    return found
