"""The time of a request is over: end it, in whatever state it is."""

from __future__ import annotations

from contextlib import suppress

from app.errors import DeliveryError
from app.model import ErrorType
from app.ports import Store
from app.usecases.fail import fail
from app.usecases.uploads import Uploads


async def expire(*, store: Store, uploads: Uploads, limit: int) -> int:
    """End up to `limit` overdue deliveries; return how many.

    Safe to run in several workers at once: each delivery is locked, looked at again, and ended by
    compare-and-set. A worker that transfers it finds its lease gone, and stops.
    """
    ended = 0
    for overdue in await store.expired(limit):
        async with store.transaction() as tx:
            current = await tx.lock(overdue.tenant, overdue.correlation_id)
            if current is None or current.id != overdue.id:
                continue
            hours = (overdue.expires_at - overdue.requested_at).total_seconds() / 3600
            message = f"not done within {hours:g} hours; it was {current.state} at the end"
            if current.last_cause:
                message += f", because {current.last_cause}"
            ended += await fail(tx, current, ErrorType.EXPIRED, message)
        # Should its worker be dead; a live one aborts it itself, too.
        with suppress(DeliveryError):
            await uploads.abort_last(current)
    return ended
