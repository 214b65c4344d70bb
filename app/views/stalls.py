"""Transfers that stall: a worker is at them, and no byte has come for long.

That only the reports of workers tell, which are in no row. So what the store finds to move is held
against them, by the rule of a delivery's own page (`activity_of`): there is no other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.delivery.model import Delivery
from app.delivery.progress import Progress
from app.delivery.states import State
from app.views.deliveries import Activity, Filter, Tracked, Tracking, activity_of
from app.views.progress import ProgressView, stalled_for

_PAGE_SIZE = 500  # deliveries that move, at a time; there are no more of them than slots

ReportOf = Callable[[Delivery], Progress | None]
Place = tuple[datetime, UUID]


@dataclass(frozen=True, kw_only=True, slots=True)
class StalledNow:
    """How many stall."""

    transfers: int
    longest: float  # seconds for which the one has had no byte that has had none for longest


def progress_now(tracked: Tracked, report_of: ReportOf) -> ProgressView | None:
    """Return how far the attempt under way is, if that is known."""
    if tracked.delivery.state is not State.TRANSFERRING or tracked.delivery.parked:
        return None
    progress = report_of(tracked.delivery)
    if progress is None or progress.attempt != tracked.delivery.attempt:
        return None
    return ProgressView.of(progress)


class Stalls:
    """Finds them. `reports` gives the last of each transfer, `report_of` that of one."""

    def __init__(
        self,
        tracking: Tracking,
        *,
        reports: Callable[[], Sequence[Progress]],
        report_of: ReportOf,
    ) -> None:
        self._tracking = tracking
        self._reports = reports
        self.report_of = report_of

    async def now(self, tenant: str) -> StalledNow | None:
        """Return how many of a tenant's transfers stall; None: none of them does."""
        silent = [
            progress.stalled_for
            for tracked in await self._found(tenant, Filter())
            if (progress := progress_now(tracked, self.report_of)) is not None
            and progress.stalled_for is not None
        ]
        return StalledNow(transfers=len(silent), longest=max(silent)) if silent else None

    async def browse(
        self, tenant: str, wanted: Filter, *, before: Place | None, limit: int
    ) -> list[Tracked]:
        """Return a tenant's deliveries as `Tracking.browse` does, and those that stall."""
        asked = set(wanted.activities or ())
        if Activity.STALLED not in asked or Activity.MOVING in asked:
            return await self._tracking.browse([tenant], wanted, before=before, limit=limit)
        found = [
            tracked
            for tracked in await self._found(tenant, wanted)
            if before is None or _place(tracked) < before
        ]
        if others := asked - {Activity.STALLED}:
            rest = wanted.model_copy(update={"activities": sorted(others)})
            found += await self._tracking.browse([tenant], rest, before=before, limit=limit)
        return sorted(found, key=_place, reverse=True)[:limit]

    async def _found(self, tenant: str, wanted: Filter) -> list[Tracked]:
        """Return those that stall and fit, but for what goes on with them, the newest first."""
        if not any(
            report.tenant == tenant and stalled_for(report) is not None
            for report in self._reports()
        ):
            return []
        moving = wanted.model_copy(update={"activities": [Activity.MOVING]})
        found: list[Tracked] = []
        page: list[Tracked] | None = None
        while page is None or len(page) == _PAGE_SIZE:
            before = _place(page[-1]) if page else None
            page = await self._tracking.browse([tenant], moving, before=before, limit=_PAGE_SIZE)
            found += page
        return [tracked for tracked in found if self._stalls(tracked)]

    def _stalls(self, tracked: Tracked) -> bool:
        return activity_of(tracked, progress_now(tracked, self.report_of)) is Activity.STALLED


def _place(tracked: Tracked) -> Place:
    return tracked.delivery.requested_at, tracked.delivery.id
