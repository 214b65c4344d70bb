"""rs-order told something about an order: move its delivery on, or end it."""

from __future__ import annotations

from app import outgoing
from app.logs import get_logger
from app.model import Delivery, ErrorType, OrderEvent, OrderStatus, State
from app.outgoing import Kind
from app.ports import Store, Transaction
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
# Before these states nothing was fetched; after them an order's progress is history.
_WAITING = (State.GRANTED, State.ORDERED)


def _error_type(event: OrderEvent) -> ErrorType:
    return _MAPPED.get(event.error_type or "", ErrorType.INTERNAL_ERROR)


def _cause(event: OrderEvent, what: str) -> str:
    order = f"order {event.order_id}" if event.order_id is not None else "the order"
    return f"{order} {what}" + (f": {event.message}" if event.message else "")


async def order_progressed(event: OrderEvent, *, store: Store) -> None:
    """Apply an event. One that doesn't fit the delivery's state changes nothing."""
    async with store.transaction() as tx:
        if event.event_id is not None:
            await tx.handled(event.event_id)
        delivery = await tx.lock(event.tenant, event.correlation_id)
        if delivery is None and await _cancel_late(tx, event):
            return
        if delivery is None or await _of_another_order(tx, delivery, event):
            log.info(
                "order_event_ignored",
                tenant=event.tenant,
                status=event.status.value,
                correlation_id=event.correlation_id,
                order_id=event.order_id,
            )
            return
        await _apply(tx, delivery, event)


async def _cancel_late(tx: Transaction, event: OrderEvent) -> bool:
    """Cancel an order that became known only after its delivery had failed."""
    if event.order_id is None or event.status in (OrderStatus.DENIED, OrderStatus.FAILED):
        return False
    delivery = await tx.note_order(event.tenant, event.correlation_id, event.order_id)
    if delivery is None:
        return False
    await tx.owe(outgoing.cancel(delivery, event.order_id))
    log.info(
        "order_cancelled_late",
        tenant=event.tenant,
        correlation_id=event.correlation_id,
        order_id=event.order_id,
    )
    return True


async def _of_another_order(tx: Transaction, delivery: Delivery, event: OrderEvent) -> bool:
    """Whether the event is of an earlier use of the same correlation id."""
    if event.order_id is None:
        return False
    if delivery.order_id is not None:
        return delivery.order_id != event.order_id
    return await tx.had_order(event.tenant, event.correlation_id, event.order_id)


async def _apply(tx: Transaction, delivery: Delivery, event: OrderEvent) -> None:
    if delivery.state not in _WAITING:
        return
    total = event.total_suborders or delivery.total_suborders
    match event.status:
        case OrderStatus.DENIED:
            await fail(
                tx,
                delivery,
                _error_type(event),
                event.message or "the order was denied",
                cancel=False,
            )
        case OrderStatus.FAILED:
            await fail(
                tx, delivery, _error_type(event), _cause(event, "failed"), order_id=event.order_id
            )
        case OrderStatus.SUBORDER_DONE if (total or 0) > 1:
            await fail(
                tx,
                delivery,
                ErrorType.TOO_MANY_SUBORDERS,
                _cause(
                    event,
                    f"was split into {total} suborders; a delivery takes one, "
                    "so ask for less data at once",
                ),
                order_id=event.order_id,
            )
        case OrderStatus.SUBORDER_DONE | OrderStatus.DONE if event.errors > 0:
            await fail(
                tx,
                delivery,
                _error_type(event),
                _cause(event, f"ended with {event.errors} files in error"),
                order_id=event.order_id,
            )
        case OrderStatus.GRANTED | OrderStatus.SUBORDER_DONE:
            await tx.advance(
                delivery,
                State.ORDERED,
                order_id=event.order_id,
                total_suborders=event.total_suborders,
            )
        case OrderStatus.DONE if event.order_id is None and delivery.order_id is None:
            await fail(
                tx,
                delivery,
                ErrorType.INTERNAL_ERROR,
                "rs-order said that the order is done, but never told its orderId",
            )
        case OrderStatus.DONE:
            if await tx.advance(
                delivery,
                State.AVAILABLE,
                order_id=event.order_id,
                total_suborders=event.total_suborders,
            ):
                await tx.owe(outgoing.wake(delivery, Kind.ORDER_READY))
