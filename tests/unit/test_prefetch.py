"""What is opened ahead of the file that is archived, and how that ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.delivery.manifest import ManifestFile, Seam
from app.delivery.model import Delivery
from app.errors import SourceRefusedError
from sinks.formats.archive_format import SMALL
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


class Ready:
    """A source whose files have their bytes at once."""

    @contextlib.asynccontextmanager
    async def download(
        self, _delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        yield self._bytes(file)

    async def _bytes(self, file: ManifestFile) -> AsyncIterator[bytes]:
        yield bytes(file.size or 0)


def read_all(ahead: Prefetcher) -> list[tuple[int, int]]:
    """Read every file as the archiving thread does; return numbers and sizes."""
    found: list[tuple[int, int]] = []
    while (opened := ahead.next()) is not None:
        if isinstance(opened, Opened):
            size = 0
            while chunks := opened.chunks.get():
                size += sum(map(len, chunks))
            found.append((opened.file.file_id, size))
            ahead.done(opened)
    return found


async def listed(*files: ManifestFile | Seam) -> AsyncIterator[ManifestFile | Seam]:
    for file in files:
        yield file


@given(
    sizes=st.lists(st.one_of(st.just(None), st.integers(0, 700_000)), max_size=40).map(
        lambda sizes: [Seam.WAIT if size is None else size for size in sizes]
    ),
    budget=st.integers(4, 3 * MIB),
    connections=st.integers(1, 8),
)
async def test_all_files_are_read_with_whatever_room_there_is(
    sizes: list[Seam | int], budget: int, connections: int
) -> None:
    """Neither side waits for the other, whichever of them is told of shares, and when."""
    files = [
        size if isinstance(size, Seam) else make_file(file_id=number, size=size)
        for number, size in enumerate(sizes)
    ]
    ahead = Prefetcher(make_transfer(), Ready(), budget=budget, connections=connections)
    async with asyncio.timeout(60):
        found, _ = await asyncio.gather(
            asyncio.to_thread(read_all, ahead), ahead.run(listed(*files))
        )
    assert found == [(file.file_id, file.size) for file in files if isinstance(file, ManifestFile)]


async def test_the_loop_is_not_told_of_each_file_that_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While it has room, of none; and where it waits for some, of many at once."""
    loop = asyncio.get_running_loop()
    told: list[object] = []
    tell = loop.call_soon_threadsafe

    def counted(act: Callable[[], object]) -> None:
        told.append(act)
        tell(act)

    async def read(budget: int) -> int:
        """Return how often the loop was told of a hundred files."""
        ahead = Prefetcher(make_transfer(), Ready(), budget=budget, connections=8)
        running = asyncio.create_task(ahead.run(listed(*of_size(1, 100))))
        for _ in range(10_000):  # until all are opened, or there is no room for more
            await asyncio.sleep(0)
        told.clear()
        with monkeypatch.context() as patched:
            patched.setattr(loop, "call_soon_threadsafe", lambda *act: counted(partial(*act)))
            found = await asyncio.to_thread(read_all, ahead)
        await running
        assert len(found) == 100
        return len(told) - 1  # the thread's own end

    assert await read(budget=100 * 64 * 1024) == 0
    assert 1 <= await read(budget=32 * 64 * 1024) <= 50


async def test_what_was_read_before_a_pause_is_told() -> None:
    """The loop waits for it, and the archiving thread asks for nothing more."""
    went_on = asyncio.Event()

    async def files() -> AsyncIterator[ManifestFile | Seam]:
        yield make_file(file_id=1, size=1)
        yield Seam.SEGMENT
        yield Seam.WAIT
        went_on.set()

    ahead = Prefetcher(make_transfer(), Ready(), budget=BUDGET, connections=8)
    running = asyncio.create_task(ahead.run(files()))
    opened = await asyncio.to_thread(ahead.next)
    assert isinstance(opened, Opened)
    await asyncio.sleep(0)
    ahead.done(opened)
    ahead.pause()
    assert await asyncio.to_thread(ahead.next) is Seam.SEGMENT
    await went_on.wait()
    await running


async def test_small_files_that_are_there_to_their_end_are_told_before_their_turn() -> None:
    """Each once, and none behind one that is not; all of them have their turn nevertheless."""
    files = [
        *of_size(20_000, 3),
        make_file(file_id=4, size=SMALL + 1),
        make_file(file_id=5, size=1),
    ]
    ahead = Prefetcher(make_transfer(), Ready(), budget=BUDGET, connections=8)
    await ahead.run(listed(*files[:2], Seam.SEGMENT, *files[2:]))

    def told() -> list[int]:
        return [coming.file.file_id for coming in ahead.coming()]

    def turn() -> int | Seam | None:
        opened = ahead.next()
        return opened.file.file_id if isinstance(opened, Opened) else opened

    first, second = itertools.islice(ahead.coming(), 2)
    assert first.content == second.content == bytes(20_000)
    assert (told(), turn(), told(), turn(), told()) == ([], 1, [], 2, [])
    assert (turn(), told(), turn(), told()) == (Seam.SEGMENT, [3], 3, [])
    assert (turn(), told(), turn(), turn()) == (4, [5], 5, None)


async def test_a_file_that_is_on_its_way_or_failed_is_not_told_before_its_turn() -> None:
    source = Held()
    ahead = prefetcher(source)
    running = asyncio.create_task(ahead.run(listed(*of_size(1, 2))))
    await source.are_open(1, 2)
    assert not list(ahead.coming())
    ahead.abort()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert not list(ahead.coming())
    opened = ahead.next()
    assert isinstance(opened, Opened)
    with pytest.raises(AbortedError):
        opened.chunks.get()
