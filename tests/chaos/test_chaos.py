"""The short version of `make chaos`. A seed that ever failed stays in the list."""

from __future__ import annotations

import pytest

from tests.chaos.plan import FAULTS, draw
from tests.chaos.run import run


def test_a_seed_draws_the_same_course_again_and_every_fault_once() -> None:
    plan = draw(seed=7, deliveries=30, seconds=60)
    assert plan == draw(seed=7, deliveries=30, seconds=60)
    assert plan != draw(seed=8, deliveries=30, seconds=60)
    assert {step.fault for step in plan.steps} == set(FAULTS)
    assert len({ask.correlation_id for ask in plan.asks}) == 30


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [20261124])
async def test_nothing_is_lost_doubled_wrong_or_left_behind(seed: int) -> None:
    report = await run(draw(seed=seed, deliveries=40, seconds=35))
    assert sum(report.faults.values()) >= len(FAULTS) - 2, report.faults
    assert report.findings.clean, "\n".join([*report.lines(), report.logs[-20_000:]])
