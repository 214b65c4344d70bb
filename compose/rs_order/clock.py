"""The stand-in's time: that of the machine, and what is added to it.

Files leave the cache after hours, orders expire after days. Tests don't wait for that: they let
time pass by `Clock.advance`, over HTTP by `POST /control/clock`.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import Callable


class Clock:
    """Seconds that go on with `base`, and timers. Where `base` stands still, only tests move it."""

    def __init__(self, base: Callable[[], float]) -> None:
        self._base = base
        self._added = 0.0
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()  # timers of the same time run in the order of asking
        self._due_at: float | None = None  # of the timer that is running
        self._changed = asyncio.Event()

    def now(self) -> float:
        """Return the seconds since the epoch of `base`; in a timer those at which it is due."""
        return self._real() if self._due_at is None else self._due_at

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Run an action so many seconds from now; after 0 it runs at the next look, not at once."""
        heapq.heappush(self._timers, (self.now() + seconds, next(self._numbers), action))
        self._changed.set()

    def advance(self, seconds: float) -> None:
        """Let time pass, and run what is due meanwhile, each at its time."""
        self._added += seconds
        self.run_due()

    def run_due(self) -> None:
        """Run what is due, and what becomes due by that."""
        while self._timers and self._timers[0][0] <= self._real():
            self._due_at, _, action = heapq.heappop(self._timers)
            try:
                action()
            finally:
                self._due_at = None

    async def run(self) -> None:
        """Run each timer when it is due, for ever."""
        while True:
            self.run_due()
            self._changed.clear()
            pause = self._timers[0][0] - self._real() if self._timers else None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), pause)

    def _real(self) -> float:
        return self._base() + self._added
