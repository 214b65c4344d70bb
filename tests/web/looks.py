"""When a gate looks whether what lasts may go on."""

from __future__ import annotations

import asyncio


class Looks:
    """Has the gate look when it is told to, and tells when it has."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[asyncio.Event] = asyncio.Queue()

    async def __call__(self) -> None:
        told = asyncio.Event()
        self._waiting.put_nowait(told)
        await told.wait()

    async def one(self) -> None:
        """Have it look once."""
        async with asyncio.timeout(30):
            (await self._waiting.get()).set()

    async def one_that_changes_nothing(self) -> None:
        """Return once it waits for the next look."""
        await self.one()
        async with asyncio.timeout(30):
            following = await self._waiting.get()
        self._waiting.put_nowait(following)
