"""Partial deliveries of orders that end with errors, on either store."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.orders import OrderStatus
from app.delivery.states import State, Work
from app.delivery.targets import TargetKinds
from app.errors import DeliveryError, SourceRefusedError
from app.usecases.ask_orders import OrderInquiry
from app.usecases.plan import Planning
from app.usecases.settle import Settlement
from app.usecases.transfer import Transfers
from app.usecases.uploads import Uploads
from app.waiting.backoff import Backoff
from compose.embedded.stack import TENANT
from sinks import formats
from sinks.stores.memory import MemoryObjectStore, MemoryTarget
from tests.builders import make_body, make_lease
from tests.deliveries import Deliveries
from tests.readers import READERS
from tests.twins.archiver import PlainArchiver
from tests.twins.rs_order import MemoryOrders, Opened

TARGET = MemoryTarget(container="archives")
FILES = {f"P/{name}": name.encode() * 9 for name in ("a", "bad-1", "c", "bad-2", "e")}
GOOD = {"a", "c", "e"}
_FIELDS = {"orderId": "order_id", "subOrderId": "suborder_id", "totalSubOrders": "total_suborders"}
_KEPT = ("errors", "message", "errorType")


class FlawedOrders(MemoryOrders):
    """Has files that it lists never, and others that it refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.unlisted: set[str] = set()
        self.refused: set[str] = set()

    async def listing(
        self, delivery: Delivery, suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        async for file in super().listing(delivery, suborder, so_far=so_far):
            if file.filename not in self.unlisted:
                yield file

    @contextlib.contextmanager
    def opened(self, delivery: Delivery, file: ManifestFile) -> Iterator[Opened]:
        with super().opened(delivery, file) as opened:
            if file.member.rpartition("/")[2] in self.refused:
                raise SourceRefusedError(f"rs-order answered 404 for {file.member}")
            yield opened


class Ordered:
    """A delivery whose order is made, laid out and transferred, as rs-order tells of it."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.deliveries = deliveries
        self.orders = FlawedOrders()
        self.objects = MemoryObjectStore()
        self._heard = 0
        deliveries.tenants.give(TENANT, target=TARGET)

    async def order(self, *, partial: bool = True, **switches: Any) -> None:
        """Ask for the files; what rs-order makes of them is up to its switches."""
        body = make_body() | {"delivery": {"partial": partial}}
        await self.deliveries.granted(body=body)
        await self.deliveries.tell(OrderStatus.GRANTED, order_id=1)
        delivery = await self.deliveries.active()
        self.orders.hold(delivery, FILES, **({"unrestorable": "^bad"} | switches))

    async def hear(self) -> None:
        """Apply what rs-order has said since."""
        said, self._heard = self.orders.said[self._heard :], len(self.orders.said)
        for event in said:
            fields = {ours: event[theirs] for theirs, ours in _FIELDS.items() if theirs in event}
            fields |= {
                "error_type" if k == "errorType" else k: event[k] for k in _KEPT if k in event
            }
            await self.deliveries.tell(OrderStatus(event["status"]), **fields)

    async def end(self) -> dict[str, Any]:
        """Let it be planned and transferred to its end; return what its client is told."""
        for _ in range(40):
            await self.hear()
            await self.work()
            self.orders.clock.advance(1)
            await self.deliveries.elapse(timedelta(seconds=61))
            await self.inquiry().look()
            told = [m.body for m in await self.deliveries.outgoing() if "status" in m.body]
            if told[-1]["status"] in ("DONE", "ERROR"):
                return told[-1]
        raise AssertionError(f"it does not end: {await self.deliveries.rows()}")

    async def work(self) -> None:
        """Plan and transfer once what is due."""
        leases = self.deliveries.leases("w")
        for work in (Work.PLAN, Work.TRANSFER):
            claimed = await leases.claim(work)
            if claimed is None:
                continue
            try:
                if work is Work.PLAN:
                    await self._planning().plan(claimed)
                else:
                    await self._transfers().deliver(claimed, make_lease())
            except DeliveryError as error:
                await Settlement(
                    store=self.deliveries.store,
                    leases=leases,
                    backoff=Backoff(first=0, longest=0),
                    attempts=3,
                    source=self.orders,
                ).settle(claimed, error)

    def _planning(self) -> Planning:
        room = self.deliveries.segments(self.orders).room
        return Planning(
            source=self.orders,
            store=self.deliveries.store,
            room=room,
            suffix_of=formats.suffix_of,
        )

    def inquiry(self) -> OrderInquiry:
        """Return what asks about orders of which nothing was heard."""
        room = self.deliveries.segments(self.orders).room
        return OrderInquiry(source=self.orders, store=self.deliveries.store, room=room, limit=1)

    def _transfers(self) -> Transfers:
        deliveries = self.deliveries
        return Transfers(
            store=deliveries.store,
            leases=deliveries.leases("w"),
            tenants=deliveries.tenants,
            objects=self.objects,
            uploads=Uploads(
                objects=self.objects,
                seal=deliveries.vault,
                store=deliveries.store,
                kinds=TargetKinds(MemoryTarget),
            ),
            checkpoints=deliveries.checkpoints("w"),
            archiver=PlainArchiver(source=self.orders, objects=self.objects),
            segments=deliveries.segments(self.orders),
            attempts=3,
        )

    async def missing(self) -> list[MissingFile]:
        """Return what it is without."""
        (tracked,) = await self.deliveries.tracking.of(TENANT, "c")
        return [file async for file in self.deliveries.store.missing(tracked.delivery)]

    def archived(self) -> set[str]:
        """Return the names of the archive's members."""
        objects = self.objects.objects(TARGET)
        (found,) = [one for key, one in objects.items() if not key.endswith("/manifest.json")]
        return {name.rpartition("/")[2] for name in READERS[".zip"](found.content)}


@pytest.fixture
def ordered(deliveries: Deliveries) -> Ordered:
    return Ordered(deliveries)


SEVERAL: dict[str, Any] = {"suborder_files": 1, "user_places": 1}


@pytest.mark.parametrize("cut", [{}, SEVERAL, {"suborder_files": 2, "user_places": 2}])
async def test_files_in_error_are_named_where_all_are_told(
    ordered: Ordered, cut: dict[str, Any]
) -> None:
    await ordered.order(**cut)
    told = await ordered.end()
    assert (told["status"], told.get("missing"), told["files"]) == ("DONE", 2, 3), told
    assert ordered.archived() == GOOD
    missing = await ordered.missing()
    assert {(file.member or "").rpartition("/")[2] for file in missing} == {"bad-1", "bad-2"}
    assert all("could not restore it" in file.cause for file in missing)


@pytest.mark.parametrize("cut", [{}, SEVERAL])
async def test_files_in_error_are_counted_where_they_are_not_told(
    ordered: Ordered, cut: dict[str, Any]
) -> None:
    await ordered.order(dataset_files=False, order_facts=False, **cut)
    told = await ordered.end()
    assert (told["status"], told.get("missing")) == ("DONE", 2), told
    assert ordered.archived() == GOOD
    (entry,) = await ordered.missing()
    assert (entry.member, entry.files) == (None, 2)
    assert "does not tell which" in entry.cause


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("cut", [{}, SEVERAL])
async def test_an_order_in_which_all_failed_ends_in_error(
    ordered: Ordered, cut: dict[str, Any], told: bool
) -> None:
    await ordered.order(unrestorable=".", dataset_files=told, order_facts=told, **cut)
    answer = await ordered.end()
    assert answer["status"] == "ERROR"
    assert "order 1" in answer["message"]
    assert await ordered.missing() == []


async def test_an_order_without_errors_lacks_nothing(ordered: Ordered) -> None:
    await ordered.order(unrestorable="", **SEVERAL)
    told = await ordered.end()
    assert told["status"] == "DONE"
    assert "missing" not in told


async def test_errors_end_a_delivery_of_all_or_nothing(ordered: Ordered) -> None:
    await ordered.order(partial=False)
    assert (await ordered.end())["status"] == "ERROR"
    assert not ordered.objects.objects(TARGET)


async def test_a_file_is_not_missing_any_more_once_its_order_was_retried(
    ordered: Ordered,
) -> None:
    """It was noted as never listed; then a user had the order retried, and it came."""
    await ordered.order(**SEVERAL)
    delivery = await ordered.deliveries.active()
    async with ordered.deliveries.store.transaction() as tx:
        never = MissingFile(cause="ERROR", file_id=7, member="bad-1")
        await tx.add_missing(delivery, [never, MissingFile.unnamed(3, "not told")])
        await tx.add_missing(delivery, [MissingFile(cause="ERROR", file_id=8, member="bad-2")])
    assert [file.file_id for file in await ordered.missing()] == [7, None, 8]
    so_far = await ordered.deliveries.store.missing_so_far(delivery)
    assert (so_far.files, so_far.cause, so_far.left) == (5, "not told", 0)
    ordered.orders.behaviour.switches = ordered.orders.behaviour.switches.changed(
        {"unrestorable": ""}
    )
    assert (await ordered.end())["status"] == "DONE"
    names = [file.member for file in await ordered.missing()]
    assert len(names) + len(ordered.archived()) == len(FILES)
    assert not ordered.archived().intersection(names)
    assert (await ordered.deliveries.rows())[0].state is State.DONE


@pytest.mark.parametrize("cut", [{}, {"suborder_files": 1}, {"suborder_files": 2}])
async def test_what_can_be_read_and_is_in_no_list_is_delivered(
    ordered: Ordered, cut: dict[str, Any]
) -> None:
    """It became available late, say; rs-order serves it by its id all the same."""
    ordered.orders.unlisted = {"c", "e"}
    await ordered.order(**cut)
    told = await ordered.end()
    assert (told["status"], told.get("missing"), told["files"]) == ("DONE", 2, 3), told
    assert ordered.archived() == GOOD
    named = {(file.member or "").rpartition("/")[2] for file in await ordered.missing()}
    assert named == {"bad-1", "bad-2"}


async def test_what_is_in_no_list_and_refused_is_told_with_that_cause(ordered: Ordered) -> None:
    ordered.orders.unlisted = {"c"}
    ordered.orders.refused = {"c"}
    await ordered.order(suborder_files=1)
    told = await ordered.end()
    assert (told["status"], told.get("missing"), told["files"]) == ("DONE", 3, 2), told
    (cause,) = [file.cause for file in await ordered.missing() if file.position is not None]
    assert "404" in cause


@pytest.mark.parametrize("cut", [{}, SEVERAL])
async def test_what_was_left_out_is_not_counted_once_more_among_errors(
    ordered: Ordered, cut: dict[str, Any]
) -> None:
    """Some versions count downloads that broke off, and were refused, among an order's errors."""
    ordered.orders.refused = {"c"}
    await ordered.order(dataset_files=False, broken_downloads_count=True, unrestorable="", **cut)
    told = await ordered.end()
    assert (told["status"], told.get("missing"), told["files"]) == ("DONE", 1, 4), told


async def test_what_came_before_its_order_expired_is_delivered(ordered: Ordered) -> None:
    await ordered.order(unrestorable="", **SEVERAL)
    while not (await ordered.deliveries.active()).parked:
        await ordered.hear()
        await ordered.work()
        await ordered.deliveries.elapse(timedelta(seconds=61))
    ordered.orders.clock.advance(10**7)  # the next suborder was announced, and is gone
    told = await ordered.end()
    assert (told["status"], told["files"]) == ("DONE", len(ordered.archived())), told
    assert told["missing"] == len(FILES) - len(ordered.archived())


async def test_a_quiet_look_finds_nothing_new_in_what_was_left_out(ordered: Ordered) -> None:
    """It may stay in the list: rs-order does not see each file downloaded."""
    ordered.orders.refused = {"a"}
    await ordered.order(unrestorable="", order_facts=False, large_file_bytes=1, **SEVERAL)
    while not await ordered.missing():
        await ordered.hear()
        await ordered.work()
        await ordered.deliveries.elapse(timedelta(seconds=61))
    before = (await ordered.deliveries.active()).announced
    await ordered.hear()
    await ordered.deliveries.elapse(timedelta(minutes=16))
    await ordered.inquiry().look()
    assert (await ordered.deliveries.active()).announced == before


async def test_what_waits_for_its_order_leaves_no_upload_open_that_has_nothing(
    ordered: Ordered,
) -> None:
    """Its first suborder has nothing that can be read, and the next may take days."""
    ordered.orders.refused = {"a"}
    await ordered.order(unrestorable="", **SEVERAL)
    while not (await ordered.deliveries.active()).parked:
        await ordered.hear()
        await ordered.work()
        await ordered.deliveries.elapse(timedelta(seconds=61))
    upload = (await ordered.deliveries.active()).upload
    assert upload is not None
    assert await ordered.objects.open_uploads(TARGET, upload.key) == []
    told = await ordered.end()
    assert (told["status"], told["missing"], told["files"]) == ("DONE", 1, 4), told
