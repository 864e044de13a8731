"""What a file is comes from its bytes."""

from __future__ import annotations

import contextlib
import io
import zipfile
from pathlib import Path

import pytest

from pipeline.errors import Permanent
from pipeline.files.sniff import sniff
from tests import documents
from tests.corpus.containers import compound


@pytest.mark.parametrize(
    ("make", "name", "extension"),
    [
        (documents.pdf_two_columns_with_table, "a.pdf", ".pdf"),
        (documents.pdf_two_columns_with_table, "wrongly-named.txt", ".pdf"),
        (documents.docx, "a.docx", ".docx"),
        (documents.docx, "a.pdf", ".docx"),
        (documents.pptx, "a", ".pptx"),
        (documents.xlsx, "a.zip", ".xlsx"),
        (documents.odt, "a.docx", ".odt"),
        (documents.rtf, "a.txt", ".rtf"),
        (documents.html, "a.html", ".html"),
        (documents.html, "a", ".html"),
        (documents.markdown, "a.MD", ".md"),
        (documents.markdown, "a.txt", ".txt"),
        (documents.csv, "a.csv", ".csv"),
        (documents.utf16_text, "a.txt", ".txt"),
        (documents.text_with_nul, "a.txt", ".txt"),
        (documents.japanese, "a.md", ".md"),
        (documents.encrypted_pdf, "a.pdf", ".pdf"),
        (documents.zip_bomb_docx, "a.docx", ".docx"),
    ],
)
def test_the_bytes_say_what_a_file_is(tmp_path: Path, make, name: str, extension: str):
    file = tmp_path / "file"
    file.write_bytes(make())
    media_type, found = sniff(file, f"owner/folder/{name}")
    assert found == extension
    assert "/" in media_type


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"The reader accepts %PDF-1.7 files. " * 3, "about-pdf.txt"),
        ("Größe".encode("utf-16-le") + "und vieles mehr ".encode("utf-16-le") * 9, "a.txt"),
        ("日本語の文章です。".encode("shift_jis") * 5, "a.txt"),
        (b"short", "a"),
        (b"\xef\xbb\xbfwith a mark", "a.txt"),
    ],
)
def test_text_is_text_in_any_encoding(tmp_path: Path, content: bytes, name: str):
    file = tmp_path / "file"
    file.write_bytes(content)
    assert sniff(file, name) == ("text/plain", ".txt")


def test_a_file_that_cannot_be_opened_is_no_damaged_file(tmp_path: Path):
    with pytest.raises(OSError):  # noqa: PT011
        sniff(tmp_path / "missing", "a.pdf")


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b" \n\t ", "empty"),
        (bytes(range(256)) * 20, "recognised"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200), "picture"),
        (b"PK\x03\x04" + bytes(100), "damaged"),
        (b"PK\x05\x06" + bytes(18), "no readable text"),
        (compound({"EncryptedPackage": bytes(100)}), "password"),
        (compound({"Notes": "EncryptedPackage Workbook".encode("utf-16-le")}), "recognised"),
    ],
)
def test_what_cannot_be_read_is_refused_in_the_owners_words(tmp_path: Path, content: bytes, word: str):
    file = tmp_path / "file"
    file.write_bytes(content)
    with pytest.raises(Permanent, match=word) as refused:
        sniff(file, "owner/file.pdf")
    assert refused.value.message.endswith(".")
    assert str(tmp_path) not in refused.value.message


def _zipped(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"x\n%PDF-1.4" + b"\n" * 65_000,
        b"x\n%PDF-1.4" + b"\n1" * 30_000,
        _zipped({"content.xml": b"<a/>", "META-INF/manifest.xml": b"<" + b"a" * 1_000_000}),
        _zipped({"content.xml": b"<a/>", "META-INF/manifest.xml": b" full-path='/'" * 70_000}),
    ],
    ids=["blank lines", "lines of numbers", "a tag without an end", "paths outside of tags"],
)
def test_looking_at_a_file_takes_time_in_proportion_to_it(tmp_path: Path, content: bytes):
    """Each of these took minutes, in the listener itself; such a pattern shows by not ending."""
    path = tmp_path / "file"
    path.write_bytes(content)
    with contextlib.suppress(Permanent):
        sniff(path, "a.bin")
