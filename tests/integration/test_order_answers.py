"""Whose order it is, when a worker of the version before has noted what rs-order answered."""

from __future__ import annotations

from app.delivery.orders import OrderStatus
from tests.integration.conftest import Deliveries
from tests.store.test_order_answers import asked, ended, orders


async def test_an_answer_that_a_worker_of_the_version_before_noted_is_not_awaited(
    deliveries: Deliveries,
) -> None:
    await ended(deliveries, "first")
    await deliveries.pool.execute("UPDATE delivery SET order_id = 1")
    await asked(deliveries, "second")
    await deliveries.tell(OrderStatus.GRANTED, order_id=2)
    assert await orders(deliveries) == [("ERROR", 1), ("ORDERED", 2)]
