"""Kafka's brokers, with the Faust app before them, do what their twin in memory does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from app.delivery.states import Work
from app.errors import BrokerUnavailableError
from app.settings import Settings
from app.waiting.wakeup import Wakeup
from streams.kafka import faust_app
from streams.kafka.faust_app import DeliveryApp, create_app
from streams.kafka.lag import ConsumerLag
from streams.kafka.log import open_event_log
from streams.kafka.supervisor import Consumer
from streams.kafka.topics import Topics, ensure_topics, partitions_of
from tests.contract.kafka import KafkaContract, Place, Positions, Reader, Worker

_STUCK_AFTER = 30.0  # seconds; a worker that is silent is not replaced meanwhile


@dataclass(kw_only=True)
class RealPlace(Place):
    """Topics on brokers, and a group there."""

    settings: Settings

    @asynccontextmanager
    async def worker(self, reader: Reader | None = None) -> AsyncIterator[Worker]:
        reads = reader or Reader()
        nothing: Any = None
        apps: list[DeliveryApp] = []

        def make() -> DeliveryApp:
            with patch.object(faust_app, "handler_of", lambda *_: reads):
                app = create_app(
                    self.settings,
                    store=nothing,
                    arrivals=nothing,
                    tenants=nothing,
                    users=nothing,
                    events=self.events,
                    wake={kind: Wakeup() for kind in Work},
                )
            apps.append(app)
            return app

        consumer = Consumer(
            make=make,
            lag=ConsumerLag(self.settings),
            make_topics=partial(ensure_topics, self.settings),
            stuck_after=_STUCK_AFTER,
            rebalance_timeout=self.settings.kafka_rebalance_timeout,
        )
        thawed = threading.Event()

        def freeze() -> None:
            """Let the thread stand still that speaks with the brokers."""
            consumer: Any = apps[-1].consumer
            thread = consumer._thread  # noqa: SLF001 - there is no other way to it
            thread.thread_loop.call_soon_threadsafe(thawed.wait)

        await consumer.start()
        try:
            await _joined(consumer)
            yield Worker(freeze=freeze, thaw=thawed.set, reader=reads)
        finally:
            thawed.set()
            await consumer.stop()

    async def committed(self) -> Positions:
        lag = await ConsumerLag(self.settings).measure()
        return {
            (partition.topic, partition.partition): position
            for partition, (position, _) in lag.behind.items()
        }

    async def commit(self, offset: int) -> None:
        found = await partitions_of(self.settings)
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.settings.kafka_bootstrap_servers,
            group_id=self.settings.kafka_group,
            enable_auto_commit=False,
        )
        async with consumer:
            consumer.assign(
                [each for topic in self.events.topics.consumed for each in found[topic]]
            )
            await consumer.commit(dict.fromkeys(consumer.assignment(), offset))

    async def delete_topics(self) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_topics(list(Topics(prefix=self.settings.kafka_topic_prefix).all))
        finally:
            await admin.close()


async def _joined(consumer: Consumer) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                return await consumer.check()
            except BrokerUnavailableError:
                await asyncio.sleep(0.05)


# Of a consumer that was frozen, and left behind by the one that took its place.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestKafka(KafkaContract):
    """All that is asked of Kafka."""

    @pytest.fixture
    async def place(self, settings: Settings) -> AsyncIterator[RealPlace]:
        await ensure_topics(settings)
        async with open_event_log(settings, confirm_timeout=30) as events:
            yield RealPlace(events=events, settings=settings)
