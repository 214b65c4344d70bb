"""Orders of which nothing is heard: rs-order is asked, and its answer is applied."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.delivery.manifest import ListedFile, ManifestFile, Seam
from app.delivery.model import Delivery
from app.delivery.order_facts import DatasetFacts, OrderFacts, OrderFile
from app.delivery.orders import OrderStatus
from app.delivery.states import State, Work
from app.errors import SourceGoneError, SourceUnavailableError
from app.usecases.ask_orders import OrderInquiry
from app.usecases.free_place import Places
from app.usecases.laying_out import MEMORY_A_FILE, Room
from app.usecases.plan import END_AWAITED
from app.usecases.settle import Settlement
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from compose.rs_order.states import SuborderState
from sinks.pipeline.budget import Budget
from tests.builders import make_lease, make_listed, make_stored
from tests.deliveries import Deliveries
from tests.store.conftest import OTHER
from tests.twins.rs_order import MemoryOrders

QUIET = timedelta(minutes=16)
FILES = {f"f{number}": b"x" * number for number in range(1, 4)}


@pytest.fixture
def orders() -> MemoryOrders:
    return MemoryOrders()


async def ordered(
    deliveries: Deliveries, correlation_id: str = "c", *, order_id: int = 1
) -> Delivery:
    """Return a delivery that has heard of its order's name, and nothing since."""
    await deliveries.granted(correlation_id)
    await deliveries.tell(OrderStatus.GRANTED, correlation_id, order_id=order_id)
    return await deliveries.active(correlation_id)


def inquiry(
    deliveries: Deliveries,
    orders: Any,
    *,
    max_suborders: int = 0,
    user_places: int = 0,
    frees_places: bool = True,
    room: Room | None = None,
) -> OrderInquiry:
    return OrderInquiry(
        source=orders,
        store=deliveries.store,
        room=room or deliveries.segments().room,
        limit=10,
        max_suborders=lambda _tenant: max_suborders,
        frees_places=frees_places,
        user_places=user_places,
    )


async def parked(
    deliveries: Deliveries,
    orders: MemoryOrders,
    correlation_id: str = "c",
    *,
    order_id: int = 1,
    **switches: Any,
) -> Delivery:
    """Return a delivery that has archived the first suborder, and waits for the next one."""
    await waiting(deliveries, orders, correlation_id, order_id=order_id, **switches)
    return await park(deliveries, correlation_id)


async def park(deliveries: Deliveries, correlation_id: str = "c") -> Delivery:
    """Park what a worker has claimed."""
    await deliveries.leases("w").park(await deliveries.active(correlation_id), cause="waits")
    return await deliveries.active(correlation_id)


async def waiting(
    deliveries: Deliveries,
    orders: MemoryOrders,
    correlation_id: str = "c",
    *,
    order_id: int = 1,
    **switches: Any,
) -> None:
    """Archive the first suborder of a delivery, under a lease."""
    delivery = await ordered(deliveries, correlation_id, order_id=order_id)
    orders.hold(delivery, FILES, **{"suborder_files": 1, "user_places": 1} | switches)
    suborder = announced_by(orders, order_id)[0]
    await deliveries.tell(
        OrderStatus.SUBORDER_DONE, correlation_id, order_id=order_id, suborder_id=suborder
    )
    await deliveries.elapse(timedelta(seconds=2))
    claimed = await deliveries.leases("w").claim(Work.PLAN)
    assert claimed is not None
    await deliveries.elapse(END_AWAITED)
    await deliveries.plan_ahead(claimed, orders)
    await go_on(deliveries, orders)


def announced_by(orders: MemoryOrders, order_id: int = 1) -> list[int]:
    """Return the suborders of an order that rs-order has said to be there."""
    return [
        said["subOrderId"]
        for said in orders.said
        if (said["status"], said["orderId"]) == ("SUBORDER_DONE", order_id)
    ]


async def go_on(deliveries: Deliveries, orders: MemoryOrders) -> None:
    """Archive what is announced, under a lease."""
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    await deliveries.archive_listed(claimed, orders)


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


UNTOLD = pytest.mark.parametrize(
    "untold", ["order_facts", "dataset_files"], ids=["of orders", "of files"]
)


async def test_files_that_are_there_are_found_where_rs_order_tells_nothing(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    """They are archived as they come; the end, where that is heard, tells that they are all."""
    await parked(deliveries, orders, partial_content=False, order_facts=False)
    for number in (2, 3):
        await deliveries.elapse(QUIET)
        await inquiry(deliveries, orders).look()
        active = await deliveries.active()
        assert (active.parked, active.announced) == (False, number)
        await go_on(deliveries, orders)
        await park(deliveries)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    active = await deliveries.active()
    assert (active.parked, active.announced) == (True, 3), "nothing is new"
    assert not active.order_done, "nor is it known whether there will be"
    await deliveries.tell(OrderStatus.DONE, order_id=1, total_suborders=3)
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    files = deliveries.segments(orders).of(claimed, make_lease())
    assert [file async for file in files.all()][-1] is Seam.PAUSE, "a list may be behind"
    for _ in range(4):
        after = timedelta(minutes=2)
        await deliveries.leases("w").release(claimed, after=after, failed=False, cause="not yet")
        await deliveries.elapse(after)
        again = await deliveries.leases("w").claim(Work.TRANSFER)
        assert again is not None
        claimed = again
    files = deliveries.segments(orders).of(claimed, make_lease())
    got = [file.member async for file in files.all() if isinstance(file, ManifestFile)]
    assert got == ["P_v1/f1", "P_v1/f2", "P_v1/f3"]
    so_far = await deliveries.store.order_so_far(claimed)
    assert so_far.rest_is_listed, "all of it was listed once more at the end"
    assert [segment.at_end for segment in so_far.segments] == [False, False, False, True]


async def test_the_end_is_known_where_orders_are_told_and_files_are_not(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await parked(deliveries, orders, partial_content=False, dataset_files=False)
    for announced, done in ((2, False), (2, True)):
        await deliveries.elapse(QUIET)
        await inquiry(deliveries, orders).look()
        active = await deliveries.active()
        assert (active.parked, active.announced, active.order_done) == (False, announced, done)
        await go_on(deliveries, orders)
        await park(deliveries)


@UNTOLD
async def test_the_first_files_are_found_where_rs_order_tells_nothing(
    deliveries: Deliveries, orders: MemoryOrders, untold: str
) -> None:
    switches = {"suborder_files": 1, "user_places": 1, "partial_content": False, untold: False}
    orders.hold(await ordered(deliveries), FILES, **switches)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    active = await deliveries.active()
    assert (active.state, active.announced, active.order_done) == (State.AVAILABLE, 1, False)
    assert ("order-ready", TENANT) in [(hint.kind.value, hint.tenant) for hint in deliveries.hinted]


async def test_where_no_file_is_there_nothing_changes(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    delivery = await ordered(deliveries)
    switches = {"order_facts": False, "partial_content": False, "restore_seconds": 3600}
    orders.hold(delivery, FILES, **switches)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["ORDERED"]
    assert (await deliveries.active()).announced == 0


async def test_a_list_that_is_not_ready_tells_nothing(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    orders.hold(
        await ordered(deliveries),
        FILES,
        order_facts=False,
        partial_content=True,
        suborder_files=1,
        user_places=1,
    )
    orders.faults = orders.faults.model_copy(update={"listing_not_ready": 1})
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["ORDERED"]


@pytest.mark.parametrize("told", [True, False])
async def test_an_archive_that_waits_with_its_lease_is_asked_about(
    deliveries: Deliveries, orders: MemoryOrders, *, told: bool
) -> None:
    """It can't pause, where the compiled digest is missing."""
    await waiting(deliveries, orders, order_facts=told, partial_content=False)
    await inquiry(deliveries, orders).look()
    assert (await deliveries.active()).announced == 1, "its last files were listed just now"
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    active = await deliveries.active()
    assert (active.state, active.announced) == (State.TRANSFERRING, 2)


async def test_an_archive_that_waits_with_its_lease_ends_with_its_order(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await waiting(deliveries, orders)
    orders.clock.advance(8 * 24 * 3600)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    assert await deliveries.states() == ["ERROR"]


async def stuck(deliveries: Deliveries, orders: MemoryOrders, **switches: Any) -> Delivery:
    """Park a delivery that has archived all that its order makes available, in two suborders."""
    await waiting(deliveries, orders, **{"user_places": 2, "large_file_bytes": 1} | switches)
    await park(deliveries)
    second = announced_by(orders)[1]
    await deliveries.tell(OrderStatus.SUBORDER_DONE, order_id=1, suborder_id=second)
    await go_on(deliveries, orders)
    return await park(deliveries)


async def test_an_order_that_keeps_all_places_itself_ends_its_delivery_and_names_the_files(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await stuck(deliveries, orders)
    await inquiry(deliveries, orders, user_places=2).look()
    assert await deliveries.states() == ["TRANSFERRING"], "rs-order may be slow to see it"
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, user_places=2).look()
    assert await deliveries.states() == ["ERROR"]
    owed = await deliveries.owed()
    (error,) = [body for _, body in owed if body.get("status") == "ERROR"]
    assert "order 1 goes no further: 1 of its files waits for a place" in error["message"]
    assert "its own suborders keep all 2 places" in error["message"]
    assert "(here: f1, f2). Order these files apart" in error["message"]
    assert error["message"].endswith("so that no order has them in 2 suborders or more")
    assert [body["orderId"] for kind, body in owed if kind == "cancel"] == [1]


async def test_an_order_that_keeps_the_only_place_is_told_so(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await stuck(deliveries, orders)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, user_places=1).look()
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert "its own suborders keep the only one. They were downloaded" in error["message"]
    assert error["message"].endswith("so that no order has them beside others")


@pytest.mark.parametrize(
    ("switches", "places"),
    [
        ({}, 3),  # there is one more: the third suborder may just be restored
        ({}, 0),  # how many there are is not known
        ({"large_file_bytes": 0, "restore_seconds": 0}, 2),  # rs-order sees the downloads
        ({"large_file_bytes": 2}, 2),  # of the first one
        ({"dataset_files": False, "partial_content": False}, 2),  # the states are not told
        ({"suborder_files": 2, "user_places": 2}, 2),  # all is there
    ],
    ids=["another place", "unknown places", "seen", "one seen", "untold", "nothing awaited"],
)
async def test_an_order_that_may_go_on_does_not_end_its_delivery(
    deliveries: Deliveries, orders: MemoryOrders, switches: dict[str, Any], places: int
) -> None:
    await stuck(deliveries, orders, **switches)
    for _ in range(2):
        await deliveries.elapse(QUIET)
        await inquiry(deliveries, orders, user_places=places).look()
        assert await deliveries.states() == ["TRANSFERRING"]


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


@pytest.mark.parametrize(
    ("switches", "states"),
    [
        ({"suborder_files": 1, "user_places": 1}, ["ERROR"]),
        ({"suborder_files": 1, "user_places": 3}, ["ERROR"]),
        ({"suborder_files": 2, "user_places": 2}, ["AVAILABLE"]),
    ],
    ids=["goes on", "is done", "is not too many"],
)
async def test_an_order_of_more_suborders_than_the_tenant_takes_ends_its_delivery(
    deliveries: Deliveries, orders: MemoryOrders, switches: dict[str, Any], states: list[str]
) -> None:
    orders.hold(await ordered(deliveries), FILES, **switches)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, max_suborders=2).look()
    assert await deliveries.states() == states
    told = [body.get("errorType") for _, body in await deliveries.owed()]
    assert ("TOO_MANY_SUBORDERS" in told) is (states == ["ERROR"])


async def test_a_suborder_that_is_half_restored_is_not_announced(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    switches = {"suborder_files": 2, "user_places": 2, "restore_file_seconds": 10}
    orders.hold(await ordered(deliveries), FILES, **switches)
    orders.clock.advance(10)  # a file of each: of the first, one more is to come
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    so_far = await deliveries.store.order_so_far(await deliveries.active())
    assert [segment.suborder for segment in so_far.segments] == [2]
    orders.clock.advance(10)
    await deliveries.elapse(QUIET)
    await deliveries.tell(OrderStatus.SUBORDER_DONE, order_id=1, suborder_id=1)
    so_far = await deliveries.store.order_so_far(await deliveries.active())
    assert [segment.suborder for segment in so_far.segments] == [2, 1]


class Bad(MemoryOrders):
    """Gives no answer for some orders, or one that is not understood."""

    def __init__(self, error: Exception, bad: set[str]) -> None:
        super().__init__()
        self.error = error
        self.bad = bad
        self.asked: list[str] = []

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        self.asked.append(delivery.correlation_id)
        if delivery.correlation_id in self.bad:
            raise self.error
        return OrderFacts(status="DONE")


@pytest.mark.parametrize("error", [SourceUnavailableError("it is away"), ValueError("unforeseen")])
async def test_orders_that_give_no_answer_hold_up_no_other(
    deliveries: Deliveries, error: Exception
) -> None:
    names = [f"c{number}" for number in range(6)]
    for number, name in enumerate(names, start=1):
        await deliveries.granted(name)
        await deliveries.tell(OrderStatus.GRANTED, name, order_id=number)
        await deliveries.elapse(timedelta(seconds=1))
    orders = Bad(error, set(names[:4]))
    await deliveries.elapse(QUIET)
    for _ in range(2):
        await inquiry(deliveries, orders).look()
    assert orders.asked == names
    assert await deliveries.states() == ["ORDERED"] * 4 + ["AVAILABLE"] * 2


async def test_an_order_that_rs_order_failed_to_delete_is_not_done(
    deliveries: Deliveries, orders: MemoryOrders, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def order(_delivery: Delivery) -> OrderFacts:
        return OrderFacts(status="ERROR")

    await parked(deliveries, orders)
    monkeypatch.setattr(orders, "order", order)
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


@pytest.mark.parametrize("question", ["order", "every_file"])
async def test_files_are_found_where_a_question_fails_each_time(
    deliveries: Deliveries, orders: MemoryOrders, monkeypatch: pytest.MonkeyPatch, question: str
) -> None:
    await parked(deliveries, orders, partial_content=False)

    def fails(*_asked: Any) -> Any:
        raise SourceUnavailableError("500")

    monkeypatch.setattr(orders, question, fails)
    inquiries = inquiry(deliveries, orders)
    for announced in (1, 2):
        await deliveries.elapse(QUIET)
        await inquiries.look()
        active = await deliveries.active()
        assert (active.parked, active.announced) == (announced == 1, announced)
    so_far = await deliveries.store.order_so_far(active)
    assert [segment.suborder is None for segment in so_far.segments] == [False, True]


async def test_a_question_that_fails_with_the_lists_finds_nothing(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await parked(deliveries, orders, partial_content=False)
    orders.faults = orders.faults.model_copy(update={"answers_500": 99})
    inquiries = inquiry(deliveries, orders)
    for _ in range(5):
        await deliveries.elapse(QUIET)
        await inquiries.look()
    assert (await deliveries.active()).announced == 1


@pytest.mark.parametrize("total", [3, None])
@pytest.mark.parametrize("ordered_files", [3, 4, None])
async def test_an_order_that_is_gone_and_was_archived_before_is_done(
    deliveries: Deliveries,
    orders: MemoryOrders,
    monkeypatch: pytest.MonkeyPatch,
    total: int | None,
    ordered_files: int | None,
) -> None:
    """Only its end was not heard. That all of it was told is known by the number of its files."""
    await waiting(deliveries, orders, user_places=3)
    await park(deliveries)
    for suborder in announced_by(orders)[1:]:
        said: dict[str, Any] = {"suborder_id": suborder, "total_suborders": total}
        await deliveries.tell(OrderStatus.SUBORDER_DONE, order_id=1, **said)
    await go_on(deliveries, orders)
    await park(deliveries)
    dataset = DatasetFacts(dataset_id=1, files=ordered_files, size=None)

    async def order(_delivery: Delivery) -> OrderFacts:
        return OrderFacts(status="EXPIRED", datasets=(dataset,))

    monkeypatch.setattr(orders, "order", order)
    orders.clock.advance(8 * 24 * 3600)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    if ordered_files != 3:
        assert await deliveries.states() == ["ERROR"]
        return
    assert (await deliveries.active()).order_done
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    got = [file async for file in deliveries.segments(orders).of(claimed, make_lease()).all()]
    assert [file.member for file in got if isinstance(file, ManifestFile)] == ["f1", "f2", "f3"]
    assert Seam.PAUSE not in got


async def test_an_order_of_which_it_is_not_told_whether_it_waits_does_not_end_its_delivery(
    deliveries: Deliveries, orders: MemoryOrders, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = await stuck(deliveries, orders)
    facts = await orders.order(delivery)
    assert facts is not None

    async def order(_delivery: Delivery) -> OrderFacts:
        return replace(facts, waiting_for_user=None)

    monkeypatch.setattr(orders, "order", order)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, user_places=2).look()
    assert await deliveries.states() == ["TRANSFERRING"]


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
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert error["message"] == (
        "file 7 is gone; its order was retried 5 times, and the archive got no further: ask again, "
        "for less data at once"
    )


async def test_what_left_the_cache_of_an_order_that_is_done_is_gone(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    delivery = await deliveries.claimed()
    orders.hold(delivery, {"a": b"a"})
    await settlement(deliveries, orders).settle(delivery, SourceGoneError("file 1 is gone"))
    assert await deliveries.states() == ["ERROR"]


@pytest.mark.parametrize("frees_places", [True, False])
async def test_a_place_that_a_small_delivery_keeps_is_looked_for_once_another_order_waits(
    deliveries: Deliveries, orders: MemoryOrders, *, frees_places: bool
) -> None:
    """Its file is at another server: rs-order does not see that it was downloaded."""
    done = await deliveries.available("before")
    orders.hold(done, FILES, external=".*", user_places=1)
    transferring = await deliveries.put(done, State.TRANSFERRING)
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(transferring, State.DONE, result=make_stored())
    await deliveries.granted("after")
    await deliveries.tell(OrderStatus.GRANTED, "after", order_id=2)
    orders.hold(await deliveries.active("after"), FILES, user_places=1)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, frees_places=frees_places).look()
    await Places(source=orders, store=deliveries.store).look()
    cancels = [body["orderId"] for kind, body in await deliveries.owed() if kind == "cancel"]
    assert cancels == ([done.order_id] if frees_places else [])


async def test_a_place_that_a_small_delivery_keeps_is_looked_for_once_a_half_made_one_waits(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    """It keeps the other place itself: rs-order does not see that its file was downloaded."""
    delivered = await deliveries.available("before")
    switches: dict[str, Any] = {"user_places": 2, "suborder_files": 1, "large_file_bytes": 1}
    orders.hold(delivered, {"small": b"s"}, **switches)
    transferring = await deliveries.put(delivered, State.TRANSFERRING)
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(transferring, State.DONE, result=make_stored())
    await parked(deliveries, orders, order_id=2, **switches)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, user_places=2).look()
    active = await deliveries.active()
    assert (active.parked, active.announced) == (True, 1), "nothing is new"
    await Places(source=orders, store=deliveries.store).look()
    cancels = [body["orderId"] for kind, body in await deliveries.owed() if kind == "cancel"]
    assert cancels == [delivered.order_id]


async def test_an_order_that_goes_on_lacks_no_place(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await deliveries.done("before")
    await parked(deliveries, orders, "after", order_id=2)
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders).look()
    assert (await deliveries.active("after")).announced == 2
    assert await deliveries.overview.places_held() == []


async def crossed(deliveries: Deliveries, orders: MemoryOrders) -> None:
    """Park two deliveries of a user that wait for each other's place.

    The second suborder of the older one is cut after the first one of the younger had its place.
    """
    switches: dict[str, Any] = {"suborder_files": 1, "large_file_bytes": 1}
    await parked(deliveries, orders, "older", user_places=1, **switches)
    older = orders.orders.by_id[1]
    later = [each for each in older.suborders if each.state is SuborderState.QUEUED]
    for suborder in later:
        orders.orders._places.leave(older.owner, suborder)  # noqa: SLF001 - it is not cut yet
    await parked(deliveries, orders, "younger", order_id=2, user_places=2, **switches)
    for suborder in later:
        orders.orders._places.ask(older.owner, suborder)  # noqa: SLF001 - now it is


async def test_of_two_orders_that_keep_each_others_places_the_younger_ends(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await crossed(deliveries, orders)
    for _ in range(2):
        await deliveries.elapse(QUIET)
        await inquiry(deliveries, orders, user_places=2).look()
    assert await deliveries.states("younger") == ["ERROR"]
    owed = await deliveries.owed()
    (error,) = [body for _, body in owed if body.get("status") == "ERROR"]
    assert error["message"].startswith(
        "order 2 goes no further: 2 of its files wait for a place of its user, and its own "
        "suborders and those of delivery older, all of the same user, keep all 2 places. They were "
        "downloaded, but rs-order does not see that of files of 2 GiB and more, or at other "
        "servers (here: f1). This delivery was requested last, and ends so that the others go on"
    )
    assert [body["orderId"] for kind, body in owed if kind == "cancel"] == [2]
    orders.orders.cancel(2)
    orders.clock.run_due()
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, user_places=2).look()
    active = await deliveries.active("older")
    assert (active.parked, active.announced) == (False, 2), "it has the place, and goes on"


async def test_the_older_of_two_orders_that_keep_each_others_places_waits_for_the_younger(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await crossed(deliveries, orders)
    await deliveries.elapse(QUIET)
    (older,) = await deliveries.store.quiet_orders(QUIET, limit=1)
    assert older.correlation_id == "older"
    looks = replace(inquiry(deliveries, orders, user_places=2), limit=1)
    await looks.look()
    await deliveries.elapse(QUIET)
    await looks.look()
    assert (await deliveries.store.quiet_orders(QUIET, limit=9))[0].correlation_id == "younger"
    assert await deliveries.states() == ["TRANSFERRING"] * 2
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, user_places=2).look()
    assert await deliveries.states() == ["TRANSFERRING", "ERROR"]


async def test_an_order_that_is_gone_since_it_was_looked_at_keeps_no_place(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    """The younger one has its place, and what it waits for is being restored."""
    await crossed(deliveries, orders)
    async with deliveries.store.transaction() as tx:
        await tx.record_kept_places(await deliveries.active("older"), 1)
    await deliveries.elapse(QUIET)
    (looked_at,) = await deliveries.store.quiet_orders(QUIET, limit=1)
    assert looked_at.correlation_id == "older"
    orders.behaviour.switches = orders.behaviour.switches.changed({"restore_seconds": 3600})
    orders.orders.cancel(1)
    await inquiry(deliveries, orders, user_places=2).look()
    younger = await deliveries.active("younger")
    assert (younger.state, younger.announced) == (State.TRANSFERRING, 1)
    assert await deliveries.states("older") == ["TRANSFERRING"], "it was not asked about"


async def test_orders_with_another_place_go_on(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await crossed(deliveries, orders)
    for _ in range(3):
        await deliveries.elapse(QUIET)
        await inquiry(deliveries, orders, user_places=3).look()
    assert await deliveries.states() == ["TRANSFERRING"] * 2


async def test_the_places_that_a_user_s_orders_keep_are_known_while_they_are_parked(
    deliveries: Deliveries, orders: MemoryOrders
) -> None:
    await crossed(deliveries, orders)
    older, younger = await deliveries.active("older"), await deliveries.active("younger")

    async def keeping(delivery: Delivery, places: int) -> list[tuple[str, int]]:
        async with deliveries.store.transaction() as tx:
            kept = await tx.record_kept_places(delivery, places)
        return [(each.delivery.correlation_id, each.places) for each in kept]

    assert await keeping(younger, 1) == [("younger", 1)]
    assert await keeping(older, 1) == [("older", 1), ("younger", 1)]
    assert await keeping(replace(older, id=uuid4(), user="another"), 1) == []
    assert await keeping(replace(older, id=uuid4(), tenant=OTHER), 1) == []
    assert await keeping(younger, 0) == [("older", 1)]
    more = older.announced + 1
    await deliveries.tell(OrderStatus.SUBORDER_DONE, "older", order_id=1, suborder_id=more)
    assert await keeping(younger, 1) == [("younger", 1)], "it goes on"
    claimed = await deliveries.leases("w").claim(Work.TRANSFER)
    assert claimed is not None
    assert claimed.plan is not None
    segment = (await deliveries.store.order_so_far(claimed)).segments[1]
    async with deliveries.store.transaction() as tx:
        assert await tx.list_segment(claimed, segment, claimed.plan, more_files=0, more_bytes=0)
    assert (await park(deliveries, "older")).parked
    assert await keeping(younger, 1) == [("younger", 1)], "it is seen at the next look"


class Large(MemoryOrders):
    """An rs-order whose orders have, by what they say and list, so many files more."""

    def __init__(self, more: int) -> None:
        super().__init__()
        self.more = more
        self.held: list[bool] = []  # whether memory for them was held as they were told
        self.memory = Budget(20_000 * MEMORY_A_FILE)

    def room(self) -> Room:
        return Room(
            memory=self.memory.size,
            reserve=self.memory.reserve_at_once,
            most_files=1_000_000,
            grows=True,
        )

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        facts = await super().order(delivery)
        if facts is None:
            return None
        more = DatasetFacts(dataset_id=0, files=self.more, size=None)
        return replace(facts, datasets=(*facts.datasets, more))

    async def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        async for file in super().every_file(delivery, facts):
            yield file
        free = self.memory.size - (facts.files or 0) * MEMORY_A_FILE
        self.held.append(not self.memory.has(free + 1))

    async def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        async for file in super().listing(delivery, suborder, so_far=so_far):
            yield file
        for number in range(self.more if so_far else 0):
            yield make_listed("more", file_id=1_000_000 + number)


async def test_a_look_at_a_large_order_holds_the_memory_that_it_takes(
    deliveries: Deliveries,
) -> None:
    orders = Large(6_000)
    orders.hold(await ordered(deliveries), FILES, suborder_files=1, user_places=1)
    inquiries = inquiry(deliveries, orders, room=orders.room())
    await deliveries.elapse(QUIET)
    async with orders.memory.reserve(orders.memory.size):
        await inquiries.look()
    assert (orders.held, await deliveries.states()) == ([], ["ORDERED"]), "it has its turn later"
    await deliveries.elapse(QUIET)
    await inquiries.look()
    assert (orders.held, await deliveries.states()) == ([True], ["AVAILABLE"])
    assert orders.memory.has(orders.memory.size)


async def test_an_order_that_is_too_large_to_be_looked_at_by_its_files_is_listed(
    deliveries: Deliveries,
) -> None:
    orders = Large(0)
    await parked(deliveries, orders, partial_content=False)
    orders.more = 20_000
    await deliveries.elapse(QUIET)
    await inquiry(deliveries, orders, room=orders.room()).look()
    assert len(orders.held) == 1, "as it was planned"
    assert await deliveries.states() == ["ERROR"]
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert error["errorType"] == "ORDER_LIMIT_REACHED"
    assert "raise DELIVERY_WORKER_MEMORY" in error["message"]


async def test_the_files_that_a_list_has_are_compared_in_memory_that_is_held(
    deliveries: Deliveries,
) -> None:
    orders = Large(0)
    await parked(deliveries, orders, order_facts=False, partial_content=False)
    orders.more = 6_000
    inquiries = inquiry(deliveries, orders, room=orders.room())
    await deliveries.elapse(QUIET)
    async with orders.memory.reserve(orders.memory.size):
        await inquiries.look()
    assert (await deliveries.active()).announced == 1
    await deliveries.elapse(QUIET)
    await inquiries.look()
    assert (await deliveries.active()).announced == 2
    assert orders.memory.has(orders.memory.size)
