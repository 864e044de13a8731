"""Passages: never too long, never empty, with their headings, and stable under edits."""

from __future__ import annotations

import random
import re
import textwrap
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.chunks.blocks import plain, split_sentences
from pipeline.chunks.cutting import chunk
from pipeline.job import Chunk, Page, Parsed
from tests import documents


def words(text: str) -> int:
    """A stand-in for a tokenizer: words, signs, and each sign of scripts without blanks; two marks around them."""
    return 2 + len(re.findall(r"[\u3040-\u9fff]|[^\W\u3040-\u9fff]{1,6}|[^\w\s]", text))


def cut(
    markdown: str | list[str], *, max_tokens: int = 100, overlap: float = 0.15, input_limit: int = 140
) -> list[Chunk]:
    pages = [Page(None, markdown)] if isinstance(markdown, str) else [Page(n, m) for n, m in enumerate(markdown, 1)]
    return chunk(Parsed(pages), count_tokens=words, max_tokens=max_tokens, overlap=overlap, input_limit=input_limit)


def assert_legal(chunks: list[Chunk], max_tokens: int = 100, input_limit: int = 140) -> None:
    assert [c.ordinal for c in chunks] == list(range(len(chunks)))
    for c in chunks:
        assert c.content.strip()
        assert words(c.content) <= max_tokens
        assert words(c.embedding_input) <= input_limit


def test_a_passage_carries_its_heading_path():
    chunks = cut(
        "# Plan\n\nIntro.\n\n## Surgery\n\nKnee.\n\n### Costs\n\n500 dollars.\n\n## **Eyes** [x](http://y)\n\nGlasses.\n"
    )
    assert [(c.heading, c.content) for c in chunks] == [
        ("Plan", "Intro."),
        ("Plan > Surgery", "Knee."),
        ("Plan > Surgery > Costs", "500 dollars."),
        ("Plan > Eyes x", "Glasses."),
    ]
    assert chunks[1].embedding_input == "Plan > Surgery\n\nKnee."


def test_a_heading_with_nothing_below_it_is_text_itself():
    assert [(c.heading, c.content) for c in cut("# A\n\n## B\n\n## C\n\ntext\n\n# Thanks\n")] == [
        ("A", "B"),
        ("A > C", "text"),
        (None, "Thanks"),
    ]


def test_a_paragraph_in_large_type_is_text_and_loses_no_word():
    title = " ".join(f"word{n}" for n in range(300))
    chunks = cut(f"# Plan\n\n## {title}\n\ntext\n")
    assert_legal(chunks)
    assert {c.heading for c in chunks} == {"Plan"}
    found = " ".join(c.content for c in chunks).split()
    assert all(f"word{n}" in found for n in range(300))


def test_a_run_without_blanks_is_divided_soon_and_whatever_the_tokenizer_says():
    run = "".join(chr(97 + n * n % 26) for n in range(500_000))
    began = time.perf_counter()
    # a tokenizer that takes any run for one unknown token
    chunks = chunk(
        Parsed([Page(None, run)]), count_tokens=lambda t: 2 + len(t.split()), max_tokens=100, overlap=0, input_limit=140
    )
    assert "".join(c.content for c in chunks) == run
    assert max(len(c.content) for c in chunks) <= 1100
    assert time.perf_counter() - began < 10


def test_a_hash_sign_in_code_is_no_heading():
    (only,) = cut("Run this:\n\n```sh\n# a comment\nls\n```\n")
    assert only.heading is None
    assert "# a comment" in only.content


def test_a_setext_heading_and_rules():
    chunks = cut("Plan\n====\n\nText.\n\n---\n\nMore.\n\nPart\n----\n\nEnd.\n")
    assert [(c.heading, c.content) for c in chunks] == [("Plan", "Text.\n\nMore."), ("Plan > Part", "End.")]


def test_a_cut_table_repeats_its_header_and_loses_no_row():
    rows = [f"| Clinic {n} | City {n} | {n} beds |" for n in range(200)]
    header = "| Clinic | City | Size |\n| --- | --- | --- |"
    chunks = cut("## Clinics\n\nAll of them:\n\n" + header + "\n" + "\n".join(rows) + "\n\nEnd of list.")
    assert_legal(chunks)
    with_rows = [c for c in chunks if "| Clinic 1" in c.content or "beds" in c.content]
    assert len(with_rows) > 10
    assert all(c.content.count(header) == 1 for c in with_rows)
    found = [line for c in chunks for line in c.content.split("\n") if "beds" in line]
    assert found == rows


def test_the_page_is_where_the_passage_begins():
    pages = [" ".join(f"Sentence {n} of page {p} is here." for n in range(12)) for p in range(1, 8)]
    chunks = cut(pages)
    assert_legal(chunks)
    for c in chunks:
        began = re.search(r"of page (\d)", c.content)
        assert began is not None
        assert c.page == int(began[1])


def test_a_sentence_that_flows_over_a_page_break_is_whole():
    (only,) = cut(["The deductible for knee", "surgery is 500 dollars. It is due once."])
    assert only.content == "The deductible for knee surgery is 500 dollars. It is due once."
    assert only.page == 1


def test_neighbouring_passages_overlap_within_a_section():
    text = " ".join(documents.prose(30))
    chunks = cut(f"# One\n\n{text}\n\n# Two\n\n{text}", max_tokens=200, input_limit=256)
    assert_legal(chunks, 200, 256)
    overlapping = 0
    for before, after in pairwise(chunks):
        first = split_sentences(after.content)[0]
        if before.heading != after.heading:
            assert first not in before.content
        overlapping += first in before.content
    assert overlapping > len(chunks) * 0.6
    assert not any(a.content in b.content for a, b in pairwise(cut(text, overlap=0)))


def test_no_sentence_gets_lost():
    text = "\n\n".join(documents.prose(60))
    everything = "\n".join(c.content for c in cut(text))
    assert all(sentence in everything for p in documents.prose(60) for sentence in split_sentences(p))


def test_the_same_text_gives_the_same_passages():
    text = "\n\n".join(documents.prose(80))
    assert cut(text) == cut(text)


def _changed(before: list[Chunk], after: list[Chunk]) -> float:
    known = {c.embedding_input for c in before}
    return sum(c.embedding_input not in known for c in after) / len(after)


@pytest.mark.parametrize("place", [0, 3, 40])
def test_an_inserted_paragraph_changes_few_passages(place: int):
    before = documents.prose(1000)
    after = [*before[:place], f"{documents.KNEE}. {documents.prose(1, seed=9)[0]}", *before[place:]]
    assert _changed(cut("\n\n".join(before)), cut("\n\n".join(after))) <= 0.02


def test_an_inserted_paragraph_that_moves_every_page_break_changes_few_passages():
    def paged(paragraphs: list[str]) -> list[str]:
        lines = [line for text in paragraphs for line in re.findall(r".{1,90}(?:\s|$)", text)]
        return [" ".join(line.strip() for line in lines[i : i + 20]) for i in range(0, len(lines), 20)]

    before = documents.prose(900)
    after = [*before[:2], f"{documents.KNEE}. {documents.prose(1, seed=9)[0]}", *before[2:]]
    assert len(paged(before)) >= 200
    assert _changed(cut(paged(before)), cut(paged(after))) <= 0.02


@pytest.mark.parametrize("seed", range(3))
def test_it_does_so_in_prose_with_initials_and_with_numbers_at_the_beginning_of_lines(seed: int):
    chance = random.Random(seed)
    words = [w for text in documents.prose(40) for w in re.findall(r"\w+", text)] + ["2023", "A", "x", "14"]

    def paragraph() -> str:
        sentences = (" ".join(chance.choices(words, k=chance.randint(5, 28))) for _ in range(chance.randint(2, 9)))
        return " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences)

    def paged(paragraphs: list[str]) -> list[str]:
        lines = [line for text in paragraphs for line in [*textwrap.wrap(text, 85), ""]]
        return ["\n".join(lines[i : i + 40]) for i in range(0, len(lines), 40)]

    before = [paragraph() for _ in range(1250)]
    after = [*before[:2], paragraph(), *before[2:]]
    assert len(paged(before)) >= 200
    assert _changed(cut(paged(before)), cut(paged(after))) <= 0.02


def test_an_inserted_row_changes_few_passages():
    rows = [f"| Clinic {n} | City {n * 7} | {n} beds |" for n in range(1500)]
    header = "| Clinic | City | Size |\n| --- | --- | --- |\n"
    before, after = cut(header + "\n".join(rows)), cut(header + "\n".join([*rows[:3], "| New | Here | 1 |", *rows[3:]]))
    assert _changed(before, after) <= 0.05


def test_japanese_is_cut_between_sentences():
    chunks = cut(documents.japanese().decode())
    assert_legal(chunks)
    assert chunks[0].heading == "保険約款 > 手術"
    assert all(c.content.endswith("。") for c in chunks)


def test_arabic_is_cut_between_sentences():
    chunks = cut(documents.arabic().decode())
    assert_legal(chunks)
    assert len(chunks) > 5
    assert all(c.content.rstrip("\u202c").endswith(".") for c in chunks)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5000,
        "word " * 3000,
        "水" * 2000,
        "| a | b |\n|---|---|\n| " + "long " * 500 + " | y |",
        "| " + " | ".join(f"column {n}" for n in range(60)) + " |\n" + "|---" * 60 + "|\n" + "| v " * 60 + "|",
        "# " + "heading " * 300 + "\n\ntext",
        "- item\n" * 500,
        "```\n" + "code line\n" * 400 + "```",
    ],
    ids=["one word", "no stop", "no blank", "long row", "wide table", "long heading", "list", "code"],
)
def test_what_cannot_be_cut_well_is_cut_all_the_same(text: str):
    chunks = cut(text)
    assert chunks
    assert_legal(chunks)


def test_nothing_gives_nothing():
    assert cut("") == cut("\n \n") == cut("---\n\n***") == []


_LINES = (
    "# H",
    "## ",
    "text. More text! 水。火。",
    "- item",
    "| a | b |",
    "|---|---|",
    "```",
    "===",
    "",
    "\n",
    "x" * 300,
)
_markdown = st.lists(st.sampled_from((*_LINES, "1. one", "> q")), max_size=40).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(_markdown, min_size=1, max_size=3), st.integers(16, 60), st.floats(0, 0.8), st.booleans())
def test_any_markdown_gives_legal_passages(pages: list[str], max_tokens: int, overlap: float, paged: bool):
    chunks = cut(
        pages if paged else "\n".join(pages), max_tokens=max_tokens, overlap=overlap, input_limit=max_tokens + 8
    )
    assert_legal(chunks, max_tokens, max_tokens + 8)


def test_many_pages_are_cut_in_seconds():
    pages = ["\n\n".join(documents.prose(6, seed=n)) for n in range(1500)]
    began = time.process_time()
    chunks = cut(pages, max_tokens=200, input_limit=256)
    assert len(chunks) > 5000
    assert time.process_time() - began < 20


def test_headings_lose_their_markup():
    assert plain(r"**Bold** _and_ `code` 5\. [link](http://x)") == "Bold _and_ code 5. link"


def test_sentences_in_several_scripts():
    assert split_sentences('He paid 5.50 dollars. "Really?" J. Smith asked e.g. once.') == [
        "He paid 5.50 dollars.",
        '"Really?"',
        "J. Smith asked e.g. once.",
    ]
    assert split_sentences("一つ目。「二つ目。」三つ目！") == ["一つ目。", "「二つ目。」", "三つ目！"]


def test_empty_cells_and_separators_are_no_chunk():
    rows = "".join(f"| {n} | knee surgery |\n|  | --- |\n" for n in range(60))
    chunks = cut(f"|  |  |\n| --- | --- |\n{rows}")
    assert len(chunks) > 1
    assert not any("---" in c.content or "|  |" in c.content for c in chunks)
    assert cut("|  |  |\n| --- | --- |\n|  |  |\n") == []
