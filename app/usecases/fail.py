"""A delivery ends without an archive."""

from __future__ import annotations

from functools import partial

from app.delivery import outgoing
from app.delivery.model import Delivery
from app.delivery.ports import UnitOfWork
from app.delivery.states import State
from app.delivery.told import Told
from app.errors import ErrorType, as_cause
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.usecases.reports import Report

log = get_logger(__name__)


async def fail(
    tx: UnitOfWork,
    delivery: Delivery,
    error_type: ErrorType,
    message: str,
    *,
    code: str | None = None,
    order_id: int | None = None,
    cancel: bool = True,
    answered: bool = False,
    lets_go: bool = False,
    decided: bool = False,
    report: Report | None = None,
) -> State | None:
    """End the delivery in ERROR, tell the client, and cancel the order if there is one.

    While an attempt may be completing its archive, it is noted how it ends instead, and a worker
    finds out (`Transfers`): DONE where the archive has appeared, else ERROR. `lets_go` tells that
    it is that attempt which fails, `decided` that no archive appears. What was noted before is
    what its client is told.

    `code` is that of the cause, in the catalogue: for people; clients are told none.

    A `report` that was prepared appears in this transaction, unless the delivery ends otherwise: it
    must be locked then.

    `order_id` is what the event at hand tells, where the delivery doesn't know it yet. An order
    request that is surely not sent is withdrawn; of one that may be out, and is not `answered`, it
    is noted that its answer may still come. Returns the state that it is in then, or None, and owes
    nothing, when the delivery has moved on in the meantime.
    """
    message = as_cause(message)
    if (
        delivery.state is State.TRANSFERRING
        and not decided
        and await tx.note_ending(delivery, (error_type, message), code=code, lets_go=lets_go)
    ):
        log.warning("delivery_ends_later", **delivery.log_context, cause=message)
        return delivery.state
    if delivery.ending is not None:
        error_type, message = delivery.ending.error_type, delivery.ending.message
        code = delivery.ending.code
    known = order_id if order_id is not None else delivery.order_id
    stored = None if report is None else await report.appear(tx, error_type, message)
    told = None if stored is None else Told(report_url=stored.url)
    if not await tx.advance(
        delivery,
        State.ERROR,
        error=(error_type, message),
        code=code,
        told=told,
        order_id=known,
    ):
        return None
    if report is not None and stored is not None:
        await report.record(tx, stored)
    withdrawn = await tx.withdraw_order(delivery)
    if withdrawn and delivery.order_id is not None:
        await _forget_answer(tx, delivery)
    asked = delivery.state is State.GRANTED and not withdrawn
    if asked and not answered and known is None:
        await tx.await_order(delivery)
    await tx.enqueue(outgoing.error(delivery, error_type, message, told))
    count = partial(metrics.ended, delivery.tenant, State.ERROR.value, error_type.value)
    tx.on_commit(partial(count, labels=delivery.labels))
    if cancel and known is not None:
        await tx.enqueue(outgoing.cancel(delivery, known))
    log.warning(
        "delivery_failed",
        **delivery.log_context,
        error_type=error_type.value,
        code=code,
        cause=message,
    )
    return State.ERROR


async def _forget_answer(tx: UnitOfWork, delivery: Delivery) -> None:
    """Note that one answer less comes: this delivery had that to an earlier one's request."""
    awaited = await tx.awaited_orders(delivery.tenant, delivery.correlation_id, None)
    if awaited:
        await tx.record_answer(awaited[0], None)
