"""A store that may only be read for a while, as a failover leaves PostgreSQL: its changes wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from app.delivery import outgoing
from app.delivery.ingress import Opening
from app.delivery.model import Delivery
from app.delivery.ports import UnitOfWork
from app.delivery.states import State
from app.errors import StoreUnavailableError
from app.store.memory.transaction import MemoryUnitOfWork
from app.store.transactions import PostgresUnitOfWork
from tests.builders import make_file, make_ingress, make_request
from tests.deliveries import Deliveries

OPENING = Opening(
    request=make_request("other"),
    state=State.GRANTED,
    requested_at=None,
    ttl=timedelta(hours=1),
)
CHANGES: dict[str, Callable[[UnitOfWork, Delivery], Awaitable[object]]] = {
    "a receipt": lambda tx, _: tx.record_receipts([make_ingress()]),
    "an opening": lambda tx, _: tx.open_deliveries([OPENING]),
    "a lock": lambda tx, delivery: tx.lock(delivery.tenant, delivery.correlation_id),
    "a lock of nothing": lambda tx, delivery: tx.lock(delivery.tenant, "unknown"),
    "a state": lambda tx, delivery: tx.advance(delivery, State.ORDERED, order_id=1),
    "a manifest": lambda tx, delivery: tx.add_files(delivery, [make_file()]),
    "a message": lambda tx, delivery: tx.enqueue(outgoing.granted(delivery)),
    "a time": lambda tx, delivery: tx.retry_now(delivery),
}


async def let_read_only(transaction: UnitOfWork) -> None:
    """Have the rest of a transaction be as on a server that takes no changes."""
    if isinstance(transaction, MemoryUnitOfWork):
        transaction._session.read_only = True  # noqa: SLF001 - its server would say so
    else:
        assert isinstance(transaction, PostgresUnitOfWork)
        connection = transaction._connection  # noqa: SLF001 - in place of its server
        await connection.execute("SET TRANSACTION READ ONLY")


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_a_change_of_a_store_that_is_read_only_delays_and_leaves_nothing(
    deliveries: Deliveries, change: Callable[[UnitOfWork, Delivery], Awaitable[object]]
) -> None:
    delivery = await deliveries.granted()
    before = await deliveries.rows(), await deliveries.outgoing()
    with pytest.raises(StoreUnavailableError, match="read-only"):
        async with deliveries.store.transaction() as tx:
            await let_read_only(tx)
            await change(tx, delivery)
    assert (await deliveries.rows(), await deliveries.outgoing()) == before


async def test_a_store_that_is_read_only_is_read(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()
    async with deliveries.store.transaction() as tx:
        await let_read_only(tx)
        assert await tx.order_is_unsent(delivery)
