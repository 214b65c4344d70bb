"""What is removed when it is old: by rows, in short statements, whatever a delivery holds."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import asyncpg

from app.delivery.pauses import WORKED_OFF
from app.store.pool import translate_errors
from app.store.sql import load
from app.views.history import Step

SQL = load(__name__)

_DELIVERY_BATCH_SIZE = 1000  # of one statement
_FILE_BATCH_SIZE = 20_000  # of one statement
_ROW_BATCH_SIZE = 5000  # of the inbox and of the audit trail, of one statement
_CONTENTS_LOOKED_AT = 500  # of one look
_FIRST = UUID(int=0)


class PostgresJanitor:
    """Removes what is kept no longer. Raises StoreUnavailableError.

    Each statement takes moments: one that is ended by its time limit would never get further.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._last_content = _FIRST  # that was looked at

    async def forget(self, *, finished: timedelta, audited: timedelta) -> int:
        """Remove deliveries, receipts and changes that are older; return how many deliveries.

        What arrived in the inbox is kept as long as the delivery that it opened; and a delivery as
        long as its content is still to be removed.
        """
        total = 0
        with translate_errors():
            while ids := await self._oldest(finished):
                for delivery in ids:
                    await self._forget_files(delivery)
                    await self._forget_crc32s(delivery)
                    await self._forget_missing(delivery)
                await self._pool.execute(*SQL["forget_deliveries"](ids=ids, days=Step.DAY.buckets))
                total += len(ids)
            for batch in (
                SQL["forget_receipts"](age=finished, limit=_ROW_BATCH_SIZE),
                SQL["forget_asked"](age=finished, limit=_ROW_BATCH_SIZE),
                SQL["forget_changes"](age=audited, limit=_ROW_BATCH_SIZE),
            ):
                while len(await self._pool.fetch(*batch)) == _ROW_BATCH_SIZE:
                    pass
            await self._forget_contents()
            if await self._pool.fetchval(*SQL["any_pause_is_over"](worked_off=WORKED_OFF)):
                await self._pool.execute(*SQL["forget_pauses"](worked_off=WORKED_OFF))
        return total

    async def _oldest(self, finished: timedelta) -> list[UUID]:
        rows = await self._pool.fetch(
            *SQL["forgettable"](
                age=finished, deliveries=_DELIVERY_BATCH_SIZE, files=_FILE_BATCH_SIZE
            )
        )
        return [row["id"] for row in rows]

    async def _forget_contents(self) -> None:
        """Look at some contents whose delivery may be gone, at the others the next times."""
        looked = SQL["forget_contents"](after=self._last_content, limit=_CONTENTS_LOOKED_AT)
        self._last_content = await self._pool.fetchval(*looked) or _FIRST

    async def _forget_files(self, delivery: UUID) -> None:
        last = -1
        while True:
            gone = await self._pool.fetchrow(
                *SQL["forget_files"](delivery=delivery, after=last, limit=_FILE_BATCH_SIZE)
            )
            assert gone is not None  # noqa: S101 - an aggregate has a row
            if gone["files"] < _FILE_BATCH_SIZE:
                return
            last = gone["position"]

    async def _forget_missing(self, delivery: UUID) -> None:
        batch = SQL["forget_missing"](delivery=delivery, limit=_FILE_BATCH_SIZE)
        while await self._pool.fetchval(*batch) == _FILE_BATCH_SIZE:
            pass

    async def _forget_crc32s(self, delivery: UUID) -> None:
        batch = SQL["forget_crc32s"](delivery=delivery, limit=_FILE_BATCH_SIZE)
        while await self._pool.fetchval(*batch) == _FILE_BATCH_SIZE:
            pass
