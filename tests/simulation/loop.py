"""An event loop whose time is jumped over and whose order of steps is drawn.

Time stands still while anything is ready, then jumps to the next timer. Of what is ready, a step of
any task may be next: between tasks asyncio promises no order. Callbacks that are no task's are run
in the order in which they were asked for, as libraries rest on.

Nothing waits for sockets, signals or threads: what would run in an executor is run at once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable
from contextvars import Context
from random import Random
from typing import Any

from tests.simulation.processes import PROCESS

_LEAST_STEP = 1e-6  # seconds that a step takes: what comes one after the other is told apart


class StandsStillError(Exception):
    """Nothing is ready, and nothing will ever be."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks by its own clock, in the order that `draws` gives."""

    def __init__(self, draws: Random, *, disorder: float) -> None:
        """`disorder` is how often, of 1, the next step is drawn; else the oldest is next."""
        super().__init__()
        self.steps = 0
        self._now = 0.0
        self._draws = draws
        self._disorder = disorder
        self._of_tasks: list[asyncio.Handle] = []
        self._others: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = itertools.count()  # of timers that are due at the same moment

    def time(self) -> float:
        """Return the seconds since the night began."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Have something called at a later step."""
        handle = asyncio.Handle(callback, args, self, context)
        self.ready(handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called once the time has come."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """Run it now; its caller hears of it at a later step."""
        del executor
        outcome = self.create_future()
        try:
            outcome.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - its caller's
            outcome.set_exception(error)
        return outcome

    def ready(self, handle: asyncio.Handle) -> None:
        """Let a callback run as soon as it is its turn."""
        callback: Any = handle._callback  # type: ignore[attr-defined]
        if isinstance(getattr(callback, "__self__", None), asyncio.Task):
            self._of_tasks.append(handle)
        else:
            self._others.append(handle)

    def _run_once(self) -> None:
        """Take steps until the loop is stopped. Raises StandsStillError."""
        timers = self._timers
        while not self._stopping:  # type: ignore[attr-defined]
            if not self._of_tasks and not self._others:
                while timers and timers[0][2].cancelled():
                    heapq.heappop(timers)
                if not timers:
                    raise StandsStillError
                self._now = max(self._now, timers[0][0])
            while timers and timers[0][0] <= self._now:
                self.ready(heapq.heappop(timers)[2])
            handle = self._next()
            if handle.cancelled():
                continue
            process = handle._context.get(PROCESS)  # type: ignore[attr-defined]
            if process is not None and not process.runs(handle):
                continue
            self.steps += 1
            self._now += _LEAST_STEP
            handle._run()

    def _next(self) -> asyncio.Handle:
        of_tasks, others = self._of_tasks, self._others
        if others and (not of_tasks or self._draws.random() * (len(of_tasks) + 1) < 1):
            return others.popleft()
        if len(of_tasks) > 1 and self._draws.random() < self._disorder:
            chosen = self._draws.randrange(len(of_tasks))
            of_tasks[chosen], of_tasks[-1] = of_tasks[-1], of_tasks[chosen]
            return of_tasks.pop()
        return of_tasks.pop(0)

    # What BaseEventLoop asks of a loop with a selector.

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nothing sleeps that had to be woken."""
