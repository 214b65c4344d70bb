"""An order of several suborders: announced, laid out and transferred one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.codes import Code
from app.delivery.contents import Wanted
from app.delivery.lease import Lease
from app.delivery.manifest import Extent, ListedFile, ManifestFile, Seam
from app.delivery.model import Delivery
from app.delivery.order_facts import DatasetFacts, OrderFacts, OrderFile
from app.delivery.orders import OrderStatus
from app.delivery.segments import OrderPlan
from app.delivery.states import State, Work
from app.errors import (
    ArchiveTooLargeError,
    EmptyOrderError,
    IncompleteOrderError,
    LeaseLostError,
    OrderFailedError,
    OrderNotToldError,
    OrderTooLargeError,
    SourceNotReadyError,
    SourceRefusedError,
    SourceUnavailableError,
    TargetRefusedError,
    TooManySubordersError,
)
from app.usecases import plan as planning
from app.usecases import segments
from app.usecases.intervene import why_not_retried
from app.usecases.laying_out import MEMORY_A_FILE, Room
from app.usecases.order_progress import order_progressed
from app.usecases.plan import Planning
from app.usecases.settle import Settlement
from app.usecases.untold import Question, Unanswered
from app.views.deliveries import Filter
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from sinks import formats
from sinks.pipeline.budget import Budget
from sinks.stores.memory import MemoryObjectStore
from sinks.transfer import StreamingArchiver
from tests.builders import make_body, make_lease, make_listed, make_order_event
from tests.deliveries import Deliveries
from tests.integration.transfers import QUICK
from tests.twins.rs_order import Source as TwinSource

Attempts = Callable[[], Awaitable[str | list[str]]]

DONE, SUBORDER_DONE = OrderStatus.DONE, OrderStatus.SUBORDER_DONE


class Order:
    """An order at rs-order: its files by suborder; those that can be downloaded are listed."""

    def __init__(self, suborders: Mapping[int, Sequence[ListedFile]], *, told: bool = True) -> None:
        self.suborders = suborders
        self.told = told
        self.available: set[int] = set()  # suborders
        self.gone: set[int] = set()  # files
        self.asked: list[int | None] = []
        self.facts: OrderFacts | None = OrderFacts(status="RUNNING") if told else None

    async def listing(
        self, _delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        self.asked.append(suborder)
        for number, files in self.suborders.items():
            if number in self.available and suborder in (number, None):
                for file in files:
                    if file.file_id not in self.gone:
                        yield file

    async def order(self, _delivery: Delivery) -> OrderFacts | None:
        return self.facts

    async def every_file(self, _delivery: Delivery, _facts: OrderFacts) -> AsyncIterator[OrderFile]:
        if not self.told:
            raise OrderNotToldError("there is no such list")
        for number, files in sorted(self.suborders.items(), reverse=True):
            for file in files:
                yield OrderFile(file=file, state="PENDING", suborder_id=number)

    def end(self, status: str) -> None:
        """Let it expire, or be deleted: its files are gone, and are in no list."""
        self.facts = OrderFacts(status=status)
        self.suborders = {}

    async def retry(self, _delivery: Delivery) -> bool:
        raise NotImplementedError

    def download(self, _delivery: Delivery, _file: ManifestFile) -> Any:
        raise NotImplementedError


def file(number: int, *, product: str = "P", name: str | None = None) -> ListedFile:
    return make_listed(name or f"f{number}", file_id=number, size=number, product_id=product)


def planner(deliveries: Deliveries, order: Order) -> Planning:
    memory = Budget(1 << 30)
    room = Room(memory=memory.size, reserve=memory.reserve, most_files=100)
    return Planning(source=order, store=deliveries.store, room=room, suffix_of=formats.suffix_of)


def settlement(deliveries: Deliveries, order: Order) -> Settlement:
    return Settlement(
        store=deliveries.store,
        leases=deliveries.leases("w"),
        backoff=Backoff(first=1, longest=1),
        attempts=2,
        source=order,
    )


async def claim(deliveries: Deliveries, work: Work) -> Delivery:
    await deliveries.elapse(timedelta(seconds=2))
    claimed = await deliveries.leases("w").claim(work)
    assert claimed is not None
    return claimed


async def begun(deliveries: Deliveries, order: Order, **said: Any) -> Delivery:
    """Announce the first suborder, plan ahead, and begin the transfer."""
    await deliveries.granted()
    await announce(deliveries, order, next(iter(order.suborders)), **said)
    await planner(deliveries, order).plan(await claim(deliveries, Work.PLAN))
    return await claim(deliveries, Work.TRANSFER)


async def announce(deliveries: Deliveries, order: Order, suborder: int, **said: Any) -> None:
    order.available.add(suborder)
    await deliveries.tell(SUBORDER_DONE, order_id=1, suborder_id=suborder, **said)


async def given(
    deliveries: Deliveries, order: Order, delivery: Delivery, lease: Lease | None = None
) -> list[str | Seam]:
    """Return what the archiver is given in one attempt."""
    files = deliveries.segments(order).of(delivery, lease or make_lease()).all()
    return [each if isinstance(each, Seam) else each.member async for each in files]


@pytest.fixture(autouse=True)
def _no_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_LINGER", 0.0)


@pytest.mark.parametrize("ahead", [True, False])
@pytest.mark.parametrize(
    ("files", "archive", "prefix"),
    [
        ([file(3), file(1)], "P-1.zip", "P/2"),
        (
            [file(3), make_listed("f1", file_id=1, size=1, product_id="Q")],
            "several-mixed.zip",
            "several/2",
        ),
    ],
)
async def test_an_archive_is_called_as_its_templates_say_once_it_is_planned(
    deliveries: Deliveries, ahead: bool, files: list[ListedFile], archive: str, prefix: str
) -> None:
    order = Order({7: files})
    templates = {"archiveName": "{productId}-{version}", "prefix": "{productId}/2"}
    granted = await deliveries.granted(body=make_body() | {"delivery": templates})
    assert (granted.prefix, granted.archive_name) == ("", None)
    if ahead:
        await announce(deliveries, order, 7, total_suborders=2)
        await deliveries.elapse(timedelta(minutes=1))
    else:
        order.available.add(7)
        await deliveries.tell(DONE, order_id=1)
    await planner(deliveries, order).plan(await claim(deliveries, Work.PLAN))
    ready = await deliveries.active()
    assert (ready.prefix, ready.archive_name) == (prefix, archive)
    assert ready.key == f"{prefix}/c/{archive}"


async def test_the_first_suborder_begins_the_archive_of_all(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.usecases.order_progress.END_FOLLOWS", timedelta(minutes=1))
    order = Order({7: [file(3), file(1)], 8: [file(2)]})
    await deliveries.granted()
    await announce(deliveries, order, 7, total_suborders=2)
    assert (await deliveries.active()).state is State.AVAILABLE
    assert await deliveries.leases("w").claim(Work.PLAN) is None, "its end may follow at once"
    await deliveries.elapse(timedelta(minutes=1))
    await planner(deliveries, order).plan(await claim(deliveries, Work.PLAN))
    ready = await deliveries.active()
    assert (ready.state, ready.archive_name) == (State.READY, "P_v1.zip")
    assert (ready.file_count, ready.total_bytes) == (3, 6)
    assert ready.plan is not None
    assert (ready.plan.told, ready.plan.folders, ready.plan.sizes_known) == (True, False, True)
    assert ready.plan.name_bytes == 6
    delivery = await claim(deliveries, Work.TRANSFER)
    got = await given(deliveries, order, delivery)
    assert got == ["f1", "f3", Seam.SEGMENT, Seam.WAIT, Seam.PAUSE]
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    got = await given(deliveries, order, delivery)
    assert got == ["f1", "f3", Seam.SEGMENT, "f2", Seam.SEGMENT]
    assert order.asked == [7, 8], "each is listed once"


class Telling(Order):
    """It tells CRC-32s with all files, and not when it lists them, as from version 2.4 on."""

    async def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        async for each in super().every_file(delivery, facts):
            number = each.file.file_id
            yield replace(each, file=replace(each.file, crc32=None if number == 3 else number + 1))


async def test_what_was_told_of_a_file_is_known_when_its_suborder_is_listed(
    deliveries: Deliveries,
) -> None:
    order = Telling({7: [file(1)], 8: [file(2), file(3), file(4)]})
    delivery = await begun(deliveries, order)

    async def known() -> list[int | None]:
        return [each.crc32 async for each in deliveries.store.files(delivery)]

    files = deliveries.segments(order).of(delivery, make_lease()).all()
    async for each in files:
        if each is Seam.SEGMENT:
            break
    assert await known() == [2]
    order.suborders = {8: [file(2), file(3), replace(file(4), crc32=1)]}
    await announce(deliveries, order, 8)
    with contextlib.suppress(LookupError):  # what is rolled back is there the next time
        async with deliveries.store.transaction() as tx:
            assert await tx.take_crc32s(delivery, [1, 2, 3]) == {2: 3}, "1 was taken before"
            raise LookupError
    async for each in files:
        if each is Seam.SEGMENT:
            break
    assert await known() == [2, 3, None, 1], "what is listed now comes first"


async def test_crc32s_that_are_not_believed_any_more_are_forgotten_of_all_files_with_an_md5(
    deliveries: Deliveries,
) -> None:
    """Also of files that come later: what they have is not known yet."""

    def listed(number: int, *, md5: str | None) -> ListedFile:
        return replace(file(number), md5=md5)

    order = Telling({7: [listed(1, md5="1" * 32), listed(2, md5=None)], 8: [file(4), file(5)]})
    delivery = await begun(deliveries, order)

    async def known() -> list[int | None]:
        return [each.crc32 async for each in deliveries.store.files(delivery)]

    files = deliveries.segments(order).of(delivery, make_lease()).all()
    async for each in files:
        if each is Seam.SEGMENT:
            break
    assert await known() == [2, 3]
    with contextlib.suppress(LookupError):
        async with deliveries.store.transaction() as tx:
            assert await tx.forget_crc32s(delivery)
            raise LookupError
    assert await known() == [2, 3], "it was rolled back"
    async with deliveries.store.transaction() as tx:
        assert await tx.forget_crc32s(delivery)
    assert await known() == [None, 3]
    async with deliveries.store.transaction() as tx:
        assert not await tx.forget_crc32s(delivery), "none is left with an MD5"
        assert await tx.take_crc32s(delivery, [4, 5]) == {}


async def test_a_small_order_is_listed_once(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)]})
    await deliveries.granted()
    await announce(deliveries, order, 7, total_suborders=1)
    await deliveries.tell(DONE, order_id=1, total_suborders=1)
    claimed = await deliveries.leases("w").claim(Work.PLAN)
    assert claimed is not None, "nothing is waited for"
    await planner(deliveries, order).plan(claimed)
    ready = await deliveries.active()
    assert (ready.state, ready.plan, ready.file_count) == (State.READY, None, 1)
    assert order.asked == [None]


async def test_products_have_folders_in_whichever_segment_they_come(
    deliveries: Deliveries,
) -> None:
    order = Order(
        {
            7: [file(1, product="P", name="a"), file(2, product="Q", name="a")],
            8: [file(3, product="p", name="a"), file(4, product="P", name="A")],
            9: [file(5, product="p", name="a"), file(6, product="Q", name="b")],
        },
        told=False,
    )
    await deliveries.granted()
    await announce(deliveries, order, 7)
    claimed = await claim(deliveries, Work.PLAN)
    with pytest.raises(SourceNotReadyError, match="does not tell all files of order 1"):
        await planner(deliveries, order).plan(claimed)
    await deliveries.elapse(planning.END_AWAITED)
    await planner(deliveries, order).plan(claimed)
    delivery = await claim(deliveries, Work.TRANSFER)
    assert delivery.archive_name == "delivery-c.zip"
    for suborder in (8, 9):
        await announce(deliveries, order, suborder)
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    got = [each for each in await given(deliveries, order, delivery) if not isinstance(each, Seam)]
    assert got == ["P_v1/a", "Q_v1/a", "p_v1 (2)/a", "P_v1/A (2)", "p_v1 (2)/a (2)", "Q_v1/b"]
    now = await deliveries.active()
    assert (now.file_count, now.total_bytes) == (6, 21)


async def test_suborders_come_twice_and_late(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order, total_suborders=1)
    for _ in range(2):
        await announce(deliveries, order, 8)
        await announce(deliveries, order, 7)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    await announce(deliveries, order, 8)
    got = await given(deliveries, order, delivery)
    assert got == ["f1", Seam.SEGMENT, "f2", Seam.SEGMENT]


async def test_a_suborder_that_was_not_announced_is_found_at_the_end(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)], 9: [file(3)]})
    delivery = await begun(deliveries, order)
    await given(deliveries, order, delivery)
    order.available |= {8, 9}
    order.gone = {1}  # it was downloaded
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    got = await given(deliveries, order, delivery)
    assert got == ["f1", Seam.SEGMENT, Seam.WAIT, "f2", "f3", Seam.SEGMENT]
    # What was announced after all adds nothing.
    await announce(deliveries, order, 9)
    got = await given(deliveries, order, delivery)
    assert got == ["f1", Seam.SEGMENT, "f2", "f3", Seam.SEGMENT]


async def test_a_plan_of_an_order_that_was_still_being_made_is_not_believed(
    deliveries: Deliveries,
) -> None:
    class Growing(Order):
        async def every_file(
            self, _delivery: Delivery, _facts: OrderFacts
        ) -> AsyncIterator[OrderFile]:
            yield OrderFile(file=file(1), state="AVAILABLE", suborder_id=7)

    order = Growing({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    order.available.add(8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["f1", "f2"]


class Cut(Order):
    """An order that tells only the files of some suborders: the others are being made yet."""

    def __init__(self, suborders: Mapping[int, Sequence[ListedFile]], told: set[int]) -> None:
        super().__init__(suborders)
        self.cut = told

    async def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        async for each in super().every_file(delivery, facts):
            if each.suborder_id in self.cut:
                yield each


async def test_the_least_number_of_suborders_is_not_the_number_at_the_end(
    deliveries: Deliveries,
) -> None:
    """What was said of the second one and of the end is lost; that it is done, was asked."""
    order = Cut({7: [file(1)], 8: [file(2)]}, told={7})
    delivery = await begun(deliveries, order, total_suborders=1)
    order.available.add(8)
    await deliveries.tell(DONE, order_id=1)
    assert (await deliveries.active()).total_suborders is None
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["f1", "f2"]


async def test_what_is_said_late_does_not_tell_how_many_suborders_there_are(
    deliveries: Deliveries,
) -> None:
    order = Cut({7: [file(1)], 8: [file(2)], 9: [file(3)]}, told={7, 8})
    delivery = await begun(deliveries, order, total_suborders=1)
    order.available |= {8, 9}
    await deliveries.tell(DONE, order_id=1)
    await announce(deliveries, order, 8, total_suborders=2)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["f1", "f2", "f3"]


async def test_an_order_that_is_still_being_made_is_asked_for_all_its_files_again(
    deliveries: Deliveries,
) -> None:
    """A plan of a part of them would name the archive, and lay it out, by that part."""
    order = Cut({7: [file(1)], 8: [file(2, product="Q")]}, told={7})
    ordered = DatasetFacts(dataset_id=1, files=2, size=None)
    order.facts = OrderFacts(status="RUNNING", datasets=(ordered,))
    await deliveries.granted()
    await announce(deliveries, order, 7, total_suborders=1)
    claimed = await claim(deliveries, Work.PLAN)
    with pytest.raises(SourceNotReadyError, match="order 1 has 2 files, and tells 1 of them") as to:
        await planner(deliveries, order).plan(claimed)
    assert 0 < (to.value.retry_after or 0) <= 10
    order.cut.add(8)
    await planner(deliveries, order).plan(claimed)
    ready = await deliveries.active()
    assert ready.plan is not None
    assert (ready.plan.told, ready.plan.files, ready.archive_name) == (True, 2, "delivery-c.zip")


async def test_an_order_that_tells_too_few_files_for_a_minute_does_not_tell_them(
    deliveries: Deliveries,
) -> None:
    order = Cut({7: [file(1)], 8: [file(2)]}, told={7})
    ordered = DatasetFacts(dataset_id=1, files=2, size=None)
    order.facts = OrderFacts(status="RUNNING", datasets=(ordered,))
    delivery = await untold(deliveries, order)
    assert delivery.plan is not None
    assert not delivery.plan.told
    assert delivery.archive_name == "delivery-c.zip"


async def test_files_that_are_filtered_out_are_not_waited_for(deliveries: Deliveries) -> None:
    """rs-order counts them; whether it tells all of the others is seen at the end."""
    order = Order({7: [file(1)], 8: [file(2)]})
    ordered = DatasetFacts(dataset_id=1, files=5, size=None)
    order.facts = OrderFacts(status="RUNNING", datasets=(ordered,))
    filters = {"dataTypes": ["RAWDATA"], "filenameRegExp": "f.*"}
    message = deliveries.message()
    body = message.body | {"order": message.body["order"] | {"filters": filters}}
    await deliveries.receive(replace(message, body=body))
    await announce(deliveries, order, 7, total_suborders=1)
    await planner(deliveries, order).plan(await claim(deliveries, Work.PLAN))
    delivery = await claim(deliveries, Work.TRANSFER)
    assert delivery.plan is not None
    assert (delivery.plan.told, delivery.plan.short, delivery.plan.files) == (True, True, 2)
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["f1", "f2"]
    assert order.asked == [7, 8, None], "how many suborders there are was not told"


async def test_what_was_told_too_early_does_not_tell_that_nothing_is_missing(
    deliveries: Deliveries,
) -> None:
    """Files of which no suborder was announced may have left the list before its end is asked."""
    order = Cut({7: [file(1)], 8: [file(2)]}, told={7})
    delivery = await begun(deliveries, order, total_suborders=1)
    assert delivery.plan is not None
    short = replace(delivery, plan=replace(delivery.plan, short=True))
    await deliveries.tell(DONE, order_id=1)
    order.told, order.facts = False, None
    assert isinstance(await why_it_paused(deliveries, order, short), SourceUnavailableError)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["f1"], "it was told as whole"


async def test_a_segment_that_can_not_be_listed_now_costs_nothing_of_what_there_is(
    deliveries: Deliveries,
) -> None:
    class Away(Order):
        away = False

        async def listing(
            self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
        ) -> AsyncIterator[ListedFile]:
            if self.away:
                raise SourceNotReadyError("not now")
            async for each in super().listing(delivery, suborder, so_far=so_far):
                yield each

    order = Away({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await announce(deliveries, order, 8)
    segments_of = deliveries.segments(order).of(delivery, make_lease())
    got: list[str | Seam] = []
    async for each in segments_of.all():
        order.away = True
        got.append(each if isinstance(each, Seam) else each.member)
    assert got == ["f1", Seam.SEGMENT, Seam.PAUSE]
    assert isinstance(segments_of.failed, SourceNotReadyError)


async def test_a_segment_that_no_worker_has_the_memory_for_ends_the_delivery_in_words(
    deliveries: Deliveries,
) -> None:
    """What its transfer holds is never free: without an end it would be listed until it expires."""
    order = Order({7: [file(1)], 8: [file(number) for number in range(2, 5003)]}, told=False)
    delivery = await untold(deliveries, order)
    memory = Budget(20_000 * MEMORY_A_FILE)
    room = Room(memory=memory.size, reserve=memory.reserve_at_once, most_files=10**6, grows=True)
    files = replace(deliveries.segments(order), room=room).of(delivery, make_lease())
    files.beside = memory.size - 5000 * MEMORY_A_FILE
    await announce(deliveries, order, 8)
    async with memory.reserve(files.beside):
        with pytest.raises(OrderTooLargeError, match="raise DELIVERY_WORKER_MEMORY"):
            assert [each async for each in files.all()]


async def test_an_order_that_can_not_be_listed_beside_its_transfer_is_refused_before_that(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2), file(3)]})
    await deliveries.granted()
    await announce(deliveries, order, 7)
    claimed = await claim(deliveries, Work.PLAN)
    asked: list[tuple[str | None, int, int, int]] = []

    def taken(delivery: Delivery, extent: Extent) -> int:
        sizes = delivery.file_count, delivery.total_bytes, extent.name_bytes
        asked.append((delivery.archive_name, *sizes))
        return memory.size - beside * MEMORY_A_FILE

    memory = Budget(1 << 20)
    room = Room(memory=memory.size, reserve=memory.reserve, most_files=100)
    plans = replace(planner(deliveries, order), room=room, memory_of=taken)
    beside = 2
    with pytest.raises(OrderTooLargeError, match="order 1 holds 3 files or more"):
        await plans.plan(claimed)
    assert asked == [("P_v1.zip", 103, 6, 10_006)]
    beside = 3
    await plans.plan(claimed)
    assert (await deliveries.active()).state is State.READY


@pytest.mark.parametrize("threshold", [0.9, 0.95])
async def test_an_order_that_no_object_takes_ends_before_anything_is_sent(
    deliveries: Deliveries, threshold: float
) -> None:
    """By what its tenant compresses or not: no further plan makes it smaller."""
    order = Order({7: [file(1)], 8: [file(2), file(3)]})
    await deliveries.granted()
    await announce(deliveries, order, 7)
    claimed = await claim(deliveries, Work.PLAN)
    archiver = StreamingArchiver(
        TwinSource({}),
        MemoryObjectStore(least_part=1),
        lambda _: None,
        compression="auto",
        part_size=8 << 20,
        memory=32 << 20,
        worker_memory=Budget(1 << 30),
        max_object_size=5,
        connections=1,
        patience=QUICK,
    )

    def taken(delivery: Delivery, extent: Extent) -> int:
        return archiver.memory_of(
            delivery,
            at_most=delivery.total_bytes,
            name_bytes=extent.name_bytes,
            wanted=Wanted(compression_threshold=threshold),
        )

    with pytest.raises(ArchiveTooLargeError) as refused:
        await replace(planner(deliveries, order), memory_of=taken).plan(claimed)
    await settlement(deliveries, order).settle(claimed, refused.value)
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert "DELIVERY_MAX_OBJECT_SIZE" in error["message"]


async def test_a_file_too_few_is_no_archive(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)], 8: [file(2), file(3)]})
    delivery = await begun(deliveries, order)
    order.gone = {3}
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2, errors=1)
    with pytest.raises(
        IncompleteOrderError, match=r"was to have 3 files, and 1 of them never came"
    ):
        await given(deliveries, order, delivery)


async def test_where_nothing_is_told_of_the_files_the_order_is_listed_once_more(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]}, told=False)
    await deliveries.granted()
    await announce(deliveries, order, 7)
    claimed = await claim(deliveries, Work.PLAN)
    await deliveries.elapse(planning.END_AWAITED)
    await planner(deliveries, order).plan(claimed)
    delivery = await claim(deliveries, Work.TRANSFER)
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    await given(deliveries, order, delivery)
    assert order.asked == [7, 8, None], "no number that was heard tells that it is the last one"


async def test_parked_until_the_next_suborder(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    assert (await given(deliveries, order, delivery))[-1] is Seam.PAUSE
    leases = deliveries.leases("w")
    await leases.park(delivery, cause="waits")
    parked = await deliveries.active()
    assert (parked.state, parked.parked, parked.work) == (State.TRANSFERRING, True, None)
    assert parked.last_cause == "waits"
    assert await leases.claim(Work.TRANSFER) is None
    await deliveries.ready("younger")
    await announce(deliveries, order, 8)
    went_on = await leases.claim(Work.TRANSFER)
    assert went_on is not None
    assert (went_on.correlation_id, went_on.attempt) == ("c", delivery.attempt + 1)
    younger = await leases.claim(Work.TRANSFER)
    assert younger is not None
    assert younger.correlation_id == "younger"


async def test_an_archive_that_can_not_pause_waits_with_what_it_has(
    deliveries: Deliveries,
) -> None:
    """Without the compiled digest it would have to begin again."""
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    by = replace(deliveries.segments(order), pauses=False)
    got: list[str | Seam] = []
    async for each in by.of(delivery, make_lease()).all():
        got.append(each if isinstance(each, Seam) else each.member)
        if got.count(Seam.WAIT) == 3 and 8 not in order.available:
            await announce(deliveries, order, 8)
            await deliveries.tell(DONE, order_id=1, total_suborders=2)
    assert [each for each in got if each is not Seam.WAIT] == [
        "f1",
        Seam.SEGMENT,
        "f2",
        Seam.SEGMENT,
    ]


async def test_what_came_while_it_was_parked_is_due_at_once(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await given(deliveries, order, delivery)
    await announce(deliveries, order, 8)
    await deliveries.leases("w").park(delivery, cause="waits")
    due = await deliveries.active()
    assert (due.parked, due.last_cause) == (False, None), "it waits for nothing"
    assert (await deliveries.moved(delivery.id))[-1].cause == "waits"
    assert await deliveries.leases("w").claim(Work.TRANSFER) is not None


async def test_what_has_begun_comes_before_what_has_not(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    await deliveries.ready("older")
    delivery = await begun_second(deliveries, order)
    await deliveries.leases("w").park(delivery, cause="waits")
    await announce(deliveries, order, 8)
    first = await deliveries.leases("w").claim(Work.TRANSFER)
    assert first is not None
    assert first.correlation_id == "c"


async def begun_second(deliveries: Deliveries, order: Order) -> Delivery:
    """Begin the transfer of the younger one of two deliveries."""
    older = await claim(deliveries, Work.TRANSFER)
    delivery = await begun(deliveries, order)
    await given(deliveries, order, delivery)
    await deliveries.leases("w").release(older, after=timedelta(), failed=False, cause="stopped")
    return delivery


async def test_the_end_of_the_order_wakes_who_waits_for_it(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)]}, told=False)
    await deliveries.granted()
    await announce(deliveries, order, 7)
    claimed = await claim(deliveries, Work.PLAN)
    with pytest.raises(SourceNotReadyError):
        await planner(deliveries, order).plan(claimed)
    await deliveries.tell(DONE, order_id=1, total_suborders=1)
    after = timedelta(minutes=1)
    await deliveries.leases("w").release(claimed, after=after, failed=False, cause="too early")
    claimed = await claim(deliveries, Work.PLAN)
    await planner(deliveries, order).plan(claimed)
    assert order.asked == [None]


async def test_more_suborders_than_the_tenant_takes(deliveries: Deliveries) -> None:
    await deliveries.granted()
    await deliveries.tell(
        SUBORDER_DONE, order_id=1, suborder_id=7, total_suborders=3, max_suborders=2
    )
    assert await deliveries.states() == ["ERROR"]
    error = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert error[0]["errorType"] == "TOO_MANY_SUBORDERS"
    assert "split into 3 suborders" in error[0]["message"]


async def test_more_suborders_at_the_end_than_the_tenant_takes(deliveries: Deliveries) -> None:
    await deliveries.granted()
    await deliveries.tell(SUBORDER_DONE, order_id=1, suborder_id=7, max_suborders=1)
    await deliveries.tell(DONE, order_id=1, total_suborders=2, max_suborders=1)
    assert await deliveries.states() == ["ERROR"]


async def test_the_plan_tells_more_suborders_than_the_tenant_takes(
    deliveries: Deliveries,
) -> None:
    """rs-order itself counts only those that it has begun."""
    order = Order({7: [file(1)], 8: [file(2)], 9: [file(3)]})
    await deliveries.granted()
    await announce(deliveries, order, 7, total_suborders=1, max_suborders=2)
    claimed = await claim(deliveries, Work.PLAN)
    plans = planner(deliveries, order)
    with pytest.raises(TooManySubordersError, match="order 1 was split into 3 suborders") as many:
        await replace(plans, max_suborders=lambda _tenant: 2).plan(claimed)
    assert many.value.error_type == "TOO_MANY_SUBORDERS"
    await replace(plans, max_suborders=lambda _tenant: 3).plan(claimed)
    assert (await deliveries.active()).state is State.READY


async def test_an_order_of_one_suborder_is_taken_as_before(deliveries: Deliveries) -> None:
    await deliveries.granted()
    said: dict[str, Any] = {"order_id": 1, "total_suborders": 1, "max_suborders": 1}
    await deliveries.tell(SUBORDER_DONE, suborder_id=7, **said)
    await deliveries.tell(DONE, **said)
    # Whatever is said of it now, all of it was available.
    await deliveries.tell(SUBORDER_DONE, suborder_id=8, order_id=1, total_suborders=2)
    await deliveries.tell(OrderStatus.FAILED, order_id=1, errors=1)
    assert await deliveries.states() == ["AVAILABLE"]
    assert (await deliveries.active()).announced == 1


async def test_equal_files_are_told_once_and_listed_each(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unequal(Order):
        async def every_file(
            self, _delivery: Delivery, _facts: OrderFacts
        ) -> AsyncIterator[OrderFile]:
            for number in (1, 2):
                yield OrderFile(file=file(number), state="PENDING", suborder_id=7)

    monkeypatch.setattr(segments, "_MORE", 0)
    order = Unequal({7: [file(1)], 8: [file(2), file(3)]})
    delivery = await begun(deliveries, order)
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    assert (await given(deliveries, order, delivery))[-1] is Seam.PAUSE, "it needs more room"
    leases = deliveries.leases("w")
    await leases.release(delivery, after=timedelta(), failed=False, cause="room")
    again = await leases.claim(Work.TRANSFER)
    assert again is not None
    assert again.file_count == 3
    got = await given(deliveries, order, again)
    assert [each for each in got if not isinstance(each, Seam)] == ["f1", "f2", "f3"]


async def test_errors_before_anything_is_downloaded_end_the_delivery(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    await deliveries.granted()
    await announce(deliveries, order, 7)
    await announce(deliveries, order, 8, errors=1)
    assert await deliveries.states() == ["ERROR"]


async def test_errors_while_files_are_downloaded_may_be_our_own(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await announce(deliveries, order, 8, errors=1)
    await deliveries.tell(OrderStatus.FAILED, order_id=1, total_suborders=2, errors=1)
    got = await given(deliveries, order, delivery)
    assert got == ["f1", Seam.SEGMENT, "f2", Seam.SEGMENT]


async def test_errors_end_the_delivery_where_no_file_is_told(deliveries: Deliveries) -> None:
    """Each suborder was heard of, none is empty, and yet the archive would lack a file."""
    order = Order({7: [file(1)], 8: [file(2), file(3)]}, told=False)
    order.gone = {3}  # it could not be restored: no list has it
    delivery = await untold(deliveries, order)
    await announce(deliveries, order, 8, errors=1, total_suborders=2)
    assert await deliveries.states() == ["TRANSFERRING"], "it may be a download of ours"
    assert "P_v1/f2" in await given(deliveries, order, delivery)
    await deliveries.tell(DONE, order_id=1, errors=1, total_suborders=2)
    assert await deliveries.states() == ["ERROR"]


@pytest.mark.parametrize("status", [DONE, OrderStatus.FAILED])
async def test_errors_that_come_while_it_is_planned_end_what_tells_no_file(
    deliveries: Deliveries, status: OrderStatus
) -> None:
    """A worker is to report them: the one that plans has looked before they came."""
    order = Order({7: [file(1)], 8: [file(2), file(3)]}, told=False)
    order.gone = {3}
    await deliveries.granted()
    await announce(deliveries, order, 7, total_suborders=2)
    planning_it = await claim(deliveries, Work.PLAN)
    event = make_order_event(status, order_id=1, errors=1, message="a tape", suborder_id=None)
    await order_progressed(event, store=deliveries.store, reports=True)
    await deliveries.elapse(planning.END_AWAITED)
    await planner(deliveries, order).plan(planning_it)
    delivery = await claim(deliveries, Work.TRANSFER)
    with pytest.raises(OrderFailedError, match="a tape"):
        await given(deliveries, order, delivery)


async def test_an_attempt_that_is_over_lists_nothing(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)]})
    first = await begun(deliveries, order)
    await deliveries.let_leases_run_out()
    second = await claim(deliveries, Work.TRANSFER)
    assert second.attempt == first.attempt + 1
    with pytest.raises(LeaseLostError):
        await given(deliveries, order, first)
    assert "f1" in await given(deliveries, order, second)


async def test_an_archive_gets_more_room_in_its_next_attempt(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(segments, "_UNTOLD_FILES", 2)
    order = Order({7: [file(1), file(2)], 8: [file(3), file(4)]}, told=False)
    await deliveries.granted()
    await announce(deliveries, order, 7)
    claimed = await claim(deliveries, Work.PLAN)
    await deliveries.elapse(planning.END_AWAITED)
    await planner(deliveries, order).plan(claimed)
    delivery = await claim(deliveries, Work.TRANSFER)
    await announce(deliveries, order, 8)
    assert (await given(deliveries, order, delivery))[-1] is Seam.PAUSE
    leases = deliveries.leases("w")
    await leases.release(delivery, after=timedelta(), failed=False, cause="room")
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    again = await leases.claim(Work.TRANSFER)
    assert again is not None
    assert Seam.PAUSE not in await given(deliveries, order, again)


async def test_an_order_without_a_file_is_empty(deliveries: Deliveries) -> None:
    order = Order({})
    await deliveries.available()
    claimed = await claim(deliveries, Work.PLAN)
    with pytest.raises(EmptyOrderError):
        await planner(deliveries, order).plan(claimed)


def test_what_another_version_planned_is_read() -> None:
    noted = {"told": True, "folders": False, "files": 3, "later": 1}
    assert OrderPlan.read(noted) == OrderPlan(told=True, folders=False, files=3)


async def test_not_told_half_way(deliveries: Deliveries) -> None:
    class Forgetful(Order):
        async def every_file(
            self, _delivery: Delivery, _facts: OrderFacts
        ) -> AsyncIterator[OrderFile]:
            yield OrderFile(file=file(1), state="PENDING", suborder_id=7)
            raise OrderNotToldError("its pages differ")

    order = Forgetful({7: [file(1)]})
    await deliveries.granted()
    await announce(deliveries, order, 7)
    with pytest.raises(SourceNotReadyError):
        await planner(deliveries, order).plan(await claim(deliveries, Work.PLAN))


async def test_an_order_that_expires_soon_is_claimed_first(deliveries: Deliveries) -> None:
    class Expiring(Order):
        async def order(self, _delivery: Delivery) -> OrderFacts | None:
            return OrderFacts(status="RUNNING", expires_at=deliveries.now() + timedelta(hours=1))

    await deliveries.ready("older")
    order = Expiring({7: [file(1)]})
    await deliveries.granted()
    await announce(deliveries, order, 7)
    await planner(deliveries, order).plan(await claim(deliveries, Work.PLAN))
    assert (await claim(deliveries, Work.TRANSFER)).correlation_id == "c"


async def test_what_is_there_and_what_is_waited_for_is_seen(deliveries: Deliveries) -> None:
    tracking = deliveries.tracking
    order = Order({7: [file(1), file(3)], 8: [file(2)]})
    granted = await deliveries.granted()
    assert await tracking.segments(granted.id) == []
    await announce(deliveries, order, 7, total_suborders=2)
    (seen,) = await tracking.of(TENANT, "c")
    assert (seen.listed, seen.parked_since) == (0, None)
    assert seen.suborders == "1 of at least 2 suborders is available"
    (segment,) = await tracking.segments(granted.id)
    assert (segment.number, segment.suborder, segment.file_count) == (1, 7, 0)
    assert segment.listed_at is None
    await planner(deliveries, order).plan(await claim(deliveries, Work.PLAN))
    delivery = await claim(deliveries, Work.TRANSFER)
    await given(deliveries, order, delivery)
    await deliveries.leases("w").park(delivery, cause="it waits")
    await deliveries.elapse(timedelta(hours=1))
    (seen,) = await tracking.browse([TENANT], Filter(), before=None, limit=9)
    assert seen.listed == 1
    assert seen.parked_since is not None
    assert seen.code == Code.SUBORDER_AWAITED
    assert seen.suborders is not None
    assert seen.suborders.startswith(
        "1 of at least 2 suborders is in the archive; waits for the next one since 2"
    )
    assert seen.parked_since == seen.updated_at
    (segment,) = await tracking.segments(delivery.id)
    assert segment.file_count == 2
    assert segment.listed_at is not None
    assert segment.listed_at >= segment.announced_at
    (underway,) = await tracking.underway({delivery.id: delivery.attempt})
    assert (underway.told, underway.is_whole, underway.segments) == (True, True, ((7, 2),))
    (depth,) = await deliveries.overview.depths()
    assert (depth.deliveries, depth.parked) == (1, 1)
    assert 3600 <= depth.oldest_parked < 4200
    assert "waits for rs-order: it waits;" in why_not_retried(seen.delivery)
    await announce(deliveries, order, 8)
    (seen,) = await tracking.of(TENANT, "c")
    assert (seen.parked_since, seen.delivery.last_cause) == (None, None), "that is over"
    assert seen.code is None
    assert [each.suborder for each in await tracking.segments(delivery.id)] == [7, 8]
    (depth,) = await deliveries.overview.depths()
    assert (depth.parked, depth.oldest_parked) == (0, 0)


async def test_the_end_of_the_order_ends_what_a_parked_archive_waits_for(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await given(deliveries, order, delivery)
    await deliveries.leases("w").park(delivery, cause="it waits")
    order.available.add(8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    (seen,) = await deliveries.tracking.of(TENANT, "c")
    assert (seen.parked_since, seen.delivery.last_cause) == (None, None)
    assert seen.suborders == "all 2 suborders are available"


async def test_rs_order_tells_more_suborders_as_it_begins_them(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)], 8: [file(2)], 9: [file(3)]})
    delivery = await begun(deliveries, order, total_suborders=1)
    await announce(deliveries, order, 8, total_suborders=3)
    files = deliveries.segments(order).of(delivery, make_lease())
    assert [each async for each in files.all()][-1] is Seam.PAUSE
    assert (files.segments, files.total_suborders) == (2, 3)
    await announce(deliveries, order, 9, total_suborders=2)  # it was said before
    assert (await deliveries.active()).total_suborders == 3


async def test_what_the_whole_order_has_is_announced_until_its_end(deliveries: Deliveries) -> None:
    """Once at a time; and once the order is done, for the last time."""
    order = Order({7: [file(1)], 8: [file(2)], 9: [file(3)]}, told=False)

    async def announce_rest() -> bool:
        async with deliveries.store.transaction() as tx:
            return await tx.announce(delivery, None)

    delivery = await begun(deliveries, Order(order.suborders))
    assert await announce_rest()
    assert not await announce_rest(), "it is to be listed yet"
    order.available.add(7)
    await given(deliveries, order, delivery)
    order.available.add(8)
    assert await announce_rest()
    await given(deliveries, order, delivery)
    so_far = await deliveries.store.order_so_far(delivery)
    assert [segment.suborder for segment in so_far.segments] == [7, None, None]
    assert not so_far.rest_is_listed
    order.available.add(9)
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    got = [each for each in await given(deliveries, order, delivery) if not isinstance(each, Seam)]
    assert got == ["f1", "f2", "f3"]
    assert (await deliveries.store.order_so_far(delivery)).rest_is_listed
    assert not await announce_rest(), "there is no more"


@pytest.mark.parametrize(
    ("said", "error_type", "words"),
    [
        (
            {"status": DONE, "errors": 1, "error_type": "FORBIDDEN", "message": "no right to f3"},
            "FORBIDDEN",
            "; rs-order said that order 1 ended with 1 file in error: no right to f3",
        ),
        (
            {"status": OrderStatus.FAILED, "message": "the tape is torn", "error_type": "TAPE"},
            "INTERNAL_ERROR",
            "; rs-order said that order 1 failed: the tape is torn",
        ),
        ({"status": DONE}, "INTERNAL_ERROR", "what became of them"),
    ],
    ids=["done", "failed", "no error"],
)
async def test_what_rs_order_said_at_the_end_is_told_where_files_are_missing(
    deliveries: Deliveries, said: dict[str, Any], error_type: str, words: str
) -> None:
    order = Order({7: [file(1)], 8: [file(2), file(3)]})
    delivery = await begun(deliveries, order)
    order.gone = {3}
    await announce(deliveries, order, 8)
    await deliveries.tell(order_id=1, total_suborders=2, **said)
    with pytest.raises(IncompleteOrderError) as missing:
        await given(deliveries, order, delivery)
    await settlement(deliveries, order).settle(delivery, missing.value)
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert error["errorType"] == error_type
    assert error["message"].endswith(words)


async def test_what_rs_order_said_at_the_end_is_not_told_of_what_failed_otherwise(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await deliveries.tell(DONE, order_id=1, errors=1, error_type="FORBIDDEN", message="no right")
    await settlement(deliveries, order).settle(delivery, TargetRefusedError("no bucket"))
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert (error["errorType"], error["message"]) == ("INTERNAL_ERROR", "no bucket")


async def test_what_rs_order_said_at_the_end_is_told_of_a_file_that_it_refuses(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await deliveries.tell(DONE, order_id=1, errors=1, error_type="FORBIDDEN", message="no right")
    await settlement(deliveries, order).settle(delivery, SourceRefusedError("422 for file 2"))
    (error,) = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert error["errorType"] == "FORBIDDEN"
    assert error["message"] == (
        "422 for file 2; rs-order said that order 1 ended with 1 file in error: no right"
    )


# What is missing makes no smaller archive


async def untold(deliveries: Deliveries, order: Order, **said: Any) -> Delivery:
    """Announce the first suborder of an order whose files are not told, and begin the transfer."""
    await deliveries.granted()
    await announce(deliveries, order, next(iter(order.suborders)), **said)
    claimed = await claim(deliveries, Work.PLAN)
    await deliveries.elapse(planning.END_AWAITED)
    await planner(deliveries, order).plan(claimed)
    return await claim(deliveries, Work.TRANSFER)


async def given_up(deliveries: Deliveries, delivery: Delivery, *, times: int) -> Delivery:
    """Give up an attempt for later, again and again; return the one after them."""
    for _ in range(times):
        await deliveries.leases("w").release(
            delivery, after=timedelta(), failed=False, cause="not now"
        )
        delivery = await claim(deliveries, Work.TRANSFER)
    return delivery


async def why_it_paused(deliveries: Deliveries, order: Order, delivery: Delivery) -> Exception:
    """Return why an attempt leaves the rest of its archive to another one."""
    files = deliveries.segments(order).of(delivery, make_lease())
    assert [each async for each in files.all()][-1] is Seam.PAUSE
    assert files.failed is not None
    return files.failed


@pytest.mark.parametrize("status", ["EXPIRED", "DELETED", "ERROR"])
@pytest.mark.parametrize("told", [True, False])
async def test_an_order_that_is_gone_makes_no_smaller_archive(
    deliveries: Deliveries, status: str, *, told: bool
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]}, told=told)
    order.facts = OrderFacts(status="RUNNING")
    begin = begun if told else untold
    delivery = await begin(deliveries, order)
    await given(deliveries, order, delivery)
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    order.end(status)
    with pytest.raises(IncompleteOrderError, match=f"order 1 is {status} at rs-order"):
        await given(deliveries, order, delivery)


async def test_an_order_that_is_gone_before_its_last_list_is_not_whole(
    deliveries: Deliveries,
) -> None:
    """A suborder that was never announced would be in it."""
    order = Order({7: [file(1)], 8: [file(2)]}, told=False)
    delivery = await untold(deliveries, order)
    await given(deliveries, order, delivery)
    await deliveries.tell(DONE, order_id=1, total_suborders=1)
    order.end("EXPIRED")
    with pytest.raises(IncompleteOrderError, match="order 1 is EXPIRED at rs-order"):
        await given(deliveries, order, delivery)


async def test_a_plan_that_was_made_too_early_and_an_order_that_is_gone(
    deliveries: Deliveries,
) -> None:
    class Growing(Order):
        async def every_file(
            self, _delivery: Delivery, _facts: OrderFacts
        ) -> AsyncIterator[OrderFile]:
            yield OrderFile(file=file(1), state="AVAILABLE", suborder_id=7)

    order = Growing({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await given(deliveries, order, delivery)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    order.end("DELETED")
    with pytest.raises(IncompleteOrderError, match="order 1 is DELETED at rs-order"):
        await given(deliveries, order, delivery)


@pytest.mark.parametrize("ordered_files", [2, 3])
async def test_an_order_that_is_gone_and_was_told_whole_needs_no_list(
    deliveries: Deliveries, ordered_files: int
) -> None:
    """One of its suborders is the retry of files that were downloaded: it was not heard of."""
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await announce(deliveries, order, 8)
    await given(deliveries, order, delivery)
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    order.end("EXPIRED")
    datasets = (DatasetFacts(dataset_id=1, files=ordered_files, size=None),)
    order.facts = OrderFacts(status="EXPIRED", datasets=datasets)
    if ordered_files == 2:
        assert Seam.PAUSE not in await given(deliveries, order, delivery)
        return
    with pytest.raises(IncompleteOrderError, match="order 1 is EXPIRED at rs-order"):
        await given(deliveries, order, delivery)


@pytest.mark.parametrize("told", [True, False])
async def test_an_empty_list_of_a_suborder_is_asked_for_again(
    deliveries: Deliveries, *, told: bool
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]}, told=told)
    delivery = await (begun if told else untold)(deliveries, order)
    await given(deliveries, order, delivery)
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    order.available.remove(8)
    why = await why_it_paused(deliveries, order, delivery)
    assert isinstance(why, SourceNotReadyError)
    assert "suborder 8 of order 1 was announced, and rs-order lists no file of it" in str(why)
    order.available.add(8)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)][-1] in ("f2", "P_v1/f2")


async def test_an_empty_list_of_a_suborder_ends_the_delivery_after_some_tries(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]}, told=False)
    delivery = await untold(deliveries, order)
    await given(deliveries, order, delivery)
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    order.available.remove(8)
    delivery = await given_up(deliveries, delivery, times=9)
    assert isinstance(await why_it_paused(deliveries, order, delivery), SourceNotReadyError)
    await deliveries.elapse(timedelta(minutes=6))  # since it was announced
    delivery = await claim(deliveries, Work.TRANSFER)
    with pytest.raises(IncompleteOrderError, match=r"suborder 8 of order 1 .*; ask again"):
        await given(deliveries, order, delivery)


async def test_a_list_that_is_empty_for_long_is_left_to_the_end_where_all_files_are_told(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await given(deliveries, order, delivery)
    await announce(deliveries, order, 8)
    order.available.remove(8)
    delivery = await given_up(deliveries, delivery, times=9)
    await deliveries.elapse(timedelta(minutes=6))
    delivery = await claim(deliveries, Work.TRANSFER)
    assert (await given(deliveries, order, delivery))[-2:] == [Seam.WAIT, Seam.PAUSE]
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    with pytest.raises(IncompleteOrderError, match="1 of them never came"):
        await given(deliveries, order, delivery)


async def test_a_retried_order_has_a_suborder_of_files_that_are_there(
    deliveries: Deliveries,
) -> None:
    """What was made available again is of a new suborder, and listed until it is downloaded."""
    order = Order({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await given(deliveries, order, delivery)
    order.suborders = {7: [], 8: [file(2)], 9: [file(1)]}
    order.gone = {1}
    await announce(deliveries, order, 9)
    assert (await given(deliveries, order, delivery))[-2:] == [Seam.WAIT, Seam.PAUSE]
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    got = await given(deliveries, order, delivery)
    assert got[:4] == ["f1", Seam.SEGMENT, "f2", Seam.SEGMENT]
    assert Seam.PAUSE not in got


async def test_a_retried_order_of_which_the_number_of_files_is_told(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 9: [file(1)]}, told=False)
    delivery = await untold(deliveries, order)
    await given(deliveries, order, delivery)
    order.gone = {1}
    await announce(deliveries, order, 9)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    order.facts = replace(
        OrderFacts(status="DONE"), datasets=(DatasetFacts(dataset_id=1, files=1, size=1),)
    )
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["P_v1/f1"]
    assert Seam.PAUSE not in got


async def test_suborders_that_were_never_heard_of_and_are_in_no_list(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]}, told=False)
    delivery = await untold(deliveries, order)
    await given(deliveries, order, delivery)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    why = await why_it_paused(deliveries, order, delivery)
    assert isinstance(why, SourceNotReadyError)
    assert "1 of the 2 suborders of order 1 was never announced" in str(why)
    order.available.add(8)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["P_v1/f1", "P_v1/f2"]


async def found(deliveries: Deliveries, order: Order, delivery: Delivery, suborder: int) -> None:
    """Let what was never announced be found, archived, and so be downloaded."""
    order.available.add(suborder)
    async with deliveries.store.transaction() as tx:
        assert await tx.announce(delivery, None)
    await given(deliveries, order, delivery)
    order.gone |= {each.file_id for each in order.suborders[suborder]}


@pytest.mark.parametrize("told", [True, False])
async def test_what_is_announced_after_what_was_found_is_believed_no_sooner(
    deliveries: Deliveries, *, told: bool
) -> None:
    """What was found before the order's end was not all that it has."""
    order = Order({7: [file(1)], 8: [file(2)], 9: [file(3)]}, told=told)
    delivery = await (begun if told else untold)(deliveries, order)
    await given(deliveries, order, delivery)
    await found(deliveries, order, delivery, 8)
    await announce(deliveries, order, 9)
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    order.available.remove(9)
    why = await why_it_paused(deliveries, order, delivery)
    assert isinstance(why, SourceNotReadyError)
    assert "suborder 9 of order 1 was announced, and rs-order lists no file of it" in str(why)
    order.available.add(9)
    got = [each for each in await given(deliveries, order, delivery) if not isinstance(each, Seam)]
    assert [each[-2:] for each in got] == ["f1", "f2", "f3"]


async def believed(deliveries: Deliveries, delivery: Delivery) -> Delivery:
    """Return the attempt from which on an empty list of what is announced now is believed."""
    delivery = await given_up(deliveries, delivery, times=4)
    await deliveries.elapse(timedelta(minutes=6))
    return await claim(deliveries, Work.TRANSFER)


async def test_a_suborder_that_was_found_before_it_is_announced_may_be_empty(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)]}, told=False)
    delivery = await untold(deliveries, order)
    await given(deliveries, order, delivery)
    await found(deliveries, order, delivery, 8)
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    assert isinstance(await why_it_paused(deliveries, order, delivery), SourceNotReadyError)
    delivery = await believed(deliveries, delivery)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["P_v1/f1", "P_v1/f2"]
    assert Seam.PAUSE not in got


async def test_what_was_found_is_as_many_suborders_as_the_times_it_was_found(
    deliveries: Deliveries,
) -> None:
    order = Order({7: [file(1)], 8: [file(2)], 9: [file(3)]}, told=False)
    delivery = await untold(deliveries, order)
    await given(deliveries, order, delivery)
    await found(deliveries, order, delivery, 8)
    await found(deliveries, order, delivery, 9)
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    assert "2 of the 3 suborders of order 1 were never announced" in str(
        await why_it_paused(deliveries, order, delivery)
    ), "a list may be behind"
    delivery = await believed(deliveries, delivery)
    got = await given(deliveries, order, delivery)
    assert [each for each in got if not isinstance(each, Seam)] == ["P_v1/f1", "P_v1/f2", "P_v1/f3"]
    assert Seam.PAUSE not in got


@pytest.mark.parametrize("late", [[], [8]], ids=["found", "found, then announced"])
async def test_a_suborder_that_was_neither_heard_of_nor_found_ends_the_delivery(
    deliveries: Deliveries, late: list[int]
) -> None:
    order = Order({7: [file(1)], 8: [file(2)], 9: [file(3)]}, told=False)
    delivery = await untold(deliveries, order)
    await given(deliveries, order, delivery)
    await found(deliveries, order, delivery, 8)
    for suborder in late:
        await announce(deliveries, order, suborder)
    await deliveries.tell(DONE, order_id=1, total_suborders=3)
    delivery = await believed(deliveries, delivery)
    assert isinstance(await why_it_paused(deliveries, order, delivery), SourceNotReadyError)
    delivery = await believed(deliveries, delivery)
    with pytest.raises(IncompleteOrderError, match=r"of the 3 suborders of order 1 w.* never"):
        await given(deliveries, order, delivery)


async def test_an_archive_of_nothing_is_no_archive(deliveries: Deliveries) -> None:
    order = Order({7: [file(1)]})
    delivery = await begun(deliveries, order)
    order.gone = {1}
    await deliveries.tell(DONE, order_id=1, total_suborders=1)
    delivery = await given_up(deliveries, delivery, times=9)
    await deliveries.elapse(timedelta(minutes=6))
    delivery = await claim(deliveries, Work.TRANSFER)
    with pytest.raises(EmptyOrderError, match="order 1 is done, and rs-order listed no file"):
        await given(deliveries, order, delivery)


# Questions that fail


class Mute(Order):
    """Answers neither about the order nor for its datasets; lists may be away, too."""

    def __init__(self, *args: Any, facts: bool = False, pages: bool = False, **given: Any) -> None:
        super().__init__(*args, **given)
        self.answers = (facts, pages)
        self.lists = True

    async def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        if not self.lists:
            raise SourceUnavailableError("503")
        async for each in super().listing(delivery, suborder, so_far=so_far):
            yield each

    async def order(self, delivery: Delivery) -> OrderFacts | None:
        if not self.answers[0]:
            raise SourceUnavailableError("500 for the order")
        return await super().order(delivery)

    async def every_file(self, delivery: Delivery, facts: OrderFacts) -> AsyncIterator[OrderFile]:
        if not self.answers[1]:
            raise SourceUnavailableError("500 for a dataset")
        async for each in super().every_file(delivery, facts):
            yield each


async def plan_claimed(deliveries: Deliveries, order: Order) -> Delivery:
    """Claim a delivery whose archive is to be laid out, and which was given up often."""
    await deliveries.granted()
    await announce(deliveries, order, 7)
    delivery = await claim(deliveries, Work.PLAN)
    for _ in range(9):
        await deliveries.leases("w").release(
            delivery, after=timedelta(), failed=False, cause="not now"
        )
        delivery = await claim(deliveries, Work.PLAN)
    return delivery


async def plan_in_vain(plans: Planning, claimed: Delivery, *, times: int) -> None:
    for _ in range(times):
        with pytest.raises(SourceUnavailableError, match="500 for"):
            await plans.plan(claimed)


@pytest.mark.parametrize("facts", [True, False])
async def test_a_question_that_always_fails_does_not_hold_up_an_archive(
    deliveries: Deliveries, *, facts: bool
) -> None:
    order = Mute({7: [file(1)], 8: [file(2)]}, facts=facts)
    claimed = await plan_claimed(deliveries, order)
    await deliveries.elapse(planning.END_AWAITED)
    plans = planner(deliveries, order)
    await plan_in_vain(plans, claimed, times=3)
    await plans.plan(claimed)
    ready = await deliveries.active()
    assert ready.plan is not None
    assert not ready.plan.told


async def test_a_question_that_was_answered_between_did_not_fail_in_a_row(
    deliveries: Deliveries,
) -> None:
    order = Mute({7: [file(1)]})
    claimed = await plan_claimed(deliveries, order)
    await deliveries.elapse(planning.END_AWAITED)
    plans = planner(deliveries, order)
    await plan_in_vain(plans, claimed, times=3)  # asking for the order
    order.answers = (True, False)
    await plan_in_vain(plans, claimed, times=3)  # asking for its files
    order.answers = (False, False)
    await plan_in_vain(plans, claimed, times=3)
    order.answers = (True, True)
    await plans.plan(claimed)
    ready = await deliveries.active()
    assert ready.plan is not None
    assert ready.plan.told


async def test_an_rs_order_that_is_away_is_not_one_that_does_not_tell(
    deliveries: Deliveries,
) -> None:
    order = Mute({7: [file(1)]})
    order.lists = False
    claimed = await plan_claimed(deliveries, order)
    await deliveries.elapse(planning.END_AWAITED)
    plans = planner(deliveries, order)
    await plan_in_vain(plans, claimed, times=9)
    order.lists = True
    order.answers = (True, True)
    await plans.plan(claimed)
    ready = await deliveries.active()
    assert ready.plan is not None
    assert ready.plan.told


async def test_the_end_of_an_order_that_is_asked_about_in_vain_is_awaited_for_a_minute(
    deliveries: Deliveries,
) -> None:
    order = Mute({7: [file(1)]})
    claimed = await plan_claimed(deliveries, order)
    plans = planner(deliveries, order)
    await plan_in_vain(plans, claimed, times=3)
    with pytest.raises(SourceNotReadyError, match="begins then, or once some of it"):
        await plans.plan(claimed)


async def test_only_so_many_questions_that_fail_are_remembered(deliveries: Deliveries) -> None:
    order = Mute({7: [file(1)]})
    claimed = await plan_claimed(deliveries, order)
    another = await deliveries.granted("another")
    unanswered = Unanswered(most=1)
    error = SourceUnavailableError("500")
    for _ in range(9):
        for each in (claimed, another):
            assert not await unanswered.is_untold(each, Question.ORDER, order, error)


def attempts_at(deliveries: Deliveries, order: Order, delivery: Delivery) -> Attempts:
    """Return what says, at each call, why an attempt of one worker leaves the rest to another."""
    by = deliveries.segments(order)

    async def attempt() -> str | list[str]:
        files = by.of(delivery, make_lease())
        got = [each async for each in files.all()]
        if got[-1] is Seam.PAUSE:
            return str(files.failed)
        return [each.member for each in got if not isinstance(each, Seam)]

    return attempt


async def mute_at_the_end(deliveries: Deliveries, *, told: bool, **said: Any) -> Mute:
    """Archive two suborders of an order that is done, and that is not told from then on.

    The delivery was given up for later often, for other reasons.
    """
    order = Mute({7: [file(1)], 8: [file(2)]}, told=told, facts=True, pages=told)
    delivery = await (begun if told else untold)(deliveries, order)
    await announce(deliveries, order, 8)
    await given(deliveries, order, delivery)
    await deliveries.tell(DONE, order_id=1, **{"total_suborders": 2} | said)
    await given_up(deliveries, delivery, times=9)
    order.answers = (False, False)
    return order


async def test_an_end_that_can_not_be_asked_about_does_not_hold_up_an_archive(
    deliveries: Deliveries,
) -> None:
    order = await mute_at_the_end(deliveries, told=False)
    attempt = attempts_at(deliveries, order, await deliveries.active())
    for _ in range(3):
        assert await attempt() == "500 for the order"
    order.lists = False
    assert await attempt() == "500 for the order"
    order.lists = True
    assert await attempt() == ["P_v1/f1", "P_v1/f2"]


@pytest.mark.parametrize("error", [None, "no right"])
async def test_the_files_that_were_told_at_first_tell_that_an_archive_is_whole(
    deliveries: Deliveries, error: str | None
) -> None:
    """Unless the order ended with errors."""
    said = {"errors": 1, "message": error} if error else {}
    order = await mute_at_the_end(deliveries, told=True, total_suborders=3, **said)
    attempt = attempts_at(deliveries, order, await deliveries.active())
    for _ in range(3):
        assert await attempt() == "500 for the order"
    if error is None:
        assert await attempt() == ["f1", "f2"]
        return
    for _ in range(2):
        assert "whether it lacks one is not known" in str(await attempt())
    order.answers = (True, True)
    assert await attempt() == ["f1", "f2"]


async def test_an_error_that_rs_order_says_during_an_attempt_counts(deliveries: Deliveries) -> None:
    order = Mute({7: [file(1)], 8: [file(2)]}, facts=True, pages=True)
    attempt = attempts_at(deliveries, order, await begun(deliveries, order))
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=3, errors=1, message="no right")
    order.answers = (False, False)
    for _ in range(9):
        why = await attempt()
    assert "whether it lacks one is not known" in str(why)


@pytest.mark.parametrize("question", ["order", "files", "none"])
async def test_a_number_of_files_does_not_tell_that_an_archive_is_whole(
    deliveries: Deliveries, question: str
) -> None:
    """Of equal files rs-order tells one, and lists all; another one may never be available."""

    class Equal(Mute):
        async def order(self, delivery: Delivery) -> OrderFacts | None:
            return (
                None
                if question == "none" and not all(self.answers)
                else await super().order(delivery)
            )

    order = Equal({7: [file(1)], 8: [file(2), file(3)]}, facts=True, pages=True)
    delivery = await begun(deliveries, order)
    order.suborders = {7: [file(1)], 8: [file(2), file(4)]}
    await announce(deliveries, order, 8)
    await deliveries.tell(DONE, order_id=1, total_suborders=2)
    order.answers = (question != "order", False)
    attempt = attempts_at(deliveries, order, delivery)
    for _ in range(9):
        why = str(await attempt())
    assert "whether it lacks one is not known" in why
    order.suborders = {7: [file(1)], 8: [file(2), file(3)]}
    order.available = set()
    order.answers = (True, True)
    with pytest.raises(IncompleteOrderError, match="was to have 3 files, and 1 of them"):
        await attempt()


async def test_an_archive_that_has_all_needs_no_answer(deliveries: Deliveries) -> None:
    class Refused(Order):
        refused = False

        async def order(self, delivery: Delivery) -> OrderFacts | None:
            if self.refused:
                raise SourceRefusedError("404 for order 1")
            return await super().order(delivery)

    order = Refused({7: [file(1)], 8: [file(2)]})
    delivery = await begun(deliveries, order)
    await announce(deliveries, order, 8)
    await given(deliveries, order, delivery)
    await deliveries.tell(DONE, order_id=1)  # and not of how many suborders it was
    order.end("DELETED")
    order.refused = True
    got = await given(deliveries, order, delivery)
    assert got == ["f1", Seam.SEGMENT, "f2", Seam.SEGMENT, Seam.WAIT]


async def test_a_last_check_that_fails_fails_an_archive_that_can_not_pause(
    deliveries: Deliveries,
) -> None:
    order = Mute({7: [file(1)]}, told=False, facts=True)
    delivery = await untold(deliveries, order)
    await deliveries.tell(DONE, order_id=1, total_suborders=1)
    order.answers = (False, False)
    files = replace(deliveries.segments(order), pauses=False).of(delivery, make_lease()).all()
    with pytest.raises(SourceUnavailableError, match="500 for the order"):
        _ = [each async for each in files]


@pytest.mark.parametrize("state", [State.READY, State.TRANSFERRING])
async def test_a_suborder_of_what_the_version_before_has_laid_out_changes_nothing(
    deliveries: Deliveries, state: State
) -> None:
    """It knows of no segments, and lays out what is available as all: its row has no plan."""
    await deliveries.granted()
    await deliveries.tell(OrderStatus.GRANTED, order_id=1)
    await deliveries.put(await deliveries.active(), state)
    await deliveries.tell(SUBORDER_DONE, order_id=1, suborder_id=7, total_suborders=1)
    active = await deliveries.active()
    assert (active.state, active.announced, active.plan) == (state, 0, None)
