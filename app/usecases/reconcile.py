"""What should have happened and has not: make it happen.

Work that is due needs nothing of this: every worker looks for it in PostgreSQL by itself, and
takes what a dead one held; so do the relays with what is owed.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence

from app.delivery.ingress import Arrival
from app.delivery.ports import Arrivals
from app.telemetry.logs import get_logger

log = get_logger(__name__)


async def append_again(
    *, arrivals: Arrivals, append: Callable[[Arrival], Awaitable[None]], limit: int
) -> int:
    """Append events once more that no agent has handled in their time, `limit` at a time.

    Returns how many. Kafka may have lost them (a topic was deleted, brokers died together), or
    agents are slow; then the repeat changes nothing. What Kafka does not take comes again at the
    next look. Those of one key are appended as they came: an answer of rs-order that is read before
    an earlier one is postponed, for longer each time.
    """
    total = 0
    while True:
        overdue = await arrivals.overdue(limit)
        appended = await _append(overdue, arrivals, append)
        total += appended
        if len(overdue) < limit or appended < len(overdue):
            return total


async def _append(
    overdue: Sequence[Arrival], arrivals: Arrivals, append: Callable[[Arrival], Awaitable[None]]
) -> int:
    # Side by side: a key that Kafka does not take must not hold up the others.
    by_key: defaultdict[bytes, list[Arrival]] = defaultdict(list)
    for arrival in overdue:
        by_key[arrival.key].append(arrival)
    failed = await asyncio.gather(*(_append_in_order(of_key, append) for of_key in by_key.values()))
    errors = [error for errors_of_key in failed for error in errors_of_key]
    if overdue:
        log.warning(
            "events_appended_again",
            events=len(overdue) - len(errors),
            example=overdue[0].key.decode(),
            cause="no agent has handled them in their time; Kafka may have lost them",
        )
    if errors:
        await arrivals.not_appended([arrival.ingress_id for arrival, _ in errors])
        log.warning("events_not_appended", events=len(errors), cause=str(errors[0][1]))
    return len(overdue) - len(errors)


async def _append_in_order(
    arrivals: Sequence[Arrival], append: Callable[[Arrival], Awaitable[None]]
) -> list[tuple[Arrival, Exception]]:
    """Append events of one key; return those that were not, and why: what follows waits."""
    for number, arrival in enumerate(arrivals):
        try:
            await append(arrival)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is for the next look
            return [(waits, error) for waits in arrivals[number:]]
    return []


async def topics_lost(
    missing: Sequence[str], *, consumed: Collection[str], arrivals: Arrivals
) -> None:
    """Make due again what topics held that are missing, if agents read any of them (`consumed`).

    Which events were in which topic is not known, so all are due that no agent has handled.
    """
    if not set(missing).isdisjoint(consumed):
        await arrivals.all_lost()
