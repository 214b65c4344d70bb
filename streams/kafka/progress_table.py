"""How far every transfer of every worker is, kept current in any process that asks.

The worker that transfers reports once a second, so the table needs no past: it reads from the end
of the topic on, and a second later knows all that runs. (A Faust table would join a group, which
each web process that comes or goes would rebalance, and recover a week of what is reported again
each second.)
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import UUID

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from mode import Service

from app.delivery.model import Delivery
from app.delivery.progress import Progress
from app.errors import UnreadableMessageError
from app.settings import Settings
from app.telemetry.logs import get_logger
from streams.channels import PROGRESS
from streams.events import TransferProgressed
from streams.kafka.brokers import cause_of, client_arguments, open_consumer
from streams.kafka.topics import Topics, partitions_of

log = get_logger(__name__)

# Tenant, correlation id, and the delivery's own, where its worker told it.
_Key = tuple[str, str, UUID | None]

_RETRY_INTERVAL = 2.0  # seconds before reading again
_SILENCE_TIMEOUT = 30.0  # seconds until the topic is looked up again: it may be a new one
_REPORT_LIFETIME = 60.0  # seconds that the last word of a transfer is believed


class ProgressTable(Service):
    """Reads the topic; tells the last report of each delivery.

    Raises ConfigurationError when a file for TLS can't be used.
    """

    def __init__(
        self, settings: Settings, *, kept: float = _REPORT_LIFETIME, pause: float = _RETRY_INTERVAL
    ) -> None:
        super().__init__()
        self.kept = kept
        self._pause = pause
        client_arguments(settings)  # what can't be used is told at the start
        self._settings = settings
        self._topic = Topics(prefix=settings.kafka_topic_prefix).of(PROGRESS)
        self._known: dict[_Key, tuple[float, Progress]] = {}
        self._new: dict[_Key, Progress] = {}
        self.reading = asyncio.Event()  # nothing is missed from then on

    @property
    def size(self) -> int:
        """How many reports are kept."""
        return len(self._known)

    def of(self, delivery: Delivery) -> Progress | None:
        """Return the last report of a delivery, if it is fresh."""
        key = delivery.tenant, delivery.correlation_id
        unnamed = self._known.get((*key, None), (0.0, None))
        at, progress = self._known.get((*key, delivery.id), unnamed)
        return progress if time.monotonic() - at <= self.kept else None

    def all(self) -> list[Progress]:
        """Return the last report of each delivery that reported lately."""
        now = time.monotonic()
        return [progress for at, progress in self._known.values() if now - at <= self.kept]

    def news(self) -> list[Progress]:
        """Return what was reported since this was asked last: of each delivery, the last."""
        news, self._new = list(self._new.values()), {}
        return news

    @Service.task
    async def _read(self) -> None:
        while not self.should_stop:
            try:
                async with self._consumer() as consumer:
                    await self._follow(consumer)
            except (KafkaError, OSError) as error:
                log.warning("progress_not_read", cause=cause_of(error))
                await self.sleep(self._pause)

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        heard_at = time.monotonic()
        while not self.should_stop and time.monotonic() - heard_at < _SILENCE_TIMEOUT:
            batches = await consumer.getmany(timeout_ms=1000)
            for record in (record for records in batches.values() for record in records):
                heard_at = time.monotonic()
                with contextlib.suppress(UnreadableMessageError):
                    self._update_latest(TransferProgressed.decode(record.value).progress, heard_at)
            self._forget()

    def _update_latest(self, progress: Progress, now: float) -> None:
        key = progress.tenant, progress.correlation_id, progress.delivery
        _, before = self._known.get(key, (0.0, None))
        # One that was frozen and lost its lease may still report.
        if before is None or before.attempt <= progress.attempt or before.phase.ended:
            self._known[key] = now, progress
            self._new[key] = progress

    def _forget(self) -> None:
        oldest = time.monotonic() - self.kept
        for key in [key for key, (at, _) in self._known.items() if at < oldest]:
            del self._known[key]
            self._new.pop(key, None)  # should no reader ask for news

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        partitions = (await partitions_of(self._settings)).get(self._topic)
        if not partitions:
            raise OSError(f"there is no topic {self._topic} yet; a worker makes it")
        async with open_consumer(self._settings, fetch_max_wait_ms=50) as consumer:
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            self.reading.set()
            yield consumer
