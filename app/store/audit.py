"""The audit trail: who did what."""

from __future__ import annotations

import asyncpg

from app.configuration import Done
from app.store.sql import QUERIES


async def note(connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], done: Done) -> None:
    """Note what was done, in the transaction that does it."""
    await connection.execute(
        QUERIES["note_change"],
        done.actor.tenant,
        done.actor.name,
        done.actor.role,
        done.action,
        done.subject,
        done.before,
        done.after,
    )
