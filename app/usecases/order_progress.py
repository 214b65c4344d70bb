"""rs-order told something about an order: move its delivery on, or end it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeGuard

from app.codes import Code
from app.delivery import outgoing
from app.delivery.model import Delivery
from app.delivery.orders import ANSWER_PATIENCE, OrderEvent, OrderStatus
from app.delivery.outgoing import Kind
from app.delivery.ports import DeliveryStore, UnitOfWork
from app.delivery.segments import too_many_suborders
from app.delivery.states import State
from app.errors import ErrorType, as_cause
from app.telemetry.logs import get_logger
from app.usecases.fail import fail

log = get_logger(__name__)

_MAPPED = {
    error.value: error
    for error in (
        ErrorType.FORBIDDEN,
        ErrorType.EMPTY_ORDER,
        ErrorType.INVALID_CONTENT,
        ErrorType.ORDER_LIMIT_REACHED,
    )
}
# What rs-order says of an order that there is not, or that came to nothing.
_REFUSALS = (OrderStatus.DENIED, OrderStatus.FAILED)
_EARLIER_ONE = timedelta(seconds=2)  # that an event which arrived earlier is given to be handled
# In these states nothing of an order is available yet.
_WAITING = (State.GRANTED, State.ORDERED)
# After the first suborder of a small order its end follows at once: then one listing tells all.
END_FOLLOWS = timedelta(seconds=1)


def _error_type(event: OrderEvent) -> ErrorType:
    return _MAPPED.get(event.error_type or "", ErrorType.INTERNAL_ERROR)


def _cause(event: OrderEvent, what: str) -> str:
    order = f"order {event.order_id}" if event.order_id is not None else "the order"
    return f"{order} {what}" + (f": {event.message}" if event.message else "")


def _ended_with(errors: int) -> str:
    return f"ended with {errors} {'file' if errors == 1 else 'files'} in error"


class _TooEarlyError(Exception):
    """An event of the same correlation id that arrived before is not handled yet."""


async def order_progressed(
    event: OrderEvent, *, store: DeliveryStore, max_suborders: int = 0, reports: bool = False
) -> None:
    """Apply an event. One that was applied before, or doesn't fit, changes nothing.

    An order may have so many suborders (0: any number). Where the tenant wants `reports`, a worker
    ends what an order's errors end: it writes them.

    One that must not be applied before another, which arrived earlier, stays among the arrivals: it
    is appended again soon.
    """
    try:
        await _progress(event, store, _Rules(max_suborders=max_suborders, reports=reports))
    except _TooEarlyError:
        _note("order_event_postponed", event)
        if event.ingress is not None:
            await store.postpone_arrival(event.ingress.id, _EARLIER_ONE)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Rules:
    """What holds for a tenant."""

    max_suborders: int
    reports: bool


async def _progress(event: OrderEvent, store: DeliveryStore, rules: _Rules) -> None:
    key = event.tenant, event.correlation_id
    locking = [] if event.ingress is None else [event.ingress.digest]
    async with store.transaction(locking=locking) as tx:
        arrived_at = None
        if event.ingress is None:
            active = await tx.lock(*key)
        else:
            received = await tx.record_receipt_and_lock(event.ingress, *key)
            if received is None:
                _note("order_event_repeated", event)
                return
            arrived_at, active = received
        if active is not None and arrived_at is not None and arrived_at < active.requested_at:
            active = None
        meant, of_use = await _meant(tx, event, active, arrived_at)
        if meant is None:
            _note("order_event_ignored", event)
        elif of_use:
            await _apply(tx, meant, event, rules)
        else:
            await _answer_late(tx, meant, event)
            if _waits(active) and not await tx.order_is_unsent(active):
                await _fail_in_doubt(tx, active, event)


def _waits(delivery: Delivery | None) -> TypeGuard[Delivery]:
    """Whether a delivery waits for rs-order to name its order."""
    return delivery is not None and delivery.state in _WAITING and delivery.order_id is None


async def _meant(
    tx: UnitOfWork, event: OrderEvent, active: Delivery | None, arrived_at: datetime | None
) -> tuple[Delivery | None, bool]:
    """Return the delivery that an event is about, if any, and whether that has a use for it.

    It has none if it has ended; nor for an answer to its order request once it has an order.

    Who is known to have an order is meant by its orderId. An orderId that none has, or a refusal
    (it names none), is an answer to an order request, and answers come in the order of requests: it
    is for the oldest request that was sent and has none. One that was sent again has as many as
    it was sent, as rs-order takes each for another. Where the active delivery waits for an
    answer and asked for the same, the two change places. One that arrived before any request that
    has no answer was overtaken by the answer to a later one, which was taken for it; so it is for
    the oldest that has none. Where no request has its answer to come, it is not about ours:
    rs-order tells the orders of its other clients on the same exchange.
    """
    key = event.tenant, event.correlation_id
    if event.order_id is None and event.status not in _REFUSALS:
        return active, True
    if event.order_id is not None:
        if active is not None and active.order_id == event.order_id:
            return active, True
        awaited = await tx.awaited_unless_had(*key, arrived_at, event.order_id)
        if awaited is None:
            return None, False
    else:
        awaited = await tx.awaited_orders(*key, arrived_at)
    if not awaited and active is None:
        awaited = await tx.awaited_orders(*key, None)
    if not awaited:
        return (active, True) if _waits(active) or event.order_id is None else (None, False)
    if arrived_at is not None and await tx.answers_before(*key, arrived_at):
        raise _TooEarlyError  # Kafka was away for some: that may be the answer to the oldest one
    oldest = awaited[0]
    if not _waits(active) or any(ended.order != active.order for ended in awaited):
        return oldest, False
    if await tx.withdraw_order(active):  # so one answer comes, not two
        await tx.record_answer(oldest, None)
    return active, True


async def _answer_late(tx: UnitOfWork, ended: Delivery, event: OrderEvent) -> None:
    """Note an answer that a delivery has no use for: it has ended, or has an order.

    Its order, if any, is cancelled; one that failed, too: of what could be restored it keeps a
    place of its user until that is downloaded.
    """
    await tx.record_answer(ended, event.order_id)
    if event.order_id is not None and event.status is not OrderStatus.DENIED:
        await tx.enqueue(outgoing.cancel(ended, event.order_id))
        _note("order_cancelled_late", event)
    else:
        _note("order_answered_late", event)


async def _fail_in_doubt(tx: UnitOfWork, active: Delivery, event: OrderEvent) -> None:
    """End the active delivery: what was answered may be its own order, or an earlier one's.

    That asked for something else, and had no answer for long (`ANSWER_PATIENCE`): so this one's
    request was sent, too. Were it to take the next answer, that might name the wrong files, or
    never come. Whichever is answered later is cancelled then.
    """
    order = "" if event.order_id is None else f" (order {event.order_id})"
    failed = await fail(
        tx,
        active,
        ErrorType.INTERNAL_ERROR,
        f"rs-order gave an answer{order} while two requests for different orders with this "
        "correlationId had none, and does not tell which of them it is for: nothing is delivered, "
        "as it might be the wrong files; ask again, or with another correlationId",
        code=Code.ORDER_IN_DOUBT,
    )
    if failed and active.state is State.GRANTED:
        # Two were out, and one has just been answered: if the other is, that comes soon.
        await tx.await_order(active, ANSWER_PATIENCE)


def _note(what: str, event: OrderEvent) -> None:
    log.info(
        what,
        tenant=event.tenant,
        status=event.status.value,
        correlation_id=event.correlation_id,
        order_id=event.order_id,
    )


async def _apply(tx: UnitOfWork, delivery: Delivery, event: OrderEvent, rules: _Rules) -> None:
    goes_on = not delivery.order_done
    if goes_on and (many := _too_many(delivery, event, rules.max_suborders)):
        error_type = ErrorType.TOO_MANY_SUBORDERS
        code, order_id = Code.TOO_MANY_SUBORDERS, event.order_id
        await fail(tx, delivery, error_type, many, code=code, order_id=order_id, answered=True)
    elif event.status is OrderStatus.SUBORDER_DONE:
        await _apply_suborder(tx, delivery, event, rules)
    elif delivery.state in _WAITING:
        await _apply_waiting(tx, delivery, event, rules)
    elif goes_on and (delivery.state is State.AVAILABLE or delivery.plan is not None):
        await _apply_begun(tx, delivery, event, rules)


def _too_many(delivery: Delivery, event: OrderEvent, max_suborders: int) -> str | None:
    """Say that the order has more suborders than its tenant takes; None where it has not."""
    total = max(event.total_suborders or 0, delivery.total_suborders or 0)
    what = too_many_suborders(total, max_suborders)
    return None if what is None or event.status in _REFUSALS else _cause(event, what)


async def _apply_suborder(
    tx: UnitOfWork, delivery: Delivery, event: OrderEvent, rules: _Rules
) -> None:
    # Once files are downloaded, what rs-order counts may be downloads of ours that broke off.
    ours = delivery.state is State.TRANSFERRING or delivery.order_done
    if event.errors > 0 and not ours and not delivery.partial:
        if rules.reports and await _leaves_to_worker(tx, delivery, event):
            return
        cause = _cause(event, _ended_with(event.errors))
        error_type = _error_type(event)
        code, order_id = Code.ORDER_FAILED, event.order_id
        await fail(tx, delivery, error_type, cause, code=code, order_id=order_id, answered=True)
    else:
        await _announce(tx, delivery, event)


async def _announce(tx: UnitOfWork, delivery: Delivery, event: OrderEvent) -> None:
    """Note a suborder that is available: a segment of the archive, if it is told which.

    Else, and where all of the order was available when the archive was laid out, its end tells.
    (A worker of the version before lays out all at once, and notes no end.)
    """
    laid_out = delivery.order_done or delivery.state in (State.READY, State.TRANSFERRING)
    if laid_out and delivery.plan is None:
        return
    if delivery.state in _WAITING:
        named = delivery.order_id is not None or event.order_id is not None
        told = event.suborder_id is not None and named
        await tx.advance(
            delivery,
            State.AVAILABLE if told else State.ORDERED,
            order_id=event.order_id,
            total_suborders=event.total_suborders,
        )
    if event.suborder_id is not None and await tx.announce(
        delivery, event.suborder_id, total_suborders=event.total_suborders, after=END_FOLLOWS
    ):
        # Laid out after that only: a claim would find nothing until then.
        await _wake(tx, delivery, due=delivery.announced > 0)


async def announce_available(tx: UnitOfWork, delivery: Delivery) -> None:
    """Note that something of the order of a delivery that waits is available, and not of what."""
    if delivery.state is State.ORDERED:
        await tx.advance(delivery, State.AVAILABLE)
    if await tx.announce(delivery, None):
        await _wake(tx, delivery)


async def _wake(tx: UnitOfWork, delivery: Delivery, *, due: bool = True) -> None:
    """Wake who lays out, or goes on with, what a segment was announced of, where that is due."""
    if delivery.state in _WAITING:
        await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY), due=due)
    elif delivery.parked:
        await tx.hint(outgoing.wake(delivery, Kind.TRANSFER))


async def _apply_waiting(
    tx: UnitOfWork, delivery: Delivery, event: OrderEvent, rules: _Rules
) -> None:
    """Apply what is said of an order of which nothing was available yet."""
    match event.status:
        case OrderStatus.DENIED:
            await fail(
                tx,
                delivery,
                _error_type(event),
                event.message or "the order was denied",
                code=Code.ORDER_DENIED,
                cancel=False,
                answered=True,
            )
        case OrderStatus.FAILED | OrderStatus.DONE if _takes_part(delivery, event):
            # Where nothing is available after all, its listing tells.
            if await tx.advance(
                delivery,
                State.AVAILABLE,
                order_id=event.order_id,
                total_suborders=event.total_suborders,
                order_done=True,
            ):
                total, error = event.total_suborders, _error_of(event)
                await tx.end_order(delivery, total, error=error, in_error=event.errors)
                await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY))
        case OrderStatus.FAILED | OrderStatus.DONE if rules.reports and await _leaves_to_worker(
            tx, delivery, event
        ):
            pass
        case OrderStatus.FAILED:
            await fail(
                tx,
                delivery,
                _error_type(event),
                _cause(event, "failed"),
                code=Code.ORDER_FAILED,
                order_id=event.order_id,
                answered=True,
            )
        case OrderStatus.DONE if event.errors > 0:
            await fail(
                tx,
                delivery,
                _error_type(event),
                _cause(event, _ended_with(event.errors)),
                code=Code.ORDER_FAILED,
                order_id=event.order_id,
                answered=True,
            )
        case OrderStatus.DONE if event.order_id is None and delivery.order_id is None:
            await fail(
                tx,
                delivery,
                ErrorType.INTERNAL_ERROR,
                "rs-order said that the order is done, but never told its orderId",
                code=Code.ORDER_UNNAMED,
                answered=True,
            )
        case OrderStatus.DONE:
            if await tx.advance(
                delivery,
                State.AVAILABLE,
                order_id=event.order_id,
                total_suborders=event.total_suborders,
                order_done=True,
            ):
                await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY))
        case _:
            await tx.advance(
                delivery,
                State.ORDERED,
                order_id=event.order_id,
                total_suborders=event.total_suborders,
            )


async def _leaves_to_worker(tx: UnitOfWork, delivery: Delivery, event: OrderEvent) -> bool:
    """Let a worker end a delivery whose order ended with errors, before it was laid out.

    False where there is nothing of it to be told: then it ends at once.
    """
    error = _error_of(event)
    named = event.order_id is not None or delivery.order_id is not None
    if error is None or not named or delivery.state not in (*_WAITING, State.AVAILABLE):
        return False
    if delivery.state in _WAITING:
        await tx.advance(
            delivery,
            State.AVAILABLE,
            order_id=event.order_id,
            total_suborders=event.total_suborders,
            order_done=True,
        )
    await tx.end_order(delivery, event.total_suborders, error=error, in_error=event.errors)
    await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY))
    return True


def _takes_part(delivery: Delivery, event: OrderEvent) -> bool:
    """Whether what there is of an order that ended with errors is delivered."""
    named = event.order_id is not None or delivery.order_id is not None
    return delivery.partial and named and _error_of(event) is not None


def _error_of(event: OrderEvent) -> tuple[ErrorType, str] | None:
    """Return what is told of an order that ended with errors; None: it did not."""
    failed = event.status is OrderStatus.FAILED
    if not failed and event.errors <= 0:
        return None
    what = "failed" if failed else _ended_with(event.errors)
    return _error_type(event), as_cause(_cause(event, what))


async def _apply_begun(
    tx: UnitOfWork, delivery: Delivery, event: OrderEvent, rules: _Rules
) -> None:
    """Apply the end of an order of which some was available before.

    While files are downloaded, its errors may be downloads of ours that broke off: whether all
    files came is seen at the end, where rs-order told them all. What it says of them is kept until
    then. Where it did not, its errors end the delivery, ours or not: a file that could not be
    restored is in no list, and its suborder neither missing nor empty. (A delivery that takes a
    part goes on, and tells what is missing.)
    """
    if event.status not in (OrderStatus.DONE, OrderStatus.FAILED):
        return
    told = delivery.state is State.TRANSFERRING and delivery.plan and delivery.plan.told
    error = _error_of(event)
    if error is not None and not told and not delivery.partial:
        if rules.reports and await _leaves_to_worker(tx, delivery, event):
            return
        await fail(tx, delivery, *error, code=Code.ORDER_FAILED, answered=True)
        return
    await tx.end_order(delivery, event.total_suborders, error=error, in_error=event.errors)
    if delivery.state is State.AVAILABLE:
        await tx.hint(outgoing.wake(delivery, Kind.ORDER_READY))
    elif delivery.parked:
        await tx.hint(outgoing.wake(delivery, Kind.TRANSFER))
