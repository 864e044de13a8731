"""Random kills, stops, freezes and crashes under load: a sample always, ten thousand jobs by `make soak`."""

from __future__ import annotations

import random

import pytest

from tests.faults.soak import Plan, Report, Soak, markdown


def nothing_is_lost_or_doubled(report: Report) -> None:
    told = markdown(report)
    assert report.lost == report.published_twice == report.wrong_text == report.violations == 0, told
    assert report.stale_writes == 0, told
    assert report.most_running <= 2, told
    # the floor that the first system promised
    assert report.completed > 0.95 * report.plan.jobs, told
    assert report.dead < 0.01 * report.plan.jobs, told
    assert max(report.recoveries) < 300, told
    # what was in flight when a listener died
    interrupted = sum(report.faults.values()) * report.plan.concurrency * report.plan.listeners
    assert report.bought_twice <= interrupted, told


async def test_a_sample_of_the_soak(ground, world):
    plan = Plan(jobs=60, seed=7, owners=6, concurrency=2, lease=2, calm=(0.3, 1.5), away=(0, 1))
    report = await Soak(plan, ground, world).run(120)
    nothing_is_lost_or_doubled(report)


@pytest.mark.soak
async def test_ten_thousand_jobs(ground, world, capsys):
    await world.db.run("update pipeline.settings set backoff_base = '10 seconds', max_failures = 3")
    report = await Soak(Plan(jobs=10_000, seed=random.SystemRandom().randrange(10**6)), ground, world).run(1800)
    with capsys.disabled():
        print(f"\n{markdown(report)}")
    nothing_is_lost_or_doubled(report)
