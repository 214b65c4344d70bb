"""One process at a time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg

from app.store.pool import translate_errors
from app.store.sql import load

SQL = load(__name__)


class Leader:
    """What of the jobs that one process does for all is done by this one.

    All locks are on one connection of the pool, taken while there are any: jobs that wait for
    others must not leave none to work with. PostgreSQL frees the locks of a connection that is
    gone, hence also those of a process that died.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._connection: asyncpg.pool.PoolConnectionProxy | None = None
        self._jobs: set[str] = set()
        self._asking = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def leading(self, job: str) -> AsyncIterator[bool]:
        """Give whether the job is done here alone now; another may lead, once the block ends.

        Should the connection be lost meanwhile, another may lead before: jobs must stand that.
        """
        async with self._asking:
            leads = job not in self._jobs and await self._ask(SQL["try_lock_job"](job=job))
            if leads:
                self._jobs.add(job)
            else:
                await self._let_go()
        try:
            yield leads
        finally:
            if leads:
                async with self._asking:
                    self._jobs.discard(job)
                    if self._connection is not None:
                        await self._ask(SQL["unlock_job"](job=job))
                        await self._let_go()

    async def _ask(self, what: tuple[Any, ...]) -> bool:
        with translate_errors():
            if self._connection is None:
                self._connection = await self._pool.acquire()
            connection = self._connection
            try:
                return bool(await connection.fetchval(*what))
            except BaseException:
                # It may have the lock all the same: back in the pool, it would keep it from
                # all others for as long as this process lives.
                self._connection = None
                connection.terminate()
                raise

    async def _let_go(self) -> None:
        """Give the connection back, unless it has locks."""
        if not self._jobs and self._connection is not None:
            connection, self._connection = self._connection, None
            await self._pool.release(connection)


@contextlib.asynccontextmanager
async def alone(pool: asyncpg.Pool, job: str) -> AsyncIterator[None]:
    """Do a job while no other process does; wait for one that does it now."""
    async with contextlib.AsyncExitStack() as stack:
        with translate_errors():
            connection = await stack.enter_async_context(pool.acquire())
            await _or_end(connection, SQL["lock_job"](job=job))
        try:
            yield
        finally:
            with translate_errors():
                await _or_end(connection, SQL["unlock_job"](job=job))


async def _or_end(connection: asyncpg.pool.PoolConnectionProxy, what: tuple[Any, ...]) -> None:
    """Ask; a connection that may have the lock, although it failed, must not go back as it is."""
    try:
        await connection.execute(*what)
    except BaseException:
        connection.terminate()
        raise
