"""Orders that are cut, in the simulation: a user's places, what is told, what can be had."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from random import Random
from typing import Any

import pytest

from app.errors import SourceNotReadyError, SourceRefusedError
from compose.rs_order.order import Order
from tests.simulation import suborders
from tests.simulation.loop import SimulatedLoop
from tests.simulation.night import play
from tests.simulation.plan import draw
from tests.simulation.suborders import Suborders, files_of

Told = list[tuple[int, str, int | None]]  # order, status, totalSubOrders
FILES = {f"f{number}": bytes([number]) for number in range(4)}
RESTORED = 5.0  # seconds


def run(work: Callable[[Suborders, Told], Coroutine[Any, Any, None]]) -> None:
    async def begin() -> None:
        told: Told = []

        def tell(order: Order, event: dict[str, Any]) -> None:
            told.append((order.order_id, event["status"], event.get("totalSubOrders")))

        await work(Suborders(Random(1), tell), told)

    loop = SimulatedLoop(Random(1), disorder=0.0)
    try:
        loop.run_until_complete(begin())
    finally:
        loop.close()


def grant(orders: Suborders, number: int, *, user: str = "known-a", fails: bool = False) -> None:
    orders.grant(
        FILES, fails=fails, order_id=number, tenant="north", user=user, correlation_id="d-1"
    )


@pytest.fixture(autouse=True)
def _cut_into_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suborders, "_FILES", (2,))


def test_two_suborders_of_a_user_can_be_downloaded_at_a_time_over_all_orders() -> None:
    async def play_it(orders: Suborders, told: Told) -> None:
        grant(orders, 1)
        grant(orders, 2)
        grant(orders, 3, user="known-b")
        await asyncio.sleep(RESTORED)
        assert [event for event in told if event[0] == 1] == [
            (1, "GRANTED", None),
            (1, "SUBORDER_DONE", 2),
            (1, "SUBORDER_DONE", 2),
            (1, "DONE", 2),
        ]
        assert [event for event in told if event[0] == 2] == [(2, "GRANTED", None)]
        assert [status for number, status, _ in told if number == 3][-1] == "DONE"
        first, *_ = orders.available(1, None)
        assert orders.download(1, first[0]) == first[2]
        await asyncio.sleep(RESTORED)
        assert told[-1][0] != 2
        second = next(iter(orders.available(1, None)))
        orders.download(1, second[0])
        await asyncio.sleep(RESTORED)
        assert told[-1] == (2, "SUBORDER_DONE", 1)

    run(play_it)


def test_an_order_that_is_cancelled_keeps_no_place() -> None:
    async def play_it(orders: Suborders, told: Told) -> None:
        grant(orders, 1)
        grant(orders, 2)
        assert list(orders.kept()) == [1, 2]
        orders.cancel(1)
        await asyncio.sleep(RESTORED)
        assert list(orders.kept()) == [2]
        assert told[-1] == (2, "DONE", 2)

    run(play_it)


def test_what_is_not_restored_can_not_be_had() -> None:
    async def play_it(orders: Suborders, told: Told) -> None:
        grant(orders, 1)
        with pytest.raises(SourceNotReadyError):
            list(orders.available(1, None))
        with pytest.raises(SourceNotReadyError):
            list(orders.available(1, 2))
        with pytest.raises(SourceRefusedError):
            list(orders.available(1, 3))
        with pytest.raises(SourceNotReadyError):
            orders.download(1, 1)
        await asyncio.sleep(RESTORED)
        assert [name for _, name, _ in orders.available(1, 2)] == ["f2", "f3"]
        assert told[-1][1] == "DONE"

    run(play_it)


def test_an_order_that_fails_is_told_as_failed() -> None:
    async def play_it(orders: Suborders, told: Told) -> None:
        grant(orders, 1, fails=True)
        await asyncio.sleep(RESTORED)
        assert [status for _, status, _ in told] == ["GRANTED", "FAILED"]
        assert not list(orders.kept())

    run(play_it)


def test_the_files_of_an_order_have_ids_of_their_own() -> None:
    found: list[dict[int, bytes]] = []

    async def play_it(_orders: Suborders, _told: Told) -> None:
        orders = Suborders(Random(1), lambda order, _event: found.append(files_of(order)))
        grant(orders, 1)
        grant(orders, 2)

    run(play_it)
    assert [list(files.values()) for files in found] == [list(FILES.values())] * 2
    assert not set(found[0]) & set(found[1])


def test_a_night_in_which_orders_are_cut_ends_well() -> None:
    assert not play(replace(draw(8), suborders=True)).wrong
