"""Who may let an archive appear: the holder of the lease of a delivery that has not ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from app.delivery.lease import Lease
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.ports import Leases
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
    asked: int = field(default=0, init=False)  # times that it was allowed

    async def allowed(self, result: StoredObject) -> bool:
        """Whether the object may appear now; it is noted that it may.

        The clock says that the lease holds; the database, that the delivery has not ended. Raises
        LeaseLostError when the database is silent for as long as the lease holds, EndingError when
        the delivery is to end: what was asked for before is looked at, and no more asked for.
        """
        if not self.lease.safe_to_complete():
            return False
        note = partial(
            self.leases.record_completion,
            self.delivery,
            result,
            namespace=self.namespace,
            until=self.within,
        )
        try:
            noted = await until_answered(note, good=self.lease.safe_to_complete)
        except StoreUnavailableError as error:
            raise LeaseLostError(
                f"the lease of {self.delivery} ran out before its completion: {error}"
            ) from error
        if noted:
            self.asked += 1
            self.lease.completes()
        return noted
