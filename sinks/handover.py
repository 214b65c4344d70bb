"""Bytes handed from the event loop to a thread, bounded by their number."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class AbortedError(Exception):
    """The other side is gone; whoever ended it has the reason."""


class ByteQueue:
    """A queue of chunks: the loop puts and waits for room, one thread gets and blocks.

    `capacity` is in bytes; it may be exceeded by the last chunk that was put.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int) -> None:
        self._loop = loop
        self._capacity = capacity
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, chunk: bytes) -> None:
        """Add a chunk, once there is room. Raises AbortedError when nobody reads any more."""
        await self._room.wait()
        with self._changed:
            if self._ended:
                raise AbortedError
            self._chunks.append(chunk)
            self._size += len(chunk)
            if self._size >= self._capacity:
                self._room.clear()
            self._changed.notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more comes. With an error: `get` raises it, at once."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify()
        self._loop.call_soon_threadsafe(self._room.set)

    def get(self) -> bytes | None:
        """Return the next chunk, or None at the end. Blocks; for the reading thread only."""
        with self._changed:
            while not self._chunks and not self._ended:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            if not self._chunks:
                return None
            chunk = self._chunks.popleft()
            full = self._size >= self._capacity
            self._size -= len(chunk)
            freed = full and self._size < self._capacity
        if freed:
            self._loop.call_soon_threadsafe(self._open_room)
        return chunk

    def _open_room(self) -> None:
        with self._changed:
            if self._size < self._capacity:
                self._room.set()
