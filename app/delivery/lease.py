"""What a worker has for a piece of work: a lease, and a slot."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from app.errors import WorkerStoppedError
from app.waiting.places import Places

T = TypeVar("T")

# The last of a lease's time is not used to complete an upload: an answer may take long.
_SAFETY_MARGIN = 0.2


class Lease:
    """A lease by this process's own clock, and one of its slots, which is taken at first.

    It is never believed longer than the database's clock has it. `ttl` is in seconds of `clock`;
    `waits` is entered for as long as the work has given up its slot and may come back.
    """

    def __init__(
        self,
        ttl: float,
        places: Places,
        *,
        clock: Callable[[], float] = time.monotonic,
        waits: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._ttl = ttl
        self._clock = clock
        self._until = clock() + ttl
        self._places = places
        self._waits = waits
        self._in_place = True
        self._asides = 0
        self._coming = asyncio.Lock()
        self._completing = False
        self._finishing = False
        self.stopping = asyncio.Event()  # the worker stops: what another can go on with is its own
        self.stopped_by: WorkerStoppedError | None = None  # where it is not the worker's process

    def renewed(self, asked_at: float) -> None:
        """Note a renewal; it counts from the moment it was asked for."""
        self._until = asked_at + self._ttl

    def safe_to_complete(self) -> bool:
        """Whether the lease surely holds, and will for a while."""
        return self._clock() < self._until - self._ttl * _SAFETY_MARGIN

    def expired(self) -> bool:
        """Whether the lease may have run out."""
        return self._clock() >= self._until

    @contextlib.asynccontextmanager
    async def aside(self, *, claims: bool = True) -> AsyncIterator[None]:
        """Give up the slot for the block, then wait for one; keep the lease.

        An error ends the work without one. Several parts of the work may be aside at once: the last
        to come back waits for the slot. Unless `claims`, nothing new may begin meanwhile.
        """
        if not claims:
            self._places.close()
        self._asides += 1
        self.leave()
        with self._waits():
            try:
                yield
            finally:
                self._asides -= 1
                if not claims:
                    self._places.reopen()
            if not self._asides:
                await self.come_back()

    async def come_back(self) -> None:
        """Wait for a slot, if there is none."""
        async with self._coming:
            if not self._in_place:
                await self._places.come_back()
                self._in_place = True

    def leave(self) -> None:
        """Give up the slot, if there is one: what is left to do needs none."""
        if self._in_place:
            self._in_place = False
            self._places.leave()

    def completes(self) -> None:
        """From now on only a clear answer that the lease is gone ends the work, no silence.

        What is completed late does no harm: a successor has aborted the upload; or it goes on with
        it, and finds that it became the object that was noted.
        """
        self._completing = True

    def finishes(self) -> None:
        """From now on nothing ends the work from outside: compare-and-set decides."""
        self._finishing = True

    async def unless_stopping(self, waiting: Coroutine[Any, Any, T]) -> T:
        """Wait for something. Raises WorkerStoppedError as soon as the worker stops."""
        acting = asyncio.ensure_future(waiting)
        stops = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait({acting, stops}, return_when=asyncio.FIRST_COMPLETED)
            if not acting.done():
                raise WorkerStoppedError
            return acting.result()
        finally:
            for each in (acting, stops):
                each.cancel()
            await asyncio.wait({acting, stops})

    def stop(self, cause: WorkerStoppedError | None = None) -> None:
        """Have the work end where it can be gone on with, for a cause or as the worker stops."""
        if not self.stopping.is_set():
            self.stopped_by = cause
            self.stopping.set()

    def ends_when_stopped(self) -> bool:
        """Whether the work ends, should it not be where it can be gone on with in time."""
        return not (self._completing or self._finishing)

    def ends_when_gone(self) -> bool:
        """Whether the work ends, should the lease be gone for certain."""
        return not self._finishing

    def ends_when_silent(self) -> bool:
        """Whether the work ends, should the store not say whose the lease is."""
        return self.expired() and not (self._completing or self._finishing)
