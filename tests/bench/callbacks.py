"""Processor time of each callback of an event loop: what no other work of the process can use."""

from __future__ import annotations

import asyncio
import time
from asyncio.events import Handle
from typing import Any


class Callbacks:
    """Of the callbacks since it watches: seconds of the longest, and what it was."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.offender = "nothing"  # a function, or the coroutine that a task went on with
        self.total = 0.0

    def watch(self) -> None:
        """Begin: what asyncio's own debug mode does, but by processor time."""
        run = Handle._run  # noqa: SLF001 - asyncio's

        def timed(handle: Handle) -> None:
            name = _name(handle)
            began = time.thread_time()
            run(handle)
            took = time.thread_time() - began
            self.total += took
            if took > self.longest:
                self.longest, self.offender = took, name

        Handle._run = timed  # type: ignore[method-assign,assignment]  # noqa: SLF001

    def reset(self) -> None:
        """Forget what was before."""
        self.longest, self.offender, self.total = 0.0, "nothing", 0.0


def _name(handle: Handle) -> str:
    """Name the function, or the coroutine that a task goes on with."""
    callback: Any = handle._callback  # type: ignore[attr-defined]  # noqa: SLF001 - asyncio's
    task = getattr(callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return str(getattr(callback, "__qualname__", callback))
    inner: Any = task.get_coro()
    named = inner.__qualname__
    while inner is not None:
        named = getattr(inner, "__qualname__", named)
        inner = getattr(inner, "cr_await", None) or getattr(inner, "ag_await", None)
    return str(named)
