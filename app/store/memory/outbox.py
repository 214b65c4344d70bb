"""The outbox in memory: what is owed, until a broker has confirmed it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.delivery.states import State
from app.errors import BrokerUnavailableError, NotSentError, as_cause
from app.store.later import LaterKinds
from app.store.memory.database import MemoryDatabase
from app.store.memory.deliveries import update
from app.store.memory.locks import Mode
from app.store.memory.rows import OutboxRow
from app.store.memory.session import Session
from app.telemetry.logs import get_logger
from app.waiting.backoff import Backoff

log = get_logger(__name__)

_KINDS = frozenset(Kind)
_BACKOFF = Backoff(first=1.0, longest=15.0)


class MemoryOutbox:
    """See `app.delivery.ports.Outbox`. `batch` is how many messages are published at once."""

    def __init__(self, database: MemoryDatabase, *, batch: int) -> None:
        self._database = database
        self._batch = batch
        self._later_kinds = LaterKinds("messages that are owed")

    async def relay(
        self, lane: Lane, publish: Callable[[OutgoingMessage], Awaitable[None]]
    ) -> tuple[int, int]:
        """Publish what is due; return how many are dealt with and how many must wait."""
        async with self._database.session() as session:
            due = await self._due(session, lane)
            if not due:
                if self._later_kinds.look_is_due():
                    self._tell_later(session, lane)
                return 0, 0
            withdrawn = [row for row in due if self._is_withdrawn(session, row)]
            rows = [row for row in due if not row.not_sent]
            again = [row for row in due if row.not_sent and row not in withdrawn]
            outcomes = await asyncio.gather(
                *(publish(row.message) for row in rows), return_exceptions=True
            )
            unsent = 0
            await self._database.trip()
            for row, outcome in zip(rows, outcomes, strict=True):
                if outcome is None:
                    await session.delete(self._database.outbox, row.id)
                elif isinstance(outcome, Exception):
                    # Whatever it is: one message must not hold up those of others.
                    if not isinstance(outcome, BrokerUnavailableError):
                        log.error("message_not_sent", row=row.id, exc_info=outcome)
                    self._postpone(session, row, outcome)
                    unsent += 1
                else:
                    raise outcome
            for row in again:  # in the next pass, which is at once
                session.put(self._database.outbox, row.id, replace(row, not_sent=False))
            for row in withdrawn:
                await self._withdraw(session, row)
        return len(due) - unsent, unsent

    async def _due(self, session: Session, lane: Lane) -> list[OutboxRow]:
        """Lock and return what is due: as much of each tenant, of each delivery the first."""
        waiting: dict[str, list[OutboxRow]] = {}
        behind: set[UUID] = set()
        for _, row in sorted(session.rows(self._database.outbox, lane)):
            of_tenant = waiting.setdefault(row.message.tenant, [])
            first = row.message.delivery_id not in behind
            behind.add(row.message.delivery_id)
            if (
                first
                and row.due_at <= session.now
                and row.message.kind in _KINDS
                and not session.skips(self._database.outbox, row.id)
            ):
                of_tenant.append(row)
        share = max(1, self._batch // max(1, len(waiting)))
        due = [row for tenant in sorted(waiting) for row in waiting[tenant][:share]]
        for row in due:
            await session.lock_row(self._database.outbox, row.id, mode=Mode.UPDATE)
        return due

    def _tell_later(self, session: Session, lane: Lane) -> None:
        """Tell kinds that only a later version knows."""
        kinds = {
            row.message.kind
            for _, row in session.rows(self._database.outbox, lane)
            if row.due_at <= session.now
        }
        self._later_kinds.tell(kinds - _KINDS)

    def _is_withdrawn(self, session: Session, row: OutboxRow) -> bool:
        """Whether a message is an order request that is not out, and its delivery has failed."""
        found = session.get(self._database.deliveries, row.message.delivery_id)
        return row.not_sent and found is not None and found.state is State.ERROR

    def _postpone(self, session: Session, row: OutboxRow, error: Exception) -> None:
        wait = timedelta(seconds=_BACKOFF.pause(row.tries))
        later = replace(
            row,
            tries=row.tries + 1,
            last_error=as_cause(str(error)),
            due_at=session.now + wait,
            not_sent=isinstance(error, NotSentError) and row.message.kind is Kind.ORDER,
        )
        session.put(self._database.outbox, row.id, later)

    async def _withdraw(self, session: Session, row: OutboxRow) -> None:
        """Forget an order request that is not sent: nothing is out that could be answered."""
        await session.delete(self._database.outbox, row.id)
        await update(
            self._database,
            session,
            row.message.delivery_id,
            lambda delivery: replace(delivery, order_awaited=False),
            lambda delivery: delivery.order_awaited,
        )
