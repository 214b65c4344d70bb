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
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, copy_context
from random import Random
from typing import Any

from tests.simulation.processes import PROCESS

_LEAST_STEP = 1e-6  # seconds that a step takes: what comes one after the other is told apart


class StandsStillError(Exception):
    """Nothing is ready, and nothing will ever be."""


class _Step(asyncio.Handle):
    """asyncio's own, without what it keeps for debugging: there are thousands in a night."""

    __slots__ = ("of_task",)

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._callback = callback
        self._args = args
        self._cancelled = False
        self.of_task = type(getattr(callback, "__self__", None)) is _Task

    def __repr__(self) -> str:
        return f"<step {self._callback}>"

    def cancel(self) -> None:
        self._cancelled = True


class _Timer(asyncio.TimerHandle):
    """A step that is due later."""

    __slots__ = ("of_task",)

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self._when = when
        self._context = copy_context() if context is None else context
        self._callback = callback
        self._args = args
        self._cancelled = False
        self.of_task = type(getattr(callback, "__self__", None)) is _Task

    __repr__ = _Step.__repr__
    __hash__ = object.__hash__
    cancel = _Step.cancel


class _Task(asyncio.Task[Any]):
    """A task that has a number for its hash.

    Else a set of tasks, as a TaskGroup and `asyncio.wait` have, would be in the order of their
    addresses: another one as soon as anything else is in memory.
    """

    __slots__ = ("_number",)

    def __init__(self, coro: Coroutine[Any, Any, Any], number: int, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs callbacks by its own clock, in the order that `draws` gives."""

    def __init__(self, draws: Random, *, disorder: float) -> None:
        """`disorder` is how often, of 1, the next step is drawn; else the oldest is next."""
        super().__init__()
        self.steps = 0
        self._now = 0.0
        self._draws = draws
        self._disorder = disorder
        self._of_tasks: list[_Step | _Timer] = []
        self._others: deque[_Step | _Timer] = deque()
        self._timers: list[tuple[float, int, _Timer]] = []
        self._order = itertools.count()  # of timers that are due at the same moment
        self._numbers = itertools.count()  # of tasks

    def time(self) -> float:
        """Return the seconds since the night began."""
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Have something called at a later step."""
        step = _Step(callback, args, context)
        (self._of_tasks if step.of_task else self._others).append(step)
        return step

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called once the time has come."""
        timer = _Timer(when, callback, args, context)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        """Have something called after so many seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """Make a task: of the process that asks for it, unless the context names another."""
        task = _Task(coro, next(self._numbers), loop=self, name=name, context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks.append(task)
        return task

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

    def ready(self, step: _Step | _Timer) -> None:
        """Let a callback run as soon as it is its turn."""
        (self._of_tasks if step.of_task else self._others).append(step)

    def _run_once(self) -> None:
        """Take steps until the loop is stopped. Raises StandsStillError."""
        timers, of_tasks, others = self._timers, self._of_tasks, self._others
        random, disorder = self._draws.random, self._disorder
        while not self._stopping:  # type: ignore[attr-defined]
            if not of_tasks and not others:
                self._jump()
            while timers and timers[0][0] <= self._now:
                self.ready(heapq.heappop(timers)[2])
            if others and (not of_tasks or random() * (len(of_tasks) + 1) < 1):
                step = others.popleft()
            elif len(of_tasks) > 1 and random() < disorder:
                chosen = self._draws.randrange(len(of_tasks))
                of_tasks[chosen], of_tasks[-1] = of_tasks[-1], of_tasks[chosen]
                step = of_tasks.pop()
            else:
                step = of_tasks.pop(0)
            if step._cancelled:
                continue
            process = step._context.get(PROCESS)
            if process is not None and not process.runs(step):
                continue
            self.steps += 1
            self._now += _LEAST_STEP
            try:
                step._context.run(step._callback, *step._args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # noqa: BLE001 - as asyncio does
                self.call_exception_handler({"message": f"{step} failed", "exception": error})

    def skip(self, seconds: float, *, but: Context) -> None:
        """Let so many seconds be over at once: for all timers but those of one context."""
        self._now += seconds
        self._timers[:] = [
            (when if timer._context is but else when + seconds, number, timer)
            for when, number, timer in self._timers
        ]
        heapq.heapify(self._timers)

    def due(self, context: Context) -> Iterator[tuple[float, Callable[..., object]]]:
        """Iterate over the timers of a context: when each is due, and what for."""
        for when, _, timer in self._timers:
            if timer._context is context and not timer._cancelled:
                yield when, timer._callback

    def _jump(self) -> None:
        """Let it be the time of the next timer."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise StandsStillError
        self._now = max(self._now, timers[0][0])

    # What BaseEventLoop asks of a loop with a selector.

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nothing sleeps that had to be woken."""
