from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.ingest import collect
from cli.names import below, readable, stored
from pipeline.errors import SetupError


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_a_stored_name_is_taken_by_storage_and_reads_as_before(name):
    assert re.fullmatch(r"[A-Za-z0-9_/!\-.*'() &$@=;:+,?]*", stored(name))
    if name.isprintable():
        assert readable(stored(name)) == name


@given(st.text(), st.text())
def test_two_names_never_fall_together(one, other):
    assert (stored(one) == stored(other)) == (one == other)


@pytest.mark.parametrize("name", ["report.pdf", "a/b (1).txt", "x=1.csv", "a=b&c.txt"])
def test_a_name_that_storage_takes_stays(name):
    assert stored(name) == name


def test_no_name_leaves_its_folder():
    assert below("../a/", PurePosixPath("../../b/./c.txt")) == "a/b/c.txt"


def test_a_folder_keeps_its_relative_paths(tmp_path: Path):
    (tmp_path / "docs/deep").mkdir(parents=True)
    (tmp_path / "docs/.git").mkdir()
    for name in ("docs/a.txt", "docs/deep/über.txt", "docs/.hidden", "docs/.git/config"):
        (tmp_path / name).write_text("x")
    files = collect([tmp_path / "docs"], "2026")
    assert [file.name for file in files] == ["2026/a.txt", "2026/deep/=C3=BCber.txt"]


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("x")
    with pytest.raises(SetupError, match="--prefix"):
        collect([tmp_path / "one", tmp_path / "two"], "")
