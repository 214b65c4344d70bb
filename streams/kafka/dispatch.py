"""Handles the events of a stream side by side.

Events of one key are handled in their order, keys of one tenant by turns, tenants by turns: a
burst of one tenant delays the others by what is being handled, not by what is waiting.

Acknowledged in the order of each partition, an event only when all before it are done. (Faust
may commit past an event that is still being handled when a later one is acknowledged first:
https://github.com/faust-streaming/faust/issues/606.)
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass

# What may wait in memory. More than a burst, or who comes after it would wait for all of it.
_MAX_EVENTS = 20_000
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(kw_only=True, slots=True)
class PendingEvent:
    """An event that was read and is not acknowledged."""

    key: bytes  # tenant/correlationId
    value: bytes
    partition: Hashable
    acknowledge: Callable[[], object]
    done: bool = False


class Dispatcher:
    """Runs a handler on batches side by side; `put` waits while too many events are in memory.

    A batch takes what is ready, up to `batch` events, each of another key.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[PendingEvent]], Awaitable[None]],
        *,
        concurrency: int,
        batch: int = 1,
        most_events: int = _MAX_EVENTS,
        most_bytes: int = _MAX_BYTES,
    ) -> None:
        self._handle = handle
        self._concurrency = concurrency
        self._batch = batch
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._waiting: dict[bytes, deque[PendingEvent]] = {}  # by key; also of keys being handled
        self._ready: dict[bytes, deque[bytes]] = {}  # by tenant: keys with an event to handle
        self._turns: deque[bytes] = deque()  # the tenants of _ready, in the order of their turns
        self._partitions: dict[Hashable, deque[PendingEvent]] = {}  # in the order they were read
        self._events = 0
        self._bytes = 0
        self._work = asyncio.Semaphore(0)  # a permit for each key that was made ready
        self._room = asyncio.Event()
        self._room.set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Handle while the block runs. What is not done at its end was not acknowledged.

        A handler that raises ends it, with an ExceptionGroup.
        """
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._run()) for _ in range(self._concurrency)]
                try:
                    yield
                finally:
                    for task in tasks:
                        task.cancel()
        finally:
            self._partitions.clear()  # no task handles what was in there any more

    async def put(self, event: PendingEvent) -> None:
        """Take an event, once there is room."""
        self._partitions.setdefault(event.partition, deque()).append(event)
        queue = self._waiting.get(event.key)
        if queue is None:
            self._waiting[event.key] = deque([event])
            self._offer(event.key)
        else:
            queue.append(event)
        self._events += 1
        self._bytes += len(event.value)
        if self._events >= self._most_events or self._bytes >= self._most_bytes:
            self._room.clear()
            await self._room.wait()

    def holds(self, partition: Hashable) -> bool:
        """Whether an event of this partition was read and is not acknowledged."""
        return bool(self._partitions.get(partition))

    def _offer(self, key: bytes) -> None:
        tenant = key.partition(b"/")[0]
        ready = self._ready.get(tenant)
        if ready is None:
            ready = self._ready[tenant] = deque()
            self._turns.append(tenant)
        ready.append(key)
        self._work.release()

    def _next(self) -> bytes:
        tenant = self._turns.popleft()
        ready = self._ready[tenant]
        key = ready.popleft()
        if ready:
            self._turns.append(tenant)
        else:
            del self._ready[tenant]
        return key

    async def _run(self) -> None:
        while True:
            await self._work.acquire()
            if not self._turns:
                continue  # another batch took along what this permit was for
            keys = [self._next()]
            while self._turns and len(keys) < self._batch:
                keys.append(self._next())
            batch = [self._waiting[key].popleft() for key in keys]
            await self._handle(batch)
            for event in batch:
                self._done(event)
                if self._waiting[event.key]:
                    self._offer(event.key)
                else:
                    del self._waiting[event.key]

    def _done(self, event: PendingEvent) -> None:
        event.done = True
        partition = self._partitions[event.partition]
        while partition and partition[0].done:
            self._acknowledge(partition.popleft())

    def _acknowledge(self, event: PendingEvent) -> None:
        """Let go of an event: until now it was in memory, though done, behind one that was not."""
        event.acknowledge()
        self._events -= 1
        self._bytes -= len(event.value)
        if self._events < self._most_events and self._bytes < self._most_bytes:
            self._room.set()
