"""Kinds that only a later version knows: left to a worker that knows them, and told once.

While versions change, and after a step back, a worker meets rows that a later version wrote. It
looks past them: they stay as they are, and those behind them are not held up.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.telemetry.logs import get_logger

log = get_logger(__name__)


class LaterKinds:
    """Those that were met in one table. `what` is what its rows are."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._told: set[str] = set()

    def tell(self, kinds: Iterable[str]) -> None:
        """Log those that were not told yet."""
        new = set(kinds) - self._told
        if not new:
            return
        self._told |= new
        log.warning(
            "database_is_newer",
            cause=f"{self._what} are of a kind that only a later version knows: "
            + ", ".join(sorted(new)),
            consequence="they wait for a worker of that version: finish the upgrade",
        )
