"""Reports on Kafka how far transfers are; reads it for those who wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable

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
_SILENCE = 1.0  # seconds of a first attempt before its first report


class ProgressReporter:
    """Sends reports: at most one a second of an attempt, and each change of phase.

    Of what ends within a second nothing is sent: it would be over before it is read. (A later
    attempt is told of at once: of the one before something may have been.)
    """

    def __init__(self, events: EventLog, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._events = events
        self._clock = clock
        self._began: dict[tuple[str, str], float] = {}  # those of which nothing was sent yet
        self._last: dict[tuple[str, str], tuple[float, Phase]] = {}
        self._sending: set[asyncio.Task[None]] = set()

    def report(self, progress: Progress) -> None:
        """Send, unless the last report is fresh, or the transfer is."""
        key = progress.tenant, progress.correlation_id
        now = self._clock()
        if key not in self._last and self._is_silent(key, progress, now):
            return
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

    def _is_silent(self, key: tuple[str, str], progress: Progress, now: float) -> bool:
        """Whether nothing is told yet of an attempt of which nothing was told."""
        began = self._began.setdefault(key, now)
        silent = progress.attempt == 1 and (progress.phase.ended or now - began < _SILENCE)
        if progress.phase.ended or not silent:
            self._began.pop(key)
        return silent


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
