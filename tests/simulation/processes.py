"""Processes: each task belongs to the one that made it, and stands or falls with it.

A process that is killed runs no further step, not even its clean-up: others see what a machine
without power leaves. One that is frozen (a paused machine, a swapped-out container) runs nothing
until it is thawed, while time goes on; then everything that became due comes at once.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from contextvars import ContextVar, copy_context
from typing import Any

PROCESS: ContextVar[Process | None] = ContextVar("PROCESS", default=None)


class Process:
    """What runs on one machine."""

    def __init__(self, name: str, *, clock: float = 0.0) -> None:
        """`clock` are the seconds that its wall clock is ahead."""
        self.name = name
        self.clock = clock
        self.alive = True
        self.frozen = False
        self.cut_off: set[str] = set()  # parties that it does not reach, while others do
        self._loop = asyncio.get_running_loop()
        self.thawed = 0.0  # when it last was, by the clock of the night
        self.tasks: list[asyncio.Task[Any]] = []  # all that it made, until `running` is asked
        self.holds: Counter[str] = Counter()  # what it has of what is bounded, by its name
        self.exceeds: Callable[[str, int], object] = max  # told of what it has too much of
        self._bounds: dict[str, int] = {}
        self._parked: list[asyncio.Handle] = []
        self._connections: dict[Hashable, Callable[[], object]] = {}

    def __repr__(self) -> str:
        return self.name

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in this process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        return self._loop.create_task(work, context=context)

    def running(self) -> int:
        """Return how many of its tasks have not ended."""
        self.tasks = [task for task in self.tasks if not task.done()]
        return len(self.tasks)

    def bound(self, what: str, most: int) -> None:
        """Let it have no more than `most` of something at a time."""
        self._bounds[what] = most

    def take(self, what: str, count: int = 1) -> None:
        """Note that it has more of something."""
        self.holds[what] += count
        self.compare(what, self.holds[what])

    def compare(self, what: str, has: int) -> None:
        """Have it be known if it has more of something than it may: where there is a bound."""
        if has > self._bounds.get(what, has):
            self.exceeds(what, has)

    def give(self, what: str, count: int = 1) -> None:
        """Note that it has less of something."""
        self.holds[what] -= count

    def runs(self, handle: asyncio.Handle) -> bool:
        """Whether a step may be taken now; what may not is kept: forever, if it is dead."""
        if self.alive and not self.frozen:
            return True
        self._parked.append(handle)
        return False

    def while_alive(self, connection: Hashable, cut: Callable[[], object]) -> None:
        """Call `cut`, which the other side of a connection does, should the process go first."""
        self._connections[connection] = cut

    def has(self, connection: Hashable) -> bool:
        """Whether there is a connection."""
        return connection in self._connections

    def forget(self, connection: Hashable) -> None:
        """Note that a connection has ended."""
        self._connections.pop(connection, None)

    def kill(self) -> None:
        """Take its power."""
        if not self.alive:
            return
        self.alive = False
        for cut in list(self._connections.values()):
            cut()

    def freeze(self) -> None:
        """Let it stand still."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self.frozen = False
        self.thawed = self._loop.time()
        parked, self._parked = self._parked, []
        for handle in parked:
            self._loop.ready(handle)  # type: ignore[attr-defined]


def current() -> Process:
    """Return the process that runs."""
    process = PROCESS.get()
    assert process is not None
    return process
