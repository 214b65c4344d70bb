"""Files of an order come into the manifest: read packed, laid out in a thread, written by slices.

An order may hold a million files. What memory its listing takes is asked for once, and no half
segment is ever seen: all of it is one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
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
_GROWTH = 2  # times as many files each time, where a listing does not tell how long it is
BATCH_SIZE = 1000  # files laid out, and written, in one go

Reserve = Callable[[int], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Room:
    """How many files may be laid out, and in what memory."""

    memory: int  # bytes that the worker's work shares
    reserve: Reserve  # holds some of it for as long as its block takes
    most_files: int  # of a delivery
    # Whether more may be reserved beside what is held: only who never waits for it can do that.
    grows: bool = False
    taken: int = 0  # bytes of it that who asks has already, and keeps

    def beside(self, taken: int) -> Room:
        """Return the room that there is beside so many bytes."""
        return replace(self, taken=taken)

    @property
    def fits(self) -> int:
        """How many files there can ever be memory for."""
        return max(0, self.memory - self.taken) // MEMORY_A_FILE

    def of(self, delivery: Delivery, files: int) -> AbstractAsyncContextManager[None]:
        """Hold the memory that so many files take. Raises OrderTooLargeError."""
        if files <= _UNPACKED_FILES:
            return contextlib.nullcontext()
        self.check(delivery, files)
        return self.reserve(files * MEMORY_A_FILE)

    def check(self, delivery: Delivery, files: int) -> None:
        """Raise OrderTooLargeError unless there can be memory for so many files of an order."""
        if files > self.fits:
            beside = f" beside the {self.taken} bytes of its transfer" if self.taken else ""
            needed = self.taken + files * MEMORY_A_FILE
            raise OrderTooLargeError(
                f"order {delivery.order_id} holds {files} files or more, and a worker has memory "
                f"for {self.fits}{beside}: order less at once, or raise DELIVERY_WORKER_MEMORY to "
                f"{needed} or more"
            )

    async def read(
        self,
        delivery: Delivery,
        files: AsyncIterator[ListedFile],
        stack: AsyncExitStack,
        *,
        behind: int = 0,
    ) -> Listing:
        """Pack a listing; so many files are in the manifest already. Raises OrderTooLargeError."""
        listing = Listing()
        some: list[ListedFile] = []
        async for file in self.held(delivery, files, stack, behind=behind):
            some.append(file)
            if len(some) == _UNPACKED_FILES:
                await asyncio.to_thread(listing.add, some)
                some = []
        await asyncio.to_thread(listing.add, some)
        return listing

    async def held(
        self,
        delivery: Delivery,
        files: AsyncIterator[ListedFile],
        stack: AsyncExitStack,
        *,
        behind: int = 0,
    ) -> AsyncIterator[ListedFile]:
        """Iterate over a listing of which each file is kept, with the memory for that held.

        Who may wait for the memory that it needs gets it once, with next to nothing in hand: who
        held some and waited for more would wait for ever for others who do the same. Raises
        OrderTooLargeError.
        """
        count, room, held = behind, _UNPACKED_FILES, 0
        async for file in files:
            count += 1
            expected = max(count, behind + (file.listed or 0))
            if expected > self.most_files:
                raise OrderTooLargeError(
                    f"order {delivery.order_id} holds {expected} files or more, and a delivery may "
                    f"have {self.most_files}: order less at once, or raise DELIVERY_MAX_ORDER_FILES"
                )
            if expected > room:
                self.check(delivery, expected)
                most = min(self.most_files, self.fits)
                if not file.listed:
                    expected = min(most, max(expected, _GROWTH * room)) if self.grows else most
                room = expected
                await stack.enter_async_context(self.reserve((room - held) * MEMORY_A_FILE))
                held = room
            yield file


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What came into the manifest."""

    files: int
    size: int  # sum of the known sizes


async def keep_told(tx: UnitOfWork, delivery: Delivery, listing: Listing) -> None:
    """Keep the CRC-32s that were told of an order, until its files come into the manifest."""
    told = ((file.file_id, file.crc32) for file in listing if file.crc32 is not None)
    while some := await asyncio.to_thread(lambda: dict(islice(told, BATCH_SIZE))):
        await tx.keep_crc32s(delivery, some)


async def _with_told(
    tx: UnitOfWork, delivery: Delivery, files: Sequence[ManifestFile]
) -> list[ManifestFile]:
    """Return files with the CRC-32s that were kept of them; what is listed now comes first."""
    kept = await tx.take_crc32s(delivery, [file.file_id for file in files])
    return [
        file if file.crc32 is not None else replace(file, crc32=kept.get(file.file_id))
        for file in files
    ]


async def write(
    tx: UnitOfWork, delivery: Delivery, layout: Iterable[ManifestFile], *, told: bool = False
) -> Written:
    """Write files into the manifest, some at a time; of an order that was told before, or not."""
    count = size = 0
    checks = Checks()
    files = iter(layout)
    while some := await asyncio.to_thread(lambda: list(islice(files, BATCH_SIZE))):
        if told:
            some = await _with_told(tx, delivery, some)
        await tx.add_files(delivery, some)
        count += len(some)
        size += known_size(some)
        checks.look_at(some)
    tx.on_commit(partial(checks.tell, delivery))
    return Written(files=count, size=size)


def known_size(files: Iterable[ManifestFile]) -> int:
    """Return the sum of the sizes that are known."""
    return sum(file.size or 0 for file in files)


class Checks:
    """Which files of a manifest nothing tells of whether their bytes are right."""

    def __init__(self) -> None:
        self._of_size = _Unchecked("verified by size alone")
        self._of_nothing = _Unchecked("not verified: rs-order tells no size of them either")

    def look_at(self, files: Iterable[ManifestFile]) -> None:
        """Count those that have no checksum."""
        for file in files:
            if file.md5 is None and file.crc32 is None:
                (self._of_nothing if file.size is None else self._of_size).add(file)

    def tell(self, delivery: Delivery) -> None:
        """Log them, once they are in the manifest."""
        for unchecked in (self._of_size, self._of_nothing):
            if unchecked.files:
                unchecked.tell(delivery)


@dataclass
class _Unchecked:
    """Files that have no checksum, and what that means for them."""

    consequence: str
    files: int = 0
    example: str = ""

    def add(self, file: ManifestFile) -> None:
        """Count one more."""
        self.files += 1
        self.example = self.example or file.member

    def tell(self, delivery: Delivery) -> None:
        """Log them."""
        log.warning(
            "files_without_checksum",
            **delivery.log_context,
            files=self.files,
            example=self.example,
            consequence=self.consequence,
        )
