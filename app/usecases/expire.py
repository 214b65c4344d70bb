"""The time of a request is over: end it, in whatever state it is."""

from __future__ import annotations

from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore
from app.errors import ErrorType
from app.usecases.fail import fail


async def expire(*, store: DeliveryStore, limit: int) -> int:
    """End all overdue deliveries, `limit` at a time; return how many.

    Safe to run in several workers at once: each delivery is locked, looked at again, and ended by
    compare-and-set. A worker that transfers it finds its lease gone, stops, and aborts its upload;
    that of a dead one is swept. Nothing here waits for a target; one whose archive may be appearing
    ends when that is known (`fail`), at the latest when it can't appear any more: it comes again.
    """
    total = 0
    while True:
        overdue = await store.expired(limit)
        ended = 0
        for delivery in overdue:
            async with store.transaction() as tx:
                current = await tx.lock(delivery.tenant, delivery.correlation_id)
                if current is None or current.id != delivery.id:
                    continue
                message = f"{_late(current)}; it was {current.state} at the end"
                if current.last_cause:
                    message += f", because {current.last_cause}"
                ended += await fail(tx, current, ErrorType.EXPIRED, message) is not None
        total += ended
        if len(overdue) < limit or not ended:  # others end the same ones, or there are no more
            return total


def _late(delivery: Delivery) -> str:
    if delivery.expires_at == delivery.deadline:
        return f"not done by its deadline, {delivery.deadline:%FT%TZ}"
    hours = (delivery.expires_at - delivery.requested_at).total_seconds() / 3600
    return f"not done within {hours:g} hours"
