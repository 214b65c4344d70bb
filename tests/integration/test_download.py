"""Downloads over real HTTP that drop, stall, lie about ranges: resumed in place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from app.delivery.file_bytes import FileBytes
from app.errors import SourceNotReadyError, SourceUnavailableError, WrongFileError
from app.waiting.backoff import Backoff
from streams.regards.orders import open_session
from streams.regards.resume import Resumption
from streams.regards.stall import unstalled
from tests.builders import make_file
from tests.conftest import noise
from tests.integration.test_listing import ORDERED
from tests.servers import rs_order_at, serving

CONTENT = noise(3 * 1024 * 1024)
FILE = make_file("a.bin", file_id=5, size=len(CONTENT))
HALF = len(CONTENT) // 2


class Faulty:
    """Serves one file; the first connections break in the middle, in one way or another."""

    def __init__(self, *, how: str, ranges: bool, times: int = 1) -> None:
        self.how = how
        self.ranges = ranges
        self.times = times
        self.asked: list[str | None] = []
        self.content = CONTENT
        self.stalled = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if asked and start >= len(self.content):
            return web.Response(status=416)
        if self.how == "not ready" and self.times:
            self.times -= 1
            return web.Response(status=202)
        if not self.ranges:
            start = 0
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            end = len(self.content)
            response.headers["Content-Range"] = f"bytes {start}-{end - 1}/{end}"
        response.content_length = len(self.content) - start
        await response.prepare(request)
        if self.times == 0:
            await response.write(self.content[start:])
            return response
        self.times -= 1
        await response.write(self.content[start:HALF])
        if self.how == "stalls":
            await self.stalled.wait()
        assert request.transport is not None
        request.transport.abort() if self.how == "drops" else request.transport.close()
        return response


Read = Callable[[Faulty], Awaitable[bytes]]


@pytest.fixture
def read() -> Read:
    async def run(faulty: Faulty) -> bytes:
        stall_timeout = 0.5 if faulty.how == "stalls" else 60
        async with (
            open_session(stall_timeout=stall_timeout) as session,
            serving(faulty.handle) as port,
        ):
            source = rs_order_at(
                port,
                session,
                stall_timeout=stall_timeout,
                resumption=Resumption(tries=2, backoff=Backoff(first=0, longest=0)),
            )
            async with source.download(ORDERED, FILE) as chunks:
                return b"".join([chunk async for chunk in chunks])

    return run


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("how", ["drops", "closes", "stalls"])
async def test_a_broken_download_is_resumed_in_place(read: Read, how: str, ranges: bool) -> None:
    faulty = Faulty(how=how, ranges=ranges)
    try:
        assert await read(faulty) == CONTENT
    finally:
        faulty.stalled.set()
    first, second = faulty.asked
    assert first is None
    assert second is not None


@pytest.mark.parametrize(
    ("how", "size"), [("as it is", len(CONTENT)), ("in chunks", None), ("encoded", None)]
)
async def test_a_size_is_the_answers_only_where_it_is_the_files(how: str, size: int | None) -> None:
    """A gateway that encodes a file, though it was not asked to, tells another number each time."""

    async def handle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        if how == "in chunks":
            response.enable_chunked_encoding()
        else:
            response.content_length = len(CONTENT)
        if how == "encoded":
            response.headers["Content-Encoding"] = "gzip"
        await response.prepare(request)
        await response.write(CONTENT)
        return response

    async with open_session(stall_timeout=60) as session, serving(handle) as port:
        source = rs_order_at(port, session)
        file = make_file("a.bin", file_id=5, size=None)
        async with source.download(ORDERED, file) as chunks:
            await anext(chunks)
            assert isinstance(chunks, FileBytes)
            assert chunks.size == size


async def test_a_file_that_is_not_there_yet_is_waited_for(read: Read) -> None:
    faulty = Faulty(how="not ready", ranges=True, times=2)
    assert await read(faulty) == CONTENT
    with pytest.raises(SourceNotReadyError, match=r"file 5 \(a.bin\)"):
        await read(Faulty(how="not ready", ranges=True, times=9))


async def test_an_answer_that_never_begins_is_given_up(read: Read) -> None:
    class Silent(Faulty):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            await self.stalled.wait()
            return web.Response(status=500)

    faulty = Silent(how="stalls", ranges=True)
    try:
        with pytest.raises(SourceUnavailableError, match="broke off file 5"):
            await read(faulty)
    finally:
        faulty.stalled.set()


async def test_a_refusal_whose_words_never_come_is_given_up(read: Read) -> None:
    class Wordless(Faulty):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=503)
            await response.prepare(request)
            await self.stalled.wait()
            return response

    faulty = Wordless(how="stalls", ranges=True)
    try:
        with pytest.raises(SourceUnavailableError, match="file 5"):
            async with asyncio.timeout(30):
                await read(faulty)
    finally:
        faulty.stalled.set()


async def test_the_timeout_counts_the_source_and_not_its_reader(read: Read) -> None:
    """A slow target holds the reading up for as long as it likes."""

    class Connected(aiohttp.base_protocol.BaseProtocol):
        connected = True

    content = aiohttp.StreamReader(Connected(asyncio.get_running_loop()), 2**16)
    content.feed_data(b"first")
    chunks = unstalled(content, limit=0.02)
    assert await anext(chunks) == b"first"
    await asyncio.sleep(0.1)
    content.feed_data(b"second")
    assert await anext(chunks) == b"second"
    with pytest.raises(aiohttp.SocketTimeoutError, match=r"no byte for 0\.02 s"):
        await anext(chunks)


@pytest.mark.parametrize("known", [{"md5": "0" * 32}, {"crc32": 1}])
async def test_a_checksum_alone_makes_a_file_readable_whose_end_no_answer_tells(
    known: dict[str, Any],
) -> None:
    """The verifier compares it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
        request.transport.close()
        return web.Response()

    file = replace(make_file("a.bin", file_id=5), size=None, md5=None, crc32=None)
    async with open_session(stall_timeout=60) as session, serving(handle) as port:
        source = rs_order_at(port, session, stall_timeout=60)
        async with source.download(ORDERED, replace(file, **known)) as chunks:
            assert b"".join([chunk async for chunk in chunks]) == b"half"


async def test_a_source_that_breaks_each_time_is_given_up(read: Read) -> None:
    faulty = Faulty(how="drops", ranges=False, times=9)
    with pytest.raises(SourceUnavailableError, match=r"file 5 \(a.bin\)"):
        await read(faulty)
    assert len(faulty.asked) == 3


async def test_a_file_that_shrank_in_the_meantime_is_a_wrong_one(read: Read) -> None:
    class Shrinking(Faulty):
        async def handle(self, request: web.Request) -> web.StreamResponse:
            response = await super().handle(request)
            self.content = CONTENT[:10]
            return response

    with pytest.raises(WrongFileError, match="is shorter than when it was first read"):
        await read(Shrinking(how="closes", ranges=True))
