"""A partial delivery is made without files that can't be had: which, and when that is decided.

Those for which it would end without an archive else: a file that rs-order refused, or whose bytes
were wrong, as often as attempts may fail (one answer may be a gateway's), and one that it had and
does not make available again. What passes (rs-order is away, the worker stops) leaves out none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial

from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore, Leases, OrderSource
from app.errors import (
    DeliveryError,
    LeaseLostError,
    SourceGoneError,
    SourceRefusedError,
    SourceUnavailableError,
    WrongCrc32Error,
    WrongFileError,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.usecases.retried import next_retry
from app.waiting.patience import until_answered

log = get_logger(__name__)


def of_a_file(error: BaseException) -> int | None:
    """Return the position of the file that an error says can't be had; None: it is another one.

    A CRC-32 that is wrong beside an MD5 may have been told wrongly: that is decided for all files.
    """
    if isinstance(error, WrongCrc32Error):
        return None
    return error.position if isinstance(error, SourceRefusedError | WrongFileError) else None


@dataclass(frozen=True, kw_only=True)
class LeavingOut:
    """See `ports.LeavesOut`: of an attempt to make a partial delivery's archive."""

    store: DeliveryStore
    leases: Leases
    delivery: Delivery
    lease: Lease
    source: OrderSource
    attempts: float  # to read a file that is refused, or whose bytes are wrong

    async def leaves_out(self, file: ManifestFile, error: DeliveryError) -> bool:
        """Whether a file is left out whose bytes can't be had: it is noted then."""
        return await self.decides(file.position, error)

    def missing(self) -> AsyncIterator[MissingFile]:
        """Iterate over all that the delivery is without."""
        return self.store.missing(self.delivery)

    async def decides(self, position: int, error: DeliveryError) -> bool:
        """Whether the file at a position of the manifest is left out: it is noted then."""
        if isinstance(error, SourceGoneError):
            if next_retry(self.delivery, error) is not None:
                return False
        elif await self._times(position) < self.attempts:
            refused = isinstance(error, SourceRefusedError)
            what = "file_refused" if refused else "file_wrong"
            log.warning(what, **self.delivery.log_context, cause=str(error))
            return False
        elif isinstance(error, SourceRefusedError):
            await self._check_order(error)
        await leave_out(self.leases, self.delivery, self.lease, position, error)
        return True

    async def _check_order(self, error: DeliveryError) -> None:
        """Raise SourceUnavailableError where rs-order refuses the order itself, too.

        Then it is no matter of one file: a gateway without a server behind it says 404 to all.
        """
        try:
            await self.source.order(self.delivery)
        except SourceRefusedError as refused:
            raise SourceUnavailableError(
                f"{error}; and its order is refused, too ({refused}): no file is left out for that"
            ) from error

    async def _times(self, position: int) -> int:
        """Return how often this file could not be had by now; 0: it is left out already."""
        good = self.lease.safe_to_complete
        known = await until_answered(
            partial(self.leases.failures_of, self.delivery, position), good=good
        )
        if known is None:
            return 0
        times = known + 1  # by this attempt, which alone holds the lease
        record = partial(self.leases.record_failures, self.delivery, position, times)
        if not await until_answered(record, good=good):
            raise _taken_over(self.delivery)
        return times

    async def members_before(self, position: int) -> int:
        """Return how many members an archive has before the file at a position."""
        missing = 0
        async for file in self.store.missing(self.delivery):
            if file.position is None or file.position >= position:
                break
            missing += 1
        return position - missing


async def leave_out(
    leases: Leases, delivery: Delivery, lease: Lease, position: int, error: DeliveryError
) -> None:
    """Note that a file is missing, before an archive goes on without it.

    Raises LeaseLostError, StoreUnavailableError.
    """
    cause = str(error)
    note = partial(leases.leave_out, delivery, position, cause)
    if not await until_answered(note, good=lease.safe_to_complete):
        raise _taken_over(delivery)
    tell_left_out(delivery, position, error, cause)


def tell_left_out(delivery: Delivery, position: int, error: DeliveryError, cause: str) -> None:
    """Log that a file was left out for an error, and count it by what that is."""
    kind = "refused"
    if isinstance(error, SourceGoneError):
        kind = "expired"
    elif isinstance(error, WrongFileError):
        kind = "wrong"
    metrics.FILES_LEFT_OUT.labels(delivery.tenant, kind).inc()
    log.warning("file_left_out", **delivery.log_context, position=position, cause=cause)


def _taken_over(delivery: Delivery) -> LeaseLostError:
    return LeaseLostError(f"{delivery} was taken over while a file of it was left out")
