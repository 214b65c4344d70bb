"""Hints that there is work, in memory: told with the commit, to each that listens."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from app.delivery.states import Work
from app.errors import StoreUnavailableError
from app.store.memory.database import MemoryDatabase
from app.store.woken import works_of


class Line:
    """A connection that listens, until it is cut."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._news = asyncio.Event()
        self._is_cut = False

    def tell(self, word: str) -> None:
        """Have a notification come by it."""
        self._told.add(word)
        self._news.set()

    def cut(self) -> None:
        """End it: who waits hears of that."""
        self._is_cut = True
        self._news.set()

    async def heard(self) -> frozenset[str]:
        """Wait for notifications; return what they say. Raises StoreUnavailableError."""
        while not self._told:
            if self._is_cut:
                raise StoreUnavailableError("the line that news come by was cut")
            await self._news.wait()
            self._news.clear()
        found = frozenset(self._told)
        self._told.clear()
        return found


class MemoryWorkNews:
    """See `app.delivery.ports.WorkNews`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator[Callable[[], Awaitable[frozenset[Work]]]]:
        """Give what waits for the next hints, and returns what they are about."""
        await self._database.trip()
        line = Line()

        async def due() -> frozenset[Work]:
            return works_of(await line.heard())

        with self._database.listened_by(line):
            yield due
