"""How far behind the consumer group is, and whether its topics are there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.errors import BrokerUnavailableError
from app.logs import get_logger
from app.settings import Settings
from streams.topics import Topics, partitions_of

log = get_logger(__name__)

_TIMEOUT = 10.0  # seconds


class Lag:
    """Looks without joining the group."""

    def __init__(self, settings: Settings, *, make_topics: Callable[[], Awaitable[object]]) -> None:
        self._settings = settings
        self._make_topics = make_topics
        self._topics = Topics(prefix=settings.kafka_topic_prefix)

    async def look(self) -> dict[TopicPartition, tuple[int, int]]:
        """Return what the group has committed (0 if nothing) and the end of each partition.

        Topics that are missing are made, for the next look. Raises BrokerUnavailableError, and
        ConfigurationError when they can't be made.
        """
        found, lags = await self._look()
        if not found.issuperset(self._topics.all):
            log.warning("topics_missing", topics=sorted(set(self._topics.all) - found))
            await self._make_topics()
        return lags

    async def _look(self) -> tuple[set[str], dict[TopicPartition, tuple[int, int]]]:
        try:
            async with asyncio.timeout(_TIMEOUT), self._consumer() as consumer:
                found = await partitions_of(self._settings.kafka_bootstrap_servers)
                partitions = [
                    partition
                    for topic in self._topics.consumed
                    for partition in found.get(topic, ())
                ]
                ends = await consumer.end_offsets(partitions)
                lags = {
                    partition: (await consumer.committed(partition) or 0, ends[partition])
                    for partition in partitions
                }
        except (KafkaError, TimeoutError, OSError) as error:
            raise BrokerUnavailableError(
                f"Kafka does not tell how far its readers are ({type(error).__name__}); "
                "it is asked again"
            ) from error
        return set(found), lags

    @contextlib.asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        # A new one each time: one that lived through an outage might know no better than Faust's.
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers,
            group_id=self._settings.kafka_group,
            enable_auto_commit=False,
        )
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()
