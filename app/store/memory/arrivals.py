"""What arrived and is not handled yet, in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from app.delivery.ingress import Arrival, ArrivalKind
from app.store.later import LaterKinds
from app.store.memory.database import MemoryDatabase
from app.store.memory.rows import ArrivalRow, InboxRow
from app.store.memory.session import Session
from app.waiting.backoff import Backoff

_KINDS = frozenset(ArrivalKind)
_MAX_ALLOWANCES = 16  # that an event may take, however often it was appended


class MemoryArrivals:
    """See `app.delivery.ports.Arrivals`.

    `allowance` is how long an event may take before it counts as lost; `monotonic` is the clock of
    this process, which tells how long one waited before it was saved.
    """

    def __init__(
        self,
        database: MemoryDatabase,
        *,
        allowance: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._allowance = allowance
        seconds = allowance.total_seconds()
        self._backoff = Backoff(first=seconds, longest=_MAX_ALLOWANCES * seconds)
        self._monotonic = monotonic
        self._saving: set[asyncio.Future[None]] = set()
        self._later_kinds = LaterKinds("events that no agent has handled")

    async def save(self, arrival: Arrival, *, since: float | None = None) -> None:
        """Return once the arrival is saved. It came at `since` by the monotonic clock, or now."""
        came = self._monotonic() if since is None else since
        saved = asyncio.get_running_loop().create_future()
        self._saving.add(saved)
        try:
            async with self._database.session() as session:
                waited = timedelta(seconds=max(0.0, self._monotonic() - came))
                row = ArrivalRow(
                    arrival=arrival,
                    received_at=self._database.clock() - waited,
                    due_at=session.now + self._allowance,
                )
                await session.insert(self._database.arrivals, arrival.ingress_id, row)
        finally:
            self._saving.discard(saved)
            saved.set_result(None)

    async def forget(self, ids: Sequence[UUID]) -> None:
        """Note that arrivals need no further care."""
        async with self._database.session() as session:
            for ingress_id in ids:
                await session.delete(self._database.arrivals, ingress_id)

    async def returned(self, ids: Sequence[UUID]) -> None:
        """Note that RabbitMQ may give messages again, and may not tell that they are copies."""
        if self._saving:
            await asyncio.wait(self._saving)  # they may be among those that are being saved
        handled = []
        async with self._database.session() as session:
            at = self._database.clock()
            for ingress_id in ids:
                noted = await session.update(
                    self._database.arrivals, ingress_id, lambda row: replace(row, returned_at=at)
                )
                # What was handled may have been saved once more: who handles it again takes no note
                # along.
                if noted is None or session.get(self._database.inbox, ingress_id) is not None:
                    handled.append(ingress_id)
        for ingress_id in handled:
            # By now: who handled it took the note along.
            await self._returned_receipt(ingress_id)

    async def _returned_receipt(self, ingress_id: UUID) -> None:
        async with self._database.session() as session:
            at = self._database.clock()

            def awaits_copy(row: InboxRow) -> bool:
                return not session.where(
                    self._database.inbox,
                    lambda copy: (
                        copy.ingress_id != row.ingress_id and copy.arrived_at >= row.arrived_at
                    ),
                    group=(row.kind, row.digest),
                )

            await session.update(
                self._database.inbox,
                ingress_id,
                lambda row: replace(row, returned_at=at),
                awaits_copy,
            )

    async def overdue(self, limit: int) -> list[Arrival]:
        """Return arrivals that count as lost; each has twice the time from now on."""
        async with self._database.session() as session:
            due = [
                (row.due_at, ingress_id)
                for ingress_id, row in session.rows(self._database.arrivals)
                if row.due_at <= session.now
                and row.arrival.kind in _KINDS
                and not self._is_locked(session, ingress_id)
            ]
            if len(due) < limit:
                self._tell_later(session)
            taken = []
            for _, ingress_id in sorted(due)[:limit]:
                row = await session.update(
                    self._database.arrivals, ingress_id, lambda row: self._later(row, session)
                )
                if row is not None:
                    taken.append(row)
        return [row.arrival for row in sorted(taken, key=lambda row: row.received_at)]

    def _tell_later(self, session: Session) -> None:
        """Tell kinds that only a later version knows."""
        kinds = {
            row.arrival.kind
            for _, row in session.rows(self._database.arrivals)
            if row.due_at <= session.now
        }
        self._later_kinds.warn(kinds - _KINDS)

    def _is_locked(self, session: Session, ingress_id: UUID) -> bool:
        return session.skips(self._database.arrivals, ingress_id)

    def _later(self, row: ArrivalRow, session: Session) -> ArrivalRow:
        """Return an arrival that is appended once more."""
        appends = row.appends + 1
        wait = timedelta(seconds=self._backoff.pause(appends))
        return replace(row, appends=appends, due_at=session.now + wait)

    async def not_appended(self, ids: Sequence[UUID]) -> None:
        """Note that these were overdue in vain: they are due at once, as if never looked at."""
        async with self._database.session() as session:
            for ingress_id in ids:
                await session.update(
                    self._database.arrivals,
                    ingress_id,
                    lambda row: replace(row, appends=max(row.appends - 1, 0), due_at=session.now),
                )

    async def all_lost(self) -> None:
        """Note that Kafka has lost every event: all are due at once."""
        async with self._database.session() as session:
            for ingress_id, _ in list(session.rows(self._database.arrivals)):
                await session.update(
                    self._database.arrivals,
                    ingress_id,
                    lambda row: replace(row, appends=0, due_at=session.now),
                )
