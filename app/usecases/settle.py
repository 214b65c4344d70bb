"""What an error means for the delivery that was checked, planned or transferred."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore, Leases, OrderSource
from app.errors import (
    DeliveryError,
    ErrorType,
    LeaseLostError,
    PermanentError,
    RetryableError,
    SourceGoneError,
    SourceUnavailableError,
    WrongBytesError,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.usecases.fail import fail
from app.waiting.backoff import Backoff

log = get_logger(__name__)

_RESTORING = 30.0  # seconds before files are asked for that rs-order makes available again


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """Decides whether a delivery is tried again, and when, or ends."""

    store: DeliveryStore
    leases: Leases
    backoff: Backoff  # between attempts
    attempts: int  # that may fail
    source: OrderSource

    async def settle(self, delivery: Delivery, error: DeliveryError) -> None:
        """Decide what an error of checking, planning or transferring means for the delivery."""
        context = {
            **delivery.log_context,
            "attempt": delivery.attempt,
            "cause": str(error),
        }
        match error:
            case LeaseLostError():
                log.warning("lease_lost", **context)
            case SourceGoneError() if delivery.failures + 1 < self.attempts:
                await self._ask_again(delivery, context, error)
            case PermanentError():
                await self._fail(delivery, error.error_type, error)
            case WrongBytesError():
                if delivery.failures + 1 >= self.attempts:
                    await self._fail(delivery, error.error_type, error)
                else:
                    await self._retry(delivery, context, failed=True)
            case RetryableError() | _:
                asked = error.retry_after if isinstance(error, RetryableError) else None
                await self._retry(delivery, context, failed=False, asked=asked)

    async def _ask_again(
        self, delivery: Delivery, context: dict[str, object], error: SourceGoneError
    ) -> None:
        """Have files made available again that have left rs-order's cache: it takes a while.

        Where rs-order does not do that for the order as it stands, the delivery ends.
        """
        try:
            begun = await self.source.retry(delivery)
        except SourceUnavailableError as away:
            await self._retry(delivery, context | {"cause": f"{error}; {away}"}, failed=False)
            return
        except PermanentError as refused:
            await self._fail(delivery, refused.error_type, refused)
            return
        if not begun:
            await self._fail(delivery, error.error_type, error)
            return
        cause = f"{error}; rs-order makes it available again"
        await self._retry(delivery, context | {"cause": cause}, failed=True, asked=_RESTORING)

    async def _fail(self, delivery: Delivery, error_type: ErrorType, error: DeliveryError) -> None:
        async with self.store.transaction() as tx:
            await fail(tx, delivery, error_type, str(error))

    async def _retry(
        self,
        delivery: Delivery,
        context: dict[str, object],
        *,
        failed: bool,
        asked: float | None = None,
    ) -> None:
        after = timedelta(seconds=self.backoff.pause(delivery.tries, asked))
        log.warning(
            "work_postponed",
            state=delivery.state.value,
            retry_in_seconds=after.total_seconds(),
            **context,
        )
        metrics.POSTPONED.labels(delivery.tenant, delivery.state.value).inc()
        await self.leases.release(delivery, after=after, failed=failed, cause=str(context["cause"]))
