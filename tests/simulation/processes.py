"""Processes: each task belongs to the one that made it, and stands or falls with it.

A process that is killed runs no further step, not even its clean-up: others see what a machine
without power leaves. One that is frozen (a paused machine, a swapped-out container) runs nothing
until it is thawed, while time goes on; then everything that became due comes at once.
"""

from __future__ import annotations

import asyncio
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
        self._parked: list[asyncio.Handle] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._connections: dict[Hashable, Callable[[], object]] = {}

    def __repr__(self) -> str:
        return self.name

    def start(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in this process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        task = self._loop.create_task(work, context=context)
        self._tasks.add(task)
        return task

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
        parked, self._parked = self._parked, []
        for handle in parked:
            self._loop.ready(handle)  # type: ignore[attr-defined]


def current() -> Process:
    """Return the process that runs."""
    process = PROCESS.get()
    assert process is not None
    return process
