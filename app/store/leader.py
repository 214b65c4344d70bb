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
    async with contextlib.AsyncExitStack() as stack:
        with wrap_errors():
            connection = await stack.enter_async_context(pool.acquire())
            leads = await connection.fetchval(
                "SELECT pg_try_advisory_lock(hashtextextended('job ' || $1, 0))", job
            )
        try:
            yield leads
        finally:
            if leads:
                await _unlock(connection, job)


@contextlib.asynccontextmanager
async def alone(pool: asyncpg.Pool, job: str) -> AsyncIterator[None]:
    """Do a job while no other process does; wait for one that does it now."""
    async with contextlib.AsyncExitStack() as stack:
        with wrap_errors():
            connection = await stack.enter_async_context(pool.acquire())
            await connection.execute(
                "SELECT pg_advisory_lock(hashtextextended('job ' || $1, 0))", job
            )
        try:
            yield
        finally:
            await _unlock(connection, job)


async def _unlock(connection: asyncpg.pool.PoolConnectionProxy, job: str) -> None:
    try:
        with wrap_errors():
            await connection.execute(
                "SELECT pg_advisory_unlock(hashtextextended('job ' || $1, 0))", job
            )
    except BaseException:
        # Back in the pool, it would keep the lock from everybody for as long as this process lives.
        connection.terminate()
        raise
