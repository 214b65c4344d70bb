"""How far behind the consumer group is, and whether its topics are there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.errors import BrokerUnavailableError
from app.settings import Settings
from streams.kafka.brokers import cause_of, open_consumer
from streams.kafka.ends import beyond_end
from streams.kafka.topics import Topics, partitions_of

_TIMEOUT = 10.0  # seconds


@dataclass(frozen=True, kw_only=True)
class GroupLag:
    """Where a consumer group is."""

    behind: Mapping[TopicPartition, tuple[int, int]]  # where the group is, and the end
    missing: Sequence[str] = ()  # topics of this service that are not there
    unread: Sequence[str] = ()  # those of them that agents should read


class ConsumerLag:
    """Measures without joining the group, and changes nothing."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(prefix=settings.kafka_topic_prefix)

    async def measure(self) -> GroupLag:
        """Return where the group is in each partition that agents read, and its end.

        Raises BrokerUnavailableError.
        """
        found, behind = await self._read_positions()
        missing = [topic for topic in self._topics.all if topic not in found]
        return GroupLag(
            behind=behind,
            missing=missing,
            unread=[topic for topic in missing if topic in self._topics.consumed],
        )

    async def _read_positions(self) -> tuple[set[str], dict[TopicPartition, tuple[int, int]]]:
        try:
            async with asyncio.timeout(_TIMEOUT), self._consumer() as consumer:
                found = await partitions_of(self._settings)
                partitions = [
                    partition
                    for topic in self._topics.consumed
                    for partition in found.get(topic, ())
                ]
                behind = await positions(consumer, partitions)
        except (KafkaError, TimeoutError, OSError) as error:
            raise BrokerUnavailableError(
                f"Kafka does not tell how far its readers are ({cause_of(error)}); "
                "it is asked again"
            ) from error
        return set(found), behind

    def _consumer(self) -> AbstractAsyncContextManager[AIOKafkaConsumer]:
        # A new one each time: one that lived through an outage might know no better than Faust's.
        group = self._settings.kafka_group
        return open_consumer(self._settings, group_id=group, enable_auto_commit=False)


async def positions(
    consumer: AIOKafkaConsumer, partitions: Iterable[TopicPartition]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return for each partition where its group reads on, and its end.

    That is what is committed, or the first event that is left: of a partition that Kafka has
    emptied since, or of one that was never read, there may be nothing to commit for ever.
    """
    wanted = list(partitions)
    ends = await consumer.end_offsets(wanted)
    beginnings = await consumer.beginning_offsets(wanted)
    group = {
        partition: max(await consumer.committed(partition) or 0, beginnings[partition])
        for partition in wanted
    }
    doubted = [partition for partition in wanted if group[partition] > ends[partition]]
    if doubted:
        consumer.assign(doubted)
        beyond = await beyond_end(
            consumer, {partition: group[partition] for partition in doubted}, ends
        )
        ends |= {partition: group[partition] for partition in doubted if partition not in beyond}
    return {partition: (group[partition], ends[partition]) for partition in wanted}
