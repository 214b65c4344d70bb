"""The order is done: write down what goes into the archive.

An order may hold a million files: its listing is kept packed, the archive is laid out in a thread,
a slice at a time, and each slice is written as it comes. All of it is one transaction, so that no
half manifest is ever seen; the delivery's own row is not touched before the end of it, so that its
lease can be renewed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import islice

from app.delivery import outgoing
from app.delivery.listing import Listing
from app.delivery.manifest import Layout, ListedFile, Manifest
from app.delivery.model import Delivery
from app.delivery.outgoing import Kind
from app.delivery.ports import DeliveryStore, OrderSource, PlannedFormat
from app.delivery.states import State
from app.errors import EmptyOrderError, LeaseLostError, OrderTooLargeError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

MEMORY_A_FILE = 400  # bytes, at most: of the packed listing, and to tell ids and names apart
_UNPACKED_FILES = 5000  # files that a plan may hold without asking for memory, and packs in one go
_BATCH_SIZE = 1000  # files laid out, and written, in one go


Reserve = Callable[[int], AbstractAsyncContextManager[None]]


async def plan(
    delivery: Delivery,
    *,
    source: OrderSource,
    store: DeliveryStore,
    memory: int,
    reserve: Reserve,
    most_files: int,
    archive_format: PlannedFormat,
) -> None:
    """Read the order's listing, lay out the archive and make the delivery ready for transfer.

    `memory` is all that the worker's work shares, in bytes; `reserve` holds some of it for as long
    as its block takes, and waits until that is free. The archive's name tells its format.

    Raises EmptyOrderError, OrderTooLargeError, LeaseLostError when the delivery moved on meanwhile,
    and what reading the listing raises.
    """
    async with AsyncExitStack() as stack:
        listing = await _read(delivery, source, memory, reserve, most_files, stack)
        layout = await asyncio.to_thread(
            Layout, delivery.correlation_id, listing, suffix=archive_format.suffix
        )
        await _write(delivery, layout, store)


async def _read(
    delivery: Delivery,
    source: OrderSource,
    memory: int,
    reserve: Reserve,
    most_files: int,
    stack: AsyncExitStack,
) -> Listing:
    """Pack the listing. What memory it needs is held once, with next to nothing in hand.

    Who held some and asked for more would wait for ever for others who do the same.
    """
    listing = Listing()
    some: list[ListedFile] = []
    count, room = 0, _UNPACKED_FILES
    async for file in source.listing(delivery):
        count += 1
        expected = file.listed or count
        if max(count, expected) > most_files:
            raise _too_large(delivery, expected, most_files, "DELIVERY_MAX_ORDER_FILES")
        if expected > room:
            fits = memory // MEMORY_A_FILE
            if expected > fits:
                raise _too_large(delivery, expected, fits, "DELIVERY_WORKER_MEMORY")
            room = file.listed or min(most_files, fits)
            await stack.enter_async_context(reserve(room * MEMORY_A_FILE))
        some.append(file)
        if len(some) == _UNPACKED_FILES:
            await asyncio.to_thread(listing.add, some)
            some = []
    if not count:
        raise EmptyOrderError(f"order {delivery.order_id} is done, but holds no file")
    await asyncio.to_thread(listing.add, some)
    return listing


def _too_large(delivery: Delivery, files: int, most: int, setting: str) -> OrderTooLargeError:
    return OrderTooLargeError(
        f"order {delivery.order_id} holds {files} files or more, and a delivery may have {most}: "
        f"order less at once, or raise {setting}"
    )


async def _write(delivery: Delivery, layout: Layout, store: DeliveryStore) -> None:
    count = size = unchecked = 0
    example = ""
    async with store.transaction() as tx:
        files = iter(layout)
        while some := await asyncio.to_thread(lambda: list(islice(files, _BATCH_SIZE))):
            await tx.add_files(delivery, some)
            count += len(some)
            size += sum(file.size or 0 for file in some)
            without = [file for file in some if file.md5 is None]
            unchecked += len(without)
            example = example or (without[0].member if without else "")
        manifest = Manifest(archive_name=layout.archive_name, file_count=count, total_bytes=size)
        if not await tx.advance(delivery, State.READY, manifest=manifest):
            raise LeaseLostError(f"{delivery} moved on while it was planned")
        await tx.enqueue(outgoing.wake(delivery, Kind.TRANSFER))
    log.info(
        "delivery_planned",
        **delivery.log_context,
        files=count,
        bytes=size,
    )
    if unchecked:
        log.warning(
            "files_without_checksum",
            **delivery.log_context,
            files=unchecked,
            example=example,
            consequence="verified by size alone",
        )
