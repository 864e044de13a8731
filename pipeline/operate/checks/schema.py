"""Whether the database holds what this release makes."""

from __future__ import annotations

from typing import Any

import psycopg

from pipeline.db.guard import detached
from pipeline.errors import SetupError
from pipeline.operate.catalogue import Difference, compare
from pipeline.operate.checks.finding import Finding

_NAMED = 20
_HARMLESS = ("table", "view", "function", "index", "column", "type", "comment", "default", "not-null", "storage")
"""What an operator may have added for purposes of their own; a right, a policy or a trigger more is never harmless."""


async def whole(connection: psycopg.AsyncConnection[Any]) -> list[Finding]:
    """Compare the catalogue with the database. `connection` is the operators'."""
    try:
        differences = await compare(connection)
    except SetupError as error:
        return [Finding("catalogue", False, str(error))]
    broken = [d for d in differences if d.what != "extra" or d.part.kind == "grant"]
    wider = [d for d in differences if d not in broken and d.part.kind not in _HARMLESS]
    besides = [d for d in differences if d.what == "extra" and d.part.kind in _HARMLESS]
    findings = [Finding("catalogue", True, "the database holds all that this release makes")] if not broken else []
    if broken:
        remedy = "Run `pipeline migrate`, which puts it right, and then `pipeline doctor --fix`."
        findings.append(Finding("catalogue", False, _listed(broken), remedy))
    if wider:
        remedy = "It gives more rights than this release does, or interferes. Remove it, if it is not on purpose."
        findings.append(Finding("what is there besides", False, _listed(wider), remedy))
    if besides:
        remedy = "Objects of your own are safer in a schema of their own."
        findings.append(Finding("what is there besides", None, _listed(besides), remedy))
    return findings


async def attached(connection: psycopg.AsyncConnection[Any]) -> Finding:
    """Whether the triggers, policies and the bucket are there; the listener's role may ask."""
    missing = await detached(connection)
    if not missing:
        return Finding("platform", True, "the triggers, the policies and the bucket are in place")
    remedy = "Run `pipeline migrate`, and then `pipeline doctor --fix`; until then listeners claim nothing."
    return Finding("platform", False, "missing: " + ", ".join(missing), remedy)


def _listed(differences: list[Difference]) -> str:
    named = [str(d) for d in differences[:_NAMED]]
    more = len(differences) - len(named)
    return ", ".join(named) + (f" and {more} more" if more else "")
