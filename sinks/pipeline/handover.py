"""Bytes handed from the event loop to a thread, bounded by their number."""

from __future__ import annotations

import asyncio
import threading
from collections import deque


class AbortedError(Exception):
    """The other side is gone; the caller that ended it has the reason."""


class ByteQueue:
    """A queue of chunks: the loop puts and waits for room, one thread gets and blocks.

    `capacity` is in bytes; it may be exceeded by the last chunk that was put. The thread is woken
    when `batch` bytes are there, not for every chunk: a network brings small ones, and waking a
    thread costs more than passing one on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, capacity: int, *, batch: int) -> None:
        self._loop = loop
        self._capacity = capacity
        self._batch = min(batch, capacity)
        self.total: int | None = None  # bytes that come, where it is told before the first of them
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._room = asyncio.Event()
        self._room.set()

    async def put(self, chunk: bytes) -> None:
        """Add a chunk, once there is room. Raises AbortedError when the reader is gone."""
        if not self._room.is_set():
            await self._room.wait()
        with self._changed:
            if self._ended:
                raise AbortedError
            self._chunks.append(chunk)
            self._size += len(chunk)
            if self._size >= self._capacity:
                self._room.clear()
            if self._size >= self._batch:
                self._changed.notify()

    def end(self, error: BaseException | None = None) -> None:
        """Say that no more comes. With an error: `get` raises it, at once."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify()
            full = self._size >= self._capacity
        if full:  # a writer may wait for room
            self._loop.call_soon_threadsafe(self._room.set)

    def whole(self, most: int) -> bytes | None:
        """Return all that came, if it is there to its end, and no more than `most`; it stays.

        Waits for nothing; for the reading thread, before its first `get`.
        """
        with self._changed:
            if not self._ended or self._error is not None or self._size > most:
                return None
            return b"".join(self._chunks)

    def get(self) -> list[bytes]:
        """Return the next chunks, about a batch of them; none at the end.

        Blocks; for the reading thread only.
        """
        taken: list[bytes] = []
        size = 0
        with self._changed:
            while self._size < self._batch and not self._ended:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            while self._chunks and size < self._batch:
                taken.append(self._chunks.popleft())
                size += len(taken[-1])
            full = self._size >= self._capacity
            self._size -= size
            freed = full and self._size < self._capacity
        if freed:
            self._loop.call_soon_threadsafe(self._open_room)
        return taken

    def _open_room(self) -> None:
        with self._changed:
            if self._size < self._capacity:
                self._room.set()
