"""Transfers that stall are found by what their workers report, on both stores."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from app.delivery.model import Delivery
from app.delivery.progress import Phase, Progress
from app.views.deliveries import Activity, Filter
from app.views.progress import STALLED_AFTER
from app.views.stalls import StalledNow, Stalls
from compose.embedded.stack import TENANT
from tests.builders import make_progress
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER


def stalls_of(deliveries: Deliveries, *reports: Progress) -> Stalls:
    """Return what finds them, where workers reported this last."""
    by_id = {report.delivery: report for report in reports}
    return Stalls(
        deliveries.tracking,
        reports=lambda: list(reports),
        report_of=lambda delivery: by_id.get(delivery.id),
    )


def silent(delivery: Delivery, seconds: float, **changes: Any) -> Progress:
    """Return a report of its attempt, to which no byte has come for so long."""
    given = {"attempt": delivery.attempt, "silent": seconds} | changes
    return make_progress(delivery, **given)


async def found(stalls: Stalls, *activities: Activity, **more: Any) -> list[str]:
    wanted = Filter(activities=list(activities), **more)
    seen = await stalls.browse(TENANT, wanted, before=None, limit=9)
    return sorted(tracked.delivery.correlation_id for tracked in seen)


async def test_those_that_stall_are_counted_and_found_by_the_rule_of_their_page(
    deliveries: Deliveries,
) -> None:
    one, two, moves = [await deliveries.claimed(name) for name in ("one", "two", "moves")]
    stalls = stalls_of(
        deliveries,
        silent(one, STALLED_AFTER),
        silent(two, 190.0),
        silent(moves, STALLED_AFTER - 1),
    )
    assert await stalls.now(TENANT) == StalledNow(transfers=2, longest=190.0)
    assert await stalls.now(OTHER) is None
    assert await found(stalls, Activity.STALLED) == ["one", "two"]
    assert await found(stalls, Activity.MOVING) == ["moves", "one", "two"]
    assert await found(stalls, Activity.STALLED, Activity.MOVING) == ["moves", "one", "two"]
    assert await found(stalls, Activity.STALLED, text="ON") == ["one"]


async def test_what_ended_its_attempt_or_its_bytes_does_not_stall(deliveries: Deliveries) -> None:
    names = ("completes", "is over", "waits", "unheard of")
    completes, over, waits, _ = [await deliveries.claimed(name) for name in names]
    await deliveries.fail(over, "it was refused")
    stalls = stalls_of(
        deliveries,
        silent(completes, 99.0, phase=Phase.COMPLETING),
        silent(over, 99.0),
        silent(waits, 99.0, attempt=waits.attempt - 1),
    )
    assert await stalls.now(TENANT) is None
    assert await found(stalls, Activity.STALLED) == []


async def test_pages_have_those_that_stall_among_the_others_in_order(
    deliveries: Deliveries,
) -> None:
    first, second, third = [await deliveries.claimed(name) for name in "123"]
    await deliveries.leases("w").release(
        second, after=timedelta(minutes=1), failed=False, cause="S3 is away", code="TARGET_AWAY"
    )
    await deliveries.ready("4")
    stalls = stalls_of(deliveries, silent(first, 50.0), silent(third, 60.0))
    wanted = Filter(activities=[Activity.STALLED, Activity.RETRYING])
    told: list[str] = []
    before = None
    while page := await stalls.browse(TENANT, wanted, before=before, limit=1):
        (tracked,) = page
        told.append(tracked.delivery.correlation_id)
        before = tracked.delivery.requested_at, tracked.delivery.id
    assert sorted(told) == ["1", "2", "3"]
    everything = await stalls.browse(TENANT, wanted, before=None, limit=9)
    assert [tracked.delivery.correlation_id for tracked in everything] == told
