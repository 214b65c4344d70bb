"""How much one caller may ask for."""

from __future__ import annotations

import time

from cachetools import TTLCache

_CALLERS = 10_000  # remembered at once


class RateLimit:
    """A token bucket for each caller: `rate` requests a second, and `burst` at once."""

    def __init__(self, rate: float, *, burst: float) -> None:
        self._rate = rate
        self._burst = max(burst, 1)
        # A bucket that nobody has drawn from for so long is full again, and needs no memory.
        self._buckets: TTLCache[str, tuple[float, float]] = TTLCache(
            _CALLERS, ttl=self._burst / rate
        )

    def wait(self, caller: str) -> float:
        """Take one request's worth; return 0, or the seconds after which there is one again."""
        now = time.monotonic()
        left, at = self._buckets.get(caller, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        if left < 1:
            return (1 - left) / self._rate
        self._buckets[caller] = left - 1, now
        return 0.0
