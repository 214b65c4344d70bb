"""Files of an order come into the manifest: read packed, laid out in a thread, written by slices.

An order may hold a million files. What memory its listing takes is asked for once, and no half
segment is ever seen: all of it is one transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from itertools import islice

from app.delivery.listing import Listing
from app.delivery.manifest import ListedFile, ManifestFile
from app.delivery.model import Delivery
from app.delivery.ports import UnitOfWork
from app.errors import OrderTooLargeError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

MEMORY_A_FILE = 400  # bytes, at most: of the packed listing, and to tell ids and names apart
_UNPACKED_FILES = 5000  # files that may be held without asking for memory, and packed in one go
_BATCH_SIZE = 1000  # files laid out, and written, in one go

Reserve = Callable[[int], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many files may be laid out, and in what memory."""

    memory: int  # bytes that the worker's work shares
    reserve: Reserve  # holds some of it for as long as its block takes
    most_files: int  # of a delivery

    async def read(
        self,
        delivery: Delivery,
        files: AsyncIterator[ListedFile],
        stack: AsyncExitStack,
        *,
        behind: int = 0,
    ) -> Listing:
        """Pack a listing; so many files are in the manifest already.

        What memory it needs is held once, with next to nothing in hand: who held some and asked for
        more would wait for ever for others who do the same. Raises OrderTooLargeError.
        """
        listing = Listing()
        some: list[ListedFile] = []
        count, room = behind, _UNPACKED_FILES
        async for file in files:
            count += 1
            expected = max(count, behind + (file.listed or 0))
            if expected > self.most_files:
                raise _too_large(delivery, expected, self.most_files, "DELIVERY_MAX_ORDER_FILES")
            if expected > room:
                fits = self.memory // MEMORY_A_FILE
                if expected > fits:
                    raise _too_large(delivery, expected, fits, "DELIVERY_WORKER_MEMORY")
                room = expected if file.listed else min(self.most_files, fits)
                await stack.enter_async_context(self.reserve(room * MEMORY_A_FILE))
            some.append(file)
            if len(some) == _UNPACKED_FILES:
                await asyncio.to_thread(listing.add, some)
                some = []
        await asyncio.to_thread(listing.add, some)
        return listing


def _too_large(delivery: Delivery, files: int, most: int, setting: str) -> OrderTooLargeError:
    return OrderTooLargeError(
        f"order {delivery.order_id} holds {files} files or more, and a delivery may have {most}: "
        f"order less at once, or raise {setting}"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What came into the manifest."""

    files: int
    size: int  # sum of the known sizes


async def write(tx: UnitOfWork, delivery: Delivery, layout: Iterable[ManifestFile]) -> Written:
    """Write files into the manifest, some at a time."""
    count = size = unchecked = 0
    example = ""
    files = iter(layout)
    while some := await asyncio.to_thread(lambda: list(islice(files, _BATCH_SIZE))):
        await tx.add_files(delivery, some)
        count += len(some)
        size += sum(file.size or 0 for file in some)
        without = [file for file in some if file.md5 is None]
        unchecked += len(without)
        example = example or (without[0].member if without else "")
    if unchecked:
        tx.on_commit(
            lambda: log.warning(
                "files_without_checksum",
                **delivery.log_context,
                files=unchecked,
                example=example,
                consequence="verified by size alone",
            )
        )
    return Written(files=count, size=size)
