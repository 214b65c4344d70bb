"""Kinds that only a later version knows: left to a worker that knows them, and told once.

While versions change, and after a step back, a worker meets rows that a later version wrote. It
looks past them: they stay as they are, and those behind them are not held up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from app.telemetry.logs import get_logger

log = get_logger(__name__)

_LOOK_INTERVAL = 60.0  # seconds


class LaterKinds:
    """Those that were met in one place. `what` is what its rows are."""

    def __init__(
        self, what: str, *, consequence: str = "they wait for a worker of that version"
    ) -> None:
        self._what = what
        self._consequence = consequence
        self._told: set[str] = set()
        self._look_due_at = -math.inf  # by the monotonic clock

    def take_look(self) -> bool:
        """Begin a look, unless there was one within a minute: each costs a statement."""
        now = time.monotonic()
        if now < self._look_due_at:
            return False
        self._look_due_at = now + _LOOK_INTERVAL
        return True

    def warn(self, kinds: Iterable[str]) -> None:
        """Log those that were not logged yet."""
        new = set(kinds) - self._told
        if not new:
            return
        self._told |= new
        log.warning(
            "database_is_newer",
            cause=f"{self._what} are of a kind that only a later version knows: "
            + ", ".join(sorted(new)),
            consequence=f"{self._consequence}: finish the upgrade",
        )
