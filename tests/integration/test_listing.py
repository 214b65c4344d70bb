"""An order's listing, however it comes: read whole, or read again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore, OrderSource
from app.delivery.states import State, Work
from app.errors import (
    EmptyOrderError,
    ErrorType,
    LeaseLostError,
    OrderTooLargeError,
    SourceNotReadyError,
    SourceRefusedError,
    SourceUnavailableError,
)
from app.store import PostgresStore
from app.store.transactions import PostgresUnitOfWork
from app.usecases.fail import fail
from app.usecases.laying_out import MEMORY_A_FILE, Room
from app.usecases.plan import Planning
from app.usecases.settle import Settlement
from app.waiting.backoff import Backoff
from app.waiting.wakeup import Wakeup
from sinks import formats
from sinks.pipeline.budget import Budget
from sinks.stores.s3.store import S3ObjectStore
from streams.regards.orders import RsOrder, open_session
from tests.builders import make_delivery, make_listed
from tests.integration.conftest import Deliveries
from tests.servers import rs_order_at, serving
from tests.twins.rs_order import MemoryOrders

Page = Callable[[int, int], dict[str, Any] | int]


ORDERED = make_delivery(state=State.AVAILABLE, order_id=7)


def entry(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "productId": "P",
        "version": 1,
        "checksum": f"{number:032x}",
        "filesize": number,
        "filename": f"f{number}.bin",
    } | changes


def page_of(entries: list[dict[str, Any]], page: int, size: int, total: int) -> dict[str, Any]:
    return {
        "metadata": {
            "size": size,
            "totalElements": total,
            "totalPages": -(-total // size),
            "number": page,
        },
        "content": [{"content": item, "links": []} for item in entries],
        "links": [],
    }


@pytest.fixture
async def listed() -> AsyncIterator[Callable[[Page, int], Awaitable[RsOrder]]]:
    """Serve pages as a function makes them: from page and size to a body or a status."""
    async with open_session(stall_timeout=60) as session, contextlib.AsyncExitStack() as servers:

        async def serve(make: Page, size: int = 100) -> RsOrder:
            async def handle(request: web.Request) -> web.Response:
                answer = make(int(request.query["page"]), int(request.query["size"]))
                if isinstance(answer, int):
                    return web.Response(status=answer, text="told to")
                return web.json_response(answer)

            port = await servers.enter_async_context(serving(handle))
            return rs_order_at(port, session, page_size=size)

        yield serve


Listed = Callable[..., Awaitable[RsOrder]]


async def plan(
    delivery: Delivery,
    *,
    source: OrderSource,
    store: DeliveryStore,
    memory: int = 1024**3,
    most_files: int = 1_000_000,
) -> None:
    room = Room(memory=memory, reserve=Budget(memory).reserve, most_files=most_files)
    planning = Planning(source=source, store=store, room=room, suffix_of=formats.suffix_of)
    await planning.plan(delivery)


async def planned(deliveries: Deliveries, source: RsOrder) -> list[tuple[str, int | None]]:
    """Plan a delivery; return names and sizes of its members."""
    await deliveries.available()
    claimed = await deliveries.leases("w").claim(Work.PLAN)
    assert claimed is not None
    await plan(claimed, source=source, store=deliveries.store)
    return [(f.member, f.size) async for f in deliveries.store.files(claimed)]


@pytest.mark.parametrize("answer", [204, page_of([], 0, 100, 0), {"content": []}])
async def test_an_empty_list_and_204_are_an_empty_order(
    deliveries: Deliveries, listed: Listed, answer: dict[str, Any] | int
) -> None:
    source = await listed(lambda _page, _size: answer)
    with pytest.raises(EmptyOrderError):
        await plan(ORDERED, source=source, store=deliveries.store)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (206, SourceNotReadyError),
        (403, SourceRefusedError),
        (404, SourceRefusedError),
        (422, SourceRefusedError),
        (429, SourceUnavailableError),
        (500, SourceUnavailableError),
        (503, SourceUnavailableError),
    ],
)
async def test_a_listing_that_is_refused_or_not_ready_is_told_with_its_order(
    deliveries: Deliveries, listed: Listed, status: int, error: type[Exception]
) -> None:
    source = await listed(lambda _page, _size: status)
    with pytest.raises(error, match=r"order 7"):
        await plan(ORDERED, source=source, store=deliveries.store)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"content": None},
        {"content": {}},
        {"metadata": {"totalElements": 0}},
        {"content": "x"},
        {"content": [{"productId": "P"}]},
        {"content": [entry(1, id="x")]},
        {"content": [entry(1, filesize="many")]},
        {"content": [None]},
        {"content": [], "metadata": 5},
    ],
)
async def test_an_answer_that_is_no_listing_is_told_in_a_sentence(
    deliveries: Deliveries, listed: Listed, body: dict[str, Any]
) -> None:
    source = await listed(lambda _page, _size: body)
    with pytest.raises(SourceUnavailableError, match="page 0 of the files of order 7 is not a"):
        await plan(ORDERED, source=source, store=deliveries.store)


async def test_the_flat_form_and_pages_by_links_are_read(
    deliveries: Deliveries, listed: Listed
) -> None:
    def make(page: int, _size: int) -> dict[str, Any]:
        item = entry(page + 1)
        item["fileSize"] = item.pop("filesize")
        return {"content": [item], "links": [{"rel": "next", "href": "x"}] if page < 2 else []}

    assert await planned(deliveries, await listed(make)) == [
        ("f1.bin", 1),
        ("f2.bin", 2),
        ("f3.bin", 3),
    ]


async def test_a_crc32_that_is_not_eight_hexadecimal_digits_is_not_known(
    listed: Listed,
) -> None:
    told = ["0009ABcd", "9abcd", "0x9abcd0", "123456789", " 9abcd00", "9abcd00g", "", 12345678, {}]
    entries = [entry(number, crc32=crc32) for number, crc32 in enumerate([*told, None])]
    source = await listed(lambda _page, size: page_of(entries, 0, size, len(entries)))
    read = [file.crc32 async for file in source.listing(ORDERED)]
    assert read == [0x9ABCD] + [None] * len(told)


async def test_files_without_size_or_checksum_or_with_the_same_name_are_planned(
    deliveries: Deliveries, listed: Listed
) -> None:
    entries = [
        entry(1, filesize=None, checksum=None),
        entry(2, filename="F1.bin", checksum=""),
        entry(3, filename="f1.bin", checksum="sha256:abc", filesize=0),
    ]
    source = await listed(lambda _page, size: page_of(entries, 0, size, 3))
    assert await planned(deliveries, source) == [
        ("f1.bin", None),
        ("F1 (2).bin", 2),
        ("f1 (3).bin", 0),
    ]


@pytest.mark.parametrize("announced", [150, 149])
async def test_a_listing_that_changes_while_it_is_read_is_read_again(
    deliveries: Deliveries, listed: Listed, announced: int
) -> None:
    """A file is removed after the first page: one of the second slips to the first, unseen."""

    def make(page: int, size: int) -> dict[str, Any]:
        entries = [entry(n) for n in range(150)]
        if page == 0:
            return page_of(entries[:size], 0, size, 150)
        return page_of([e for e in entries if e["id"] != 3][size:], page, size, announced)

    source = await listed(make)
    with pytest.raises(SourceUnavailableError, match="order 7 changed while it was read"):
        await plan(ORDERED, source=source, store=deliveries.store)


async def test_a_listing_that_goes_on_beyond_what_it_announced_is_not_read_to_its_end(
    deliveries: Deliveries, listed: Listed
) -> None:
    """Memory was reserved for what was announced."""
    asked = []

    def make(page: int, size: int) -> dict[str, Any]:
        asked.append(page)
        body = page_of([entry(page * size + n) for n in range(size)], page, size, 150)
        body["metadata"]["totalPages"] = 1000
        return body

    with pytest.raises(SourceUnavailableError, match="announced 150 files and listed 200"):
        await plan(ORDERED, source=await listed(make), store=deliveries.store)
    assert asked == [0, 1]


class Files:
    """A source whose listing is at hand, of as many files as asked for."""

    def __init__(self, count: int, *, announced: bool = True) -> None:
        self.count = count
        self.announced = announced
        self.read = 0

    async def listing(
        self, _delivery: Delivery, _suborder: int | None = None, *, so_far: bool = False
    ) -> AsyncIterator[ListedFile]:
        for number in range(self.count):
            self.read += 1
            yield make_listed(
                f"f{number}.bin",
                file_id=number,
                product_id=f"P{number % 7}",
                size=1,
                md5=f"{number:032x}",
                listed=self.count if self.announced else None,
            )

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"planning reads the listing alone, not {name}")


async def claimed(deliveries: Deliveries, worker: str = "w", seconds: float = 30) -> Delivery:
    found = await deliveries.leases(worker, seconds).claim(Work.PLAN)
    assert found is not None
    return found


@pytest.mark.parametrize(("announced", "read"), [(True, 1), (False, 11)])
async def test_an_order_of_more_files_than_a_delivery_may_have_ends_in_words(
    deliveries: Deliveries, sink: S3ObjectStore, announced: bool, read: int
) -> None:
    await deliveries.available()
    delivery = await claimed(deliveries)
    source = Files(12, announced=announced)
    with pytest.raises(OrderTooLargeError, match="raise DELIVERY_MAX_ORDER_FILES") as raised:
        await plan(delivery, source=source, store=deliveries.store, most_files=10)
    assert source.read == read
    settlement = Settlement(
        store=deliveries.store,
        leases=deliveries.leases("w"),
        backoff=Backoff(first=1, longest=1),
        attempts=1,
        source=MemoryOrders(),
    )
    await settlement.settle(delivery, raised.value)
    (*_, (kind, body), cancel) = await deliveries.owed()
    assert (kind, body["status"], body["errorType"]) == ("response", "ERROR", "ORDER_LIMIT_REACHED")
    assert body["message"] == str(raised.value)
    assert cancel == ("cancel", {"orderId": 1, "correlationId": "c"})


@pytest.mark.parametrize("announced", [True, False])
async def test_a_listing_that_no_worker_has_the_memory_for_is_refused(
    deliveries: Deliveries, announced: bool
) -> None:
    source = Files(6001, announced=announced)
    with pytest.raises(OrderTooLargeError, match="raise DELIVERY_WORKER_MEMORY"):
        await plan(ORDERED, source=source, store=deliveries.store, memory=6000 * MEMORY_A_FILE)


async def test_a_large_listing_waits_until_transfers_have_left_memory_for_it(
    deliveries: Deliveries,
) -> None:
    memory = Budget(6000 * MEMORY_A_FILE)
    await deliveries.available()
    delivery = await claimed(deliveries)
    source = Files(6000)
    room = Room(memory=memory.size, reserve=memory.reserve, most_files=10**6)
    planning = Planning(
        source=source, store=deliveries.store, room=room, suffix_of=formats.suffix_of
    )
    async with memory.reserve(1):
        waiting = asyncio.create_task(planning.plan(delivery))
        while not memory.is_wanted():
            await asyncio.sleep(0)
        # A small one has no need to wait.
        await deliveries.available("small")
        await replace(planning, source=Files(5)).plan(await claimed(deliveries))
        assert source.read == 1
        assert await deliveries.states() == ["AVAILABLE", "READY"]
    await waiting
    assert await deliveries.states() == ["READY", "READY"]
    assert memory.has(memory.size)


async def test_the_loop_gets_its_turn_while_a_large_archive_is_laid_out(
    deliveries: Deliveries,
) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await deliveries.available()
    delivery = await claimed(deliveries)
    counting = asyncio.create_task(count())
    async with deliveries.store.transaction():  # so that a connection is there
        pass
    turns = 0
    await plan(delivery, source=Files(20_000), store=deliveries.store)
    counting.cancel()
    assert turns > 20


class Watched(PostgresStore):
    """Tells when a slice of a manifest was written, and waits until it may go on."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        super().__init__(pool, Wakeup())
        self.written = asyncio.Event()
        self.may_go_on = asyncio.Event()

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, locking: Collection[bytes] = ()
    ) -> AsyncIterator[PostgresUnitOfWork]:
        async with super().transaction(locking=locking) as tx:
            add = tx.add_files

            async def told(delivery: Delivery, files: Sequence[ManifestFile]) -> None:
                await add(delivery, files)
                self.written.set()
                await self.may_go_on.wait()

            tx.add_files = told  # type: ignore[method-assign]
            yield tx


async def test_a_delivery_is_ended_while_its_manifest_is_written(deliveries: Deliveries) -> None:
    """Cancels and expiry of all tenants would wait behind it."""
    await deliveries.available()
    first = await claimed(deliveries)
    watched = Watched(deliveries.pool)
    planning = asyncio.create_task(plan(first, source=Files(20_000), store=watched))
    await watched.written.wait()
    async with deliveries.store.transaction() as tx:
        current = await tx.lock(first.tenant, first.correlation_id)
        assert current is not None
        assert await fail(tx, current, ErrorType.EXPIRED, "too late")
    watched.may_go_on.set()
    with pytest.raises(LeaseLostError):
        await planning
    assert await deliveries.states() == ["ERROR"]
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery_file") == 0


async def test_a_plan_that_is_given_up_leaves_no_half_manifest(deliveries: Deliveries) -> None:
    await deliveries.available()
    first = await claimed(deliveries, "stops")
    watched = Watched(deliveries.pool)
    planning = asyncio.create_task(plan(first, source=Files(20_000), store=watched))
    await watched.written.wait()
    # Its own row is not held: the lease can be renewed while the manifest is written.
    assert await deliveries.leases("stops").renew(first)
    planning.cancel()
    await asyncio.wait({planning})
    assert planning.cancelled()
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery_file") == 0
    await plan(first, source=Files(3), store=deliveries.store)
    assert await deliveries.states() == ["READY"]
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery_file") == 3


async def test_one_of_two_plans_at_once_is_kept(deliveries: Deliveries) -> None:
    await deliveries.available()
    first = await claimed(deliveries, "slow", 0)
    second = await claimed(deliveries, "quick")
    outcomes = await asyncio.gather(
        plan(first, source=Files(2000), store=deliveries.store),
        plan(second, source=Files(2000), store=deliveries.store),
        return_exceptions=True,
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LeaseLostError", "NoneType"]
    assert await deliveries.states() == ["READY"]
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery_file") == 2000


async def test_a_hundred_thousand_files_are_planned(deliveries: Deliveries, listed: Listed) -> None:
    total = 100_000

    def make(page: int, size: int) -> dict[str, Any]:
        numbers = range(page * size, min((page + 1) * size, total))
        return page_of([entry(n, filename="same.bin") for n in numbers], page, size, total)

    members = await planned(deliveries, await listed(make, 10_000))
    assert len(members) == total
    assert len({name.casefold() for name, _ in members}) == total
    assert sum(size or 0 for _, size in members) == sum(range(total))


async def test_a_connection_that_breaks_is_worth_another_try(listed: Listed) -> None:
    async with aiohttp.ClientSession() as session:
        source = rs_order_at(9, session)
        with pytest.raises(SourceUnavailableError, match="rs-order broke off page 0"):
            [file async for file in source.listing(ORDERED)]
