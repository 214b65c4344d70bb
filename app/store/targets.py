"""How it goes with targets, as PostgreSQL has it."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from app.store.pool import translate_errors
from app.store.sql import load
from app.views.attention import WAITING
from app.views.targets import LATELY, TargetSeen

SQL = load(__name__)


class PostgresTargets:
    """See `views.targets.TargetsSeen`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def targets(self, tenants: Sequence[str]) -> list[TargetSeen]:
        """Return each target of some tenants that is known of."""
        with translate_errors():
            rows = await self._pool.fetch(
                *SQL["targets"](
                    tenants=list(tenants),
                    lately=LATELY,
                    waiting=[code.value for code in WAITING],
                )
            )
        return [TargetSeen(**row) for row in rows]
