"""The slots of a worker, one by one: who comes back to one is before whatever is new."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Places:
    """So many places; `changed` is called when one may be taken."""

    def __init__(self, count: int, changed: Callable[[], None]) -> None:
        self._count = count
        self._free = count
        self._changed = changed
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed = 0

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._count - self._free

    def take(self) -> bool:
        """Take a place for something new. False: there is none for it now."""
        if self._closed or not self._free:
            return False
        self._free -= 1
        return True

    def leave(self, *, unused: bool = False) -> None:
        """Give a place up: to who waits longest for it, before others.

        `unused`: nothing was found to do with it, so that no look is due.
        """
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():
                first.set_result(None)
                return
        self._free += 1
        if not unused:
            self._changed()

    async def come_back(self) -> None:
        """Take a place again; wait for one if there is none."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()  # it was given one at this very moment
            raise

    def close(self) -> None:
        """Let nothing new begin until `reopen`, as often as this was called."""
        self._closed += 1

    def reopen(self) -> None:
        """Let new things begin again."""
        self._closed -= 1
        self._changed()
