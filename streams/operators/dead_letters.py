"""Dead letters of both kinds: looked for in the table, put back and removed there and at brokers.

A letter is its row; what lies in RabbitMQ's dead-letter queue, or on Kafka's dead-letter topic, is
its copy. To put one back:

1. its copies are taken from their queue, and held; those of many letters in one pass, so that the
   order of all others stays;
2. what it is, mended or as it came, is published where it was, and confirmed there;
3. its row is handled, and that is in the audit trail: one transaction, around 2;
4. its copies are acknowledged, or, on Kafka's topic, marked as put back;
5. its row is forgotten; where no copy was there, it stays for a while: another look may hold one.

Who is stopped between 2 and 3 leaves a letter that waits and may be put back twice: a repeat has
the effect of one. Between 3 and 5, `sweep` does the rest. All of that is done by one process at a
time, and a row is locked: two who put the same letter back do it once.

What was buried without a row (by RabbitMQ itself, by an earlier version, while PostgreSQL was away)
is found by `sweep`. A row whose copy was taken by other means stays: nothing is lost by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from aio_pika.abc import AbstractConnection, AbstractIncomingMessage

from app.audit import Actor, AuditRecord
from app.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    NotPossibleError,
    UnknownDeadLetterError,
    UnreadableMessageError,
    as_cause,
)
from app.settings import Settings
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.views.audit import of_dead_letter
from app.views.dead_letters import (
    DEAD_LETTERS_JOB,
    BuriedLetter,
    CopyMark,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterTable,
    Handled,
    KeptLetter,
    LetterKind,
    Mend,
)
from streams.amqp import kept_letters as kept_messages
from streams.amqp.dead_letters import (
    QUEUES,
    DeadLetterQueues,
    DeadMessage,
    open_dead_letter_queues,
)
from streams.amqp.parameters import parameters_of
from streams.amqp.publisher import connect
from streams.amqp.topology import topology_of
from streams.channels import DEAD_LETTERS
from streams.kafka import dead_letters as dead_letter_topic
from streams.kafka import kept_letters as kept_events
from streams.kafka.dead_letters import DeadEvent, Requeued
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topics import Topics
from streams.operators.mending import check_mend, key_of

log = get_logger(__name__)

_CONNECT_TIMEOUT = 5.0  # seconds to connect
_TURN_TIMEOUT = 30.0  # seconds that one who puts letters back waits for others
_TURN_INTERVAL = 0.2  # seconds between two tries
_MAX_HELD = 64 * 1024 * 1024  # bytes of bodies that are in no row, at once
_MAX_PASS = 100_000  # letters of a queue that one pass goes through
_SLICE = 10.0  # seconds of reading the topic in one turn: others wait for theirs
_KEPT_AT_ONCE = 100  # letters
_SLICE_RECORDS = 1000  # of the topic, that are in memory
_KEPT_BYTES = 8 * 1024 * 1024  # of their bodies
_TOO_LARGE = "these letters are too large to be put back at once; choose fewer"
# For so long a copy that another look holds may come back: RabbitMQ ends a channel that does not
# answer for one within half an hour (`consumer_timeout`).
_RETURN_LIMIT = 3600.0  # seconds
_MAX_NAMED = 300  # characters of ids in a sentence
_MAX_HEADER = 500  # characters of a header that is shown

Action = Literal["requeue", "purge"]
Leading = Callable[[str], AbstractAsyncContextManager[bool]]


class BrokerDesk:
    """Connects to RabbitMQ and Kafka for each that puts letters back: that is rare."""

    def __init__(
        self,
        settings: Settings,
        *,
        table: DeadLetterTable,
        leading: Leading,
        tenants: ConfiguredTenants,
    ) -> None:
        self._settings = settings
        self._table = table
        self._leading = leading
        self._tenants = tenants
        self._less: dict[str, int] = {}  # by queue that had less than was seen: messages over rows
        self._away: dict[str, set[str]] = {}  # by queue: handled letters whose copies others hold
        self._topics = Topics(prefix=settings.kafka_topic_prefix)

    # To look, and to mend.

    async def browse(
        self, whose: str | None, wanted: DeadLetterFilter, *, after: int, limit: int
    ) -> list[KeptLetter]:
        """Return letters that wait, with the beginning of their bodies."""
        return await self._table.browse(whose, wanted, after=after, limit=limit)

    async def count(self, whose: str | None, wanted: DeadLetterFilter, *, after: int = 0) -> int:
        """Return how many of them wait."""
        return await self._table.count(whose, wanted, after=after)

    async def one(self, whose: str | None, letter_id: str) -> KeptLetter:
        """Return a letter with its body. Raises UnknownDeadLetterError."""
        kept = await self._table.one(whose, letter_id)
        if kept is None:
            raise _unknown([letter_id])
        if kept.letter.kind is not LetterKind.AMQP:
            return kept
        headers = kept_messages.dead_message_of(kept).message.headers
        told = {
            as_cause(str(name))[:_MAX_HEADER]: as_cause(str(value))[:_MAX_HEADER]
            for name, value in headers.items()
        }
        return replace(kept, headers=told)

    async def several(self, whose: str | None, ids: Sequence[str]) -> list[KeptLetter]:
        """Return letters with the beginning of their bodies. Raises UnknownDeadLetterError."""
        found = await self._table.several(whose, ids)
        missing = {*ids} - {kept.letter.id for kept in found}
        if missing:
            raise _unknown([letter_id for letter_id in ids if letter_id in missing])
        return found

    async def mend(
        self,
        actor: Actor,
        whose: str | None,
        letter_id: str,
        *,
        body: bytes | None,
        tenant: str | None = None,
        forced: bool = False,
    ) -> KeptLetter:
        """Put another body, or tenant, in the place of a letter's own, for when it is put back.

        Raises UnknownDeadLetterError; InvalidRequestError where it would be refused again.
        """
        kept = await self.one(whose, letter_id)
        if kept.letter.kind is LetterKind.EVENT and tenant is not None:
            raise NotPossibleError("an event says its tenant in its body: mend that")
        if body is None and not kept.letter.is_whole:
            raise NotPossibleError("its body is not kept here to its end: give another")
        check_mend(
            kept,
            body=kept.letter.body if body is None else body,
            tenant=tenant,
            whose=whose,
            tenants=self._tenants,
            topics=self._topics,
            max_bytes=self._settings.max_message_bytes,
            forced=forced,
        )
        mend = Mend(body=body, tenant=tenant, by=actor.name, at=datetime.now(UTC))
        told = {
            "bytes": len(body) if body is not None else kept.letter.size,
            **({"tenant": tenant} if tenant is not None else {}),
            **({"forced": True} if forced else {}),
        }
        done = self._noted(actor, "mend", kept.letter.shown, after=told)
        if not await self._table.mend(letter_id, mend, done=done):
            raise _unknown([letter_id])
        return await self.one(whose, letter_id)

    # To put back, and to remove.

    async def requeue(self, actor: Actor, whose: str | None, ids: Sequence[str]) -> Handled:
        """Put letters back where they were, each noted as it goes.

        Raises UnknownDeadLetterError when one is not there, and NotPossibleError when the only one
        can't go: then nothing was done.
        """
        return await self._handle(actor, whose, ids, "requeue")

    async def remove(self, actor: Actor, whose: str | None, ids: Sequence[str]) -> Handled:
        """Forget letters for good, each noted as it goes. Raises as `requeue` does."""
        return await self._handle(actor, whose, ids, "purge")

    async def _handle(
        self, actor: Actor, whose: str | None, ids: Sequence[str], action: Action
    ) -> Handled:
        ids = list(dict.fromkeys(ids))
        done = Handled(where={}, failed={})
        async with self._turn():
            found = await self.several(whose, ids)
            messages = [kept for kept in found if kept.letter.kind is LetterKind.AMQP]
            events = [kept for kept in found if kept.letter.kind is LetterKind.EVENT]
            if messages:
                await self._handle_messages(actor, action, messages, done)
            if events:
                await self._handle_events(actor, action, events, done)
        # Of many, others may be behind these: who asks is told which wait, and goes on.
        if done.failed and len(ids) == 1:
            raise NotPossibleError(next(iter(done.failed.values())))
        log.info(
            "dead_letters_requeued" if action == "requeue" else "dead_letters_removed",
            tenant=actor.tenant,
            actor=actor.name,
            role=actor.role,
            letters=done.where,
        )
        return done

    async def _handle_messages(
        self, actor: Actor, action: Action, letters: Sequence[KeptLetter], done: Handled
    ) -> None:
        async with self._queues() as queues:
            held = await _held(queues, action, letters)
            for kept in letters:
                copies = held.get(kept.letter.id, [])
                expected = max(len(copies), 1)
                async with self._settling(actor, action, kept, done, held=expected) as whole:
                    if whole is not None and action == "requeue":
                        done.where[kept.letter.id] = await _publish(queues, whole, copies)
                # Where there is no copy, another look may hold it: `sweep` takes it as it is back.
                if copies and kept.letter.id in done.where:
                    for copy in copies:
                        await queues.remove(copy)
                    # At once: were it buried again before, by who keeps no rows, that copy would
                    # be taken for one of these.
                    await queues.flush()
                    await self._table.settled([kept.letter.id])

    async def _handle_events(
        self, actor: Actor, action: Action, letters: Sequence[KeptLetter], done: Handled
    ) -> None:
        async with self._events() as events:
            for kept in letters:
                async with self._settling(actor, action, kept, done, held=0) as whole:
                    if whole is not None and action == "requeue":
                        done.where[kept.letter.id] = await _append(events, whole)
                if whole is not None and kept.letter.id in done.where:
                    # With the copies that it had while it was locked: another is buried again.
                    letter = whole.letter
                    await self._mark(events, letter.id, letter.key or b"", letter.copies)
                    await self._table.settled([kept.letter.id])

    @contextlib.asynccontextmanager
    async def _settling(
        self, actor: Actor, action: Action, kept: KeptLetter, done: Handled, *, held: int
    ) -> AsyncIterator[KeptLetter | None]:
        """Give a letter, locked; when the block ends, it is handled. What can't be is noted."""
        letter = kept.letter
        place = (letter.origin or "nowhere") if action == "requeue" else None
        noted = self._noted(actor, action, kept.letter.shown, after=place)
        try:
            async with self._table.settling(letter.id, held=held, done=noted) as whole:
                if whole is None:
                    done.failed[letter.id] = f"{letter.id} was handled by another meanwhile"
                elif action == "purge":
                    done.where[letter.id] = letter.place
                yield whole
        except NotPossibleError as error:
            done.failed[letter.id] = str(error)

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until no other process has copies in its hands. Raises NotPossibleError."""
        until = time.monotonic() + _TURN_TIMEOUT
        while True:
            async with self._leading(DEAD_LETTERS_JOB) as leads:
                if leads:
                    yield
                    return
            if time.monotonic() > until:
                raise NotPossibleError(
                    "other dead letters are being put back or removed; try again in a moment"
                )
            await asyncio.sleep(_TURN_INTERVAL)

    def _noted(self, actor: Actor, action: str, letter: DeadLetter, *, after: Any) -> AuditRecord:
        served = letter.tenant is not None and self._tenants.known(letter.tenant)
        return of_dead_letter(actor, action, letter, served=served, after=after)

    @contextlib.asynccontextmanager
    async def _queues(self) -> AsyncIterator[DeadLetterQueues]:
        try:
            async with (
                connect(
                    parameters_of(self._settings), start_timeout=_CONNECT_TIMEOUT
                ) as connection,
                open_dead_letter_queues(
                    connection, topology=topology_of(self._settings)
                ) as dead_letters,
            ):
                yield dead_letters
        except ConfigurationError as error:  # it may be mended while this process works
            raise BrokerUnavailableError(str(error)) from error

    @contextlib.asynccontextmanager
    async def _events(self) -> AsyncIterator[EventLog]:
        try:
            async with open_event_log(self._settings) as events:
                yield events
        except ConfigurationError as error:  # likewise
            raise BrokerUnavailableError(str(error)) from error

    # What has no row, and what was not finished.

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
            await self._mark(events, handled.id, handled.key or b"", handled.copies)
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
        letters = [of_event(event) for event in slice_.found.values()]
        for start in range(0, len(letters), _KEPT_AT_ONCE):
            await self._table.keep(letters[start : start + _KEPT_AT_ONCE], again=False)
        if slice_.marked:
            await self._table.marked(slice_.marked)
        times = {_of_last(topic, each): time for each, time in slice_.times.items()}
        ends = {_look_of(topic, each): end for each, end in slice_.ends.items()}
        await self._table.saw(ends | times)

    async def _mark(
        self, events: EventLog, letter_id: str, key: bytes, copies: Iterable[str]
    ) -> None:
        for copy in copies:
            await events.append(
                self._topics.of(DEAD_LETTERS),
                key=key,
                value=b"",
                headers=dead_letter_topic.marker_of(copy, letter_id),
            )


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
        limit = min(messages, _MAX_PASS)
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


async def _publish(
    queues: DeadLetterQueues, kept: KeptLetter, copies: Sequence[DeadMessage]
) -> str:
    """Publish a message where it was; return the queue. Raises NotPossibleError."""
    body, tenant = (kept.mend.body, kept.mend.tenant) if kept.mend else (None, None)
    dead = kept_messages.dead_message_of(kept)
    if body is None and not kept.letter.is_whole:
        if not copies:
            raise NotPossibleError(
                f"{kept.letter.id} is not kept here to its end, and its copy is not in "
                f"{kept.letter.place} any more: mend it, or remove it"
            )
        dead = copies[0]
    return await queues.publish_back(dead, body=body, tenant=tenant)


async def _append(events: EventLog, kept: KeptLetter) -> str:
    """Append an event where it was; return the topic. Raises NotPossibleError."""
    letter = kept.letter
    if letter.origin is None or letter.origin not in events.topics.all:
        raise NotPossibleError(f"{letter.id} does not say which topic it was in; see the log")
    body = kept.mend.body if kept.mend is not None else None
    if body is None and not letter.is_whole:
        raise NotPossibleError(
            f"{letter.id} is not kept here to its end; `delivery dlt requeue` puts it back"
        )
    key = letter.key or b"" if body is None else key_of(kept, body, events.topics)
    try:
        await events.append(letter.origin, key=key, value=letter.body if body is None else body)
    except UnreadableMessageError as error:  # it came when more was taken
        raise NotPossibleError(f"{letter.id} can't go back: {error}") from error
    return letter.origin


async def _held(
    queues: DeadLetterQueues, action: Action, letters: Sequence[KeptLetter]
) -> dict[str, list[DeadMessage]]:
    """Take all copies of some letters, in one pass through each of their queues.

    With the body of the first, where it is to go back and is in no row.
    """
    wanted = {kept.letter.id: kept for kept in letters}
    held: dict[str, list[DeadMessage]] = {}
    size = 0
    for name in kept_messages.queues_of(wanted):
        limit = min(await queues.waiting(name), _MAX_PASS)
        async with contextlib.aclosing(queues.read(name, limit=limit)) as read:
            async for dead in read:
                kept = wanted.get(kept_messages.letter_id_of(dead))
                if kept is None:
                    continue
                copies = held.setdefault(kept.letter.id, [])
                copies.append(dead)
                if action == "purge" or kept.is_whole or len(copies) > 1:
                    dead.message.body = b""  # type: ignore[misc]  # it is of no use
                    continue
                size += len(dead.message.body)
                if size > _MAX_HELD and len(held) > 1:
                    raise NotPossibleError(_TOO_LARGE)
    return held


def of_event(event: DeadEvent) -> BuriedLetter:
    """Return what is kept of an event on the dead-letter topic."""
    return kept_events.kept_of(
        topic=event.topic,
        key=event.key,
        value=event.value,
        reason=event.reason,
        at=event.at,
        copies=[event.id],
    )


def _unknown(ids: Sequence[str]) -> UnknownDeadLetterError:
    return UnknownDeadLetterError(
        f"there is no dead letter {', '.join(ids)[:_MAX_NAMED]} (any more); nothing was done"
    )
