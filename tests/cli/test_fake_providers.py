"""`pipeline dev --fake-providers`: the paid path as a developer meets it, without keys."""

from __future__ import annotations

import re

import psycopg
import pytest
from dotenv import dotenv_values

from tests import documents
from tests.cli.conftest import Person, clean_environment, start_dev, stop_dev


@pytest.fixture
def developer(folder, tmp_path):
    """Somebody with the settings that `pipeline dev --fake-providers` wrote, and the project's database."""
    file = folder / "fake.env"
    dev = start_dev(folder / "fake", "--fake-providers", "--env-file", str(file))
    settings = {key: value or "" for key, value in dotenv_values(file).items()}
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    yield Person(clean_environment(**home, **settings), tmp_path), dev.line["db_url"]
    assert stop_dev(dev) == 0


def test_a_file_takes_the_paid_path_and_is_found(developer):
    person, database = developer
    folder = person.home / "docs"
    folder.mkdir()
    (folder / "plan.md").write_text("# Plan\n\nThe deductible for knee surgery is 500 dollars.")
    (folder / "pages.pdf").write_bytes(documents.pdf_pages(3))
    person.run("sign-in", "ada@example.com", "--create", "--password-stdin", stdin="correct horse battery\n")
    person.run("ingest", str(folder), "--wait")
    assert "500 dollars" in person.run("search", "What is the deductible for knee surgery?").stdout
    with psycopg.connect(database) as connection:
        made = connection.execute("select parser, embedding_model from public.documents").fetchall()
        bought = connection.execute("select distinct provider, state from pipeline.ledger order by 1").fetchall()
        [job] = connection.execute("select id from pipeline.jobs where name like '%pages.pdf'").fetchall()
    assert made == [("llamaparse cost_effective latest", made[0][1])] * 2
    assert made[0][1].startswith("text-embedding-3-small")
    assert bought == [("llamaparse", "confirmed"), ("openai", "confirmed")]
    shown = person.run("jobs", "show", str(job[0])).stdout
    assert re.search(r"bought +3 pages, 1 passages, 0\.0112", shown)
    assert re.search(r"reused +0 pages, 0 passages, 0\.00 US dollars saved", shown)
    assert [row["pages"] for row in person.json("costs", "--by", "provider")["costs"]] == [4, 0]
