"""One process at a time."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from app.store.pool import wrap_errors


@contextlib.asynccontextmanager
async def leading(pool: asyncpg.Pool, job: str) -> AsyncIterator[bool]:
    """Give whether this process alone does the job now; another may, once the block ends.

    PostgreSQL frees the lock of a connection that is gone, hence also that of a process that died.
    """
    with wrap_errors():
        async with pool.acquire() as connection:
            leads = await connection.fetchval(
                "SELECT pg_try_advisory_lock(hashtextextended('job ' || $1, 0))", job
            )
            try:
                yield leads
            finally:
                if leads:
                    await connection.execute(
                        "SELECT pg_advisory_unlock(hashtextextended('job ' || $1, 0))", job
                    )
