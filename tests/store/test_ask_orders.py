"""Orders of which nothing is heard: rs-order is asked, and its answer is applied."""

from __future__ import annotations

from datetime import timedelta

import pytest

from app.delivery.model import Delivery
from app.delivery.orders import OrderStatus
from app.delivery.states import State, Work
from app.errors import SourceGoneError
from app.usecases.ask_orders import OrderInquiry
from app.usecases.settle import Settlement
from app.waiting.backoff import Backoff
from tests.deliveries import Deliveries
from tests.twins.rs_order import MemoryOrders

QUIET = timedelta(minutes=16)
FILES = {f"f{number}": b"x" * number for number in range(1, 4)}


@pytest.fixture
def orders() -> MemoryOrders:
    return MemoryOrders()


async def ordered(deliveries: Deliveries) -> Delivery:
    """Return a delivery that has heard of its order's name, and nothing since."""
    await deliveries.granted()
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    return await deliveries.active()


def inquiry(deliveries: Deliveries, orders: MemoryOrders) -> OrderInquiry:
    return OrderInquiry(source=orders, store=deliveries.store, limit=10)


async def parked(deliveries: Deliveries, orders: MemoryOrders) -> Delivery:
    """Return a delivery that has archived the first suborder, and waits for the next one."""
    delivery = await ordered(deliveries)
    orders.hold(delivery, FILES, suborder_files=1, user_places=1)
    suborder = orders.said[-1]["subOrderId"]
    await deliveries.tell(OrderStatus.SUBORDER_DONE, order_id=1, suborder_id=suborder)
    await deliveries.elapse(timedelta(seconds=2))
    claimed = await deliveries.leases("w").claim(Work.PLAN)
    assert claimed is not None
    await deliveries.plan_ahead(claimed, orders)
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    await deliveries.archive_listed(claimed, orders)
    await deliveries.leases("w").park(claimed, cause="waits")
    return await deliveries.active()


async def test_the_end_of_an_order_that_was_not_heard(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    orders.hold(await ordered(deliveries), FILES)
    await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["ORDERED"], "it was heard of just now"
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["AVAILABLE"]
    assert (await deliveries.active()).order_done


async def test_a_suborder_that_was_not_heard_of(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    orders.hold(await ordered(deliveries), FILES, suborder_files=1, user_places=1)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    active = await deliveries.active()
    assert (active.state, active.announced, active.order_done) == (State.AVAILABLE, 1, False)


async def test_a_parked_archive_is_asked_about_once_in_a_while(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    delivery = await parked(deliveries, orders)
    assert (delivery.parked, delivery.announced) == (True, 1)
    assert await deliveries.store.quiet_orders(QUIET, limit=9) == []
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    active = await deliveries.active()
    assert (active.parked, active.announced) == (False, 2), "the next one is there by now"


async def test_an_order_that_expired_ends_its_delivery_in_words(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    orders.hold(await ordered(deliveries), FILES, suborder_files=1, user_places=1)
    orders.clock.advance(8 * 24 * 3600)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["ERROR"]
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert "order 1 is EXPIRED at rs-order" in error["message"]


async def test_an_order_that_is_not_there_ends_its_delivery(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await ordered(deliveries)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["ERROR"]


async def test_rs_order_that_is_away_is_asked_later(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    orders.hold(await ordered(deliveries), FILES)
    orders.faults = orders.faults.model_copy(update={"answers_500": 1})
    for _ in range(2):
        await deliveries.elapse(QUIET)
        await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["AVAILABLE"]


async def test_what_left_the_cache_is_made_available_again(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    delivery = await deliveries.claimed()
    orders.hold(delivery, {"a": b"a", "b": b"b"}, unrestorable="b")  # so it may be retried
    settlement = Settlement(
        store=deliveries.store,
        leases=deliveries.leases("w"),
        backoff=Backoff(first=1, longest=1),
        attempts=2,
        source=orders,
    )
    await settlement.settle(delivery, SourceGoneError("file 1 is gone"))
    active = await deliveries.active()
    assert active.failures == 1
    assert active.last_cause == "file 1 is gone; rs-order makes it available again"
    await deliveries.elapse(timedelta(minutes=1))
    again = await deliveries.leases("w").claim(Work.TRANSFER)
    assert again is not None
    await settlement.settle(again, SourceGoneError("file 1 is gone"))
    assert await deliveries.states() == ["ERROR"], "it was tried as often as it may be"


async def test_what_left_the_cache_of_an_order_that_is_done_is_gone(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    delivery = await deliveries.claimed()
    orders.hold(delivery, {"a": b"a"})
    settlement = Settlement(
        store=deliveries.store,
        leases=deliveries.leases("w"),
        backoff=Backoff(first=1, longest=1),
        attempts=2,
        source=orders,
    )
    await settlement.settle(delivery, SourceGoneError("file 1 is gone"))
    assert await deliveries.states() == ["ERROR"]
