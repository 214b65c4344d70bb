"""The event stream of what can be worked on: published after a commit, best effort.

No worker depends on it: PostgreSQL wakes them (`streams/work/listener.py`), and they look by
themselves. So it is not owed, and none of those that commit waits for Kafka.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

from app.delivery.outgoing import OutgoingMessage
from app.errors import DeliveryError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import HINTS_LOST
from streams.channels import over_kafka
from streams.kafka.log import EventLog

log = get_logger(__name__)

_MAX_UNCONFIRMED = 1000  # hints that wait for Kafka; more are dropped: it is away, or too slow
_STOP_TIMEOUT = 1.0  # seconds that a stop waits for those


class HintPublisher:
    """Publishes hints in the background; one that can't be is counted, and no more."""

    def __init__(self, events: EventLog, *, max_unconfirmed: int = _MAX_UNCONFIRMED) -> None:
        self._events = events
        self._max_unconfirmed = max_unconfirmed
        self._sending: set[asyncio.Task[None]] = set()

    def send(self, hints: Sequence[OutgoingMessage]) -> None:
        """Begin to publish; it is not waited for, and raises nothing."""
        for hint in hints:
            if len(self._sending) >= self._max_unconfirmed:
                self._lose(hint, f"{self._max_unconfirmed} wait for Kafka already")
                continue
            task = asyncio.create_task(self._publish(hint))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _publish(self, hint: OutgoingMessage) -> None:
        try:
            await self._events.publish(hint)
        except DeliveryError as error:
            self._lose(hint, str(error))
        except Exception as error:
            log.exception("hint_failed")
            self._lose(hint, repr(error))

    def _lose(self, hint: OutgoingMessage, cause: str) -> None:
        topic = self._events.topics.of(over_kafka(hint.kind))
        HINTS_LOST.labels(topic).inc()
        log.debug(
            "hint_not_sent",
            topic=topic,
            tenant=hint.tenant,
            correlation_id=hint.correlation_id,
            cause=cause,
        )

    async def close(self, within: float = _STOP_TIMEOUT) -> None:
        """Let what is under way be confirmed, for a moment; drop the rest."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=within)
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)


@contextlib.asynccontextmanager
async def publishing_hints(events: EventLog) -> AsyncIterator[HintPublisher]:
    """Give what publishes hints while the block runs."""
    publisher = HintPublisher(events)
    try:
        yield publisher
    finally:
        await publisher.close()
