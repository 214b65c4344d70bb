"""The time of a request is over: end it, in whatever state it is."""

from __future__ import annotations

from app.codes import Code
from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore
from app.delivery.report_document import Failure
from app.errors import ErrorType
from app.usecases.fail import fail
from app.usecases.reports import Reports, report_on, reported_until


async def expire(*, store: DeliveryStore, limit: int, reports: Reports | None = None) -> int:
    """End all overdue deliveries, `limit` at a time; return how many.

    Safe to run in several workers at once: each delivery is locked, looked at again, and ended by
    compare-and-set. A worker that transfers it finds its lease gone, stops, and aborts its upload;
    that of a dead one is swept. Nothing here waits for a target, but for reports where a tenant
    wants them: after half a minute, what comes ends without, so that a look takes that long, and as
    long as the last report may (a minute, where it is of very many files). One whose archive may be
    appearing ends when that is known (`fail`), at the latest when it can't appear any more: it
    comes again.
    """
    total = 0
    until = reported_until()
    while True:
        overdue = await store.expired(limit)
        ended = 0
        for delivery in overdue:
            failure = Failure(error_type=ErrorType.EXPIRED, message=_message(delivery))
            async with (
                report_on(reports, delivery, failure, until=until) as report,
                store.transaction() as tx,
            ):
                current = await tx.lock(delivery.tenant, delivery.correlation_id)
                if current is None or current.id != delivery.id:
                    continue
                told = ErrorType.EXPIRED, _message(current)
                ended += (
                    await fail(tx, current, *told, code=Code.EXPIRED, report=report) is not None
                )
        total += ended
        if len(overdue) < limit or not ended:  # others end the same ones, or there are no more
            return total


def _message(delivery: Delivery) -> str:
    message = f"{_late(delivery)}; it was {delivery.state} at the end"
    return f"{message}, because {delivery.last_cause}" if delivery.last_cause else message


def _late(delivery: Delivery) -> str:
    if delivery.expires_at == delivery.deadline:
        return f"not done by its deadline, {delivery.deadline:%FT%TZ}"
    hours = (delivery.expires_at - delivery.requested_at).total_seconds() / 3600
    return f"not done within {hours:g} hours"
