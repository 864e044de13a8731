"""Small files of every kind but PDF: what a person can read is found, and what is not read says what to do."""

from __future__ import annotations

import pytest

from pipeline.errors import Permanent
from tests.corpus import Case, mail, office, text, web
from tests.worker.test_local_parser import Reader, reader  # noqa: F401

CASES = [*office.CASES, *web.CASES, *mail.CASES, *text.CASES]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_a_file_is_read_or_refused_with_its_sentence(reader: Reader, case: Case):  # noqa: F811
    if case.sentence is not None:
        with pytest.raises(Permanent, match=case.sentence) as refused:
            await reader(case.make(), case.name)
        assert refused.value.message.endswith(".")
        return
    parsed = await reader(case.make(), case.name)
    found, at = "\n\n".join(page.markdown for page in parsed.pages), 0
    for words in case.words:
        assert words in found[at:], found
        at = found.index(words, at)
    for words in case.absent:
        assert words not in found
    if case.pages is not None:
        assert tuple(page.number for page in parsed.pages) == case.pages


def test_each_case_has_a_name_of_its_own():
    assert len({case.name for case in CASES}) == len(CASES)
