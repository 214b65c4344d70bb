"""Dead letters of both kinds, looked at together. See `app.views.dead_letters.DeadLetterStore`.

A look at a queue takes what is in it until it is over, so looks and what is put back go one after
the other in a process, and all who ask within some seconds are shown the same. (A table of letters
will end that.) Of each message and event only what is shown is kept, and of each owner so many:
no tenant's letters hide another's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from app.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    NotPossibleError,
    UnknownDeadLetterError,
)
from app.settings import Settings
from app.views.dead_letters import Audited, DeadLetter, DeadLetterList
from streams.amqp import names
from streams.amqp.dead_letters import (
    QUEUES,
    DeadLetterQueues,
    DeadMessage,
    going_back,
    open_dead_letter_queues,
)
from streams.amqp.parameters import parameters_of
from streams.amqp.publisher import connect
from streams.amqp.topology import topology_of
from streams.kafka import dead_letters as dead_letter_topic
from streams.kafka.dead_letters import DeadEvent, Requeued
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topics import Topics

_MAX_KEPT_IN_ALL = 2_500  # letters of all owners in one place; many owners have fewer each
_MAX_SHOWN_IN_ALL = 2_000  # letters that one who sees all is shown
_MAX_SHOWN_BODY = 2000  # characters of a body
_CONNECT_TIMEOUT = 5.0  # seconds to connect
_QUEUE_TIMEOUT = 30.0  # seconds for the queues to hand over what they have

_EVENTS = "events"
_OURS = {queue.removesuffix(names.DEAD_LETTER_SUFFIX) for queue in QUEUES.values()}
_AMQP, _EVENT = "amqp:", "event:"


@dataclass(frozen=True, kw_only=True, slots=True)
class LookLimits:
    """How much is read, kept and put back."""

    read: int = 5_000  # letters of a queue, and events of a partition, that a look goes through
    seconds: float = 10.0  # that it takes from the queues; then it is content with what it has seen
    kept: int = 500  # letters of an owner in one place
    put_back: int = 64 * 1024 * 1024  # bytes of bodies at once
    fresh: float = 5.0  # seconds that a look is shown to all who ask


class _Seen:
    """What a look keeps."""

    def __init__(self, each: int) -> None:
        self._each = each
        self._dead_letters: dict[tuple[str | None, str], dict[str, DeadLetter]] = defaultdict(dict)
        self._cut: set[str | None] = set()  # owners who have more
        self.partly = False  # not all was read

    def add(self, place: str, dead_letter: DeadLetter) -> None:
        """Keep a letter, instead of its owner's first one where there are too many."""
        mine = self._dead_letters[dead_letter.owner, place]
        mine[dead_letter.id] = dead_letter
        if len(mine) > self._each:
            del mine[next(iter(mine))]
            self._cut.add(dead_letter.owner)

    def drop(self, place: str, owner: str | None, dead_letter_id: str) -> None:
        """Forget a dead letter that was put back."""
        self._dead_letters[owner, place].pop(dead_letter_id, None)

    def shown(self, owner: str | None) -> DeadLetterList:
        """Return an owner's dead letters, or all for None; place by place, the oldest first."""
        found = [
            dead_letter
            for (whose, _), dead_letters in self._dead_letters.items()
            for dead_letter in dead_letters.values()
            if owner is None or whose == owner
        ]
        cut = bool(self._cut) if owner is None else owner in self._cut
        return DeadLetterList(
            dead_letters=found[:_MAX_SHOWN_IN_ALL] if owner is None else found,
            truncated=self.partly or cut or (owner is None and len(found) > _MAX_SHOWN_IN_ALL),
        )


class BrokerDeadLetters:
    """Connects for each look: dead letters are few, and looked at rarely."""

    def __init__(
        self, settings: Settings, *, known: Callable[[str], bool], limits: LookLimits | None = None
    ) -> None:
        self._settings = settings
        self._known = known
        self._limits = limits or LookLimits()
        self._each = min(
            self._limits.kept, max(20, _MAX_KEPT_IN_ALL // (len(settings.tenants) + 1))
        )
        self._turn = asyncio.Lock()
        self._seen: _Seen | BrokerUnavailableError | None = None
        self._seen_at = 0.0

    async def look(self, tenant: str | None) -> DeadLetterList:
        """Return the dead letters that a tenant owns; all of them for None."""
        async with self._turn:
            if self._seen is None or time.monotonic() - self._seen_at > self._limits.fresh:
                try:
                    self._seen = await self._read_all()
                except BrokerUnavailableError as error:
                    self._seen = error  # who waits need not find out, too
                self._seen_at = time.monotonic()
            seen = self._seen
        if isinstance(seen, BrokerUnavailableError):
            raise BrokerUnavailableError(str(seen))
        return seen.shown(tenant)

    async def _read_all(self) -> _Seen:
        seen = _Seen(self._each)
        until = time.monotonic() + self._limits.seconds
        read = self._limits.read
        async with self._queues() as queues:
            for name in QUEUES:
                seen.partly |= await queues.waiting(name) > read
                async with contextlib.aclosing(queues.read(name, limit=read)) as dead_letters:
                    async for dead_letter in dead_letters:
                        seen.add(name, self._of_message(dead_letter))
                        if time.monotonic() > until:
                            seen.partly = True
                            break

        def newest(_partition: int, first: int, end: int) -> int:
            seen.partly |= end - first > read
            return max(first, end - read)

        async with contextlib.aclosing(
            dead_letter_topic.read(self._settings, since=newest)
        ) as events:
            async for event in events:
                if isinstance(event, Requeued):
                    seen.drop(_EVENTS, self._owner_of(event.key), f"{_EVENT}{event.event_id}")
                else:
                    seen.add(_EVENTS, self._of_event(event))
        return seen

    async def requeue(
        self, tenant: str | None, ids: Sequence[str], *, audited: Audited
    ) -> dict[str, str]:
        """Put dead letters back, each audited as it goes."""
        async with self._turn:
            try:
                return await self._requeue(tenant, ids, audited)
            finally:
                self._seen = None

    async def _requeue(
        self, tenant: str | None, ids: Sequence[str], audited: Audited
    ) -> dict[str, str]:
        where: dict[str, str] = {}
        wanted = {
            dead_letter_id.removeprefix(_EVENT)
            for dead_letter_id in ids
            if dead_letter_id.startswith(_EVENT)
        }
        found = await dead_letter_topic.find(self._settings, wanted, most=self._limits.put_back)
        events = {f"{_EVENT}{name}": event for name, event in found.items()}
        async with self._queues() as queues:
            messages = await _taken(queues, ids, self._limits)
            mine = {
                dead_letter.id
                for dead_letter in self._dead_letters_of(messages, events)
                if tenant is None or dead_letter.owner == tenant
            }
            _check(ids, mine)
            self._check_ways(messages.values(), events.values())
            for dead_letter_id, dead_letter in messages.items():
                async with audited(self._of_message(dead_letter), dead_letter.origin or "nowhere"):
                    where[dead_letter_id] = await queues.requeue(dead_letter)
        if events:
            async with self._events() as log:
                for dead_letter_id, event in events.items():
                    async with audited(self._of_event(event), event.topic or "nowhere"):
                        where[dead_letter_id] = await dead_letter_topic.put_back(event, log)
        return where

    def _check_ways(self, messages: Iterable[DeadMessage], events: Iterable[DeadEvent]) -> None:
        """Raise NotPossibleError unless all can go back, as far as it is known before."""
        topics = Topics(prefix=self._settings.kafka_topic_prefix)
        for dead_letter in messages:
            going_back(dead_letter)
        for event in events:
            dead_letter_topic.going_back(event, topics)

    def _dead_letters_of(
        self, messages: dict[str, DeadMessage], events: dict[str, DeadEvent]
    ) -> Iterator[DeadLetter]:
        yield from (self._of_message(message) for message in messages.values())
        yield from (self._of_event(event) for event in events.values())

    @contextlib.asynccontextmanager
    async def _queues(self) -> AsyncIterator[DeadLetterQueues]:
        try:
            async with (
                asyncio.timeout(_QUEUE_TIMEOUT),
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
        except TimeoutError as error:
            raise BrokerUnavailableError(
                f"RabbitMQ does not hand over the dead letters within {_QUEUE_TIMEOUT:g} s"
            ) from error

    @contextlib.asynccontextmanager
    async def _events(self) -> AsyncIterator[EventLog]:
        try:
            async with open_event_log(self._settings) as log:
                yield log
        except ConfigurationError as error:  # likewise
            raise BrokerUnavailableError(str(error)) from error

    def _of_message(self, dead_letter: DeadMessage) -> DeadLetter:
        # What other services could not handle is in the queue that all of them share.
        ours = dead_letter.queue != "global" or dead_letter.origin in _OURS
        shown = of_message(dead_letter)
        return replace(shown, owner=self._known_one(shown.tenant) if ours else None)

    def _of_event(self, event: DeadEvent) -> DeadLetter:
        return replace(of_event(event), owner=self._owner_of(event.key))

    def _owner_of(self, key: bytes) -> str | None:
        return self._known_one(_parts(key)[0])

    def _known_one(self, tenant: str | None) -> str | None:
        return tenant if tenant is not None and self._known(tenant) else None


async def _taken(
    queues: DeadLetterQueues, ids: Sequence[str], limits: LookLimits
) -> dict[str, DeadMessage]:
    """Take messages from the queues that their ids name. Raises NotPossibleError."""
    wanted = {
        dead_letter_id.removeprefix(_AMQP)
        for dead_letter_id in ids
        if dead_letter_id.startswith(_AMQP)
    }
    found: dict[str, DeadMessage] = {}
    size = 0
    for name in QUEUES:
        missing = {
            dead_letter_id for dead_letter_id in wanted if dead_letter_id.startswith(f"{name}:")
        }
        if not missing:
            continue
        # Further than a look: what is pushed and what is fetched need not come in one order.
        async with contextlib.aclosing(queues.read(name, limit=2 * limits.read)) as dead_letters:
            async for dead_letter in dead_letters:
                if dead_letter.id not in missing:
                    continue
                missing.remove(dead_letter.id)
                found[f"{_AMQP}{dead_letter.id}"] = dead_letter
                size += len(dead_letter.message.body)
                if size > limits.put_back and len(found) > 1:
                    raise NotPossibleError(dead_letter_topic.TOO_LARGE)
                if not missing:
                    break
    return found


def _check(ids: Sequence[str], mine: set[str]) -> None:
    """Raise UnknownDeadLetterError unless all of them are there, and the tenant's."""
    missing = [dead_letter_id for dead_letter_id in ids if dead_letter_id not in mine]
    if missing:
        raise UnknownDeadLetterError(
            f"there is no dead letter {', '.join(missing)[:300]} (any more); nothing was put back"
        )


def of_message(dead_letter: DeadMessage) -> DeadLetter:
    """Return a message as operators see it."""
    return DeadLetter(
        id=f"{_AMQP}{dead_letter.id}",
        place=QUEUES[dead_letter.queue],
        tenant=dead_letter.tenant,
        correlation_id=dead_letter.correlation_id,
        at=dead_letter.message.timestamp,
        size=len(dead_letter.message.body),
        reason=dead_letter.reason,
        text=_text(dead_letter.message.body),
    )


def of_event(event: DeadEvent) -> DeadLetter:
    """Return an event as operators see it."""
    tenant, correlation_id = _parts(event.key)
    return DeadLetter(
        id=f"{_EVENT}{event.id}",
        place=event.topic or "unknown topic",
        tenant=tenant or None,
        correlation_id=correlation_id or None,
        at=event.at,
        size=len(event.value),
        reason=event.reason,
        text=_text(event.value),
    )


def _parts(key: bytes) -> tuple[str, str]:
    """Return the tenant and the correlation id of an event's key."""
    tenant, _, correlation_id = key.decode(errors="replace").partition("/")
    return tenant, correlation_id


def _text(content: bytes) -> str:
    return content[: 4 * _MAX_SHOWN_BODY].decode(errors="replace")[:_MAX_SHOWN_BODY]
