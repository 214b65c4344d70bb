"""Memory that all transfers of a worker share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from app.errors import RetryableError, TargetUnavailableError


class Budget:
    """So many bytes, given out in the order of asking."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._free = size
        self._lent = 0
        self._turn = asyncio.Lock()  # the first who asked is the first who gets, however large
        self._freed = asyncio.Event()

    def has(self, size: int) -> bool:
        """Whether `size` bytes are to be had at once."""
        return self._free >= size and not self._turn.locked()

    def is_wanted(self) -> bool:
        """Whether a transfer waits for memory."""
        return self._turn.locked()

    @contextlib.contextmanager
    def idle(self, size: int) -> Iterator[None]:
        """Hold reserved bytes without work: no more than half of all, unless no other does so.

        Else one store that is away would leave no memory for the others. Raises
        TargetUnavailableError.
        """
        if self._lent and self._lent + size > self.size // 2:
            raise TargetUnavailableError(
                "half of the worker's memory is held by transfers that wait for their object "
                "stores; this one steps back"
            )
        self._lent += size
        try:
            yield
        finally:
            self._lent -= size

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

    @contextlib.asynccontextmanager
    async def reserve_at_once(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes of it, for one who holds some already, and must not wait for more.

        Raises RetryableError when they are not free.
        """
        if not self.has(size):
            raise RetryableError(
                f"{size} bytes of the worker's memory are needed to list a suborder, and others "
                "hold them; it is tried again"
            )
        async with self.reserve(size):
            yield
