"""What a worker has in memory: never more than it may, and at rest nothing.

What comes and goes in a moment is counted where it does (`Process.take`): messages of RabbitMQ that
are not settled, those that a relay sends, events of agents, what the plans of running transfers
allow. The rest is looked at each second: slots, memory that is lent, waiters, tasks.
"""
# ruff: noqa: SLF001 - no part tells what it holds

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.simulation.postgres import SimulatedDatabase
from tests.simulation.worker import Held, Worker

_MOST_TASKS = 400  # of a worker, whatever happens
_SETTLED = 1.0  # seconds after its start a worker without work has the tasks that it always has
_LOOKS = 60  # at rest: something short may be under way, or a worker may just stop
_BETWEEN = 0.47  # seconds


@dataclass
class Bounds:
    """Looks at all workers of a night."""

    database: SimulatedDatabase
    wrong: Callable[[str], None]
    _idle: int = _MOST_TASKS  # tasks of a worker that has nothing to do
    _told: set[str] = field(default_factory=set)

    def look(self, workers: Iterable[Worker]) -> None:
        """Compare what they have with what they may have."""
        now = asyncio.get_running_loop().time()
        for worker in workers:
            tasks = worker.process.running()
            for what, has, most in _exceeding(worker, tasks):
                self.exceeds(worker, f"{has} {what}, and may have {most}", of=what)
            if worker.held is not None and now - worker.held.since > _SETTLED:
                self._idle = min(self._idle, tasks)

    def exceeds(self, worker: Worker, has: str, *, of: str) -> None:
        """Tell once a night that a worker has too much of something."""
        if of not in self._told:
            self._told.add(of)
            self.wrong(f"{worker.process} has {has}")

    async def at_rest(
        self, workers: Sequence[Worker], *, is_due: Callable[[], bool], patience: float
    ) -> None:
        """Find that no worker has anything any more, unless something `is_due`.

        That is waited for, for `patience` seconds at most: what hangs is due for ever.
        """
        while any(worker.process.frozen for worker in workers):
            await asyncio.sleep(1)
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        looks = 0
        while looks < _LOOKS:
            left = list(self._left(workers))
            if not left:
                return
            looks += loop.time() > until or not is_due()
            await asyncio.sleep(_BETWEEN)
        for what in left:
            self.wrong(f"at rest {what}")

    def _left(self, workers: Iterable[Worker]) -> Iterator[str]:
        if self.database.transactions:
            yield f"{self.database.transactions} transactions are under way"
        for worker in workers:
            process = worker.process
            if worker.held is None:
                yield f"{process} has not started"
                continue
            for what, has in _kept(worker.held):
                if has:
                    yield f"{process} has {has} {what}"
            if (tasks := process.running()) > self._idle:
                yield f"{process} has {tasks - self._idle} tasks more than it had before"


def _exceeding(worker: Worker, tasks: int) -> Iterator[tuple[str, int, int]]:
    """Iterate over what a worker has too much of, how much, and how much it may have.

    It is looked at a thousand times a night: nothing is named that is as it should be.
    """
    if tasks > _MOST_TASKS:
        yield "tasks", tasks, _MOST_TASKS
    held = worker.held
    if held is None:
        return
    for slots in held.slots:
        places, waiters = slots._places, len(held.wake[slots._kind]._waiters)
        if not 0 <= places.taken <= places._count:
            yield f"slots of {slots._kind}", places.taken, places._count
        if waiters > 1:
            yield f"waiters of {slots._kind}", waiters, 1
    if len(held.owed._waiters) > held.relays:
        yield "waiters of relays", len(held.owed._waiters), held.relays
    memory = held.memory
    if not 0 <= memory._free <= memory.size:
        yield "bytes of memory", memory.size - memory._free, memory.size
    if not 0 <= memory._lent <= memory.size // 2:
        yield "bytes of memory that is idle", memory._lent, memory.size // 2


def _kept(held: Held) -> Iterator[tuple[str, int]]:
    """Iterate over what a worker that has nothing to do has none of."""
    yield from held.process.holds.items()
    for slots in held.slots:
        yield f"slots of {slots._kind}", slots._places.taken
        yield f"pieces of work of {slots._kind}", len(slots._running)
        yield f"slots of {slots._kind} waited for", len(slots._places._waiting)
        yield f"reasons to claim nothing for {slots._kind}", slots._places._closed
    yield "bytes of memory", held.memory.size - held.memory._free
    yield "bytes of memory that is idle", held.memory._lent
    for dispatcher in held.dispatchers:
        yield "events of an agent", dispatcher._events
        yield "bytes of events", dispatcher._bytes
        yield "events that are not acknowledged", sum(map(len, dispatcher._partitions.values()))
    if held.bridge is not None:
        yield "messages that the bridge works on", len(held.bridge._busy)
    yield "arrivals that are being saved", len(held.arrivals._saving)
