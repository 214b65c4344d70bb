"""The rate is that of late, and a stall shows."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.delivery.progress import Phase, Progress
from app.views.progress import ProgressView, rate, seconds_left, stalled_for
from sinks.pipeline.meter import Meter
from tests.builders import Clock, make_delivery


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[Progress]:
    return []


@pytest.fixture
def meter(clock: Clock, told: list[Progress]) -> Meter:
    return Meter(make_delivery(total_bytes=10_000), told.append, clock)


def run(meter: Meter, clock: Clock, *, seconds: int, each: int) -> None:
    """Let so many bytes come each second."""
    for _ in range(seconds):
        clock.now += 1
        meter.count(each)
        meter.report()


def test_the_rate_is_that_of_the_last_fifteen_seconds(
    meter: Meter, clock: Clock, told: list[Progress]
) -> None:
    run(meter, clock, seconds=60, each=100)
    assert rate(told[-1]) == 100
    run(meter, clock, seconds=15, each=10)
    assert rate(told[-1]) == 10  # of the whole attempt it were 82
    assert seconds_left(told[-1]) == (10_000 - 6150) / 10


def test_a_young_transfer_has_the_rate_since_it_began(
    meter: Meter, clock: Clock, told: list[Progress]
) -> None:
    meter.report()
    assert rate(told[-1]) is None
    run(meter, clock, seconds=2, each=50)
    assert rate(told[-1]) == 50


def test_a_stall_is_seen(meter: Meter, clock: Clock, told: list[Progress]) -> None:
    run(meter, clock, seconds=20, each=100)
    assert stalled_for(told[-1]) is None
    run(meter, clock, seconds=44, each=0)
    assert (rate(told[-1]), stalled_for(told[-1])) == (0, None)
    assert seconds_left(told[-1]) is None
    run(meter, clock, seconds=1, each=0)
    assert ProgressView.of(told[-1]).stalled_for == 45
    run(meter, clock, seconds=1, each=1)
    assert stalled_for(told[-1]) is None


def test_once_no_more_bytes_come_the_rate_is_that_of_the_attempt_and_nothing_stalls(
    meter: Meter, clock: Clock, told: list[Progress]
) -> None:
    run(meter, clock, seconds=10, each=100)
    meter.enter(Phase.COMPLETING)
    clock.now += 100
    meter.report()
    assert rate(told[-1]) == 100
    assert stalled_for(told[-1]) is None


def test_a_worker_of_the_version_before_tells_the_rate_of_the_attempt(
    meter: Meter, clock: Clock, told: list[Progress]
) -> None:
    run(meter, clock, seconds=10, each=100)
    before = replace(told[-1], recent=None, silent=0.0)
    assert rate(before) == 100
    assert stalled_for(before) is None
