"""The bytes of what was delivered, read from its target bit by bit, for who downloads them here.

Each bit is a request of its own, with its own deadline: a slow reader holds no connection to the
store open, and memory has two bits at most, whatever a file has.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from app.errors import RetryableError
from app.usecases.delivered import Delivered, Item
from app.waiting.backoff import Backoff

BIT = 4 * 1024 * 1024  # bytes; what every store gives by one request
_TRIES = 3  # of each
_BACKOFF = Backoff(first=0.5, longest=2.0)


async def bits_of(
    delivered: Delivered, item: Item, *, offset: int, length: int, bit: int = BIT
) -> AsyncGenerator[list[bytes], None]:
    """Give bytes of an object, in pieces, as they are asked for; the next are read meanwhile.

    Raises ObjectGoneError when another object is there by now, and what else a store raises: what
    was given until then is good.
    """
    end = offset + length
    reading: asyncio.Task[list[bytes]] | None = None

    def read(start: int) -> asyncio.Task[list[bytes]]:
        return asyncio.create_task(_read(delivered, item, start, min(bit, end - start)))

    try:
        if offset < end:
            reading = read(offset)
        while reading is not None:
            pieces = await reading
            offset += bit
            reading = read(offset) if offset < end else None
            yield pieces
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _read(delivered: Delivered, item: Item, offset: int, length: int) -> list[bytes]:
    for failed in range(_TRIES - 1):
        try:
            return await _ask(delivered, item, offset, length)
        except RetryableError:
            await asyncio.sleep(_BACKOFF.jittered(failed))
    return await _ask(delivered, item, offset, length)


async def _ask(delivered: Delivered, item: Item, offset: int, length: int) -> list[bytes]:
    reading = delivered.objects.read(
        item.target, item.key, etag=item.etag, offset=offset, length=length
    )
    return await delivered.asked(item.target, reading)
