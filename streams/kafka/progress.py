"""Reports on Kafka how far transfers are; reads it for those who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

from app.delivery.ingress import event_key
from app.delivery.progress import Phase, Progress
from app.errors import UnreadableMessageError
from app.settings import Settings
from streams.channels import PROGRESS
from streams.events import TransferProgressed
from streams.kafka.brokers import open_consumer
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics, partitions_of

_REPORT_INTERVAL = 1.0  # seconds between reports of one attempt, while its phase stays


class ProgressReporter:
    """Sends reports: at most one a second of an attempt, and each change of phase."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._last: dict[tuple[str, str], tuple[float, Phase]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def report(self, progress: Progress) -> None:
        """Send, unless the last report is fresh."""
        key = progress.tenant, progress.correlation_id
        now = time.monotonic()
        sent_at, phase = self._last.get(key, (-_REPORT_INTERVAL, None))
        if phase is progress.phase and now - sent_at < _REPORT_INTERVAL:
            return
        if progress.phase.ended:
            self._last.pop(key, None)
        else:
            self._last[key] = now, progress.phase
        task = asyncio.create_task(self._events.report(progress))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)


async def watch_progress(
    settings: Settings, *, tenant: str, correlation_id: str, started: asyncio.Event
) -> AsyncGenerator[Progress, None]:
    """Follow one delivery from now on. `started` is set once nothing is missed any more."""
    key = event_key(tenant, correlation_id)
    topic = Topics(prefix=settings.kafka_topic_prefix).of(PROGRESS)
    assigned = (await partitions_of(settings)).get(topic)
    if not assigned:
        started.set()
        return
    async with open_consumer(settings, fetch_max_wait_ms=50) as consumer:
        consumer.assign(assigned)
        await consumer.seek_to_end(*assigned)
        started.set()
        async for record in consumer:
            if record.key == key:
                try:
                    yield TransferProgressed.decode(record.value).progress
                except UnreadableMessageError:
                    continue
