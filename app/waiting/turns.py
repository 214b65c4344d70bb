"""Tries that all wait for the same thing: those of one key by turns, all at once when one works."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Hashable
from functools import partial

from app.errors import RetryableError


class Turns:
    """Lets many try what may be away for a while; none overtakes an earlier one of its key."""

    def __init__(self) -> None:
        # By key, the last that came: it is done when that is through, with why it gave up, if so.
        self._last: dict[Hashable, asyncio.Future[RetryableError | None]] = {}
        self._numbers = itertools.count()
        self._pausing: dict[int, asyncio.Future[None]] = {}  # by the order in which they came

    @contextlib.asynccontextmanager
    async def turn(self, key: Hashable) -> AsyncIterator[Turn]:
        """Run the block when all that came before with this key are through.

        When one of them gives up, with RetryableError, it is raised here, too: what comes again
        comes again together, in its order.
        """
        before, this = self._last.get(key), asyncio.get_running_loop().create_future()
        self._last[key] = this
        number = next(self._numbers)
        gave_up: RetryableError | None = None
        try:
            if before is not None:
                await asyncio.wait([before])
                if (reason := before.result()) is not None:
                    raise reason
            yield Turn(number, self._pausing)
        except RetryableError as error:
            gave_up = error
            raise
        finally:
            if before is None or before.done():
                self._end(key, this, gave_up)
            else:  # it was cancelled; who comes next still has to wait
                before.add_done_callback(partial(self._pass_on, key, this))

    def _end(
        self,
        key: Hashable,
        this: asyncio.Future[RetryableError | None],
        gave_up: RetryableError | None,
    ) -> None:
        this.set_result(gave_up)
        if self._last.get(key) is this:
            del self._last[key]

    def _pass_on(
        self,
        key: Hashable,
        this: asyncio.Future[RetryableError | None],
        before: asyncio.Future[RetryableError | None],
    ) -> None:
        self._end(key, this, before.result())

    def notify(self) -> None:
        """Let all that pause try again now, in the order in which they came."""
        for _, pausing in sorted(self._pausing.items()):
            if not pausing.done():
                pausing.set_result(None)


class Turn:
    """One that tries."""

    def __init__(self, number: int, pausing: dict[int, asyncio.Future[None]]) -> None:
        self._number = number
        self._pausing = pausing

    async def pause(self, longest: float) -> None:
        """Return at the next `notify`, or after so many seconds."""
        notified = asyncio.get_running_loop().create_future()
        self._pausing[self._number] = notified
        try:
            await asyncio.wait([notified], timeout=longest)
        finally:
            del self._pausing[self._number]
