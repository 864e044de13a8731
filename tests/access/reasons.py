"""Why some weakened copies go unnoticed by every attack, and why the rule stays all the same."""

from __future__ import annotations

import re

from tests.access.mutations import Mutation

REASONS: tuple[tuple[str, str], ...] = (
    (
        r"refusal taken out: pipeline\.search #\d+: query_embedding is not null and .*vector_dims.*",
        "The vector's type refuses other dimensions too, with an error that a client cannot read; this one says it "
        "with HTTP 400, as a_question_costs_more_than_it_may asks.",
    ),
    (
        r"refusal taken out: pipeline\.retry #\d+: job\.state not in .*",
        "The guard of a job's states refuses the step too, with an error that a client cannot read; this one says it "
        "with HTTP 409, as an_owner_has_the_same_work_paid_again_and_again asks.",
    ),
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
        r"refusal taken out: pipeline\.publish #\d+: not pipeline\.holds.*",
        "Without this first look at the lease the second one refuses, with the same PL001, when the work is done.",
    ),
    (
        r"refusal taken out: pipeline\.publish #\d+: not found",
        "The second `not found` is for a lease that ends between two statements of one publish: tests/faults lets that "
        "happen.",
    ),
)


def reason_for(mutation: Mutation) -> str | None:
    return next((why for pattern, why in REASONS if re.fullmatch(pattern, str(mutation), re.DOTALL)), None)
