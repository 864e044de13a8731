"""Text made to cost time or memory, or to hide words, where a listener reads it outside of a child."""

from __future__ import annotations

import time
import zipfile
from io import BytesIO

import pytest

from pipeline.chunks.cutting import chunk
from pipeline.errors import JobError, Permanent
from pipeline.files.archive import check_archive
from pipeline.files.text import clean
from pipeline.job import Chunk, Page, Parsed

LONG = 200_000
HOSTILE = {
    "blanks in a heading": "# a" + " " * LONG + "x",
    "marks in a heading": "# a " + "#" * LONG + "x",
    "open emphasis in a heading": "# " + "*a **b `c ~~d " * (LONG // 14),
    "open links in a heading": "# " + "[a](b" * (LONG // 5),
    "brackets in a heading": "# " + "[" * LONG,
    "blanks": " " * LONG + "x",
    "tabs in a row": "|" + "\t" * LONG + "x",
    "a rule that is none": "- " * (LONG // 2) + "x",
    "a table's line that is none": "|a|\n" + "|-" * (LONG // 2) + "x",
    "quotes": ">" * LONG + "a",
    "fences": "```\n" * (LONG // 4),
    "stops": "." * LONG + " a",
    "a stop and blanks": "a." + " \n" * (LONG // 2) + "b",
    "one word": "x" * LONG,
    "marks on one letter": "a" + "\u0301" * LONG,
    "deep lists": "".join(" " * (n % 1000) + "- a\n" for n in range(400)),
}


def tokens(text: str) -> int:
    """What a tokenizer does with a text of any length is not for free: none is asked about a long one."""
    assert len(text) <= 100_000
    return 2 + len(text.split())


def passages(text: str, **more: int) -> list[Chunk]:
    pages = Parsed([Page(None, clean(text))])
    return chunk(pages, count_tokens=tokens, max_tokens=200, overlap=0.15, input_limit=256, **more)


@pytest.mark.parametrize("kind", HOSTILE)
def test_no_text_takes_for_ever(kind: str):
    began = time.process_time()
    for passage in passages(HOSTILE[kind]):
        assert len(passage.content) <= 2200
    assert time.process_time() - began < 5


def test_a_file_falls_into_so_many_passages_and_no_more():
    text = "".join(f"# {n}\n" for n in range(100))
    assert len(passages(text, max_passages=100)) == 100
    with pytest.raises(Permanent, match="more than 99 passages"):
        passages(text, max_passages=99)


@pytest.mark.parametrize("text", ["{}\n\n", "x{}. A "])
def test_a_million_lines_or_sentences_are_too_many(text: str):
    with pytest.raises(Permanent, match="more than a million lines or sentences"):
        passages("".join(text.format(n) for n in range(1_000_100)))


def test_a_paragraph_without_an_end_loses_no_word_and_an_edit_moves_few_passages():
    words = [f"w{n * 7919 % 100_003}" for n in range(70_000)]
    before = [passage.content for passage in passages(" ".join(words))]
    assert " ".join(dict.fromkeys(" ".join(before).split())) == " ".join(words)
    after = [passage.content for passage in passages("new words here " + " ".join(words))]
    assert len(set(after) - set(before)) < 30


def test_a_closing_mark_of_a_heading_stands_alone():
    assert {passage.heading for passage in passages("# C#\n\nText.\n\n# Plan ##\n\nText.")} == {"C#", "Plan"}


@pytest.mark.parametrize(
    ("hidden", "seen"),
    [
        ("de\u200bduc\u00adti\ufeffble", "deductible"),
        ("a\u202egnp.exe\u202c", "agnp.exe"),
        ("\U000e0041\U000e0042visible\U000e007f", "visible"),
        ("em\ufe0fp\U000e0101loyee", "employee"),
        ("\u3164\uffa0\u2800a\u115fb", "\u2800ab"),
        ("a\x00b\x08c\ufffed\ud800e", "abcde"),
        ("u\u0308ber", "über"),
        ("a\n \n\t\n\n\n\nb", "a\n\n\nb"),
        ("x\r\ny\u2028z", "x\ny\nz"),
    ],
)
def test_what_no_reader_sees_is_gone(hidden: str, seen: str):
    assert clean(hidden) == seen
    assert clean(seen) == seen


def test_a_reason_can_be_stored_whatever_it_quotes():
    error = JobError("a\x00b", detail="\ud800\x00" + "x" * 10_000)
    assert error.message == "ab"
    assert error.detail.startswith("?x") and len(error.detail) < 2001


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_packed_as_no_document_is_is_not_opened(method: int):
    file = BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("word/document.xml", bytes(50_000_000))
    with pytest.raises(Permanent, match="packed in a way"):
        check_archive(file.getvalue(), max_bytes=100_000_000)
