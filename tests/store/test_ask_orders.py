"""Orders of which nothing is heard: rs-order is asked, and its answer is applied."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

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


def settlement(deliveries: Deliveries, orders: Any) -> Settlement:
    return Settlement(
        store=deliveries.store,
        leases=deliveries.leases("w"),
        backoff=Backoff(first=1, longest=1),
        attempts=2,
        source=orders,
    )


async def test_what_left_the_cache_is_made_available_again(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    delivery = await deliveries.claimed()
    orders.hold(delivery, {"a": b"a", "b": b"b"}, unrestorable="b")  # so it may be retried
    await settlement(deliveries, orders).settle(delivery, SourceGoneError("file 1 is gone"))
    active = await deliveries.active()
    assert (active.failures, active.retries) == (0, 1)
    assert active.last_cause == "file 1 is gone; rs-order makes it available again"


class Retried:
    """An rs-order that makes available again whatever it is asked for."""

    retries = 0

    async def retry(self, _delivery: Delivery) -> bool:
        self.retries += 1
        return True


async def gone(deliveries: Deliveries, orders: Retried, position: int) -> None:
    """Let the next attempt meet a file that is gone."""
    await deliveries.elapse(timedelta(minutes=1))
    delivery = await deliveries.leases("w").claim(Work.TRANSFER)
    assert delivery is not None
    error = SourceGoneError(f"file {position} is gone", position=position)
    await settlement(deliveries, orders).settle(delivery, error)


async def test_many_files_that_left_the_cache_are_no_failures(deliveries: Deliveries) -> None:
    """They expire with their suborder, and may be met in as many attempts."""
    orders = Retried()
    await deliveries.ready(files=60)
    for position in range(60):
        await gone(deliveries, orders, position)
    active = await deliveries.active()
    assert (active.failures, active.retries, active.retried_for) == (0, 1, 59)
    assert orders.retries == 60


async def test_an_order_is_not_retried_for_ever(deliveries: Deliveries) -> None:
    """It gets no further: one file is gone each time, or another one before it."""
    orders = Retried()
    await deliveries.ready(files=9)
    for position in (3, 7, 7, 3, 6, 7):
        await gone(deliveries, orders, position)
        assert await deliveries.states() == ["TRANSFERRING"]
    await gone(deliveries, orders, 7)
    assert await deliveries.states() == ["ERROR"]
    assert orders.retries == 6


async def test_what_left_the_cache_of_an_order_that_is_done_is_gone(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    delivery = await deliveries.claimed()
    orders.hold(delivery, {"a": b"a"})
    await settlement(deliveries, orders).settle(delivery, SourceGoneError("file 1 is gone"))
    assert await deliveries.states() == ["ERROR"]
