"""What arrived and is not handled yet, in case that Kafka loses it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from app.delivery.ingress import Arrival, ArrivalKind
from app.store.later import LaterKinds
from app.store.pool import translate_errors
from app.store.sql import load

SQL = load(__name__)

_KINDS = [kind.value for kind in ArrivalKind]
_BATCH_SIZE = 500
_BATCH_BYTES = 4 * 1024 * 1024


class _Waiting(NamedTuple):
    arrival: Arrival
    came: float  # by the monotonic clock
    saved: asyncio.Future[None]


class PostgresArrivals:
    """See `ports.Arrivals`. `allowance` is how long an event may take before it counts as lost.

    Arrivals that come while others are being written are written together.
    """

    def __init__(self, pool: asyncpg.Pool, *, allowance: timedelta) -> None:
        self._pool = pool
        self._allowance = allowance
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._later_kinds = LaterKinds("events that no agent has handled")

    async def save(self, arrival: Arrival, *, since: float | None = None) -> None:
        """Return once the arrival is saved. It came at `since` by the monotonic clock, or now."""
        saved = asyncio.get_running_loop().create_future()
        came = time.monotonic() if since is None else since
        self._waiting.append(_Waiting(arrival, came, saved))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await saved

    async def _write(self) -> None:
        while self._waiting:
            batch = self._next_batch()
            arrivals = [waiting.arrival for waiting in batch]
            try:
                with translate_errors():
                    async with self._pool.acquire() as connection:
                        # Only here: what waited for a connection has waited, too.
                        now = time.monotonic()
                        await connection.execute(
                            *SQL["note_arrivals"](
                                ids=[arrival.ingress_id for arrival in arrivals],
                                kinds=[arrival.kind.value for arrival in arrivals],
                                keys=[arrival.key for arrival in arrivals],
                                values=[arrival.value for arrival in arrivals],
                                waited=[timedelta(seconds=max(0.0, now - w.came)) for w in batch],
                                allowance=self._allowance,
                            )
                        )
            except Exception as error:  # noqa: BLE001 - each who waits raises it
                outcome: Exception | None = error
            else:
                outcome = None
            for waiting in batch:
                if waiting.saved.done():
                    continue  # who waited was cancelled
                if outcome is None:
                    waiting.saved.set_result(None)
                else:
                    waiting.saved.set_exception(outcome)

    def _next_batch(self) -> list[_Waiting]:
        size = count = 0
        for waiting in self._waiting[:_BATCH_SIZE]:
            size += len(waiting.arrival.value)
            if count and size > _BATCH_BYTES:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    async def forget(self, ids: Sequence[UUID]) -> None:
        """Note that arrivals need no further care."""
        with translate_errors():
            await self._pool.execute(*SQL["forget_arrivals"](ids=ids))

    async def returned(self, ids: Sequence[UUID]) -> None:
        """Note that RabbitMQ may give messages again, and may not tell that they are copies."""
        if self._writer is not None:
            await asyncio.wait([self._writer])  # they may be among those that are being saved
        with translate_errors():
            await self._pool.execute(*SQL["note_returned_arrivals"](ids=ids))
            # By now: who handled them took the note along. (But not who has handled them before:
            # what was handled may have been saved once more.)
            await self._pool.execute(*SQL["note_returned_receipts"](ids=ids))

    async def not_appended(self, ids: Sequence[UUID]) -> None:
        """Note that these were overdue in vain: they are due at once, as if never looked at."""
        with translate_errors():
            await self._pool.execute(*SQL["arrivals_not_appended"](ids=ids))

    async def all_lost(self) -> None:
        """Note that Kafka has lost every event: all are due at once."""
        with translate_errors():
            await self._pool.execute(*SQL["all_arrivals_lost"]())

    async def overdue(self, limit: int) -> list[Arrival]:
        """Return arrivals that count as lost; each has twice the time from now on."""
        with translate_errors():
            rows = await self._pool.fetch(
                *SQL["overdue_arrivals"](kinds=_KINDS, allowance=self._allowance, limit=limit)
            )
            if len(rows) < limit:
                later = await self._pool.fetch(*SQL["later_arrivals"](known=_KINDS))
                self._later_kinds.warn(row["kind"] for row in later)
        return [
            Arrival(
                ingress_id=row["id"],
                kind=ArrivalKind(row["kind"]),
                key=row["key"],
                value=row["value"],
            )
            for row in sorted(rows, key=lambda row: row["received_at"])
        ]
