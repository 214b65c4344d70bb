"""A small file is read at once, and is the same whatever goes wrong. Over loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import aiohttp
import pytest
from aiohttp import web

from app.delivery.file_bytes import FileBytes
from app.delivery.manifest import ManifestFile
from app.delivery.states import State
from app.errors import SourceGoneError, SourceNotReadyError, SourceUnavailableError, WrongFileError
from app.waiting.backoff import Backoff
from streams.regards.orders import RsOrder, open_session
from streams.regards.resume import Resumption
from streams.regards.small_files import SMALL, read_into
from tests.builders import make_delivery, make_file
from tests.conftest import noise
from tests.servers import rs_order_at, serving

ORDERED = make_delivery(state=State.AVAILABLE, order_id=7)
CONTENT = noise(100_000)
FILE = make_file("a.bin", file_id=5, size=len(CONTENT), position=3)

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Served:
    """Answers by what is told for each request in turn, at last with the whole file."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = [*answers]
        self.asked: list[web.Request] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        answer = self.answers.pop(0) if self.answers else whole
        return await answer(request)

    @property
    def ranges(self) -> list[str | None]:
        """What was asked for by each request."""
        return [request.headers.get("Range") for request in self.asked]


async def whole(request: web.Request) -> web.StreamResponse:
    """Answer as a server that knows ranges."""
    asked = request.headers.get("Range")
    start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
    response = web.Response(status=206 if start else 200, body=CONTENT[start:])
    if start:
        response.headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    return response


def with_status(status: int) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text="told to")

    return answer


def with_body(body: bytes) -> Answer:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=body)

    return answer


def broken_after(size: int, *, chunked: bool = False) -> Answer:
    """Answer with the beginning of the file, and break the connection."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"ETag": '"one"'})
        if chunked:
            response.enable_chunked_encoding()
        else:
            response.content_length = len(CONTENT)
        await response.prepare(request)
        await response.write(CONTENT[:size])
        assert request.transport is not None
        request.transport.close()
        return response

    return answer


def ended_after(size: int) -> Answer:
    """Answer with the beginning of the file, as a server that ends it by closing."""

    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        header = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
        request.transport.write(header + CONTENT[:size])
        request.transport.close()
        return web.Response()

    return answer


@asynccontextmanager
async def source_of(
    served: Served, *, tries: int = 2, stall_timeout: float = 60
) -> AsyncIterator[RsOrder]:
    async with (
        open_session(stall_timeout=stall_timeout) as session,
        serving(served.handle) as port,
    ):
        yield rs_order_at(
            port,
            session,
            stall_timeout=stall_timeout,
            resumption=Resumption(tries=tries, backoff=Backoff(first=0, longest=0)),
        )


async def pieces_of(
    served: Served, file: ManifestFile = FILE, *, tries: int = 2, stall_timeout: float = 60
) -> list[bytes]:
    async with (
        source_of(served, tries=tries, stall_timeout=stall_timeout) as source,
        source.download(ORDERED, file) as chunks,
    ):
        return [chunk async for chunk in chunks]


async def test_a_small_file_comes_in_one_piece_by_one_request() -> None:
    served = Served()
    assert await pieces_of(served) == [CONTENT]
    (asked,) = served.asked
    assert asked.path == "/orders/files/5"
    assert asked.headers["Authorization"].startswith("Bearer ")
    assert "Range" not in asked.headers


async def test_its_answer_tells_how_many_bytes_it_has() -> None:
    async with source_of(Served()) as source, source.download(ORDERED, FILE) as chunks:
        await anext(chunks)
        assert isinstance(chunks, FileBytes)
        assert chunks.size == len(CONTENT)


async def test_the_largest_one_is_read_whole() -> None:
    body = noise(SMALL)
    assert await pieces_of(Served(with_body(body)), replace(FILE, size=SMALL)) == [body]


async def test_an_empty_one_has_no_bytes() -> None:
    assert await pieces_of(Served(with_body(b"")), replace(FILE, size=0)) == []


async def test_one_that_is_opened_and_not_read_is_not_asked_for() -> None:
    served = Served()
    async with source_of(served) as source, source.download(ORDERED, FILE):
        pass
    assert served.asked == []


@pytest.mark.parametrize("size", [1, 50_000, 99_999])
async def test_one_that_breaks_off_is_gone_on_with_from_there(size: int) -> None:
    served = Served(broken_after(size))
    assert b"".join(await pieces_of(served)) == CONTENT
    assert served.ranges == [None, f"bytes={size}-"]
    assert served.asked[1].headers["If-Range"] == '"one"'


async def test_one_that_breaks_off_before_its_first_byte_is_asked_for_whole() -> None:
    served = Served(broken_after(0))
    assert b"".join(await pieces_of(served)) == CONTENT
    assert served.ranges == [None, None]


async def test_one_that_breaks_off_after_its_last_byte_is_whole() -> None:
    served = Served(broken_after(len(CONTENT), chunked=True))
    assert b"".join(await pieces_of(served)) == CONTENT
    assert served.ranges == [None]


async def test_one_that_ends_early_where_no_answer_tells_its_end_is_gone_on_with() -> None:
    served = Served(ended_after(40_000))
    assert b"".join(await pieces_of(served)) == CONTENT
    assert served.ranges == [None, "bytes=40000-"]


async def test_one_that_changed_in_the_meantime_is_not_glued_together() -> None:
    served = Served(broken_after(40_000), with_body(noise(100_000, "another")))
    with pytest.raises(WrongFileError, match=r"file 5 \(a.bin\) changed while it was read"):
        await pieces_of(served)


@pytest.mark.parametrize("answer", [with_status(503), with_status(401), with_status(302)])
async def test_what_passes_is_waited_for(answer: Answer) -> None:
    served = Served(answer, answer)
    assert b"".join(await pieces_of(served)) == CONTENT
    assert len(served.asked) == 3


async def test_one_that_is_not_there_yet_is_waited_for() -> None:
    assert b"".join(await pieces_of(Served(*[with_status(202)] * 2))) == CONTENT
    with pytest.raises(SourceNotReadyError, match=r"file 5 \(a.bin\)"):
        await pieces_of(Served(*[with_status(202)] * 3))


async def test_the_first_request_is_one_of_its_tries() -> None:
    served = Served(*[with_status(500)] * 9)
    with pytest.raises(SourceUnavailableError, match="answered 500 for file 5"):
        await pieces_of(served)
    assert len(served.asked) == 3


async def test_a_refusal_ends_it_at_once_and_says_where_it_is() -> None:
    served = Served(with_status(410))
    with pytest.raises(SourceGoneError, match="told to") as gone:
        await pieces_of(served)
    assert gone.value.position == 3
    assert len(served.asked) == 1


async def test_one_that_is_shorter_and_says_so_is_given_as_it_is() -> None:
    """The verifier finds out: to ask again would count for its user's quota."""
    served = Served(with_body(CONTENT[:10]))
    assert b"".join(await pieces_of(served)) == CONTENT[:10]
    assert len(served.asked) == 1


async def test_of_one_that_is_far_too_long_its_beginning_is_read() -> None:
    """So much that the verifier sees it, and no more than a few reads."""
    body = noise(64 * 1024 * 1024, "long")
    pieces = await pieces_of(Served(with_body(body)))
    size = sum(map(len, pieces))
    assert len(CONTENT) < size < len(body) // 4
    assert body.startswith(b"".join(pieces))


async def test_an_answer_from_another_byte_is_none() -> None:
    async def from_the_middle(_request: web.Request) -> web.StreamResponse:
        headers = {"Content-Range": "bytes 10-99999/100000"}
        return web.Response(status=206, body=CONTENT[10:], headers=headers)

    with pytest.raises(SourceUnavailableError, match="asked from byte 0, got from 10"):
        await pieces_of(Served(*[from_the_middle] * 3))


async def test_a_page_of_a_gateway_is_not_taken_for_it() -> None:
    async def page(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>", content_type="text/html")

    with pytest.raises(SourceUnavailableError, match="is not that file"):
        await pieces_of(Served(page), tries=0)


@pytest.mark.parametrize("size", [None, 0, 40_000])
async def test_one_that_brings_nothing_for_too_long_is_asked_for_again(size: int | None) -> None:
    """Before its answer begins, and in its midst."""
    over = asyncio.Event()

    async def stalls(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(CONTENT)
        if size is not None:
            await response.prepare(request)
            await response.write(CONTENT[:size])
        await over.wait()
        return response

    served = Served(stalls)
    try:
        assert b"".join(await pieces_of(served, stall_timeout=3)) == CONTENT
    finally:
        over.set()
    assert served.ranges == [None, f"bytes={size}-" if size else None]


async def test_that_it_brought_nothing_is_said_with_the_time() -> None:
    over = asyncio.Event()

    async def stalls(_: web.Request) -> web.Response:
        await over.wait()
        return web.Response()

    try:
        with pytest.raises(SourceUnavailableError, match=r"no byte for 0\.1 s"):
            await pieces_of(Served(stalls), tries=0, stall_timeout=0.1)
    finally:
        over.set()


async def test_the_wait_for_each_of_its_pieces_is_as_long() -> None:
    class Connected(aiohttp.base_protocol.BaseProtocol):
        connected = True

    class Watch:
        def reschedule(self, when: float | None) -> None:
            until.append(when)

    loop = asyncio.get_running_loop()
    until: list[float | None] = []
    content = aiohttp.StreamReader(Connected(loop), 2**16)
    pieces: list[bytes] = []
    watch = cast("asyncio.Timeout", Watch())
    reading = read_into(pieces, content, most=10, watch=watch, limit=60)
    content.feed_data(b"first")
    loop.call_soon(content.feed_data, b"more")
    loop.call_soon(content.feed_eof)
    assert await reading == len(b"firstmore")
    assert b"".join(pieces) == b"firstmore"
    assert len(until) == len(pieces) > 1
