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
the effect of one. Between 3 and 5, the sweep (`dead_letter_sweep.py`) does the rest. All of that is
done by one process at a time, and a row is locked: two who put the same letter back do it once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from app.audit import Actor, AuditRecord
from app.errors import (
    BrokerUnavailableError,
    ConfigurationError,
    DeadLetterChangedError,
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
    MAX_PASS,
    DeadLetterQueues,
    DeadMessage,
    open_dead_letter_queues,
)
from streams.amqp.parameters import parameters_of
from streams.amqp.publisher import connect
from streams.amqp.topology import topology_of
from streams.kafka import dead_letters as dead_letter_topic
from streams.kafka.log import EventLog, open_event_log
from streams.kafka.topics import Topics
from streams.operators.mending import check_mend, key_of

log = get_logger(__name__)

_CONNECT_TIMEOUT = 5.0  # seconds to connect
_TURN_TIMEOUT = 30.0  # seconds that one who puts letters back waits for others
_TURN_INTERVAL = 0.2  # seconds between two tries
_MAX_HELD = 64 * 1024 * 1024  # bytes of bodies that are in no row, at once
_TOO_LARGE = "these letters are too large to be put back at once; choose fewer"
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
        versions: Sequence[str] | None = None,
    ) -> KeptLetter:
        """Put another body, or tenant, in the place of a letter's own, for when it is put back.

        Raises UnknownDeadLetterError; InvalidRequestError where it would be refused again;
        DeadLetterChangedError where its version is none of `versions`.
        """
        kept = await self.one(whose, letter_id)
        if versions is not None and kept.version not in versions:
            raise _changed(kept)
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
        # Between the look and this, another client may have mended it.
        seen = kept if versions is not None else None
        if not await self._table.mend(letter_id, mend, done=done, seen=seen):
            raise _changed(await self.one(whose, letter_id)) if seen else _unknown([letter_id])
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
                # Where there is no copy, another look may hold it: a sweep takes it as it is back.
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
                    await dead_letter_topic.mark(
                        events, letter.id, letter.key or b"", letter.copies
                    )
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
        limit = min(await queues.waiting(name), MAX_PASS)
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


def _changed(now: KeptLetter) -> DeadLetterChangedError:
    mend, letter_id = now.mend, now.letter.id[:_MAX_NAMED]
    what = "buried again" if mend is None else f"mended by {mend.by}"
    return DeadLetterChangedError(f"{letter_id} was {what} meanwhile; read it again, then decide")


def _unknown(ids: Sequence[str]) -> UnknownDeadLetterError:
    return UnknownDeadLetterError(
        f"there is no dead letter {', '.join(ids)[:_MAX_NAMED]} (any more); nothing was done"
    )
