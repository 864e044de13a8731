"""The attacks in SQL, on the schema as it is. `test_mutations` shows that each rule is needed by one of them."""

from __future__ import annotations

import pytest

from tests.access import clients, others, search, storage  # noqa: F401 (they register their attacks)
from tests.access.world import ATTACKS, World


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(w: World, name: str) -> None:
    ATTACKS[name](w)
