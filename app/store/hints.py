"""Hints that there is work: PostgreSQL tells each worker that listens, with the commit."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg

from app.delivery.states import Work
from app.store.listening import listening
from app.store.woken import works_of

_CHANNEL = "delivery_work"


class PostgresWorkNews:
    """See `app.delivery.ports.WorkNews`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[], Awaitable[frozenset[Work]]]]:
        """Give what waits for the next hints, and returns what they are about."""
        async with listening(self._pool, _CHANNEL) as heard:

            async def due() -> frozenset[Work]:
                return works_of(await heard())

            yield due
