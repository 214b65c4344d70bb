"""The time that what runs in a process has to end, once that is told to stop."""

from __future__ import annotations

import time
from collections.abc import Callable


class Grace:
    """So many seconds, for all of it together: they begin once, as the process begins to stop."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds  # for what is told to stop, be it alone
        self._clock = clock
        self._until: float | None = None

    def begin(self) -> None:
        """Let it begin, unless it has."""
        if self._until is None:
            self._until = self._clock() + self.seconds

    def left(self) -> float:
        """Return the seconds that are left; it begins now, if it has not."""
        self.begin()
        assert self._until is not None  # noqa: S101 - it has begun
        return max(0.0, self._until - self._clock())
