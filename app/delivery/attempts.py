"""Attempts of transfers: what came of each, and how far each got."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from cachetools import LRUCache

from app.delivery.model import Delivery
from app.delivery.progress import Progress

# Of a delivery, these are kept of its attempts; see the migration 0076.
FIRST_KEPT, LAST_KEPT = 10, 90
_REMEMBERED = 1000  # transfers of this worker


class AttemptOutcome(StrEnum):
    """What came of an attempt."""

    DONE = "done"  # its archive is delivered
    ERROR = "error"  # its delivery ended in ERROR, by the attempt or from outside
    POSTPONED = "postponed"  # it was given up, and another follows after a pause
    PARKED = "parked"  # it archived all that there was, and more of its order is to come
    HANDED_OVER = "handed_over"  # its worker let go; another may go on at once
    LOST = "lost"  # its worker fell silent, and another took over


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """An attempt of a transfer."""

    attempt: int  # of the delivery, from 1
    worker: str
    target: str
    began: datetime
    ended: datetime | None = None  # None: it is under way
    outcome: str | None = None  # as it is written: also one of a later version
    code: str | None = None  # of the cause
    cause: str | None = None
    bytes: int | None = None  # of its files that were archived by then


def unknown(_delivery: Delivery) -> int | None:
    """Return that it is not known how far an attempt is."""
    return None


class Archived:
    """How far each transfer of this worker is, by its last report."""

    def __init__(self) -> None:
        self._last: LRUCache[UUID, tuple[int, int]] = LRUCache(_REMEMBERED)

    def report(self, progress: Progress) -> None:
        """Keep a report, in place of the one before. Does not block."""
        if progress.delivery is not None:
            self._last[progress.delivery] = progress.attempt, progress.bytes_done

    def of(self, delivery: Delivery) -> int | None:
        """Return the bytes of its files that this attempt, or one before, has archived."""
        attempt, archived = self._last.get(delivery.id, (None, None))
        return archived if attempt == delivery.attempt else None
