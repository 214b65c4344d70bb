"""Objects at a store: one is completed or removed at a time."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import asyncpg

from app.store.sql import in_full, load

SQL = load(__name__)


def lock_of(url: str, namespace: str) -> str:
    """Return the statement that locks an object, to begin a transaction with."""
    return in_full(*SQL["lock_object"](url=url, namespace=namespace))


async def lock_object(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], url: str, namespace: str
) -> None:
    """Let no other complete or remove this object until the transaction ends."""
    await connection.execute(*SQL["lock_object"](url=url, namespace=namespace))


async def lock_object_within(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record],
    url: str,
    namespace: str,
    longest: timedelta,
) -> bool:
    """Do as `lock_object`, or return False where others keep the object for so long."""
    if await connection.fetchval(*SQL["try_lock_object"](url=url, namespace=namespace)):
        return True
    milliseconds = int(longest / timedelta(milliseconds=1))
    if milliseconds < 1:  # which PostgreSQL takes for ever
        return False
    before = await connection.fetchval(*SQL["lock_patience"]())
    with suppress(asyncpg.LockNotAvailableError):
        async with connection.transaction():
            await connection.execute(*SQL["wait_for_locks"](longest=f"{milliseconds}ms"))
            await lock_object(connection, url, namespace)
            await connection.execute(*SQL["wait_for_locks"](longest=before))
        return True
    return False
