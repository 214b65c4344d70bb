"""rs-order is there if it answers, whatever it says. Over HTTP on the loopback."""

from __future__ import annotations

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.errors import SourceUnavailableError
from streams.regards.presence import Presence


@pytest.mark.parametrize("status", [200, 302, 404, 500])
async def test_it_is_there_whatever_it_answers(status: int) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Location": "http://elsewhere.invalid/"})

    application = web.Application()
    application.router.add_route("HEAD", "/", answer)
    async with TestServer(application) as server:
        await Presence(str(server.make_url("/"))).check()


async def test_it_is_not_there_when_nothing_listens() -> None:
    async with TestServer(web.Application()) as server:
        url = str(server.make_url("/"))
    with pytest.raises(SourceUnavailableError, match=f"rs-order does not answer at {url}"):
        await Presence(url).check()
