"""Every kind of PDF in the table is read, or refused with the right sentence; the documentation has the same table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import Permanent
from tests.corpus import Case
from tests.corpus.pdf import CASES
from tests.worker.test_local_parser import Reader, limits, reader  # noqa: F401 (fixtures)

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
async def test_a_pdf_keeps_its_text_or_says_why_not(reader: Reader, case: Case):  # noqa: F811
    if not case.words:
        with pytest.raises(Permanent, match=case.sentence):
            await reader(case.make(), "a.pdf")
        return
    parsed = await reader(case.make(), "a.pdf")
    text = "\n".join(page.markdown for page in parsed.pages)
    flowing = " ".join(text.split())
    assert [words for words in case.words if words not in text and words not in flowing] == [], text
    assert [words for words in case.absent if words in text] == [], text
    if case.pages is not None:
        assert [page.number for page in parsed.pages] == [*case.pages]
    if case.sentence:
        assert [case.sentence in reason for reason in parsed.failed_pages.values()] == [True]
    else:
        assert parsed.failed_pages == {}


async def test_a_running_header_stands_once(reader: Reader):  # noqa: F811
    [case] = [case for case in CASES if "header that runs" in case.name]
    assert (await reader.text(case.make())).count("The Employee Handbook") == 1


def test_the_documentation_shows_the_same_table():
    text = FORMATS.read_text(encoding="utf-8")
    shown = text.partition("## PDF\n")[2].partition("\n## ")[0]
    for case in CASES:
        said = f"“… {case.sentence} …”" if case.sentence else ""
        found = ("page " + ", ".join(map(str, case.pages)) if case.pages else "yes") if case.words else "no"
        assert f"| {case.name} | {found} | {said} |" in shown, case.name
