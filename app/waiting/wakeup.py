"""A wake-up call inside one process: "there may be work, look again"."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Hashable


class Wakeup:
    """Wakes every waiter; a call that comes while none waits is kept for each `Waiter`.

    Only ever a hint that saves waiting for the next poll: losing one costs time, never work.
    """

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []

    def notify(self, about: Collection[Hashable] | None = None) -> None:
        """Wake all waiters; those alone, if it is given, that wait for one of these, or for any."""
        for waiter in self._waiters:
            if about is None or waiter.about is None or waiter.about in about:
                waiter.event.set()

    def waiter(self, about: Hashable | None = None) -> Waiter:
        """Return a place to wait at; what is notified from now on is not missed."""
        waiter = Waiter(about)
        self._waiters.append(waiter)
        return waiter


class Waiter:
    """One reader of a `Wakeup`."""

    def __init__(self, about: Hashable | None) -> None:
        self.about = about
        self.event = asyncio.Event()

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - a poll interval, not a deadline
        """Return at the next notification, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.event.wait()
        self.event.clear()
