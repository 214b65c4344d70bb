"""Orders that keep their user's place at rs-order although all of them is delivered."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject
from app.delivery.order_facts import OrderFacts
from app.delivery.orders import OrderStatus
from app.delivery.states import State, Work
from app.delivery.targets import TargetKinds
from app.errors import ErrorType, SourceRefusedError, SourceUnavailableError
from app.usecases.expire import expire
from app.usecases.fail import fail
from app.usecases.free_place import Places
from app.usecases.transfer import Transfers
from app.usecases.uploads import Uploads
from app.views.deliveries import PlacesHeld
from compose.embedded.stack import TENANT
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import make_lease, make_listed, make_manifest, make_stored
from tests.deliveries import Deliveries
from tests.reference import lay_out

GIB = 1 << 30
LATER = timedelta(minutes=2)


class Told:
    """An rs-order that says whether it waits for the user; or fails, so many times first."""

    def __init__(self, *, waits: bool | None = True, fails: int = 0) -> None:
        self.waits = waits
        self.fails = fails
        self.error: Exception = SourceUnavailableError("it is away")
        self.asked: list[str] = []
        self.asking = asyncio.Lock()  # nothing is answered while it is held

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        self.asked.append(delivery.correlation_id)
        async with self.asking:
            pass
        if self.fails > 0:
            self.fails -= 1
            raise self.error
        return OrderFacts(status="RUNNING", waiting_for_user=self.waits)


class Made:
    """An archiver whose archives are there at once."""

    def media_type(self, _delivery: Delivery) -> str:
        return "application/zip"

    def memory_of(self, *_args: Any, **_kwargs: Any) -> int:
        return 0

    async def run(self, *_args: Any, **_kwargs: Any) -> StoredObject:
        return make_stored()


def transfers(deliveries: Deliveries, source: Any, *, frees_places: bool = True) -> Transfers:
    """Return what ends deliveries."""
    shelf = MemoryObjectStore()
    deliveries.tenants.give(TENANT, target=MemoryTarget(container="archives"))
    return Transfers(
        store=deliveries.store,
        leases=deliveries.leases("w"),
        tenants=deliveries.tenants,
        objects=shelf,
        uploads=Uploads(
            objects=shelf,
            seal=deliveries.vault,
            store=deliveries.store,
            kinds=TargetKinds(MemoryTarget),
        ),
        checkpoints=deliveries.checkpoints("w"),
        archiver=Made(),
        segments=deliveries.segments(source),
        frees_places=frees_places,
    )


async def claimed(
    deliveries: Deliveries, correlation_id: str = "c", *, size: int = 2 * GIB
) -> Delivery:
    """Return a delivery of one file that a worker transfers."""
    available = await deliveries.available(correlation_id)
    archive, members = lay_out(
        correlation_id, [make_listed("a", size=size), make_listed("b", file_id=2)]
    )
    async with deliveries.store.transaction() as tx:
        await tx.add_files(available, members)
        manifest = make_manifest(members, archive)
        assert await tx.advance(available, State.READY, manifest=manifest)
    delivery = await deliveries.leases("w").claim(Work.TRANSFER)
    assert delivery is not None
    return delivery


async def cancels(deliveries: Deliveries) -> list[Any]:
    return [body["orderId"] for kind, body in await deliveries.owed() if kind == "cancel"]


def places(deliveries: Deliveries, source: Any) -> Places:
    return Places(source=source, store=deliveries.store)


async def test_a_place_that_its_worker_could_not_free_is_freed_by_another(
    deliveries: Deliveries,
) -> None:
    source = Told(fails=1)
    delivery = await claimed(deliveries)
    await transfers(deliveries, source).deliver(delivery, make_lease())
    assert (source.asked, await cancels(deliveries)) == (["c"], [])
    await places(deliveries, source).look()
    assert source.asked == ["c"], "it is not due yet"
    await deliveries.elapse(LATER)
    await places(deliveries, source).look()
    assert await cancels(deliveries) == [delivery.order_id]
    await deliveries.elapse(timedelta(days=1))
    await places(deliveries, source).look()
    assert len(source.asked) == 2, "once it is told, it is told"
    assert await deliveries.overview.places_held() == []


async def test_a_worker_that_dies_at_the_end_leaves_its_place_to_another(
    deliveries: Deliveries,
) -> None:
    source = Told()
    delivery = await claimed(deliveries)
    await transfers(deliveries, source).finish(delivery, make_stored())
    await deliveries.elapse(LATER)
    await places(deliveries, source).look()
    assert await cancels(deliveries) == [delivery.order_id]


async def test_a_place_is_freed_once_by_those_who_try_at_once(deliveries: Deliveries) -> None:
    source = Told()
    delivery = await claimed(deliveries)
    await transfers(deliveries, source).finish(delivery, make_stored())
    await deliveries.elapse(LATER)
    async with source.asking:
        tries = [
            asyncio.create_task(places(deliveries, source).free_soon(delivery)),
            asyncio.create_task(places(deliveries, source).look()),
        ]
        while len(source.asked) < 2:
            await asyncio.sleep(0)
    await asyncio.gather(*tries)
    assert await cancels(deliveries) == [delivery.order_id]


@pytest.mark.parametrize(
    ("size", "noted"), [(2 * GIB, True), (2 * GIB - 1, False)], ids=["unseen", "seen"]
)
async def test_an_order_of_one_suborder_keeps_its_place_by_a_large_file_alone(
    deliveries: Deliveries, size: int, noted: bool
) -> None:
    delivery = await claimed(deliveries, size=size)
    await transfers(deliveries, Told()).finish(delivery, make_stored())
    assert await deliveries.store.holds_place(delivery) is noted


async def test_many_small_files_keep_no_place(deliveries: Deliveries) -> None:
    delivery = await claimed(deliveries, size=1)
    async with deliveries.store.transaction() as tx:
        await tx.record_place(delivery, unseen=2, after=timedelta())
    assert not await deliveries.store.holds_place(delivery)


async def test_an_order_that_no_longer_waits_for_its_user_is_left_alone(
    deliveries: Deliveries,
) -> None:
    for waits in (False, None):
        delivery = await claimed(deliveries, f"c{waits}")
        await transfers(deliveries, Told(waits=waits)).deliver(delivery, make_lease())
        assert not await deliveries.store.holds_place(delivery)
    assert await cancels(deliveries) == []


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        (None, "rs-order does not tell whether order 1 waits for its user"),
        (
            OrderFacts(status="RUNNING", waiting_for_user=None),
            "rs-order does not tell whether order 1 waits for its user",
        ),
        (OrderFacts(status="RUNNING", waiting_for_user=False), None),
        (OrderFacts(status="EXPIRED", waiting_for_user=None), None),
    ],
    ids=["no question", "no word", "it does not", "gone"],
)
async def test_what_is_not_told_is_in_the_log_and_asked_no_more(
    deliveries: Deliveries, facts: OrderFacts | None, cause: str | None
) -> None:
    class Answering:
        async def order(self, _delivery: Delivery) -> OrderFacts | None:
            return facts

    delivery = await claimed(deliveries)
    with capture_logs() as lines:
        await transfers(deliveries, Answering()).deliver(delivery, make_lease())
    assert not await deliveries.store.holds_place(delivery)
    told = [line for line in lines if line["event"] == "place_not_freed"]
    assert [line["cause"] for line in told] == ([cause] if cause else [])
    assert all("it is not asked again" in line["consequence"] for line in told)


async def test_an_order_that_is_not_there_keeps_no_place(deliveries: Deliveries) -> None:
    source = Told(fails=1)
    source.error = SourceRefusedError("there is no order 1")
    delivery = await claimed(deliveries)
    await transfers(deliveries, source).deliver(delivery, make_lease())
    assert not await deliveries.store.holds_place(delivery)
    assert await cancels(deliveries) == []


async def test_no_place_is_noted_where_that_is_set_so(deliveries: Deliveries) -> None:
    delivery = await claimed(deliveries)
    await transfers(deliveries, Told(), frees_places=False).deliver(delivery, make_lease())
    assert not await deliveries.store.holds_place(delivery)


async def test_what_was_noted_before_that_was_forbidden_is_forgotten(
    deliveries: Deliveries,
) -> None:
    source: Any = Told(fails=1)
    await transfers(deliveries, source).deliver(await claimed(deliveries), make_lease())
    await deliveries.elapse(LATER)
    await Places(source=source, store=deliveries.store, frees=False).look()
    assert (source.asked, await cancels(deliveries)) == (["c"], [])
    assert await deliveries.overview.places_held() == []


async def test_an_order_that_was_asked_about_is_not_suspected_again(
    deliveries: Deliveries,
) -> None:
    source = Told(waits=None)
    delivery = await claimed(deliveries)
    await transfers(deliveries, source).deliver(delivery, make_lease())
    async with deliveries.store.transaction() as tx:
        assert await tx.record_places_of(delivery, within=timedelta(days=1), limit=9) == 0
    await places(deliveries, source).look()
    assert source.asked == ["c"]


async def test_what_is_not_told_for_a_week_is_given_up(deliveries: Deliveries) -> None:
    source = Told(fails=1_000)
    delivery = await claimed(deliveries)
    await transfers(deliveries, source).finish(delivery, make_stored())
    await deliveries.elapse(timedelta(hours=2))
    (held,) = await deliveries.overview.places_held()
    assert (held.tenant, held.places, round(held.oldest / 60)) == (TENANT, 1, 120)
    await places(deliveries, source).look()
    assert await deliveries.store.holds_place(delivery)
    await deliveries.elapse(timedelta(days=7))
    await places(deliveries, source).look()
    assert not await deliveries.store.holds_place(delivery)
    assert await deliveries.overview.places_held() == list[PlacesHeld]()
    assert await cancels(deliveries) == []


async def test_it_is_asked_less_and_less_often(deliveries: Deliveries) -> None:
    delivery = await claimed(deliveries)
    async with deliveries.store.transaction() as tx:
        await tx.record_place(delivery, unseen=1, after=timedelta())
    longest, asked = timedelta(minutes=4), []
    for minute in range(20):
        if await deliveries.store.due_place(longest=longest) is not None:
            asked.append(minute)
        assert await deliveries.store.due_place(longest=longest) is None
        await deliveries.elapse(timedelta(minutes=1))
    assert asked == [0, 1, 3, 7, 11, 15, 19]


async def test_those_who_get_no_answer_hold_up_no_other(deliveries: Deliveries) -> None:
    names = [f"c{number}" for number in range(5)]
    for name in names:
        delivery = await claimed(deliveries, name)
        await transfers(deliveries, Told()).finish(delivery, make_stored())
    await deliveries.elapse(LATER)
    source = Told(fails=3)
    await places(deliveries, source).look()
    assert sorted(source.asked) == names[:3]
    await places(deliveries, source).look()
    assert sorted(source.asked) == names, "the others come before those that failed"


@pytest.mark.parametrize("how", ["fails", "expires", "is failed by rs-order"])
async def test_what_ends_without_an_archive_has_its_order_cancelled_once(
    deliveries: Deliveries, how: str
) -> None:
    """In the transaction that ends it: nothing is left to ask about."""
    if how == "fails":
        delivery = await claimed(deliveries)
        async with deliveries.store.transaction() as tx:
            await fail(tx, delivery, ErrorType.INTERNAL_ERROR, "it failed")
    else:
        delivery = await deliveries.granted()
        await deliveries.tell(OrderStatus.GRANTED, order_id=1)
        delivery = await deliveries.active()
        if how == "expires":
            await deliveries.elapse(timedelta(days=30))
            await expire(store=deliveries.store, limit=9)
        else:
            await deliveries.tell(OrderStatus.FAILED, order_id=1, errors=1)
    assert await deliveries.states() == ["ERROR"]
    assert await cancels(deliveries) == [delivery.order_id]
    assert not await deliveries.store.holds_place(delivery)
    source = Told()
    await places(deliveries, source).look()
    assert source.asked == []
