"""What goes on with a delivery is told in a word, on both stores."""

from __future__ import annotations

from datetime import timedelta

from app.codes import Code
from app.delivery.states import State, Work
from app.views.deliveries import Activity, DeliveryView, Filter
from compose.embedded.stack import TENANT
from tests.builders import make_stored
from tests.deliveries import Deliveries


async def shown(deliveries: Deliveries) -> DeliveryView:
    """Return the one delivery, as a list shows it."""
    (one,) = await deliveries.tracking.browse([TENANT], Filter(), before=None, limit=2)
    return DeliveryView.of(one)


async def test_one_state_is_told_apart_by_what_goes_on_in_it(deliveries: Deliveries) -> None:
    claimed = await deliveries.claimed()
    assert (await shown(deliveries)).activity is Activity.MOVING
    leases = deliveries.leases("w")
    for tries in (1, 2):
        before = deliveries.now()
        await leases.release(
            claimed,
            after=timedelta(minutes=1),
            failed=False,
            cause="S3 is away",
            code="TARGET_AWAY",
        )
        seen = await shown(deliveries)
        assert seen.state is State.TRANSFERRING
        assert (seen.activity, seen.tries) == (Activity.RETRYING, tries)
        (depth,) = await deliveries.overview.depths()
        assert (depth.moving, depth.retrying, depth.paused) == (0, 1, 0)
        assert seen.next_attempt_at is not None
        assert seen.next_attempt_at >= before + timedelta(seconds=59)
        await deliveries.elapse(timedelta(minutes=2))
        again = await leases.claim(Work.TRANSFER)
        assert again is not None
        claimed = again
    assert (await shown(deliveries)).activity is Activity.MOVING
    (depth,) = await deliveries.overview.depths()
    assert (depth.moving, depth.retrying, depth.paused) == (1, 0, 0)
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=make_stored())
    seen = await shown(deliveries)
    assert (seen.activity, seen.tries, seen.code) == (None, None, None)


async def test_what_is_paused_and_what_waits_for_its_turn_are_told_apart(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready()
    assert (await shown(deliveries)).activity is Activity.WAITING
    await deliveries.store.record_wait(TENANT, None, "paused", code=Code.PAUSED, limit=9)
    assert (await shown(deliveries)).activity is Activity.PAUSED
    await deliveries.store.clear_wait(TENANT, "paused", limit=9)
    assert (await shown(deliveries)).activity is Activity.WAITING
