"""Maintenance of a tenant: its new requests wait until it is ended."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime

from app.delivery.pauses import in_words

_RETRY_AFTER = 60  # seconds, where its end is not known, or should have been
_MAX_RETRY_AFTER = 3600  # seconds: it may be over earlier


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintenance:
    """Whether a tenant is in maintenance, since when, and what is said of it."""

    active: bool
    updated_at: datetime  # since when it is so
    reason: str | None = None
    until: datetime | None = None  # when it should be over; it does not end by that
    enabled_by: str | None = None  # None, too: since before this was kept

    @property
    def said(self) -> str | None:
        """What is said of it, in a sentence; PostgreSQL makes the same one."""
        by = None if self.enabled_by is None else f"by {self.enabled_by}"
        until = None if self.until is None else f"until {in_words(self.until)}"
        return ": ".join(filter(None, (" ".join(filter(None, (by, until))), self.reason))) or None

    @property
    def announced(self) -> str:
        """What callers are told of it, behind that it is: not by whom; empty: nothing was said."""
        until = "" if self.until is None else f", announced until {in_words(self.until)}"
        return until + ("" if self.reason is None else f": {self.reason}")

    def retry_after(self, now: datetime) -> int:
        """Return after how many seconds it is worth another try: when it should be over.

        That is an hour, at most; a minute where it was not said, or has passed.
        """
        left = 0 if self.until is None else math.ceil((self.until - now).total_seconds())
        return min(left, _MAX_RETRY_AFTER) if left > 0 else _RETRY_AFTER
