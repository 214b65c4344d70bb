"""What became of deliveries in time, as PostgreSQL has it."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from app.store.pool import translate_errors
from app.store.sql import load
from app.views.history import Bucket, Step

SQL = load(__name__)


class PostgresHistory:
    """See `views.history.Histories`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def history(
        self, tenants: Sequence[str], *, step: Step, target: str | None
    ) -> list[Bucket]:
        """Return each bucket of some tenants, the oldest first."""
        asked = SQL["history"](
            tenants=list(tenants),
            seconds=int(step.length.total_seconds()),
            count=step.buckets,
            target=target,
        )
        with translate_errors():
            rows = await self._pool.fetch(*asked)
        return [Bucket(**row) for row in rows]
