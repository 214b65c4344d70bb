"""Who may let an archive appear: the holder of the lease of a delivery that has not ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from app.delivery.lease import Lease
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.ports import Allowed, Leases
from app.errors import LeaseLostError, StoreUnavailableError
from app.waiting.patience import until_answered


@dataclass(kw_only=True)
class CompletionGuard:
    """The completion of one upload, which may be asked for several times."""

    delivery: Delivery
    namespace: str  # of the target: where the object appears
    leases: Leases
    lease: Lease
    within: timedelta  # after that, what was asked for has happened, or never will
    # Removes a manifest that tells of what is replaced: before the object appears. Done always, or
    # (`listed`) only where an archive is replaced.
    clear: Callable[[], Awaitable[None]]
    listed: bool = False
    # Removes a report of a failure that this delivery makes up for, where there may be one.
    clear_report: Callable[[], Awaitable[None]] | None = None
    asked: int = field(default=0, init=False)  # times that it was allowed
    _cleared: bool = field(default=False, init=False)

    async def allowed(self, result: StoredObject) -> bool:
        """Whether the object may appear now; it is noted that it may.

        The clock says that the lease holds; the database, that the delivery has not ended. Raises
        LeaseLostError when the database is silent for as long as the lease holds, EndingError when
        the delivery is to end: what was asked for before is looked at, and no more asked for; and
        what a store raises that is asked to remove an earlier manifest.
        """
        noted = await self._note(result)
        if noted is None:
            return False
        self.asked += 1
        self.lease.completes()
        if not self._cleared and (noted.replaces_archive or not self.listed):
            await self.clear()
            if not self.lease.safe_to_complete():
                return False
        if not self._cleared and noted.replaces_report and self.clear_report is not None:
            await self.clear_report()
            if not self.lease.safe_to_complete():
                return False
        self._cleared = True
        return True

    async def _note(self, result: StoredObject) -> Allowed | None:
        if not self.lease.safe_to_complete():
            return None
        note = partial(
            self.leases.record_completion,
            self.delivery,
            result,
            namespace=self.namespace,
            until=self.within,
        )
        try:
            return await until_answered(note, good=self.lease.safe_to_complete)
        except StoreUnavailableError as error:
            raise LeaseLostError(
                f"the lease of {self.delivery} ran out before its completion: {error}"
            ) from error
