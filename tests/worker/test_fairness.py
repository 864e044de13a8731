"""One user's poison, budget or throttling slows nobody else: told by the order of the work, beside a run without them.

One listener with one hand takes what waits in turns, so rounds of claims are all the time that there is.
"""

from __future__ import annotations

import pytest

from pipeline.embedded.fakes.limits import Bucket
from tests import documents
from tests.worker.test_money import clean  # noqa: F401 (fixture)
from tests.worker.test_paid_providers import Paid, now_done, paid, project  # noqa: F401 (fixtures)
from tests.world import User, Watch, new_user

FILES = 4


async def claims(watch: Watch, users: list[User]) -> list[tuple[int, str]]:
    """Whose file was begun, in order: the place of the user in `users`, and the name."""
    rows = await (
        await watch.connection.execute(
            "select j.owner_id, j.name from pipeline.job_events e join pipeline.jobs j on j.id = e.job_id "
            "where e.to_state = 'running' and j.owner_id = any (%s::uuid[]) order by e.id",
            ([user.id for user in users],),
        )
    ).fetchall()
    ids = [user.id for user in users]
    return [(ids.index(str(row["owner_id"])), row["name"].partition("/")[2]) for row in rows]


async def uploads(users: list[User], text: str) -> None:
    """The files of all, in rounds; each file is bought by itself."""
    for number in range(FILES):
        for user in users:
            await user.upload(f"{number}.txt", f"# Plan\n\n{text} {number} of {user.id}.".encode())


async def others_done(watch: Watch, users: list[User], paid: Paid) -> tuple[list[set[tuple[int, str]]], int, int]:  # noqa: F811
    """When all of these have ended well: what was begun in each round, and how much was bought for them.

    Who comes first in the first round, where nobody was served before, is chance.
    """
    for user in users:
        for number in range(FILES):
            job = await watch.ended(user, f"{number}.txt")
            assert (job["state"], job["attempt"], job["failures"]) == ("completed", 1, 0)
    mine = [text for text in paid.embedder.bill.texts if any(user.id in text for user in users)]
    parsed = [job for job in paid.parser.jobs.values() if any(user.id.encode() in job.content for user in users)]
    order, size = await claims(watch, users), len(users)
    return [set(order[i : i + size]) for i in range(0, len(order), size)], len(mine), len(parsed)


@pytest.mark.parametrize("culprit_is", ["poison", "over budget"])
async def test_a_culprit_takes_its_own_turns_and_no_others(listen, watch, paid, project, culprit_is):  # noqa: F811
    alone, beside = [[await new_user(project) for _ in range(3)] for _ in range(2)]
    culprit = await new_user(project)
    now_done(paid, 100)
    await uploads(alone, "The deductible is 500 dollars in file")
    stop = await listen(**paid.settings, concurrency=1)
    without = await others_done(watch, alone, paid)
    stop.set()
    await watch.until("select from pipeline.listeners having bool_and(stopped_at is not null)")

    if culprit_is == "poison":
        paid.embedder.poison.add("never this")
    else:
        await watch.connection.execute("insert into pipeline.budgets values ('owner', %s, 'month', 0)", (culprit.id,))
    await uploads([culprit], "This is fine.\n\nBut never this in file")
    await uploads(beside, "The deductible is 500 dollars in file")
    await listen(**paid.settings, concurrency=1)
    assert await others_done(watch, beside, paid) == without
    if culprit_is == "poison":
        assert {(await watch.ended(culprit, f"{number}.txt"))["state"] for number in range(FILES)} == {"dead"}
    everybodys = await claims(watch, [*beside, culprit])
    last = max(place for place, (who, _) in enumerate(everybodys) if who < len(beside))
    assert 0 < sum(who == len(beside) for who, _ in everybodys[:last]) <= FILES  # one in each round


async def test_a_long_file_under_a_slow_limit_leaves_others_their_share(
    listen,
    watch,
    paid,  # noqa: F811
    project,  # noqa: F811
    monkeypatch,
):
    """Two hands. While one buys a long file at the pace that the provider allows, the other serves who comes: before
    what they ask for goes out, at most one call for the long file does, which was asked for before."""
    culprit, others = await new_user(project), [await new_user(project) for _ in range(4)]
    monkeypatch.setattr("pipeline.work.journey._BATCH_TOKENS", 1_000)
    paid.embedder.limits.tokens = Bucket(180_000)
    paid.embedder.limits.tokens.take(180_000)
    now_done(paid, 10)
    await listen(**paid.settings, concurrency=2)
    await culprit.upload("long.txt", "\n\n".join(documents.prose(400)).encode())
    await watch.until("select 1 from pipeline.embeddings where owner_id = %s limit 1", culprit.id)
    for other in others:
        await other.upload("a.txt", f"The deductible of {other.id} is 500 dollars.".encode())
        job = await watch.ended(other, "a.txt")
        assert (job["state"], job["attempt"], job["failures"]) == ("completed", 1, 0)
    assert await watch.until("select state from pipeline.jobs where owner_id = %s", culprit.id) == {"state": "running"}
    row = await watch.until(
        "select array_agg((select count(*) from pipeline.ledger c where c.owner_id = %s and c.stage = 'embed' "
        "and c.sends_at >= o.at and c.sends_at < o.sends_at)::integer) as before, bool_or(o.sends_at > o.at) as waited "
        "from pipeline.ledger o where o.owner_id = any (%s::uuid[]) and o.stage = 'embed'",
        culprit.id,
        [other.id for other in others],
    )
    assert len(row["before"]) == len(others) and max(row["before"]) <= 1, row
    assert row["waited"]  # there was a line to stand in
    assert paid.embedder.limits.refused <= 1  # the first, before it told its limits
