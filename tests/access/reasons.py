"""Why some weakened copies go unnoticed by every attack, and why the rule stays all the same."""

from __future__ import annotations

import re

from tests.access.mutations import Mutation

REASONS: tuple[tuple[str, str], ...] = (
    (
        r"owner not compared: pipeline\.by_(meaning|words) #\d+: d\.owner_id = owner",
        "A sum that chooses between two ways to the same answer.",
    ),
    (
        r"owner not compared: pipeline\.(by_meaning|nearest_by_index) #\d+: c\.owner_id = .*",
        "visible() compares the document's owner as well, and the vector's owner is compared before; this one leads an "
        "index. Without any of them (`nowhere`) it is caught.",
    ),
    (
        r"owner not compared: pipeline\.store_embeddings .*",
        "The purchase is found by its job and attempt, which are one owner's; the owner leads the index.",
    ),
    (
        r"refusal taken out: pipeline\.publish #\d+: not found",
        "The second `not found` is for a lease that ends between two statements of one publish: tests/faults lets that "
        "happen.",
    ),
)


def reason_for(mutation: Mutation) -> str | None:
    return next((why for pattern, why in REASONS if re.fullmatch(pattern, str(mutation), re.DOTALL)), None)
