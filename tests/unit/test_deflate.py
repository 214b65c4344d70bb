"""Deflate by several threads: the same bytes with any number of them, in bounds, ended at once."""

from __future__ import annotations

import random
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.delivery.formats import DEFAULT_THRESHOLD
from app.settings import Settings
from sinks.formats.archive_format import BLOCK, Member
from sinks.formats.deflate import (
    Begun,
    BlockDeflate,
    Deflate,
    DeflatePool,
    UnderWay,
    begun,
    compressed,
)
from sinks.formats.zip import Zip
from sinks.pipeline.rechunk import rechunk
from tests.builders import archive_blocks, make_file
from tests.conftest import noise
from tests.readers import READERS

ROWS = b"".join(b"%d;%d\n" % (row, row * row % 1_000_003) for row in range(120_000))
each_compression = pytest.mark.parametrize("compression", ["auto", "deflate"])


def rows(size: int) -> bytes:
    return (ROWS * (size // len(ROWS) + 1))[:size]


def zipped(
    files: dict[str, bytes],
    *,
    threads: int = 2,
    compression: str = "auto",
    piece: int = BLOCK,
    in_blocks: bool = True,
) -> bytes:
    def pieces(content: bytes) -> Iterator[bytes]:
        for start in range(0, len(content), piece):
            yield content[start : start + piece]

    form = Zip(pool=DeflatePool(threads), in_blocks=in_blocks)
    members = (
        (make_file(name, content), rechunk(pieces(content))) for name, content in files.items()
    )
    return b"".join(archive_blocks(form, members, compression=compression))


@each_compression
@given(
    sizes=st.lists(st.integers(0, 4 * BLOCK), min_size=1, max_size=3),
    piece=st.integers(10_000, 3 * BLOCK),
)
@example(sizes=[BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 12 * BLOCK + 7], piece=100_000)
@settings(max_examples=15, deadline=None)
def test_the_bytes_are_the_same_with_any_number_of_threads(
    compression: str, sizes: list[int], piece: int
) -> None:
    """And however the network cut the files."""
    files = {str(number): rows(size) for number, size in enumerate(sizes)}
    alone = zipped(files, threads=1, compression=compression)
    for threads in (2, 8):
        several = zipped(files, threads=threads, compression=compression, piece=piece)
        assert several == alone
    assert READERS[".zip"](alone) == files


@pytest.mark.parametrize(
    "make",
    [compressed, lambda data: begun(data, 200, Deflate()).made],
    ids=["whole", "begun"],
)
def test_the_bytes_are_the_same_wherever_a_stream_is_in_memory(
    make: Callable[[bytes], bytes],
) -> None:
    """ISA-L's are not; streams that live at the same time are at different places."""
    rng = random.Random(1)
    for _ in range(20_000):
        data = rng.randbytes(12) * 2 + rows(200)
        first = make(data)
        elsewhere = Deflate()
        assert make(data) == first
        del elsewhere


@pytest.mark.parametrize("size", range(40))
def test_a_stream_of_any_length_is_read_by_zlib(size: int) -> None:
    data = rows(size)
    assert zlib.decompress(compressed(data), -zlib.MAX_WBITS) == data
    deflate = Deflate()
    made = [deflate.compress(data[place : place + 3]) for place in range(0, size, 3)]
    assert zlib.decompress(b"".join([*made, deflate.flush()]), -zlib.MAX_WBITS) == data


def test_a_file_of_one_block_waits_for_no_thread() -> None:
    class NoThreads(DeflatePool):
        def enter(self) -> ThreadPoolExecutor:
            raise AssertionError("asked for")

    member = make_file("a", rows(BLOCK)), iter([rows(BLOCK)])
    blob = b"".join(archive_blocks(Zip(pool=NoThreads(2)), [member], compression="deflate"))
    assert READERS[".zip"](blob) == {"a": rows(BLOCK)}


def test_blocks_cost_a_thousandth_at_most() -> None:
    files = {"a": rows(12 * BLOCK)}
    assert len(zipped(files)) <= len(zipped(files, in_blocks=False)) * 1.001


def test_what_a_thread_fails_with_ends_the_member() -> None:
    class Broken:
        def compress(self, _data: bytes) -> bytes:
            raise MemoryError("a block")

    under_way = UnderWay(DeflatePool(2))
    deflate = BlockDeflate(under_way, Begun(b"", 0, Broken()))
    with pytest.raises(MemoryError, match="a block"):
        for block in deflate.feed([rows(BLOCK)] * 9):
            deflate.compress(block)
    under_way.close()
    assert not threads_left()


class Told(DeflatePool):
    """Tells when something that it was to do is done, or cancelled."""

    def __init__(self, threads: int, tell: Callable[[Future[bytes]], None]) -> None:
        super().__init__(threads)
        self._tell = tell

    def enter(self) -> ThreadPoolExecutor:
        executor, tell = super().enter(), self._tell
        submit: Any = executor.submit

        def told(make: Callable[[], bytes]) -> Future[bytes]:
            future: Future[bytes] = submit(make)
            future.add_done_callback(tell)
            return future

        executor.submit = told  # type: ignore[assignment, method-assign]
        return executor


def test_who_ends_in_the_midst_begins_nothing_more() -> None:
    """And has ended when what was begun has."""
    cancelled, began, made = threading.Event(), threading.Event(), list[str]()

    def runs() -> bytes:
        began.set()
        assert cancelled.wait(60)
        made.append("begun")
        return b""

    def waits() -> bytes:
        made.append("not begun")
        return b""

    def tell(future: Future[bytes]) -> None:
        if future.cancelled():
            cancelled.set()

    under_way = UnderWay(Told(1, tell))
    under_way.add(runs)
    assert began.wait(60)
    under_way.add(waits)
    under_way.close()
    assert made == ["begun"]
    assert not threads_left()


def test_threads_end_with_the_last_transfer_that_has_them() -> None:
    pool = DeflatePool(2)
    first, second = UnderWay(pool), UnderWay(pool)
    for under_way in (first, second):
        under_way.add(lambda: b"made")
    assert first.take() == b"made"
    first.close()
    second.add(lambda: b"still made")
    assert [second.take(), second.take()] == [b"made", b"still made"]
    second.close()
    assert not threads_left()


def test_a_transfer_waits_for_a_few_blocks_of_another_one_at_most() -> None:
    pool, gate, order = DeflatePool(1), threading.Event(), list[str]()

    def make(name: str) -> Callable[[], bytes]:
        def made() -> bytes:
            assert gate.wait(60)
            order.append(name)
            return b""

        return made

    large, small = UnderWay(pool), UnderWay(pool)
    while not large.is_full:
        large.add(make("large"))
    small.add(make("small"))
    gate.set()
    large.take()
    large.add(make("large"))
    small.take()
    assert order[: pool.limit + 1] == ["large"] * pool.limit + ["small"]
    large.close()
    small.close()


@each_compression
@pytest.mark.parametrize("content", [rows(BLOCK), noise(BLOCK)], ids=["rows", "noise"])
def test_no_more_memory_is_held_than_is_planned(compression: str, content: bytes) -> None:
    """Of blocks that come, and those that they become; beside the block or two of any format."""
    form = Zip(pool=DeflatePool(4))

    def members() -> Iterable[Member]:
        yield make_file("a", size=30 * BLOCK), (bytes(bytearray(content)) for _ in range(30))

    zipped({"a": content})  # so that its modules are there
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in archive_blocks(form, members(), compression=compression):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before <= form.pool.memory + 4 * BLOCK


def test_what_holds_while_nothing_is_set_is_the_same_everywhere() -> None:
    """Settings may not ask the domain for it."""
    assert Settings.model_fields["compression_threshold"].default == DEFAULT_THRESHOLD


@pytest.mark.parametrize("shrinks_to", [0.93, 0.85])
@pytest.mark.parametrize("threshold", [0.0, 0.8, 0.9, 0.95, 1.0])
def test_a_file_is_stored_unless_its_sample_shrinks_below_the_threshold(
    threshold: float, shrinks_to: float
) -> None:
    told, zeros = round(1000 * shrinks_to), 1000 - round(1000 * shrinks_to)
    content = b"".join(
        noise(told, str(number)) + bytes(zeros) for number in range(BLOCK // 1000 + 500)
    )
    form = Zip(threshold=threshold)
    member = make_file("a", content), rechunk([content])
    blob = b"".join(archive_blocks(form, [member], compression="auto"))
    assert (len(blob) < len(content)) is (shrinks_to + 0.01 < threshold)
    assert READERS[".zip"](blob) == {"a": content}


def test_the_end_of_a_stream_is_its_last_block() -> None:
    """As some readers stop there."""
    under_way = UnderWay(DeflatePool(2))
    deflate = BlockDeflate(under_way)
    content = rows(5 * BLOCK + 3)
    made = [deflate.compress(block) for block in deflate.feed(rechunk([content]))]
    reader = zlib.decompressobj(wbits=-15)
    assert reader.decompress(b"".join([*made, deflate.flush()])) == content
    assert reader.eof
    assert reader.unused_data == b""
    under_way.close()


def threads_left() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("archive-deflate")]
