"""What is wrong now, as PostgreSQL has it."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from app.delivery.pauses import WORKED_OFF
from app.store.pool import translate_errors
from app.store.sql import load
from app.views import attention
from app.views.attention import Trouble, by_weight

SQL = load(__name__)


class PostgresAttention:
    """See `views.attention.Troubles`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def troubles(self, tenants: Sequence[str] | None) -> list[Trouble]:
        """Return what is wrong now."""
        asked = SQL["troubles"](
            tenants=None if tenants is None else list(tenants),
            worker_silent=attention.WORKER_SILENT,
            failed_within=attention.FAILED_WITHIN,
            failed_times=attention.FAILED_TIMES,
            waiting=[code.value for code in attention.WAITING],
            states=[state.value for state in attention.STUCK],
            ages=list(attention.STUCK.values()),
            parked=attention.PARKED,
            place=attention.PLACE_HELD,
            content=attention.CONTENT_OVERDUE,
            owed=attention.OWED,
            webhook=attention.WEBHOOK_FAILS,
            forgotten=attention.MAINTENANCE_FORGOTTEN,
            worked_off=WORKED_OFF,
        )
        with translate_errors():
            rows = await self._pool.fetch(*asked)
        return by_weight(
            Trouble(**{**row, "code": attention.Need(row["code"]), "tenant": row["tenant"] or None})
            for row in rows
        )
