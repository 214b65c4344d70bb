"""What is opened ahead of the file that is archived, and how that ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.errors import SourceRefusedError
from sinks.pipeline.handover import AbortedError
from sinks.pipeline.parts import MIB
from sinks.pipeline.prefetch import Opened, Prefetcher
from tests.builders import make_file, make_transfer

BUDGET = 4 * MIB


@dataclass
class Held:
    """A source whose files have one byte, and their end when it is let."""

    open: dict[int, asyncio.Event] = field(default_factory=dict)  # by file
    opened: asyncio.Condition = field(default_factory=asyncio.Condition)

    @contextlib.asynccontextmanager
    async def download(
        self, _delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self.opened:
            self.open[file.file_id] = asyncio.Event()
            self.opened.notify_all()
        try:
            yield self._bytes(file)
        finally:
            del self.open[file.file_id]

    async def _bytes(self, file: ManifestFile) -> AsyncIterator[bytes]:
        yield b"x"
        await self.open[file.file_id].wait()

    async def are_open(self, *files: int) -> None:
        async with self.opened:
            await self.opened.wait_for(lambda: self.open.keys() >= {*files})


def of_size(size: int | None, count: int) -> list[ManifestFile]:
    return [make_file(f"{number}.bin", file_id=number, size=size) for number in range(1, count + 1)]


def prefetcher(source: Held) -> Prefetcher:
    return Prefetcher(make_transfer(), source, budget=BUDGET, connections=8)


async def test_what_ends_the_listing_is_told_also_where_a_file_is_half_read() -> None:
    """And not that the file was broken off, which says nothing of the reason."""
    source = Held()
    refused = SourceRefusedError("rs-order refuses suborder 8")

    async def files() -> AsyncIterator[ManifestFile]:
        yield make_file(file_id=1)
        await source.are_open(1)
        raise refused

    ahead = prefetcher(source)
    running = asyncio.create_task(ahead.run(files()))
    opened = await asyncio.to_thread(ahead.next)
    assert isinstance(opened, Opened)
    with pytest.raises(SourceRefusedError) as told:
        await asyncio.to_thread(opened.chunks.get)
    assert told.value is refused
    source.open[1].set()  # the download ends by itself
    await running


@pytest.mark.parametrize("size", [BUDGET // 4 + 1, None], ids=["large", "of unknown size"])
async def test_of_large_files_the_next_one_alone_is_open_ahead(size: int | None) -> None:
    source = Held()

    async def files() -> AsyncIterator[ManifestFile]:
        for file in of_size(size, 4):
            yield file

    ahead = prefetcher(source)
    running = asyncio.create_task(ahead.run(files()))
    await source.are_open(1, 2)
    first = await asyncio.to_thread(ahead.next)
    assert isinstance(first, Opened)
    assert source.open.keys() == {1, 2}
    source.open[1].set()
    while await asyncio.to_thread(first.chunks.get):
        pass
    ahead.done(first)
    await source.are_open(2, 3)
    assert source.open.keys() == {2, 3}
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError, AbortedError):
        await running


async def test_of_small_files_as_many_are_open_as_there_are_connections() -> None:
    source = Held()

    async def files() -> AsyncIterator[ManifestFile]:
        for file in of_size(1, 9):
            yield file

    ahead = prefetcher(source)
    running = asyncio.create_task(ahead.run(files()))
    await source.are_open(*range(1, 9))
    assert 9 not in source.open
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
