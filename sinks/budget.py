"""Memory that all transfers of a worker share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Budget:
    """So many bytes, given out in the order of asking."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._turn = asyncio.Lock()  # the first who asked is the first who gets, however large
        self._freed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def reserve(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of it, at most all; wait until they are free."""
        async with self._turn:
            while self._free < size:
                self._freed.clear()
                await self._freed.wait()
            self._free -= size
        try:
            yield
        finally:
            self._free += size
            self._freed.set()
