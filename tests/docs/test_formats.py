"""The page about formats names every extension and every sentence."""

from __future__ import annotations

from pathlib import Path

from pipeline.files import containers, kinds
from pipeline.local.readers import formats, sheets
from pipeline.local.readers import reader as readers

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()


def test_the_page_about_formats_names_each_extension():
    assert [extension for extension in sorted(formats.EXTENSIONS) if f"`{extension}`" not in PAGE] == []


def test_the_page_about_formats_has_each_sentence_that_an_owner_may_read():
    sentences = [
        value
        for name, value in vars(kinds).items()
        if name.isupper() and isinstance(value, str) and value.endswith(".")
    ]
    sentences += [containers.END_MISSING, formats.NO_SLIDE_TEXT, readers.NO_TEXT, readers.TOO_DEEP, sheets.TOO_WIDE]
    assert len(sentences) > 25
    assert [sentence for sentence in sentences if sentence not in PAGE] == []
