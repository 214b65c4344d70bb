"""Answers of rs-order that are no use: what passes, what stays. Over HTTP on the loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import unquote

import pytest
from aiohttp import web

from app.delivery.manifest import ListedFile
from app.delivery.states import State
from app.errors import DeliveryError, RetryableError, SourceRefusedError, SourceUnavailableError
from app.usecases.settle import Settlement
from app.waiting.backoff import Backoff
from streams.regards.orders import RsOrder, open_session
from streams.regards.refusals import seconds_of
from streams.regards.resume import Connection, Resumption, resumed
from streams.regards.users import RsAdmin
from tests.builders import make_delivery, make_file
from tests.servers import SIGNER, Handler, rs_order_at, serving
from tests.twins.rs_order import MemoryOrders

ORDERED = make_delivery(state=State.AVAILABLE, order_id=7)
FILE = make_file("a.bin", file_id=5, size=100)


@asynccontextmanager
async def regards(answer: Handler, *, tries: int = 0) -> AsyncIterator[tuple[RsOrder, RsAdmin]]:
    """Handler every request in one way."""
    how = Resumption(tries=tries, backoff=Backoff(first=0, longest=0))
    async with serving(answer) as port, open_session(stall_timeout=60) as session:
        yield (
            rs_order_at(port, session, page_size=1, stall_timeout=60, resumption=how),
            RsAdmin(session, SIGNER, url=f"http://127.0.0.1:{port}"),
        )


def with_status(status: int, text: str = "told to", **headers: str) -> Handler:
    async def answer(_request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, headers=named)

    return answer


async def listed(answer: Handler) -> list[ListedFile]:
    async with regards(answer) as (source, _):
        return [file async for file in source.listing(ORDERED)]


async def downloaded(answer: Handler) -> bytes:
    async with regards(answer) as (source, _), source.download(ORDERED, FILE) as chunks:
        return b"".join([chunk async for chunk in chunks])


@pytest.mark.parametrize("ask", [listed, downloaded])
@pytest.mark.parametrize("status", [301, 302, 307, 401, 407, 408, 423, 425, 429, 500, 502, 503])
async def test_an_answer_of_a_gateway_or_to_a_rotated_key_is_transient(
    ask: Any, status: int
) -> None:
    with pytest.raises(SourceUnavailableError, match=f"answered {status} for"):
        await ask(with_status(status, Location="/login"))


@pytest.mark.parametrize("ask", [listed, downloaded])
@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 422])
async def test_a_refusal_of_rs_order_stays(ask: Any, status: int) -> None:
    with pytest.raises(SourceRefusedError, match=f"answered {status} for .*told to"):
        await ask(with_status(status))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (302, "login or maintenance page.*DELIVERY_RS_ORDER_URL"),
        (401, "DELIVERY_RS_ORDER_TOKEN_SECRET"),
        (429, "told to .*quota"),
    ],
)
async def test_a_cause_says_what_to_check(status: int, words: str) -> None:
    with pytest.raises(SourceUnavailableError, match=words):
        await listed(with_status(status))


async def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=302, headers={"Location": "/elsewhere"})

    with pytest.raises(SourceUnavailableError):
        await downloaded(answer)
    assert asked == ["/orders/files/5"]


@pytest.mark.parametrize("body", ["<html>maintenance</html>", "", "[]", "5", "[" * 100_000])
async def test_a_page_of_another_server_is_transient(body: str) -> None:
    with pytest.raises(SourceUnavailableError, match=r"is not a page of files.*200, text/html"):
        await listed(with_status(200, body, Content_Type="text/html"))


async def test_a_page_that_breaks_off_is_transient() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b'{"content": [')
        assert request.transport is not None
        request.transport.close()
        return response

    with pytest.raises(SourceUnavailableError, match="broke off page 0"):
        await listed(answer)


@pytest.mark.parametrize("status", [200, 204])
async def test_an_answer_that_is_not_the_file_is_no_wrong_file(status: int) -> None:
    """A wrong file counts, and three of them end the delivery."""
    with pytest.raises(SourceUnavailableError, match="is not that file"):
        await downloaded(with_status(status, "", Content_Type="text/html"))


@pytest.mark.parametrize("status", [200, 204])
async def test_an_answer_that_is_not_the_file_is_no_wrong_file_in_its_middle_either(
    status: int,
) -> None:
    page = with_status(status, "", Content_Type="text/html")
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append(request.headers.get("Range"))
        if len(asked) == 2:
            return await page(request)
        response = web.StreamResponse(status=206 if asked[-1] else 200)
        response.content_length = 100 if not asked[-1] else 50
        response.headers["Content-Range"] = "bytes 50-99/100"
        await response.prepare(request)
        await response.write(b"x" * 50)
        if not asked[-1]:
            assert request.transport is not None
            request.transport.close()
        return response

    async with regards(answer, tries=2) as (source, _), source.download(ORDERED, FILE) as chunks:
        assert b"".join([chunk async for chunk in chunks]) == b"x" * 100
    assert asked == [None, "bytes=50-", "bytes=50-"]


async def test_cookies_are_not_kept() -> None:
    """One session serves many users."""
    cookies: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        cookies.append(request.headers.get("Cookie"))
        page = int(request.query["page"])
        body = {"content": [{"id": page}], "links": [] if page else [{"rel": "next"}]}
        return web.json_response(body, headers={"Set-Cookie": "session=of-somebody; Path=/"})

    assert len(await listed(answer)) == 2
    assert cookies == [None, None]


@pytest.mark.parametrize("status", [200, 302, 401, 429])
async def test_a_gateway_does_not_say_that_a_user_is_known(status: int) -> None:
    async with regards(with_status(status, "<html>", Content_Type="text/html")) as (_, users):
        with pytest.raises(SourceUnavailableError, match=str(status)):
            await users.known("t", "someone@cnes.fr")


@pytest.mark.parametrize("ask", [listed, downloaded])
async def test_an_answer_that_says_when_to_come_again_is_heeded(ask: Any) -> None:
    with pytest.raises(SourceUnavailableError) as raised:
        await ask(with_status(429, "quota of someone", Retry_After="70"))
    assert raised.value.retry_after == 70


def test_retry_after_is_seconds_or_a_date_and_an_hour_at_most() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=600)
    assert seconds_of("17") == 17
    assert 590 < (seconds_of(format_datetime(soon, usegmt=True)) or 0) <= 600
    assert seconds_of("9" * 400) == 3600
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    for nothing in (None, "", "soon", "-1", "1.5", "\u0663"):
        assert seconds_of(nothing) is None


@pytest.mark.parametrize(
    ("tries", "asked", "after"),
    [(0, None, 1), (3, None, 8), (20, 5, 60), (0, 1200, 1200)],
)
async def test_work_is_postponed_for_longer_each_time_and_for_as_long_as_was_asked_for(
    tries: int, asked: float | None, after: float
) -> None:
    leases = AsyncMock()
    settlement = Settlement(
        store=AsyncMock(),
        leases=leases,
        backoff=Backoff(first=1, longest=60),
        attempts=3,
        source=MemoryOrders(),
    )
    await settlement.settle(replace(ORDERED, tries=tries), RetryableError("x", retry_after=asked))
    assert leases.release.await_args.kwargs["after"] == timedelta(seconds=after)


async def test_a_download_waits_in_place_only_for_minutes() -> None:
    opened = 0

    @asynccontextmanager
    async def open_at(_offset: int) -> AsyncIterator[Connection]:
        nonlocal opened
        opened += 1
        raise SourceUnavailableError("quota", retry_after=301)
        yield

    how = Resumption(tries=5, backoff=Backoff(first=0, longest=0))
    with pytest.raises(SourceUnavailableError, match="quota"):
        _ = [
            chunk
            async for chunk in resumed(open_at, what="file 1", size=5, compared=False, how=how)
        ]
    assert opened == 1


def test_a_cause_is_printable_and_not_endless() -> None:
    error = DeliveryError("a\0b\x1b[2J\ud800c\nd" + "x" * 100_000)
    told = str(error)
    assert told.startswith("a\ufffdb\ufffd[2J\ufffdc\nd")
    assert len(told) < 9000
    assert told.endswith("characters more)")


@pytest.mark.parametrize(
    "user", ["a/../b@x.org", "../x", "%2E%2E", "a b?c#d", "..;x", "é@x.org", "..\\", "a%2Fb", "..."]
)
async def test_a_user_is_one_segment_of_the_address(user: str) -> None:
    asked: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.raw_path)
        return web.Response(status=404)

    async with regards(answer) as (_, users):
        assert not await users.known("t", user)
    (path,) = asked
    beginning, _, name = path.rpartition("/")
    assert (beginning, unquote(name)) == ("/users/email", user)


@pytest.mark.parametrize("user", [".", ".."])
async def test_a_user_whose_address_would_be_another_is_unknown(user: str) -> None:
    """`/users/email/..` is `/users/`, which rs-admin may well answer with 200."""
    async with regards(with_status(200)) as (_, users):
        assert not await users.known("t", user)
