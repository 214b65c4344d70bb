"""How long the event loop is held, and by whom: looked at by a thread beside it.

All that a process does at once is done on one loop: the task that holds it holds up leases,
heartbeats and readers. Ten times a second the thread asks for a turn; measuring each callback
instead would cost more, and show less: here the stack is seen while it stands.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from app.telemetry.logs import get_logger
from app.telemetry.metrics import LOOP_HELD, LOOP_HOLDERS, LOOP_LAG

log = get_logger(__name__)

_INTERVAL = 0.1  # seconds between two looks
_SLOW = 0.02  # seconds after which the function that holds the loop is counted
_LIMIT = 0.25  # seconds after which the task that holds it is logged
_MAX_SILENCE = 10.0  # seconds after which that is reported, though the loop is still held
_OURS = {"app", "streams", "sinks", "web"}


def _warn(seconds: float, holder: dict[str, str]) -> None:
    log.warning("loop_held", seconds=round(seconds, 3), **holder)


class _Watchdog:
    def __init__(
        self, loop: asyncio.AbstractEventLoop, report: Callable[[float, dict[str, str]], object]
    ) -> None:
        self._loop = loop
        self._report = report
        self._thread = threading.get_ident()
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(_INTERVAL):
            asked = time.monotonic()
            answered = threading.Event()
            try:
                self._loop.call_soon_threadsafe(answered.set)
            except RuntimeError:
                return  # the loop is closed
            slow = not answered.wait(_SLOW)
            holder = self._holder() if slow else None
            if slow and not answered.wait(_LIMIT - _SLOW):
                holder = self._holder()
                answered.wait(_MAX_SILENCE)
                if holder:
                    self._report(time.monotonic() - asked, holder)
                while not answered.wait(1):
                    if self.stopped.is_set():
                        return
            seconds = time.monotonic() - asked
            LOOP_HELD.observe(seconds)
            LOOP_LAG.set(seconds)
            if slow:
                LOOP_HOLDERS.labels(_function_of(holder)).observe(seconds)

    def _holder(self) -> dict[str, str] | None:
        """Name the task or callback that runs now, and the place in it; None when none does."""
        frames: list[FrameType] = []  # from the innermost one outwards
        frame = sys._current_frames().get(self._thread)  # noqa: SLF001 - there is no other way
        while frame is not None and (
            frame.f_code.co_name != "_run" or frame.f_globals.get("__name__") != "asyncio.events"
        ):
            frames.append(frame)
            frame = frame.f_back
        if frame is None or not frames:
            return None  # it waits for something to do, or has no processor
        ours = [f for f in frames if str(f.f_globals.get("__name__")).split(".")[0] in _OURS]
        place = (ours or frames)[0]
        task = asyncio.current_task(self._loop)
        module, where = place.f_globals.get("__name__"), place.f_code.co_qualname
        return {
            "task": task.get_name() if task else "a callback",
            "doing": frames[-1].f_code.co_qualname,
            "place": f"{module}:{place.f_lineno} {where}",
        }


def _function_of(holder: dict[str, str] | None) -> str:
    """Return the place without its line: there are no more than the program has functions."""
    if holder is None:
        return "none"
    module, _, where = holder["place"].partition(":")
    return f"{module}:{where.partition(' ')[2]}"


@contextlib.contextmanager
def watching_loop(report: Callable[[float, dict[str, str]], object] = _warn) -> Iterator[None]:
    """Watch the running loop. `report` is called in a thread, with seconds and who held it."""
    watchdog = _Watchdog(asyncio.get_running_loop(), report)
    thread = threading.Thread(target=watchdog.run, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        watchdog.stopped.set()
