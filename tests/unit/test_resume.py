"""A download that breaks goes on as if nothing had happened, or fails; it is never glued wrong."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.errors import SourceRefusedError, SourceUnavailableError, WrongFileError
from app.waiting.backoff import Backoff
from streams.regards.resume import Connection, Resumption, resumed
from tests.conftest import noise

CONTENT = noise(5000)


class Server:
    """Serves a file; each connection gives so many bytes and then breaks, or ends."""

    def __init__(
        self, *breaks: int, ranges: bool = True, chunk: int = 700, ends: bool = False
    ) -> None:
        self.breaks = list(breaks)
        self.ranges = ranges
        self.chunk = chunk
        self.ends = ends  # without an error
        self.content = CONTENT
        self.asked: list[int] = []

    @contextlib.asynccontextmanager
    async def open_at(self, offset: int) -> AsyncIterator[Connection]:
        self.asked.append(offset)
        start = offset if self.ranges else 0
        yield Connection(start=start, chunks=self._chunks(start), tells_its_end=not self.ends)

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        most = self.breaks.pop(0) if self.breaks else None
        data = self.content[start:] if most is None else self.content[start : start + most]
        for begin in range(0, len(data), self.chunk):
            yield data[begin : begin + self.chunk]
        if most is not None and not self.ends:
            raise SourceUnavailableError("broke off")


async def read(
    server: Server,
    *,
    tries: int = 5,
    size: int | None = len(CONTENT),
    compared: bool = False,
) -> bytes:
    how = Resumption(tries=tries, backoff=Backoff(first=0, longest=0))
    stream = resumed(server.open_at, what="file 1", size=size, compared=compared, how=how)
    return b"".join([chunk async for chunk in stream])


@given(
    breaks=st.lists(st.integers(0, 5000), max_size=5),
    ranges=st.booleans(),
    chunk=st.integers(1, 6000),
    ends=st.booleans(),
)
@example(breaks=[0, 0, 0], ranges=False, chunk=1, ends=False)
@example(breaks=[5000], ranges=True, chunk=100, ends=False)
@example(breaks=[3000, 1000, 4000], ranges=False, chunk=999, ends=True)
async def test_a_download_gives_the_same_bytes_wherever_it_breaks(
    breaks: list[int], ranges: bool, chunk: int, ends: bool
) -> None:
    server = Server(*breaks, ranges=ranges, chunk=chunk, ends=ends)
    assert await read(server) == CONTENT


async def test_a_download_that_breaks_after_its_last_byte_is_whole() -> None:
    server = Server(len(CONTENT))
    assert await read(server) == CONTENT
    assert server.asked == [0]


async def test_a_range_is_asked_for_from_where_it_broke_off() -> None:
    server = Server(1000, 500)
    await read(server)
    assert server.asked == [0, 1000, 1500]


async def test_a_file_of_unknown_size_is_resumed_too_and_ends_where_it_ends() -> None:
    assert await read(Server(1000), size=None) == CONTENT


async def test_a_file_that_nothing_is_known_of_ends_only_where_that_is_told() -> None:
    """A gateway that breaks off by a clean close would make half a file a whole one."""
    server = Server(1000, ends=True)
    with pytest.raises(SourceUnavailableError, match="file 1 ended after 1000 bytes, and nothing"):
        await read(server, size=None)
    assert server.asked == [0]
    assert await read(Server(), size=None) == CONTENT


async def test_a_file_of_unknown_size_whose_checksum_is_compared_ends_where_it_ends() -> None:
    """The verifier finds out whether that is all of it."""
    server = Server(1000, ends=True)
    assert await read(server, size=None, compared=True) == CONTENT[:1000]


async def test_a_file_that_changed_in_the_meantime_is_not_glued_together() -> None:
    server = Server(1000, ranges=False)
    stream = resumed(
        server.open_at,
        what="file 1",
        size=len(CONTENT),
        compared=False,
        how=Resumption(tries=1, backoff=Backoff(first=0, longest=0)),
    )
    await anext(stream)
    server.content = noise(5000, "another")
    with pytest.raises(WrongFileError, match="file 1 changed while it was read"):
        async for _ in stream:
            pass


async def test_the_tries_are_bounded() -> None:
    server = Server(10, 10, 10, 10)
    with pytest.raises(SourceUnavailableError, match="broke off"):
        await read(server, tries=2)
    assert server.asked == [0, 10, 20]


async def test_a_large_piece_makes_the_tries_count_from_the_start() -> None:
    server = Server(*[9 * 2**20] * 3, chunk=2**20)
    server.content = noise(30 * 2**20)
    assert await read(server, tries=1, size=len(server.content)) == server.content


async def noone() -> AsyncIterator[bytes]:
    return
    yield b""


async def test_a_file_that_is_shorter_than_listed_and_says_so_is_not_asked_for_again() -> None:
    """The reader that verifies it finds out; asking for more would never end."""
    server = Server()
    assert await read(server, size=len(CONTENT) + 1) == CONTENT
    assert server.asked == [0]


async def test_a_file_that_shrank_below_what_was_read_is_a_wrong_one() -> None:
    server = Server(1000, ranges=False)
    stream = resumed(
        server.open_at,
        what="f",
        size=None,
        compared=False,
        how=Resumption(tries=1, backoff=Backoff(first=0, longest=0)),
    )
    assert await anext(stream)
    server.content = CONTENT[:500]
    with pytest.raises(WrongFileError, match="is shorter than when it was first read"):
        async for _ in stream:
            pass


async def test_a_refusal_is_not_tried_again() -> None:
    opened = 0

    @contextlib.asynccontextmanager
    async def refuse(_offset: int) -> AsyncIterator[Connection]:
        nonlocal opened
        opened += 1
        raise SourceRefusedError("404")
        yield Connection(start=0, chunks=noone(), tells_its_end=True)

    with pytest.raises(SourceRefusedError):
        async for _ in resumed(
            refuse,
            what="f",
            size=1,
            compared=False,
            how=Resumption(tries=3, backoff=Backoff(first=0, longest=0)),
        ):
            pass
    assert opened == 1
