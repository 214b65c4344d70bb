"""Whether a group is beyond the end of a log: the end that a broker tells is not the last word."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer, TopicPartition

_READ_TIMEOUT = 2.0  # seconds for an event that may not be there
_FETCH_WAIT = 250  # milliseconds of them in one request


async def beyond_end(
    consumer: AIOKafkaConsumer,
    offsets: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    *,
    patience: float = _READ_TIMEOUT,
) -> set[TopicPartition]:
    """Return the partitions whose log does not reach the offset: the event before it is not there.

    Asked for, because an end can be told too low: by a broker that has just become the leader, for
    a moment; by the embedded one, as long as its last batch has several events (it tells the first
    of them, and one more). `consumer` has the partitions, and is at the offsets afterwards.
    """
    doubted = {
        partition: offset for partition, offset in offsets.items() if offset > ends[partition]
    }
    missing = set(doubted)
    for partition, offset in doubted.items():
        consumer.seek(partition, offset - 1)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(patience):
            while missing:
                read = await consumer.getmany(*missing, timeout_ms=_FETCH_WAIT)
                missing -= {
                    partition
                    for partition, events in read.items()
                    if events[0].offset == doubted[partition] - 1
                }
    for partition, offset in doubted.items():
        consumer.seek(partition, offset)
    return missing
