"""rs-order in memory does what the one over HTTP does, and takes the time that it is given."""

from __future__ import annotations

import pytest

from compose.rs_order.faults import Faults
from tests.contract.order_source import FILES, ORDERED, Orders, OrderSourceContract
from tests.twins.rs_order import CHUNK, MemoryOrders


@pytest.fixture
def orders() -> Orders:
    """An rs-order of the test's own."""
    return orders_of(MemoryOrders())


def orders_of(twin: MemoryOrders) -> Orders:
    def misbehave(faults: Faults) -> None:
        twin.faults = faults

    return Orders(source=twin, hold=twin.hold, misbehave=misbehave, advance=twin.clock.advance)


class TestMemory(OrderSourceContract):
    """All that is asked of rs-order."""


async def test_a_rate_takes_the_time_of_the_clock_that_is_given() -> None:
    seconds: list[float] = []

    async def sleep(time: float) -> None:
        seconds.append(time)

    twin = MemoryOrders(sleep=sleep)
    twin.hold(ORDERED, FILES)
    twin.faults = Faults(bytes_per_second=CHUNK)
    orders = orders_of(twin)
    file = (await orders.files())["a.bin"]
    assert await orders.read(file) == FILES["a.bin"]
    assert sum(seconds) == pytest.approx(len(FILES["a.bin"]) / CHUNK)
    assert twin.read == len(FILES["a.bin"])
    assert (twin.open, twin.most_open) == (0, 1)
