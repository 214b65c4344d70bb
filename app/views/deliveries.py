"""Deliveries as they are looked at: where each stands, how it got there, who works on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.states import State
from app.delivery.targets import StoredObject
from app.errors import ErrorType

_SILENT = 60.0  # seconds after which a worker counts as gone; it tells every ten


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracked:
    """A delivery with what its work doesn't need, and its observers do."""

    delivery: Delivery
    updated_at: datetime
    state_since: datetime  # attempts that are given up do not change it
    not_before: datetime  # the next attempt, where one is due
    finished_at: datetime | None
    worker: str | None  # who works on it now
    result: StoredObject | None
    error: tuple[ErrorType, str] | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.delivery.state.ended

    @property
    def since(self) -> datetime:
        """Since when it is in its state."""
        return self.finished_at or self.state_since


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A delivery came into a state, or an attempt in it was given up."""

    id: int  # grows; within a delivery in the order of the steps
    state: State
    attempt: int
    at: datetime
    cause: str | None = None  # why the attempt was given up; None: it came into the state


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A step, with the delivery as it is now (which may be further); its `order` is not read."""

    step: Step
    tracked: Tracked


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which deliveries are looked for; None is any."""

    tenants: Sequence[str]
    states: Sequence[State] | None = None
    user: str | None = None
    since: datetime | None = None  # requested then or later
    until: datetime | None = None  # requested earlier
    text: str | None = None  # in correlation id, archive name or cause; case does not matter


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerSeen:
    """A worker, by its own word."""

    id: str
    version: str
    started_at: datetime
    seen_at: datetime
    silent_for: float  # seconds
    slots: int
    running: int  # transfers

    @property
    def alive(self) -> bool:
        """Whether it told lately that it is there."""
        return self.silent_for < _SILENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """What waits, or is under way, of one kind."""

    tenant: str
    state: State
    deliveries: int
    oldest: float  # seconds that the oldest has been in this state


@dataclass(frozen=True, kw_only=True, slots=True)
class Owed:
    """Messages that no broker has confirmed yet."""

    lane: str
    messages: int
    oldest: float  # seconds that the oldest is overdue


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """Deliveries that ended alike."""

    state: State
    error_type: ErrorType | None
    deliveries: int
    bytes: int  # of their source files
    median_seconds: float  # from request to end


class Tracking(Protocol):
    """Where deliveries are looked up."""

    async def browse(
        self, wanted: Filter, *, before: tuple[datetime, UUID] | None, limit: int
    ) -> list[Tracked]:
        """Return deliveries, the newest first: those before a time of request and an id.

        Their `order` is not read: lists don't show it.
        """

    async def of(self, tenant: str, correlation_id: str) -> list[Tracked]:
        """Return every delivery of a correlation id that is still kept, the newest first."""

    async def one(self, tenant: str, delivery: UUID) -> Tracked | None:
        """Return a delivery by its id; None if the tenant has none of this id, or no longer."""

    async def steps(self, delivery: UUID) -> list[Step]:
        """Return how a delivery got where it is."""

    async def manifest(self, delivery: UUID, *, after: int, limit: int) -> list[ManifestFile]:
        """Return files of a delivery after a position (-1: from the first)."""


class Changes(Protocol):
    """What happens to all deliveries, as a stream to follow."""

    async def last(self) -> int:
        """Return the number of the newest step."""

    async def since(self, last: int, *, missing: Sequence[int], limit: int) -> list[Change]:
        """Return steps after `last`, and those of the `missing` numbers that are there now."""

    async def replay(self, tenant: str, last: int, *, limit: int) -> list[Change]:
        """Return a tenant's steps after `last`; some of the moments before it may come again."""


class Overview(Protocol):
    """Figures of everything at once."""

    async def workers(self) -> list[WorkerSeen]:
        """Return the workers that there are, or were until a day ago."""

    async def depths(self) -> list[Depth]:
        """Return how many deliveries of each tenant are in each state before the end."""

    async def owed(self) -> list[Owed]:
        """Return how many messages wait to be confirmed."""

    async def outcomes(self, tenants: Sequence[str], *, since: datetime) -> list[Outcome]:
        """Return what became of deliveries that ended since then."""


def to_json(tracked: Tracked) -> dict[str, Any]:
    """Return a delivery as it is shown everywhere: HTTP, events, command line."""
    delivery = tracked.delivery
    shown: dict[str, Any] = {
        "id": str(delivery.id),
        "tenant": delivery.tenant,
        "correlationId": delivery.correlation_id,
        "state": delivery.state.value,
        "user": delivery.user,
        "target": delivery.target,
        "originApp": delivery.origin_app,
        "priority": delivery.priority,
        "requestedAt": _time(delivery.requested_at),
        "expiresAt": _time(delivery.expires_at),
        "updatedAt": _time(tracked.updated_at),
        "stateSince": _time(tracked.since),
        "finishedAt": _time(tracked.finished_at),
        "orderId": delivery.order_id,
        "totalSubOrders": delivery.total_suborders,
        "archiveName": delivery.archive_name,
        "files": delivery.file_count,
        "bytes": delivery.total_bytes,
        "attempt": delivery.attempt,
        "worker": tracked.worker,
    }
    if not tracked.ended and delivery.last_cause is not None:
        shown["lastCause"] = delivery.last_cause
        if tracked.worker is None:
            shown["nextAttemptAt"] = _time(tracked.not_before)
    if tracked.result is not None:
        shown |= {
            "url": tracked.result.url,
            "md5": tracked.result.md5,
            "archiveBytes": tracked.result.size,
        }
    if tracked.error is not None:
        shown |= {"errorType": tracked.error[0].value, "errorMessage": tracked.error[1]}
    return {name: value for name, value in shown.items() if value is not None}


def _time(at: datetime | None) -> str | None:
    return at.isoformat(timespec="milliseconds") if at else None
