"""Which reports of a transfer are sent: none of what is over before it could be read."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from app.delivery.progress import Phase, Progress
from streams.kafka.log import EventLog
from streams.kafka.progress import ProgressReporter
from tests.builders import make_progress


class Reporting:
    """A reporter by a clock that is put forward; what it sends."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[Progress] = []
        self.reporter = ProgressReporter(cast("EventLog", self), clock=lambda: self.now)

    async def report(self, progress: Progress) -> None:
        self.sent.append(progress)

    async def tell(self, phase: Phase, *, after: float = 0.0, **changes: Any) -> None:
        self.now += after
        self.reporter.report(make_progress(phase=phase, **{"attempt": 1, **changes}))
        await asyncio.sleep(0)

    @property
    def phases(self) -> list[Phase]:
        return [progress.phase for progress in self.sent]


async def test_of_what_ends_within_a_second_nothing_is_sent() -> None:
    reporting = Reporting()
    await reporting.tell(Phase.TRANSFERRING)
    await reporting.tell(Phase.COMPLETING, after=0.4)
    await reporting.tell(Phase.DONE, after=0.4)
    assert reporting.sent == []


async def test_what_takes_longer_is_told_from_its_first_second_on_and_of_its_end() -> None:
    reporting = Reporting()
    await reporting.tell(Phase.TRANSFERRING)
    await reporting.tell(Phase.TRANSFERRING, after=0.9)
    assert reporting.sent == []
    await reporting.tell(Phase.TRANSFERRING, after=0.2)
    await reporting.tell(Phase.TRANSFERRING, after=0.5)  # the last one is fresh
    await reporting.tell(Phase.COMPLETING, after=0.1)
    await reporting.tell(Phase.DONE)
    assert reporting.phases == [Phase.TRANSFERRING, Phase.COMPLETING, Phase.DONE]


async def test_an_end_is_not_told_where_nothing_was() -> None:
    reporting = Reporting()
    await reporting.tell(Phase.TRANSFERRING)
    await reporting.tell(Phase.FAILED, after=5)
    assert reporting.sent == []


async def test_a_later_attempt_is_told_of_at_once() -> None:
    """What was told of the one before it must not be the last that is."""
    reporting = Reporting()
    await reporting.tell(Phase.TRANSFERRING, attempt=2)
    await reporting.tell(Phase.DONE, attempt=2)
    assert reporting.phases == [Phase.TRANSFERRING, Phase.DONE]


async def test_the_second_of_silence_is_that_of_each_transfer() -> None:
    reporting = Reporting()
    for name in ("a", "b"):
        await reporting.tell(Phase.TRANSFERRING, correlation_id=name)
        await reporting.tell(Phase.DONE, correlation_id=name, after=0.6)
    await reporting.tell(Phase.TRANSFERRING, correlation_id="a")
    await reporting.tell(Phase.DONE, correlation_id="a", after=0.6)
    assert reporting.sent == []
