"""Hostile files through the real listener: a sample always, two thousand by `make soak`."""

from __future__ import annotations

import pytest

from tests.hostile.corpus import corpus, makers
from tests.hostile.passage import SETTINGS, Passage, markdown, send


def unharmed(seen: Passage) -> None:
    told = markdown(seen)
    assert not seen.ended, told
    assert sum(seen.states.values()) == seen.files and not set(seen.states) - {"completed", "dead"}, told
    assert seen.unexplained == [], "\n".join(seen.unexplained)
    assert seen.longest <= SETTINGS["parse_timeout_seconds"] + 5, told
    assert seen.most_cpu <= 2 * SETTINGS["parse_timeout_seconds"] + 3, told
    assert seen.largest <= SETTINGS["parse_memory_bytes"], told
    assert seen.asked_for == seen.leaked == seen.left_behind == 0, told


async def test_a_sample_of_the_corpus_harms_nobody(world):
    seen = await send(world, 86, seed=11, tell=lambda _: None)
    unharmed(seen)
    assert seen.states["completed"] and seen.states["dead"]


@pytest.mark.soak
async def test_two_thousand_files_harm_nobody(world, capsys):
    with capsys.disabled():
        seen = await send(world, 2000, seed=7, marks=(200, 500, 1000, 1500))
        print(f"\n{markdown(seen)}")
    unharmed(seen)
    assert seen.growth(200) < 0.1, markdown(seen)


def test_a_seed_makes_the_same_files_each_time():
    kinds = len(makers(""))
    once = [(file.name, file.content) for file in corpus(6)]
    assert once == [(file.name, file.content) for file in corpus(6)]
    assert once != [(file.name, file.content) for file in corpus(6, seed=8)]
    assert kinds == 86, "the sample is one file of each kind"
