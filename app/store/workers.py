"""Which workers there are, by their own word."""

from __future__ import annotations

import asyncpg

from app.store.pool import translate_errors
from app.store.sql import load

SQL = load(__name__)


class PostgresWorkers:
    """Where workers record that they are alive."""

    def __init__(self, pool: asyncpg.Pool, *, worker: str, version: str, slots: int) -> None:
        self._pool = pool
        self._worker = worker
        self._version = version
        self._slots = slots

    async def heartbeat(self) -> None:
        """Record that this worker is alive."""
        with translate_errors():
            await self._pool.execute(
                *SQL["worker_seen"](id=self._worker, version=self._version, slots=self._slots)
            )
            await self._pool.execute(*SQL["forget_workers"]())

    async def deregister(self) -> None:
        """Record that this worker stops."""
        with translate_errors():
            await self._pool.execute(*SQL["worker_left"](id=self._worker))
