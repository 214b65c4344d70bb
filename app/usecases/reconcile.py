"""What should have happened and has not: make it happen.

Work that is due needs nothing of this: every worker looks for it in PostgreSQL by itself, and
takes what a dead one held; so do the relays with what is owed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from app.errors import DeliveryError, PermanentError
from app.logs import get_logger
from app.model import Arrival, Delivery
from app.naming import object_key
from app.ports import ArchiveSink, Arrivals, Store, Tenants
from app.usecases.uploads import Uploads

log = get_logger(__name__)


async def append_again(
    *, arrivals: Arrivals, append: Callable[[Arrival], Awaitable[None]], limit: int
) -> int:
    """Append events once more that nobody has handled in their time; return how many.

    Kafka may have lost them (a topic was deleted, brokers died together), or agents are slow; then
    the repeat changes nothing.
    """
    overdue = await arrivals.overdue(limit)
    # Side by side: one that Kafka does not take must not hold up the others. It comes again.
    outcomes = await asyncio.gather(*map(append, overdue), return_exceptions=True)
    errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if overdue:
        log.warning(
            "events_appended_again",
            events=len(overdue) - len(errors),
            example=overdue[0].key.decode(),
            cause="no agent has handled them in their time; Kafka may have lost them",
        )
    if errors:
        await arrivals.not_appended(
            [
                arrival.id
                for arrival, outcome in zip(overdue, outcomes, strict=True)
                if isinstance(outcome, BaseException)
            ]
        )
        log.warning("events_not_appended", events=len(errors), cause=str(errors[0]))
    return len(overdue) - len(errors)


async def sweep(
    *,
    store: Store,
    tenants: Tenants,
    uploads: Uploads,
    sink: ArchiveSink,
    after: timedelta,
    limit: int,
) -> int:
    """Abort what deliveries left open at S3 that ended at least `after` ago; return how many.

    Who ends a delivery does so itself, unless it died in between, or the store was away.
    """
    done = 0
    for delivery in await store.unswept(after, limit=limit):
        try:
            await uploads.abort_last(delivery)
            await _abort_unrecorded(delivery, tenants=tenants, sink=sink)
        except PermanentError as error:
            _left_open(delivery, error)
        except DeliveryError as error:
            _left_open(delivery, error, tried_again=True)
            await store.postpone_sweep(delivery)
            continue
        await store.swept(delivery)
        done += 1
    return done


async def _abort_unrecorded(delivery: Delivery, *, tenants: Tenants, sink: ArchiveSink) -> None:
    """Abort an upload that a worker opened, and died before it noted it."""
    if not tenants.known(delivery.tenant) or delivery.archive_name is None:
        return
    tenants.check_secrets(delivery.tenant)
    target = tenants.settings(delivery.tenant).target_named(delivery.target)
    if target is not None:
        key = target.prefix + object_key(delivery.correlation_id, delivery.archive_name)
        await sink.abort_orphans(target, key)


def _left_open(delivery: Delivery, error: DeliveryError, *, tried_again: bool = False) -> None:
    log.warning(
        "uploads_not_swept",
        tenant=delivery.tenant,
        correlation_id=delivery.correlation_id,
        cause=str(error),
        consequence="it is tried again"
        if tried_again
        else "an upload may stay open at the target; a lifecycle rule of the bucket, or `aws s3api "
        "abort-multipart-upload`, ends it",
    )
