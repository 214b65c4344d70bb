"""The dead-letter topic, for an operator: events that no agent could handle; look, put back.

Kafka forgets by time only, so an event that was put back stays there; a marker (a record with the
header `requeued`) says so from then on. It names the letter, too: where the topic was made again,
another event is in that place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from app.codes import Code
from app.errors import (
    BrokerUnavailableError,
    DeliveryError,
    NotPossibleError,
    UnreadableMessageError,
)
from app.settings import Settings
from app.views.dead_letters import BuriedLetter, CopyMark
from streams.channels import DEAD_LETTERS
from streams.kafka.brokers import cause_of, open_consumer
from streams.kafka.kept_letters import id_of, kept_of
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics, partitions_of

_TIMEOUT = 30.0  # seconds in which the broker has to hand over something
REQUEUED = "requeued"  # header of a marker: the id of the event
LETTER = "letter"  # header of a marker: the id of the event as a letter


class NoSuchEventError(DeliveryError):
    """No dead event has this id."""

    code = Code.UNKNOWN_DEAD_LETTER


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadEvent:
    """An event in the dead-letter topic."""

    id: str  # partition:offset
    topic: str | None  # where it was; None when nothing says so
    reason: str
    key: bytes
    value: bytes
    at: datetime

    def kept(self) -> BuriedLetter:
        """Return what is kept of it."""
        return kept_of(
            topic=self.topic,
            key=self.key,
            value=self.value,
            reason=self.reason,
            at=self.at,
            copies=[self.id],
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Requeued:
    """A mark: an event was put back."""

    id: str  # of the mark: partition:offset
    mark: CopyMark
    key: bytes  # of the event
    at: datetime

    def is_of(self, event: DeadEvent) -> bool:
        """Whether this event was put back, and not one that was in its place."""
        letter_id = id_of(topic=event.topic, key=event.key, value=event.value)
        return self.mark.copy == event.id and self.mark.is_of(letter_id)


# Where to begin in a partition, of what it holds from the first offset up to the second; None: it
# is not read.
Since = Callable[[int, int, int], int | None]


def all_of_it(_partition: int, first: int, _end: int) -> int:
    """Begin where the partition does."""
    return first


async def look(settings: Settings) -> list[DeadEvent]:
    """Return the events that were not put back, the oldest first.

    Raises BrokerUnavailableError.
    """
    events: dict[str, DeadEvent] = {}
    async with contextlib.aclosing(read(settings, since=all_of_it)) as all_events:
        async for event in all_events:
            if isinstance(event, DeadEvent):
                events[event.id] = event
            else:
                forget(events, event)
    return sorted(events.values(), key=lambda event: event.at)


def forget(events: dict[str, DeadEvent], requeued: Requeued) -> None:
    """Take the event that was put back out of those that are known by their ids."""
    event = events.get(requeued.mark.copy)
    if event is not None and requeued.is_of(event):
        del events[event.id]


def marker_of(copy: str, letter_id: str) -> list[tuple[str, bytes]]:
    """Return the headers of a marker."""
    return [(REQUEUED, copy.encode()), (LETTER, letter_id.encode())]


async def mark(events: EventLog, letter_id: str, key: bytes, copies: Iterable[str]) -> None:
    """Say of the copies of an event that they were put back, or removed."""
    topic = events.topics.of(DEAD_LETTERS)
    for copy in copies:
        await events.append(topic, key=key, value=b"", headers=marker_of(copy, letter_id))


async def read(settings: Settings, *, since: Since) -> AsyncGenerator[DeadEvent | Requeued, None]:
    """Iterate over events, and over the marks of those that were put back; each after its event.

    Raises BrokerUnavailableError.
    """
    topic = Topics(prefix=settings.kafka_topic_prefix).of(DEAD_LETTERS)
    try:
        async with contextlib.aclosing(_records(settings, topic, since)) as records:
            async for record in records:
                yield _decoded(record)
    except (KafkaError, TimeoutError, OSError) as error:
        raise BrokerUnavailableError(
            f"Kafka at {settings.kafka_bootstrap_servers} does not hand over {topic} "
            f"({cause_of(error)})"
        ) from None


def _decoded(record: Any) -> DeadEvent | Requeued:
    headers = {name: value.decode(errors="replace") for name, value in record.headers}
    place = f"{record.partition}:{record.offset}"
    at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
    if REQUEUED in headers:
        mark = CopyMark(copy=headers[REQUEUED], letter_id=headers.get(LETTER))
        return Requeued(id=place, mark=mark, key=record.key or b"", at=at)
    return DeadEvent(
        id=place,
        topic=headers.get("origin-topic"),
        reason=headers.get("reason", "it did not fit with its reason; see the log"),
        key=record.key or b"",
        value=record.value or b"",
        at=at,
    )


async def _records(settings: Settings, topic: str, since: Since) -> AsyncGenerator[Any, None]:
    """Iterate over all that is there now; a partition's records in their order.

    Deadlines are for the broker alone: one around a `yield` would end what is done with a record,
    and that as if its task was cancelled.
    """
    options = {"fetch_max_wait_ms": 50, "auto_offset_reset": "earliest"}
    async with contextlib.AsyncExitStack() as stack:
        async with asyncio.timeout(_TIMEOUT):
            partitions = (await partitions_of(settings)).get(topic)
            if not partitions:
                return
            consumer = await stack.enter_async_context(open_consumer(settings, **options))
            consumer.assign(partitions)
            begins = await consumer.beginning_offsets(partitions)
            ends = await consumer.end_offsets(partitions)
        unread = set()
        for partition in partitions:
            start = since(partition.partition, begins[partition], ends[partition])
            if start is not None and start < ends[partition]:
                consumer.seek(partition, start)
                unread.add(partition)
            else:
                consumer.pause(partition)
        while unread:
            async with asyncio.timeout(_TIMEOUT):
                records, unread = await _handed_over(consumer, unread, ends)
            for record in records:
                yield record


async def _handed_over(
    consumer: AIOKafkaConsumer, unread: set[TopicPartition], ends: Mapping[TopicPartition, int]
) -> tuple[list[Any], set[TopicPartition]]:
    """Wait for the next records, up to `ends`; return them, and what has more."""
    while True:
        found = await consumer.getmany(timeout_ms=200)
        # What was deleted by time is not handed over: the position tells, not a count.
        left = {each for each in unread if await consumer.position(each) < ends[each]}
        records = [
            record
            for partition, handed in found.items()
            for record in handed
            if record.offset < ends[partition]
        ]
        if records or not left:
            return records, left
        unread = left


def position_of(record_id: str) -> tuple[int, int]:
    """Return partition and offset of a record that was read."""
    partition, _, offset = record_id.partition(":")
    return int(partition), int(offset)


def pick(events: Sequence[DeadEvent], ids: Sequence[str]) -> list[DeadEvent]:
    """Return the events with these ids. Raises NoSuchEventError."""
    by_id = {event.id: event for event in events}
    missing = [event_id for event_id in ids if event_id not in by_id]
    if missing:
        raise NoSuchEventError(
            f"no dead event {', '.join(missing)}; `delivery dlt list` shows what is there"
        )
    return [by_id[event_id] for event_id in ids]


async def put_back(event: DeadEvent, events: EventLog) -> str:
    """Publish the event where it was, then the marker; return the topic.

    Should this be cut short in between, the event is handled once more if it is put back again;
    that has the effect of once. Raises NotPossibleError where it can't go back.
    """
    topic = going_back(event, events.topics)
    try:
        await events.append(topic, key=event.key, value=event.value)
    except UnreadableMessageError as error:  # it came when more was taken
        raise NotPossibleError(f"{event.id} can't go back: {error}") from error
    letter_id = id_of(topic=event.topic, key=event.key, value=event.value)
    await mark(events, letter_id, event.key, [event.id])
    return topic


def going_back(event: DeadEvent, topics: Topics) -> str:
    """Return the topic that an event goes back to. Raises NotPossibleError."""
    if event.topic is None or event.topic not in topics.all:
        raise NotPossibleError(f"{event.id} does not say which topic it was in; see the log")
    return event.topic
