"""Dead letters as operators see them: AMQP messages and events alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A message that could not be answered, or an event that no agent could handle."""

    id: str  # the same at each look; `amqp:…` or `event:…`
    place: str  # the dead-letter queue, or the topic it was in
    tenant: str | None  # where it can be read
    correlation_id: str | None
    at: datetime | None
    size: int  # bytes
    reason: str
    text: str  # its beginning, as text
    owner: str | None = None  # whose administrators may see it; None: the instance's alone


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetterList:
    """What was seen."""

    dead_letters: Sequence[DeadLetter]
    truncated: bool  # there are more, or may be


# Records in the audit trail that a dead letter goes back to a place, unless the block raises.
Audited = Callable[[DeadLetter, str], AbstractAsyncContextManager[None]]


class DeadLetterStore(Protocol):
    """Where dead letters are."""

    async def look(self, tenant: str | None) -> DeadLetterList:
        """Return the letters that a tenant owns; for None all of them. Raises DeliveryError."""

    async def requeue(
        self, tenant: str | None, ids: Sequence[str], *, audited: Audited
    ) -> dict[str, str]:
        """Put letters back; return where each went. Raises DeliveryError, for all or none known."""
