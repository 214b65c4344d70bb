"""Work that is no waiting (digests, archives, a disk) beside the event loop, not in it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import CancelledError, Future
from typing import TypeVar

from rs_delivery_client.checking import Stopped

T = TypeVar("T")


async def in_thread(work: Callable[[threading.Event], T]) -> T:
    """Run what takes long. It is told when it is given up, and waited for also then."""
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        with contextlib.suppress(Stopped, CancelledError, Exception):
            await running
        raise


class Pulled:
    """Bytes that arrive in the loop, read by a thread: one chunk at a time, so none pile up."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._held = b""
        self._pulling: asyncio.Task[bytes] | None = None

    def reader(self, stop: threading.Event) -> Callable[[int], bytes]:
        """Return what a thread reads with: at most so many bytes; none at the end.

        It raises Stopped.
        """

        def read(count: int) -> bytes:
            if not self._held:
                self._held = self._next(stop)
            data, self._held = self._held[:count], self._held[count:]
            return data

        return read

    def _next(self, stop: threading.Event) -> bytes:
        pending: Future[bytes] = asyncio.run_coroutine_threadsafe(self._pull(), self._loop)
        while True:
            try:
                return pending.result(timeout=0.5)
            except TimeoutError:
                if pending.done():
                    raise
                if stop.is_set():
                    pending.cancel()
                    raise Stopped from None
            except CancelledError:
                raise Stopped from None

    async def _pull(self) -> bytes:
        self._pulling = asyncio.current_task()
        return await anext(self._chunks, b"")

    async def settled(self) -> None:
        """Wait until nothing is pulled any more: only then may the chunks be closed."""
        if self._pulling is not None:
            await asyncio.wait([self._pulling])
