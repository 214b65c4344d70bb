"""Downloads that bring no byte for too long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator

import aiohttp


@contextlib.asynccontextmanager
async def watched(limit: float) -> AsyncIterator[asyncio.Timeout]:
    """Let nothing come for `limit` seconds; what comes moves the end of the time that it gives.

    Raises aiohttp.SocketTimeoutError, as `unstalled`.
    """
    watch = asyncio.timeout(limit)
    try:
        async with watch:
            yield watch
    except TimeoutError:
        if not watch.expired():
            raise
        raise aiohttp.SocketTimeoutError(f"no byte for {limit:g} s") from None


async def unstalled(content: aiohttp.StreamReader, *, limit: float) -> AsyncGenerator[bytes, None]:
    """Iterate over a body as it comes; raises aiohttp.SocketTimeoutError when nothing comes.

    Only the time that is waited for the source counts, not what the reader takes for a chunk.
    `limit` is in seconds; it may take a quarter more. (aiohttp's own `sock_read` sets a timer
    for every read of the socket, fourteen thousand a GB; this looks four times a `limit`.)
    """
    loop = asyncio.get_running_loop()
    waiting_since: float | None = loop.time()

    def look() -> None:
        if waiting_since is not None and loop.time() - waiting_since >= limit:
            content.set_exception(aiohttp.SocketTimeoutError(f"no byte for {limit:g} s"))
        else:
            timers[0] = loop.call_later(limit / 4, look)

    timers = [loop.call_later(limit / 4, look)]
    try:
        async for chunk, _ in content.iter_chunks():
            waiting_since = None
            if chunk:
                yield chunk
            waiting_since = loop.time()
    finally:
        timers[0].cancel()
