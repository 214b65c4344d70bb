"""Clients of stores that are kept open: one for each way in, shared by all its calls."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)  # what a client is opened for: where, and how it signs in
ClientT = TypeVar("ClientT")

_IDLE_TIMEOUT = 600.0  # seconds
_MAX_CLIENTS = 50  # open at once


@dataclass
class _Kept(Generic[ClientT]):
    """An open client."""

    client: ClientT
    closing: contextlib.AsyncExitStack
    calls: int = 0  # that are under way
    used: float = 0.0  # when the last one ended


class KeptClients(Generic[KeyT, ClientT]):
    """Opens clients when they are asked for.

    One that was not used for `idle` seconds is closed when the next is opened: secrets change, and
    targets go. So is the one that was used longest ago where there are more than `most`; none that
    is in use is closed.
    """

    def __init__(self, *, idle: float = _IDLE_TIMEOUT, most: int = _MAX_CLIENTS) -> None:
        self._idle = idle
        self._most = most
        self._kept: dict[KeyT, _Kept[ClientT]] = {}
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    @contextlib.asynccontextmanager
    async def of(
        self, key: KeyT, make: Callable[[contextlib.AsyncExitStack], Awaitable[ClientT]]
    ) -> AsyncIterator[ClientT]:
        """Give the client of a key for one call.

        Where there is none, `make` makes it, and puts what closes it on the stack that it is given;
        what it raises is raised.
        """
        async with self._opening:
            kept = self._kept.get(key)
            if kept is None:
                await self._close(before=time.monotonic() - self._idle)
                async with contextlib.AsyncExitStack() as closing:
                    client = await make(closing)
                    kept = self._kept[key] = _Kept(client=client, closing=closing.pop_all())
            kept.calls += 1
        try:
            yield kept.client
        finally:
            kept.calls -= 1
            kept.used = time.monotonic()

    async def _close(self, *, before: float) -> None:
        """Close what was last used before a time, and what are too many beside one more."""
        idle = sorted(
            ((kept.used, key) for key, kept in self._kept.items() if not kept.calls),
            key=lambda entry: entry[0],
        )
        for used, key in idle:
            if used <= before or len(self._kept) >= self._most:
                await self._kept.pop(key).closing.aclose()

    async def aclose(self) -> None:
        """Close all."""
        while self._kept:
            _, kept = self._kept.popitem()
            await kept.closing.aclose()
