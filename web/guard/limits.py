"""How much one caller may ask for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from cachetools import TTLCache

_MAX_CALLERS = 10_000  # remembered at once


class RateLimit:
    """A token bucket for each caller: `rate` requests a second, and `burst` at once."""

    def __init__(self, rate: float, *, burst: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1)
        # A bucket that no caller has drawn from for so long is full again, and needs no memory.
        self._buckets: TTLCache[str, tuple[float, float]] = TTLCache(
            _MAX_CALLERS, ttl=self._burst / rate
        )

    def wait(self, caller: str) -> float:
        """Take one request's worth; return 0, or the seconds after which there is one again."""
        now = time.monotonic()
        tokens, at = self._buckets.get(caller, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        if tokens < 1:
            return (1 - tokens) / self._rate
        self._buckets[caller] = tokens - 1, now
        return 0.0


@dataclass
class _Queue:
    """One caller's requests."""

    turns: asyncio.Semaphore
    inside: int = 0  # that have a turn, or wait for one


class Turns:
    """Each caller has `at_once` turns; `waiting` more requests may wait for one."""

    def __init__(self, at_once: int, *, waiting: int = 0) -> None:
        self._at_once = at_once
        self._most = at_once + waiting
        self._callers: dict[str, _Queue] = {}

    @contextlib.asynccontextmanager
    async def taken(self, caller: str) -> AsyncIterator[bool]:
        """Have a turn within the block; False when too many wait already."""
        queue = self._callers.setdefault(caller, _Queue(asyncio.Semaphore(self._at_once)))
        if queue.inside >= self._most:
            yield False
            return
        queue.inside += 1
        try:
            async with queue.turns:
                yield True
        finally:
            queue.inside -= 1
            if not queue.inside:
                del self._callers[caller]


@dataclass(frozen=True, kw_only=True)
class CallerLimits:
    """What holds for each caller, and for all of them together."""

    rate: RateLimit
    requests: Turns  # under way
    streams: Turns  # open
    all_streams: Turns  # in this process; of one key for all callers
