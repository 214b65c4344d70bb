"""A wake-up call inside one process: "there may be work, look again"."""

from __future__ import annotations

import asyncio
import contextlib


class Wakeup:
    """Wakes every waiter; a call that comes while none waits is kept for each `Waiter`.

    Only ever a hint that saves waiting for the next poll: losing one costs time, never work.
    """

    def __init__(self) -> None:
        self._waiters: list[Waiter] = []

    def notify(self) -> None:
        """Wake all waiters."""
        for waiter in self._waiters:
            waiter.event.set()

    def waiter(self) -> Waiter:
        """Return a place to wait at; what is notified from now on is not missed."""
        waiter = Waiter()
        self._waiters.append(waiter)
        return waiter


class Waiter:
    """One reader of a `Wakeup`."""

    def __init__(self) -> None:
        self.event = asyncio.Event()

    async def wait(self, timeout: float) -> None:  # noqa: ASYNC109 - a poll interval, not a deadline
        """Return at the next notification, or after `timeout` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.event.wait()
        self.event.clear()
