"""Threads for calls that may hang: each file system has some of its own, and no more.

A hard mount whose server is away holds a call for as long as that lasts, and no signal ends it. So
each call has a deadline; what is not done by then is left to its thread, which neither the loop
waits for nor the end of the process. A file system that holds all of its threads is asked nothing
until one comes back, and no other file system notices.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from app.errors import TargetUnavailableError

T = TypeVar("T")

_MAX_THREADS = 16  # of one file system
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
    """Those of one file system; used by one event loop."""

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

        Raises TargetUnavailableError when that takes longer than `seconds`, or when all threads
        hang: `what` is in its sentence.
        """
        if self.hung >= self._most:
            raise TargetUnavailableError(
                f"the file system of {self._path} does not answer: {self.hung} calls have not come "
                f"back, so {what} is not even tried; see whether its server is there"
            )
        call = Call(what)
        future: Future[T] = Future()
        self._submit(future, lambda: act(call))
        try:
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
