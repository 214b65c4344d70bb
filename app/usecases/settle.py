"""What an error means for the delivery that was checked, planned or transferred."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from app.codes import Code
from app.delivery import outgoing
from app.delivery.model import Delivery
from app.delivery.notices import Tell, of_error, silent
from app.delivery.outgoing import Kind
from app.delivery.ports import DeliveryStore, Leases, OrderSource
from app.delivery.report_document import Failure
from app.delivery.states import State, Work
from app.errors import (
    DeliveryError,
    EmptyOrderError,
    EndingError,
    ErrorType,
    IncompleteOrderError,
    LeaseLostError,
    NothingAvailableError,
    OrderFailedError,
    PausedError,
    PermanentError,
    RetryableError,
    SourceGoneError,
    SourceRefusedError,
    SourceUnavailableError,
    StoreUnavailableError,
    WorkerStoppedError,
    WrongBytesError,
    WrongCrc32Error,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.usecases.fail import fail
from app.usecases.leaving_out import tell_left_out
from app.usecases.reports import Reports, report_on
from app.usecases.retried import next_retry
from app.waiting.backoff import Backoff

log = get_logger(__name__)

_RESTORING = 30.0  # seconds before files are asked for that rs-order makes available again
# What comes of an order that ended with errors.
_OF_THE_ORDER = (
    EmptyOrderError,
    IncompleteOrderError,
    NothingAvailableError,
    SourceRefusedError,
)
# What wakes the workers for a piece of work; they look for checks by themselves.
_WAKES: Mapping[Work | None, Kind] = {Work.PLAN: Kind.ORDER_READY, Work.TRANSFER: Kind.TRANSFER}


@dataclass(frozen=True, kw_only=True)
class Settlement:
    """Decides whether a delivery is tried again, and when, or ends."""

    store: DeliveryStore
    leases: Leases
    backoff: Backoff  # between attempts
    attempts: int  # that may fail
    source: OrderSource
    tell: Tell = silent  # operators, what they must act on
    reports: Reports | None = None  # of those that fail

    async def settle(self, delivery: Delivery, error: DeliveryError) -> None:
        """Decide what an error of checking, planning or transferring means for the delivery."""
        context = {
            **delivery.log_context,
            "attempt": delivery.attempt,
            **_why(str(error), error.code),
        }
        self._tell_operators(delivery, error)
        match error:
            case LeaseLostError():
                log.warning("lease_lost", **context)
            case EndingError():
                await self._end(delivery, error)
            case SourceGoneError() if (number := next_retry(delivery, error)) is not None:
                await self._ask_again(delivery, context, error, number)
            case SourceGoneError():
                again = f"its order was retried {delivery.retries} times, and the archive got no"
                advice = "further: ask again, for less data at once"
                gone = SourceGoneError(f"{error}; {again} {advice}")
                await self._fail(delivery, error.error_type, gone)
            case PermanentError():
                await self._fail(delivery, error.error_type, error)
            case WrongCrc32Error() if await self._forgets_crc32s(delivery, context):
                await self._retry(delivery, context, failed=False)
            case WrongBytesError():
                if delivery.failures + 1 >= self.attempts:
                    await self._fail(delivery, error.error_type, error)
                else:
                    await self._retry(delivery, context, failed=True)
            case WorkerStoppedError():
                await self._hand_over(delivery, context, wakes=not isinstance(error, PausedError))
            case RetryableError() | _:
                asked = error.retry_after if isinstance(error, RetryableError) else None
                await self._retry(delivery, context, failed=False, asked=asked)

    def _tell_operators(self, delivery: Delivery, error: DeliveryError) -> None:
        notice = of_error(delivery, error)
        if notice is not None:
            self.tell(notice)

    async def _forgets_crc32s(self, delivery: Delivery, context: dict[str, object]) -> bool:
        """Believe no CRC-32 that was told of the delivery's files any more, where there is an MD5.

        So what rs-order's catalogue makes another way, or has kept of an older file, costs one
        attempt, and fails no delivery; a file that is wrong fails by its MD5. It is committed
        before the attempt lets go: the next one, if another worker claims it, knows none of them.

        False when there were none, or the attempt is over: it is decided as of any wrong file.
        """
        async with self.store.transaction() as tx:
            current = await tx.lock(delivery.tenant, delivery.correlation_id)
            if current is None or (current.id, current.attempt) != (delivery.id, delivery.attempt):
                return False
            if not await tx.forget_crc32s(delivery):
                return False
        consequence = "the next attempt goes by size and MD5"
        log.warning("told_crc32s_forgotten", **context, consequence=consequence)
        return True

    async def _ask_again(
        self,
        delivery: Delivery,
        context: dict[str, object],
        error: SourceGoneError,
        number: int,
    ) -> None:
        """Have files made available again that have left rs-order's cache: it takes a while.

        Where rs-order does not do that for the order as it stands, the delivery ends. It is this
        retry of those after which the archive got no further.
        """
        try:
            begun = await self.source.retry(delivery)
        except SourceUnavailableError as away:
            await self._retry(delivery, context | _why(f"{error}; {away}", away.code), failed=False)
            return
        except PermanentError as refused:
            if await self._may_come_yet(delivery, context, f"{error}; {refused}"):
                return
            if not await self._goes_on_without(delivery, error, str(refused)):
                await self._fail(delivery, refused.error_type, refused)
            return
        if not begun:
            stays = f"{error}; as the order stands, rs-order does not make it available again"
            if await self._may_come_yet(delivery, context, stays):
                return
            if await self._goes_on_without(delivery, error, stays):
                return
            await self._fail(delivery, error.error_type, SourceGoneError(f"{stays}: ask again"))
            return
        cause = f"{error}; rs-order makes it available again"
        position = -1 if error.position is None else error.position
        retried = number, max(delivery.retried_for, position)
        context |= {**_why(cause, Code.SOURCE_NOT_READY), "order_retry": number}
        await self._retry(delivery, context, failed=False, asked=_RESTORING, retried=retried)

    async def _may_come_yet(
        self, delivery: Delivery, context: dict[str, object], cause: str
    ) -> bool:
        """Wait with a partial delivery whose order goes on: until its end nothing is retried.

        So a file that has only expired is left out of no archive.
        """
        if not delivery.partial or delivery.order_done:
            return False
        cause += ", while more of the order comes"
        context = context | _why(cause, Code.SOURCE_NOT_READY)
        await self._retry(delivery, context, failed=False, asked=_RESTORING)
        return True

    async def _goes_on_without(
        self, delivery: Delivery, error: SourceGoneError, cause: str
    ) -> bool:
        """Let a partial delivery go on at once without a file that does not come again."""
        if not delivery.partial or error.position is None:
            return False
        if await self.leases.leave_out(delivery, error.position, cause):
            tell_left_out(delivery, error.position, error, cause)
            await self.leases.release(
                delivery, after=timedelta(), failed=False, tried=False, cause=cause, code=error.code
            )
        return True

    async def _nothing(self, delivery: Delivery) -> NothingAvailableError:
        """Return what is told of a delivery of which each file is missing."""
        missing = await self.store.missing_so_far(delivery)
        order, why = f"order {delivery.order_id}", missing.cause
        if missing.files > 1:
            return NothingAvailableError(
                f"each of the {missing.files} files of {order} is missing, so nothing is "
                f"delivered; most of them because {why}"
            )
        return NothingAvailableError(f"the one file of {order} is missing: {why}")

    async def _fail(self, delivery: Delivery, error_type: ErrorType, error: DeliveryError) -> None:
        if isinstance(error, NothingAvailableError):
            error = await self._nothing(delivery)
        failure = Failure.of(*_told(delivery, error_type, error), error)
        async with (
            report_on(self.reports, delivery, failure) as report,
            self.store.transaction() as tx,
        ):
            current: Delivery | None = delivery
            # How it ends may have been noted meanwhile.
            if delivery.state is State.TRANSFERRING or report is not None:
                current = await tx.lock(delivery.tenant, delivery.correlation_id)
            if current is None or (current.id, current.attempt) != (delivery.id, delivery.attempt):
                return
            told = _told(current, error_type, error)
            await fail(tx, current, *told, code=error.code, lets_go=True, report=report)

    async def _end(self, delivery: Delivery, error: EndingError) -> None:
        """End what was claimed to look for its archive, which is not there; else let it be claimed.

        It was noted during this attempt then; the next one fences this one off, and looks.
        """
        ending = delivery.ending
        if ending is None:
            await self.leases.release(
                delivery, after=timedelta(), failed=False, cause=str(error), code=error.code
            )
            return
        failure = Failure(error_type=ending.error_type, message=ending.message)
        async with (
            report_on(self.reports, delivery, failure) as report,
            self.store.transaction() as tx,
        ):
            if report is not None:
                current = await tx.lock(delivery.tenant, delivery.correlation_id)
                if current is None or current.id != delivery.id:
                    return
            ends = ending.error_type, ending.message
            await fail(tx, delivery, *ends, code=ending.code, decided=True, report=report)

    async def _hand_over(
        self, delivery: Delivery, context: dict[str, object], *, wakes: bool
    ) -> None:
        """Let another worker take it at once: nothing was wrong with it, nor with its peers.

        Where it is paused, none is woken: whichever worker claims it, once it is not, goes on.
        """
        event = "work_handed_over" if wakes else "work_paused"
        log.info(event, state=delivery.state.value, **context)
        metrics.POSTPONED.labels(delivery.tenant, delivery.target, delivery.state.value).inc()
        await self.leases.release(
            delivery,
            after=timedelta(),
            failed=False,
            tried=False,
            cause=str(context["cause"]),
            code=str(context["code"]),
        )
        kind = _WAKES.get(delivery.state.work)
        if kind is None or not wakes:
            return
        try:
            async with self.store.transaction() as tx:
                await tx.hint(outgoing.wake(delivery, kind))
        except StoreUnavailableError as error:
            # It is due all the same: the others find it when they look by themselves.
            log.warning("wake_not_sent", **delivery.log_context, cause=str(error))

    async def _retry(
        self,
        delivery: Delivery,
        context: dict[str, object],
        *,
        failed: bool,
        asked: float | None = None,
        retried: tuple[int, int] | None = None,
    ) -> None:
        after = timedelta(seconds=self.backoff.pause(delivery.tries, asked))
        log.warning(
            "work_postponed",
            state=delivery.state.value,
            retry_in_seconds=after.total_seconds(),
            **context,
        )
        metrics.POSTPONED.labels(delivery.tenant, delivery.target, delivery.state.value).inc()
        await self.leases.release(
            delivery,
            after=after,
            failed=failed,
            cause=str(context["cause"]),
            code=str(context["code"]),
            retried=retried,
        )


def _why(cause: str, code: Code) -> dict[str, str]:
    return {"cause": cause, "code": code.value}


def _told(delivery: Delivery, error_type: ErrorType, error: DeliveryError) -> tuple[ErrorType, str]:
    """Return what a client is told of an error, with what rs-order said of its order."""
    message = str(error)
    if delivery.order_error is not None and isinstance(error, OrderFailedError):
        return delivery.order_error.error_type, message
    if delivery.order_error is not None and isinstance(error, _OF_THE_ORDER):
        message += f"; rs-order said that {delivery.order_error.message}"
        if error_type is ErrorType.INTERNAL_ERROR:
            error_type = delivery.order_error.error_type
    return error_type, message
