"""The corpus goes through a listener process, as the faults do."""

from __future__ import annotations

from tests.faults.conftest import db, ground, nursery, world  # noqa: F401 (fixtures)
