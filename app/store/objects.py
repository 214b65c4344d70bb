"""Objects at a store: one is completed or removed at a time."""

from __future__ import annotations

import asyncpg

from app.store.sql import load

SQL = load(__name__)


async def lock_object(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], url: str, namespace: str
) -> None:
    """Let no other complete or remove this object until the transaction ends."""
    await connection.execute(*SQL["lock_object"](url=url, namespace=namespace))
