"""Each rule is needed: in a copy of the schema without it, an attack gets somewhere, or an owner is locked out."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest

from tests.access import clients, others, search, storage  # noqa: F401 (they register their attacks)
from tests.access.integrity import BREAKS, refuses, rules
from tests.access.mutations import Mutation, all_mutations, caught_by
from tests.access.reasons import REASONS, reason_for
from tests.access.world import ATTACKS, World

SEED = 20261101
SAMPLE = 100


def _green(w: World) -> None:
    """Nothing is left of the mutations, no attack gets anywhere, and each key and check refuses what breaks it."""
    for attack in ATTACKS.values():
        with w.aside():
            attack(w)
    for rule in rules(w):
        refuses(w, rule)
    w.connection.rollback()


def _try(w: World, mutations: list[Mutation], capsys: pytest.CaptureFixture[str]) -> list[Mutation]:
    _green(w)
    how = {mutation: caught_by(w, mutation) for mutation in mutations}
    _green(w)
    counts = Counter(how.values())
    missed = counts.pop(None, 0)
    with capsys.disabled():
        print(f"\n{len(ATTACKS)} attacks in SQL, {len(rules(w))} probes of keys and checks")
        print(f"{len(mutations):,} weakened copies of the schema")
        print(f"  {len(mutations) - missed:,} caught, {missed} not")
        for kind, count in counts.most_common():
            print(f"  {count} caught: {kind}")
    return [mutation for mutation, caught in how.items() if caught is None]


def test_no_check_is_written_down_that_is_not_there(w: World) -> None:
    assert {str(rule) for rule in rules(w) if rule.kind == "c"} == {
        f"{name.split('.')[1]} on pipeline.{name.split('.')[0]}" for name in BREAKS
    }


def test_a_sample_of_weakened_copies_is_caught(w: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Of those that no listed reason speaks of; the whole is `make soak`."""
    tried = [mutation for mutation in all_mutations(w) if reason_for(mutation) is None]
    kinds = {mutation.kind for mutation in tried}
    assert {
        "policy dropped",
        "row-level security off",
        "right granted",
        "refusal taken out",
        "trigger dropped",
    } <= kinds
    chosen = random.Random(SEED).sample(tried, SAMPLE)
    assert _try(w, chosen, capsys) == []


@pytest.mark.soak
def test_every_weakened_copy_is_caught_or_has_its_reason(w: World, capsys: pytest.CaptureFixture[str]) -> None:
    missed = _try(w, all_mutations(w), capsys)
    assert [str(mutation) for mutation in missed if reason_for(mutation) is None] == []
    with capsys.disabled():
        for pattern, why in REASONS:
            count = sum(re.fullmatch(pattern, str(mutation), re.DOTALL) is not None for mutation in missed)
            assert count, f"nothing goes unnoticed because of: {pattern}"
            print(f"  {count} not caught, {pattern}: {why}")
