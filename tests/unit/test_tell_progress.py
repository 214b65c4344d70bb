"""How far deliveries are, as clients hear it over AMQP: the last word of each, while it is true."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.delivery.messages import DeliveryProgressDtoEvent
from app.delivery.model import Delivery
from app.delivery.progress import Phase, Progress
from app.errors import BrokerUnavailableError, NotSentError, StoreUnavailableError
from app.usecases.tell_progress import ProgressTeller
from app.views.progress import Underway, progress_told, rate
from tests.builders import make_progress, make_transfer

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE = make_transfer(file_count=4, total_bytes=400, correlation_id="one")
OTHER = make_transfer(file_count=4, total_bytes=400, correlation_id="other")


class Deliveries:
    """Those that have not ended, as the store tells it."""

    def __init__(self, *deliveries: Delivery) -> None:
        self.there = {each.id: each for each in deliveries}
        self.asked: list[Mapping[UUID, int]] = []
        self.error: Exception | None = None

    async def underway(self, attempts: Mapping[UUID, int]) -> list[Underway]:
        self.asked.append(attempts)
        if self.error is not None:
            raise self.error
        return [
            Underway(delivery=each, told=True)
            for each in self.there.values()
            if attempts.get(each.id) == each.attempt
        ]


class Listeners:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, int]] = []
        self.readiness: Exception | None = None
        self.error: Exception | None = None
        self.takes = 0.0  # seconds, each
        self.elapsed = 0.0

    async def ready(self) -> None:
        if self.readiness is not None:
            raise self.readiness

    async def send(self, delivery: Delivery, event: DeliveryProgressDtoEvent) -> None:
        if self.error is not None:
            raise self.error
        assert (event.correlation_id, event.delivery_id) == (
            delivery.correlation_id,
            str(delivery.id),
        )
        self.heard.append((event.correlation_id, event.bytes_done))
        self.elapsed += self.takes


class Parts:
    """A teller and what it talks to."""

    def __init__(self, *deliveries: Delivery, on: bool = True) -> None:
        self.deliveries = Deliveries(*deliveries)
        self.listeners = Listeners()
        self.teller = ProgressTeller(
            wanted=lambda _tenant: on,
            deliveries=self.deliveries,
            listeners=self.listeners,
            clock=lambda: NOW,
            elapsed=lambda: self.listeners.elapsed,
        )

    def report(self, of: Delivery, bytes_done: int, **changes: Any) -> None:
        self.teller.report(make_progress(of, bytes_done=bytes_done, **changes))


async def test_of_many_reports_the_last_is_told_once() -> None:
    parts = Parts(ONE, OTHER)
    for bytes_done in (1, 2, 3):
        parts.report(ONE, bytes_done)
    parts.report(OTHER, 7)
    await parts.teller.tell()
    await parts.teller.tell()
    assert sorted(parts.listeners.heard) == [("one", 3), ("other", 7)]
    assert len(parts.deliveries.asked) == 1, "where nothing is new, nothing is asked"


async def test_a_tenant_that_has_it_off_costs_no_statement() -> None:
    parts = Parts(ONE, on=False)
    parts.report(ONE, 1)
    await parts.teller.tell()
    assert parts.listeners.heard == []
    assert parts.deliveries.asked == []


async def test_nothing_is_told_of_a_delivery_that_has_ended_or_is_anothers() -> None:
    parts = Parts(ONE)
    parts.report(OTHER, 1)
    parts.report(ONE, 1, attempt=2)
    await parts.teller.tell()
    assert parts.listeners.heard == []


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.FAILED])
async def test_what_an_attempt_that_has_ended_reported_before_is_not_told(phase: Phase) -> None:
    parts = Parts(ONE)
    parts.report(ONE, 1)
    parts.report(ONE, 2, phase=phase)
    await parts.teller.tell()
    assert parts.listeners.heard == []


@pytest.mark.parametrize(("seconds", "told"), [(0.9, 2), (1.1, 1)])
async def test_what_was_asked_a_second_ago_is_told_no_more(seconds: float, told: int) -> None:
    """The other may have ended while RabbitMQ took its time for the first."""
    parts = Parts(ONE, OTHER)
    parts.listeners.takes = seconds
    parts.report(ONE, 1)
    parts.report(OTHER, 1)
    await parts.teller.tell()
    assert len(parts.listeners.heard) == told
    assert len(parts.deliveries.asked) == 1


async def test_a_pause_is_told() -> None:
    parts = Parts(ONE)
    parts.report(ONE, 1)
    parts.report(ONE, 2, phase=Phase.PAUSED)
    await parts.teller.tell()
    assert parts.listeners.heard == [("one", 2)]


async def test_what_can_not_be_sent_now_is_lost_and_the_next_is_told() -> None:
    parts = Parts(ONE)
    for where, name, error in (
        (parts.listeners, "readiness", NotSentError("away")),
        (parts.deliveries, "error", StoreUnavailableError("away")),
        (parts.listeners, "error", BrokerUnavailableError("away")),
    ):
        parts.report(ONE, 1)
        setattr(where, name, error)
        await parts.teller.tell()
        setattr(where, name, None)
        await parts.teller.tell()
    assert parts.listeners.heard == []
    parts.report(ONE, 5)
    await parts.teller.tell()
    assert parts.listeners.heard == [("one", 5)]


async def test_a_report_of_a_version_before_is_passed_over() -> None:
    parts = Parts(ONE)
    parts.teller.report(make_progress())
    await parts.teller.tell()
    assert parts.deliveries.asked == []


def told(progress: Progress, underway: Underway | None = None) -> dict[str, Any]:
    """Return the body that a client gets."""
    event = progress_told(progress, underway or Underway(delivery=ONE, told=True), at=NOW)
    assert event is not None
    return event.body()


def test_all_of_it_is_told_with_the_rate_that_all_readers_get() -> None:
    progress = make_progress(
        ONE, bytes_done=300, bytes_kept=100, bytes_total=400, files_done=3, files_total=4, elapsed=2
    )
    assert rate(progress) == 100
    assert told(progress) == {
        "correlationId": "one",
        "deliveryId": str(ONE.id),
        "activity": "TRANSFERRING",
        "attempt": 1,
        "bytesDone": 300,
        "bytesTotal": 400,
        "filesDone": 3,
        "filesTotal": 4,
        "bytesPerSecond": 100,
        "estimatedEnd": "2026-01-31T12:00:01Z",
        "time": "2026-01-31T12:00:00Z",
    }


def segmented(*segments: tuple[int | None, int], **changes: Any) -> Underway:
    delivery = make_transfer(
        **{"announced": 3, "total_suborders": 4, "file_count": 6, "total_bytes": 600} | changes
    )
    return Underway(delivery=delivery, told=False, segments=segments)


def test_suborders_are_counted_once_all_their_files_are_in_the_archive() -> None:
    underway = segmented((7, 2), (None, 1), (8, 3))
    body = told(make_progress(files_done=5, bytes_done=500, files_total=3), underway)
    assert (body["segmentsDone"], body["segmentsTotal"]) == (1, 4)
    assert (body["filesTotal"], body["bytesTotal"]) == (6, 600), "those that came since count"
    body = told(make_progress(files_done=6), underway)
    assert (body["segmentsDone"], body["segmentsTotal"]) == (2, 4)


def test_the_end_is_not_estimated_while_more_may_come() -> None:
    progress = make_progress(files_done=1, bytes_done=100)
    assert "estimatedEnd" not in told(progress, segmented((7, 2), (8, 2), (9, 2)))
    done = segmented((7, 2), (8, 2), order_done=True)
    assert "estimatedEnd" not in told(progress, done), "one is not listed yet"
    assert "estimatedEnd" in told(progress, segmented((7, 2), (8, 2), (9, 2), order_done=True))


def test_the_end_is_not_estimated_where_sizes_are_not_known_or_nothing_flows() -> None:
    assert "estimatedEnd" not in told(make_progress(bytes_done=400, files_done=1))
    assert "bytesPerSecond" not in told(make_progress(elapsed=0))
    average = told(make_progress(bytes_done=100, bytes_total=400, elapsed=2))
    of_late = told(make_progress(bytes_done=100, bytes_total=400, elapsed=2, recent=7.0))
    assert of_late == average  # what is published is of the attempt
    assert "estimatedEnd" not in told(make_progress(elapsed=0))
    assert "estimatedEnd" not in told(make_progress(bytes_done=1, elapsed=1e300))
    assert "estimatedEnd" not in told(make_progress(phase=Phase.COMPLETING))


@pytest.mark.parametrize("phase", [Phase.DONE, Phase.FAILED])
def test_an_end_is_no_progress(phase: Phase) -> None:
    assert progress_told(make_progress(phase=phase), Underway(delivery=ONE, told=True), at=NOW) is (
        None
    )
