"""The outbox in memory: what is owed, until a broker has confirmed it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from app.delivery.model import Delivery
from app.delivery.orders import ANSWER_LIMIT, ANSWER_PATIENCE, waits_for_answer
from app.delivery.outgoing import Kind, Lane, OutgoingMessage, Relayed
from app.delivery.states import State
from app.encoding import dumps
from app.errors import BrokerUnavailableError, NotSentError, as_cause
from app.store.later import LaterKinds
from app.store.memory.database import MemoryDatabase
from app.store.memory.deliveries import update
from app.store.memory.locks import Mode
from app.store.memory.rows import DeliveryRow, OutboxRow
from app.store.memory.session import Session
from app.telemetry.logs import get_logger
from app.waiting.backoff import Backoff

log = get_logger(__name__)

_KINDS = frozenset(Kind)
_BACKOFF = Backoff(first=1.0, longest=15.0)
_TURN = timedelta(seconds=10)  # that what a pass has begun to send is left to the next one of it
_LONGEST_TRY = timedelta(minutes=1)  # for which a message is owed already when it fails
# Between looks whether another order is answered, at first and in the end.
_ANSWER_INTERVAL = timedelta(seconds=2)
_MAX_ANSWER_INTERVAL = timedelta(seconds=15)


def owed_since(database: MemoryDatabase, session: Session, row: OutboxRow) -> datetime:
    """Return since when a message is owed, at the latest: see `messages_owed` in owed.sql."""
    latest = row.due_at - timedelta(seconds=sum(map(_BACKOFF.pause, range(row.tries))))
    of = session.get(database.deliveries, row.message.delivery_id) if row.tries else None
    if of is not None and latest - row.tries * _LONGEST_TRY <= of.state_since <= latest:
        return of.state_since
    return latest


class MemoryOutbox:
    """See `app.delivery.ports.Outbox`. `batch` is how many messages are published at once."""

    def __init__(
        self, database: MemoryDatabase, *, batch: int, patience: timedelta = ANSWER_PATIENCE
    ) -> None:
        self._database = database
        self._batch = batch
        self._patience = patience
        self._later_kinds = LaterKinds("messages that are owed")
        self._begun: dict[Lane, UUID] = {}

    async def relay(
        self, lane: Lane, publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> Relayed:
        """Publish what is due; tell how many are dealt with, and whether more is due."""
        if lane is Lane.ORDERS and lane not in self._begun and (new := await self._begin_new()):
            return Relayed(new, 0, more=True)
        this = uuid4()
        async with self._database.session() as session:
            begun = self._begun.pop(lane, None)
            due, full = await self._due(session, lane, begun)
            if not due:
                self._tell_later(session, lane)
            withdrawn = [row for row in due if self._is_withdrawn(session, row)]
            waits = [
                row for row in due if row not in withdrawn and self._waits_for_answer(session, row)
            ]
            owed = [row for row in due if row not in withdrawn and row not in waits]
            ready = [row for row in owed if _may_be_sent(row, begun)]
            sent = await self._publish(session, ready, publish)
            follows = self._follows(session, lane, sent)
            for row in withdrawn:
                if row.repeats and _may_be_sent(row, begun):
                    await self._expect_less(session, row)
                await self._withdraw(session, row)
            for row in waits:
                await self._let_wait(session, row)
            first = [row for row in owed if not _may_be_sent(row, begun)]
            for row in first:
                await self._begin(session, row, this)
        if first:  # and that is committed
            self._begun[lane] = this
        unsent = len(ready) - len(sent)
        more = follows or bool(withdrawn or first) or full
        return Relayed(len(due) - unsent, unsent, more=more)

    async def _begin_new(self) -> int:
        """Note that order requests may be out from now on; the next pass sends them."""
        this = uuid4()
        async with self._database.session() as session:
            due, _ = await self._due(session, Lane.ORDERS, None)
            new = [
                row
                for row in due
                if row.not_sent
                and not self._is_withdrawn(session, row)
                and not self._waits_for_answer(session, row)
            ]
            for row in new:
                await self._begin(session, row, this)
        if new:  # and that is committed
            self._begun[Lane.ORDERS] = this
        return len(new)

    async def _publish(
        self,
        session: Session,
        rows: Sequence[OutboxRow],
        publish: Callable[[OutgoingMessage], Awaitable[None]],
    ) -> list[OutboxRow]:
        """Publish messages; return those that were confirmed."""
        if not rows:
            return []
        outcomes = await asyncio.gather(
            *(publish(row.message) for row in rows), return_exceptions=True
        )
        sent = []
        await self._database.trip()
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome is None:
                await self._sent(session, row)
                sent.append(row)
            elif isinstance(outcome, Exception):
                # Whatever it is: one message must not hold up those of others.
                if not isinstance(outcome, BrokerUnavailableError):
                    log.error("message_not_sent", row=row.id, exc_info=outcome)
                await self._postpone(session, row, outcome)
            else:
                raise outcome
        return sent

    def _follows(self, session: Session, lane: Lane, sent: Sequence[OutboxRow]) -> bool:
        """Whether a message waits that these held up."""
        names = {name for row in sent for name in _names(row)}
        return any(
            not names.isdisjoint(_names(row))
            for _, row in session.rows(self._database.outbox, lane)
        )

    async def _sent(self, session: Session, row: OutboxRow) -> None:
        """Forget a message that is confirmed, and note when an order went out after the end."""
        await session.delete(self._database.outbox, row.id)
        if row.message.kind is Kind.ORDER:
            await update(
                self._database,
                session,
                row.message.delivery_id,
                lambda delivery: replace(delivery, order_out_at=session.now),
                lambda delivery: delivery.order_awaited,
            )

    async def _begin(self, session: Session, row: OutboxRow, by: UUID) -> None:
        """Note that an order request may be out from now on, or may be out once more."""
        begun = replace(row, not_sent=False, begun_by=by, due_at=session.now)
        if row.not_sent:
            await self._note_cause(session, row, None)
        else:
            begun = replace(begun, repeats=row.repeats + 1)
            until = session.now + ANSWER_LIMIT
            await update(
                self._database,
                session,
                row.message.delivery_id,
                lambda delivery: replace(
                    delivery, answers_due=delivery.answers_due + 1, answers_until=until
                ),
            )
        session.put(self._database.outbox, row.id, begun)

    async def _due(
        self, session: Session, lane: Lane, begun: UUID | None
    ) -> tuple[list[OutboxRow], bool]:
        """Lock and return what is due: as much of each tenant, of each delivery the first.

        And whether a tenant has its share of it: it may have more.
        """
        waiting: dict[str, list[OutboxRow]] = {}
        behind: set[Hashable] = set()
        for _, row in sorted(session.rows(self._database.outbox, lane)):
            of_tenant = waiting.setdefault(row.message.tenant, [])
            names = _names(row)
            first = behind.isdisjoint(names)
            behind |= names
            if (
                first
                and row.due_at <= session.now
                and (row.begun_by in (None, begun) or row.due_at <= session.now - _TURN)
                and row.message.kind in _KINDS
                and not session.skips(self._database.outbox, row.id)
            ):
                of_tenant.append(row)
        share = max(1, self._batch // max(1, len(waiting)))
        due = [row for tenant in sorted(waiting) for row in waiting[tenant][:share]]
        for row in due:
            await session.lock_row(self._database.outbox, row.id, mode=Mode.UPDATE)
        return due, any(len(rows) >= share for rows in waiting.values())

    def _tell_later(self, session: Session, lane: Lane) -> None:
        """Tell kinds that only a later version knows."""
        kinds = {
            row.message.kind
            for _, row in session.rows(self._database.outbox, lane)
            if row.due_at <= session.now
        }
        self._later_kinds.warn(kinds - _KINDS)

    def _is_withdrawn(self, session: Session, row: OutboxRow) -> bool:
        """Whether a message is an order request that is of no use, and no answer is due to it."""
        found = session.get(self._database.deliveries, row.message.delivery_id)
        if row.message.kind is not Kind.ORDER or found is None:
            return False
        if found.state is not State.ERROR and found.delivery.order_id is None:
            return False
        return row.not_sent or not any(
            other.order_awaited for other in self._awaited(session, row.message)
        )

    def _waits_for_answer(self, session: Session, row: OutboxRow) -> bool:
        """Whether a message is an order request that waits for the answer to another one."""
        own = session.get(self._database.deliveries, row.message.delivery_id)
        if row.message.kind is not Kind.ORDER or not row.not_sent or own is None:
            return False
        since = session.now - self._patience
        return any(out_at > since for out_at, _ in self._others(session, own))

    def _others(self, session: Session, own: DeliveryRow) -> list[tuple[datetime, UUID]]:
        """Return which ended deliveries of the same id, of other orders, have an answer to come."""
        return [
            (max(other.finished_at, other.order_out_at or other.finished_at), other.delivery.id)
            for other in self._awaited(session, own.delivery)
            if other.awaits(session.now)
            and other.finished_at is not None
            and dumps(other.delivery.order) != dumps(own.delivery.order)
        ]

    async def _let_wait(self, session: Session, row: OutboxRow) -> None:
        """Look at an order request again later, and note what it waits for."""
        own = session.get(self._database.deliveries, row.message.delivery_id)
        if own is None:
            return
        pause = min(_MAX_ANSWER_INTERVAL, (session.now - own.state_since) / 4)
        later = replace(row, due_at=session.now + max(_ANSWER_INTERVAL, pause))
        session.put(self._database.outbox, row.id, later)
        others = self._others(session, own)
        if not others:
            return  # what it waits for has come while others were published
        out_at, earlier = max(others, key=lambda other: (other[0], -other[1].int))
        cause = waits_for_answer(earlier, out_at + self._patience)
        await self._note_cause(session, row, cause)

    async def _note_cause(self, session: Session, row: OutboxRow, cause: str | None) -> None:
        await update(
            self._database,
            session,
            row.message.delivery_id,
            lambda delivery: delivery.having(last_cause=cause),
            lambda delivery: delivery.delivery.last_cause != cause,
        )

    def _awaited(self, session: Session, of: OutgoingMessage | Delivery) -> list[DeliveryRow]:
        """Return the deliveries of a correlation id whose answer is due, the oldest first."""
        found = session.where(
            self._database.deliveries,
            lambda row: (row.order_awaited or row.answers_due > 0) and row.reckons(session.now),
            group=(of.tenant, of.correlation_id),
        )
        rows = [row for _, row in found]
        return sorted(rows, key=lambda row: (row.delivery.requested_at, row.delivery.id))

    async def _postpone(self, session: Session, row: OutboxRow, error: Exception) -> None:
        surely = isinstance(error, NotSentError) and row.begun_by is not None
        repeated = surely and row.repeats > 0
        if repeated:  # not this time
            await self._expect_less(session, row)
        wait = timedelta(seconds=_BACKOFF.pause(row.tries))
        later = replace(
            row,
            tries=row.tries + 1,
            last_error=as_cause(str(error)),
            due_at=session.now + wait,
            not_sent=surely and not repeated,
            begun_by=None,
            repeats=row.repeats - repeated,
        )
        session.put(self._database.outbox, row.id, later)

    async def _expect_less(self, session: Session, row: OutboxRow) -> None:
        """Note that one answer less may come: a try that was begun surely is not out."""
        await update(
            self._database,
            session,
            row.message.delivery_id,
            lambda delivery: replace(delivery, answers_due=max(delivery.answers_due - 1, 0)),
        )

    async def _withdraw(self, session: Session, row: OutboxRow) -> None:
        """Forget an order request. Of one that never was sent no answer comes."""
        await session.delete(self._database.outbox, row.id)
        found = session.get(self._database.deliveries, row.message.delivery_id)
        if not row.not_sent or found is None:
            return
        waits = [found] if found.order_awaited else []
        if not waits and found.delivery.order_id is not None:
            # It had the answer to another's request.
            waits = [
                other for other in self._awaited(session, row.message) if other.awaits(session.now)
            ]
        for other in waits[:1]:
            await update(
                self._database,
                session,
                other.delivery.id,
                lambda delivery: delivery.answered(None),
            )


def _names(row: OutboxRow) -> set[Hashable]:
    """Return what messages of a lane leave one after the other by."""
    names: set[Hashable] = {row.message.delivery_id}
    if row.message.kind is Kind.ORDER:
        names.add((row.message.tenant, row.message.correlation_id))
    return names


def _may_be_sent(row: OutboxRow, begun: UUID | None) -> bool:
    """Whether the pass before has noted that an order request may be out; no other need be."""
    return row.message.kind is not Kind.ORDER or (begun is not None and row.begun_by == begun)
