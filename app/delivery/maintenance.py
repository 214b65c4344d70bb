"""Maintenance of a tenant: its new requests wait until it is ended."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from app.delivery.pauses import in_words


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
