"""Tells clients, beside their responses, how far their deliveries are: now and then, or not at all.

What is lost is not repeated, and nothing waits for it. It is told only while the delivery has not
ended and the attempt is its own, which is asked right before: a worker may not know yet that its
delivery was cancelled, or is another's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from app.delivery.messages import DeliveryProgressDtoEvent
from app.delivery.model import Delivery
from app.delivery.progress import Phase, Progress
from app.errors import DeliveryError
from app.telemetry.logs import get_logger
from app.views.progress import UnderwayReader, progress_told

log = get_logger(__name__)

_TRUE_FOR = 1.0  # seconds that an answer is gone by


class Listeners(Protocol):
    """Where it is told."""

    async def ready(self) -> None:
        """Return if something can be sent at once. Raises RetryableError."""

    async def send(self, delivery: Delivery, event: DeliveryProgressDtoEvent) -> None:
        """Send how far a delivery is. Raises RetryableError: then it may be lost."""


class ProgressTeller:
    """Keeps the last report of each transfer of this worker, and tells it when its time comes."""

    def __init__(
        self,
        *,
        wanted: Callable[[str], bool],
        deliveries: UnderwayReader,
        listeners: Listeners,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self._wanted = wanted  # whether a tenant has it on
        self._deliveries = deliveries
        self._listeners = listeners
        self._clock = clock
        self._elapsed = elapsed
        self._latest: dict[UUID, Progress] = {}

    def report(self, progress: Progress) -> None:
        """Keep a report, in place of the one before. Does not block."""
        if progress.delivery is None:  # as a worker of a version before reported it
            return
        if progress.phase.ended and progress.phase is not Phase.PAUSED:
            self._latest.pop(progress.delivery, None)  # its response tells, or the next attempt
        elif self._wanted(progress.tenant):
            self._latest[progress.delivery] = progress

    async def tell(self) -> None:
        """Tell what is new since this was called last: of each delivery one event at most.

        Where RabbitMQ or the store is away, it is lost.
        """
        latest, self._latest = self._latest, {}
        if not latest:
            return
        try:
            # First: nothing may stand between the question and what is sent.
            await self._listeners.ready()
            attempts = {key: progress.attempt for key, progress in latest.items()}
            asked = self._elapsed()
            for underway in await self._deliveries.underway(attempts):
                if self._elapsed() - asked > _TRUE_FOR:
                    break  # it may have ended meanwhile: the next round tells
                delivery = underway.delivery
                event = progress_told(latest[delivery.id], underway, at=self._clock())
                if event is not None:
                    await self._listeners.send(delivery, event)
        except DeliveryError as error:
            log.debug("progress_not_told", deliveries=len(latest), cause=str(error))
