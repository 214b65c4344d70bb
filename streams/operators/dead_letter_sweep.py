"""Dead letters of which the table does not know, and what was not finished of those that it knew.

What was buried without a row (by RabbitMQ itself, by an earlier version, while PostgreSQL was away)
is found here, and kept. Of letters that were handled, as `dead_letters.py` does it, the copies that
are still there are taken, or marked. A row whose copy was taken by other means stays: nothing is
lost by itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from app.settings import Settings
from app.telemetry.logs import get_logger
from app.views.dead_letters import DEAD_LETTERS_JOB, BuriedLetter, CopyMark, DeadLetterTable
from streams.amqp import kept_letters as kept_messages
from streams.amqp.dead_letters import (
    MAX_PASS,
    QUEUES,
    DeadLetterQueues,
    open_dead_letter_queues,
)
from streams.amqp.topology import topology_of
from streams.channels import DEAD_LETTERS
from streams.kafka import dead_letters as dead_letter_topic
from streams.kafka.dead_letters import DeadEvent, Requeued
from streams.kafka.log import EventLog
from streams.kafka.topics import Topics

log = get_logger(__name__)

_SLICE = 10.0  # seconds of reading the topic in one turn: others wait for theirs
_KEPT_AT_ONCE = 100  # letters
_SLICE_RECORDS = 1000  # of the topic, that are in memory
_KEPT_BYTES = 8 * 1024 * 1024  # of their bodies
# For so long a copy that another look holds may come back: RabbitMQ ends a channel that does not
# answer for one within half an hour (`consumer_timeout`).
_RETURN_LIMIT = 3600.0  # seconds


class DeadLetterSweep:
    """Looks through what lies at the brokers, over the connections of its process."""

    def __init__(
        self,
        settings: Settings,
        *,
        table: DeadLetterTable,
        leading: Callable[[str], AbstractAsyncContextManager[bool]],
    ) -> None:
        self._settings = settings
        self._table = table
        self._leading = leading
        self._less: dict[str, int] = {}  # by queue that had less than was seen: messages over rows
        self._away: dict[str, set[str]] = {}  # by queue: handled letters whose copies others hold
        self._topics = Topics(prefix=settings.kafka_topic_prefix)

    async def sweep(self, connection: AbstractConnection, events: EventLog) -> None:
        """Keep what was buried without a row, and take the copies of what was handled.

        A queue is only looked through when it has more messages than rows by more than at the last
        look of any process: each takes all that is in it for a moment, and quorum queues drop what
        was taken too often. Raises DeliveryError.
        """
        async with self._leading(DEAD_LETTERS_JOB) as leads:
            if not leads:
                return
            topology = topology_of(self._settings)
            async with open_dead_letter_queues(connection, topology=topology) as queues:
                waiting = {name: await queues.waiting(name) for name in QUEUES}
            seen = await self._table.seen()
            for name, messages in waiting.items():
                place = QUEUES[name]
                rows = await self._table.rows(place)
                # What is buried with its row adds one to both; copies of one letter were seen.
                more = messages - rows
                is_less = more < seen.get(place, 0)
                # Still so at the next turn: what went may hide what has come since.
                stays_less = is_less and self._less.get(place) == more
                grows = more > seen.get(place, 0)
                if (messages and (grows or stays_less)) or await self._is_due(place):
                    async with open_dead_letter_queues(connection, topology=topology) as queues:
                        look = _Pass(self._table, queues, name)
                        await look.run(messages)
                    self._away[place] = look.away
                    more = messages - look.taken - (rows + look.kept - look.forgotten)
                elif is_less and not stays_less:
                    # What others held a moment ago may not be back yet: the next turn tells.
                    self._less[place] = more
                    continue
                self._less.pop(place, None)
                if more != seen.get(place, 0):
                    await self._table.saw({place: more})
            await self._sweep_topic(events, seen)

    async def _is_due(self, place: str) -> bool:
        """Whether copies of handled letters are to be looked for: once, and when none comes now.

        One that another look holds makes the queue longer when it is back.
        """
        looked_for = self._away.get(place, set())
        return any(
            letter.id not in looked_for or letter.since > _RETURN_LIMIT
            for letter in await self._table.handled(place)
        )

    async def _sweep_topic(self, events: EventLog, seen: Mapping[str, int]) -> None:
        """Read on in the dead-letter topic; where it was made again, all that is there now."""
        topic = self._topics.of(DEAD_LETTERS)
        gone = await self._read_on(topic, seen)
        if gone:
            await self._table.forget_copies(gone)
            await self._table.saw({_look_of(topic, partition): 0 for partition in gone})
            await self._read_on(topic, await self._table.seen())
        for handled in await self._table.handled():
            await dead_letter_topic.mark(events, handled.id, handled.key or b"", handled.copies)
            await self._table.settled([handled.id])

    async def _read_on(self, topic: str, seen: Mapping[str, int]) -> list[int]:
        """Read on in a topic, for a while: the next turn goes on where this ends.

        Return partitions of which what was read is gone: they are another topic's by now, of the
        same name. The last record that was read is read once more to tell.
        """
        ends: dict[int, int] = {}
        gone: list[int] = []
        slice_ = _Slice()

        def since(partition: int, first: int, end: int) -> int | None:
            known = seen.get(_look_of(topic, partition), first)
            if known > end:
                gone.append(partition)
                return None
            ends[partition] = end
            return known - 1 if first < known < end else max(first, known)

        until = time.monotonic() + _SLICE
        async with contextlib.aclosing(
            dead_letter_topic.read(self._settings, since=since)
        ) as records:
            async for record in records:
                partition, offset = dead_letter_topic.position_of(record.id)
                if partition in gone:
                    continue
                if offset < seen.get(_look_of(topic, partition), 0):
                    if seen.get(_of_last(topic, partition)) not in (None, _time_of(record)):
                        gone.append(partition)
                        del ends[partition]
                    continue
                slice_.add(record)
                if time.monotonic() > until:
                    break
                if slice_.is_full:  # marks may follow: then they are forgotten
                    await self._keep_slice(topic, slice_)
                    slice_ = _Slice()
            else:
                slice_.ends = ends
        await self._keep_slice(topic, slice_)
        return gone

    async def _keep_slice(self, topic: str, slice_: _Slice) -> None:
        letters = [event.kept() for event in slice_.found.values()]
        for start in range(0, len(letters), _KEPT_AT_ONCE):
            await self._table.keep(letters[start : start + _KEPT_AT_ONCE], again=False)
        if slice_.marked:
            await self._table.marked(slice_.marked)
        times = {_of_last(topic, each): time for each, time in slice_.times.items()}
        ends = {_look_of(topic, each): end for each, end in slice_.ends.items()}
        await self._table.saw(ends | times)


def _look_of(topic: str, partition: int) -> str:
    """Return the name of how far a partition is read."""
    return f"{topic}:{partition}"


def _of_last(topic: str, partition: int) -> str:
    """Return the name of when the last record that was read there was written."""
    return f"{_look_of(topic, partition)} at"


def _time_of(record: DeadEvent | Requeued) -> int:
    """Return when a record was written, in milliseconds."""
    return round(record.at.timestamp() * 1000)


class _Slice:
    """Of the dead-letter topic: what was read, and is not kept yet."""

    def __init__(self) -> None:
        self.found: dict[str, DeadEvent] = {}
        self.marked: list[CopyMark] = []
        self.ends: dict[int, int] = {}  # by partition, as far as it is read
        self.times: dict[int, int] = {}  # by partition: of the last record, as `_time_of`
        self._size = 0

    def add(self, record: DeadEvent | Requeued) -> None:
        """Take a record."""
        partition, offset = dead_letter_topic.position_of(record.id)
        self.ends[partition] = offset + 1
        self.times[partition] = _time_of(record)
        if isinstance(record, Requeued):
            dead_letter_topic.forget(self.found, record)
            self.marked.append(record.mark)
        else:
            self.found[record.id] = record
            self._size += len(record.value)

    @property
    def is_full(self) -> bool:
        """Whether it is to be kept now."""
        return self._size > _KEPT_BYTES or len(self.found) + len(self.marked) >= _SLICE_RECORDS


class _Pass:
    """One look through a dead-letter queue."""

    def __init__(self, table: DeadLetterTable, queues: DeadLetterQueues, name: str) -> None:
        self._table = table
        self._queues = queues
        self._name = name
        self._batch: list[tuple[BuriedLetter, AbstractIncomingMessage]] = []
        self._size = 0
        self._gone: dict[str, int] = {}  # by letter that was handled: copies still to be taken
        self.taken = 0  # copies
        self.kept = 0  # letters
        self.forgotten = 0  # letters
        self.away: set[str] = set()  # handled letters of which a copy may still come

    async def run(self, messages: int) -> None:
        """Keep what has no row; take the copies of handled letters, and forget those."""
        handled = await self._table.handled(QUEUES[self._name])
        self._gone = {letter.id: letter.held for letter in handled}
        limit = min(messages, MAX_PASS)
        async with contextlib.aclosing(self._queues.read(self._name, limit=limit)) as letters:
            async for dead in letters:
                letter = await kept_messages.read_kept(dead)
                dead.message.body = b""  # type: ignore[misc]  # it is held until the end of the pass
                self._batch.append((letter, dead.message))
                self._size += len(letter.body)
                if len(self._batch) >= _KEPT_AT_ONCE or self._size > _KEPT_BYTES:
                    await self._keep()
        await self._keep()
        if messages > limit:
            log.warning("dead_letters_not_all_read", queue=QUEUES[self._name], messages=messages)
        else:  # of the others there is no copy, unless another look holds it
            late = {letter.id for letter in handled if letter.since > _RETURN_LIMIT}
            self.away = {each for each, held in self._gone.items() if held and each not in late}
            await self._forget([each for each in self._gone if each not in self.away])

    async def _forget(self, ids: Sequence[str]) -> None:
        await self._table.settled(ids)
        self.forgotten += len(ids)

    async def _keep(self) -> None:
        batch, self._batch, self._size = self._batch, [], 0
        known = await self._table.known([letter.id for letter, _ in batch])
        new, again, taken = [], [], set()
        for letter, message in batch:
            if letter.id not in known:
                new.append(letter)
            elif known[letter.id]:
                # A copy that was held comes back marked so: one that is not was buried since.
                if self._gone.get(letter.id, 0) > 0 and message.redelivered:
                    self._gone[letter.id] -= 1
                    await message.ack()
                    taken.add(letter.id)
                    self.taken += 1
                else:  # buried again since, by who keeps no rows
                    self._gone.pop(letter.id, None)
                    again.append(letter)
        finished = [letter_id for letter_id in taken if self._gone.get(letter_id) == 0]
        if finished:  # before anything else: what is found of them from now on was buried again
            await self._queues.flush()
            await self._forget(finished)
            for letter_id in finished:
                del self._gone[letter_id]
        if new:
            letters = {letter.id: letter for letter in new}
            await self._table.keep(list(letters.values()), again=False)
            self.kept += len(letters)
            log.info("dead_letters_found", queue=QUEUES[self._name], letters=len(new))
        if again:
            await self._table.keep(again, again=True)
