"""Threads for calls that may hang: each folder of a target has some of its own, and no more.

A hard mount whose server is away holds a call for as long as that lasts, and no signal ends it. So
each call has a deadline; what is not done by then is left to its thread, which neither the loop
waits for nor the end of the process. A folder that holds all of its threads is asked nothing until
one comes back, and no other folder notices: it may be on a file system of its own.

A call whose thread hangs in a write keeps what it writes. So where some hang, no more is written.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from app.errors import TargetUnavailableError
from sinks.stores.file.faults import PlaceBusyError

T = TypeVar("T")

_MAX_THREADS = 8  # of one folder
_MAX_HUNG_WRITES = 2  # of one folder: each may keep a part in memory
_IDLE_TIMEOUT = 10.0  # seconds after which a thread without work ends


class Call:
    """One call: whether anything still waits for it."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.abandoned = False

    def check(self) -> None:
        """Raise TargetUnavailableError once nothing waits for it any more: it goes no further."""
        if self.abandoned:
            raise TargetUnavailableError(f"{self._what} took too long, and was given up")


class Threads:
    """Those of one folder; used by one event loop."""

    def __init__(self, path: str, *, most: int = _MAX_THREADS) -> None:
        self._path = path
        self._most = most
        self._work = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._idle = 0
        self.hung = 0  # calls that were given up, and have not come back

    async def run(
        self,
        what: str,
        seconds: float,
        act: Callable[[Call], T],
        *,
        holds: list[bytes | memoryview] | None = None,
    ) -> T:
        """Return what `act` returns, or raise what it raises.

        What it `holds` is let go of when it is given up, as it may hang for hours: it finds the
        list empty then, and has to look at `Call.check` after it has read it.

        Raises PlaceBusyError when others hold all threads for `seconds`; TargetUnavailableError
        when it takes longer than that from then on, or when others hang: `what` is in its sentence.
        """
        if self.hung >= (self._most if holds is None else min(_MAX_HUNG_WRITES, self._most)):
            raise TargetUnavailableError(
                f"the file system of {self._path} does not answer: {self.hung} calls have not come "
                f"back, so {what} is not even tried; see whether its server is there"
            )
        call = Call(what)
        future: Future[T] = Future()
        started, loop = asyncio.Event(), asyncio.get_running_loop()

        def begin() -> T:
            with contextlib.suppress(RuntimeError):  # the loop is closed: none waits for it
                loop.call_soon_threadsafe(started.set)
            return act(call)

        self._submit(future, begin)
        try:
            await self._wait_for_thread(started, what, seconds)
            async with asyncio.timeout(seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise TargetUnavailableError(
                f"the file system of {self._path} does not answer: {what} was not done within "
                f"{seconds:g} s; see whether its server is there"
            ) from error
        finally:
            call.abandoned = True
            if holds is not None:
                holds.clear()
            self._leave(future)

    async def _wait_for_thread(self, started: asyncio.Event, what: str, seconds: float) -> None:
        """Wait until a thread has taken a call: that says nothing of the file system."""
        try:
            async with asyncio.timeout(seconds):
                await started.wait()
        except TimeoutError as error:
            raise PlaceBusyError(
                f"{self._path} has {self._most} calls of this worker under way, and {what} has "
                f"waited {seconds:g} s for one of them to end; it is tried again"
            ) from error

    def _leave(self, future: Future[Any]) -> None:
        if not future.done() and not future.cancel():
            with self._work:
                self.hung += 1
            future.add_done_callback(self._came_back)

    def _came_back(self, _: Future[Any]) -> None:
        with self._work:
            self.hung -= 1

    def _submit(self, future: Future[Any], act: Callable[[], Any]) -> None:
        with self._work:
            self._waiting.append((future, act))
            if self._idle < len(self._waiting) and self._threads < self._most:
                self._threads += 1
                threading.Thread(target=self._serve, name="file-store", daemon=True).start()
            else:
                self._work.notify()

    def _serve(self) -> None:
        while True:
            with self._work:
                self._idle += 1
                there = self._work.wait_for(lambda: bool(self._waiting), _IDLE_TIMEOUT)
                self._idle -= 1
                if not there:
                    self._threads -= 1
                    return
                future, act = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                done = act()
            except BaseException as error:  # noqa: BLE001 - the caller hears it
                future.set_exception(error)
                del error
            else:
                future.set_result(done)
                del done
            del future, act  # what it holds is not kept until the next call
