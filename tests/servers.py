"""What answers in the place of others: an HTTP server of one handler, and rs-order behind one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from app.waiting.backoff import Backoff
from streams.regards.orders import DATASET_PAGE_SIZE, RsOrder
from streams.regards.resume import Resumption
from streams.regards.tokens import TokenSigner

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NEVER = Resumption(tries=0, backoff=Backoff(first=0, longest=0))
SECRET = "s" * 64
SIGNER = TokenSigner(SECRET, ttl=60)


@contextlib.asynccontextmanager
async def serving(handler: Handler, **site: Any) -> AsyncIterator[int]:
    """Answer every request on a free port of loopback; give the port.

    `site` is for aiohttp's TCPSite, as `ssl_context`.
    """
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", handler)
    async with serving_application(application, **site) as port:
        yield port


@contextlib.asynccontextmanager
async def serving_application(application: web.Application, **site: Any) -> AsyncIterator[int]:
    """Serve an application likewise."""
    runner = web.AppRunner(application, shutdown_timeout=0.1)  # a handler may wait for ever
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, **site).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


def rs_order_at(
    port: int,
    session: aiohttp.ClientSession,
    *,
    page_size: int = 100,
    dataset_page_size: int = DATASET_PAGE_SIZE,
    stall_timeout: float = 60,
    resumption: Resumption = NEVER,
) -> RsOrder:
    """Return the client of an rs-order on a port of loopback."""
    return RsOrder(
        session,
        SIGNER,
        url=f"http://127.0.0.1:{port}",
        page_size=page_size,
        dataset_page_size=dataset_page_size,
        stall_timeout=stall_timeout,
        resumption=resumption,
    )
