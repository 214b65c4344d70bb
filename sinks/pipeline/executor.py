"""Work that runs beside a transfer's own thread, in order, a bounded number of bytes behind it.

MD5 is the slowest stage of a transfer, and releases the interpreter while it runs: so each pass
has a thread of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class SerialExecutor:
    """One thread that takes jobs in order. For one caller; what a job raises, it hears later."""

    def __init__(self, name: str, *, capacity: int) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)
        self._capacity = capacity
        self._waiting: deque[tuple[Future[None], int]] = deque()
        self._size = 0

    def submit(self, job: Callable[[], None], size: int) -> None:
        """Have `job` done; it holds `size` bytes. Waits for room.

        Raises what an earlier job raised; no later than at `finish`.
        """
        while self._waiting and (self._waiting[0][0].done() or self._size + size > self._capacity):
            self._await_oldest()
        self._waiting.append((self._pool.submit(job), size))
        self._size += size

    @property
    def idle(self) -> bool:
        """Whether all is done that was asked for, or failed."""
        return not self._waiting or self._waiting[-1][0].done()

    def _await_oldest(self) -> None:
        job, size = self._waiting.popleft()
        self._size -= size
        job.result()

    def finish(self) -> None:
        """Wait until all is done."""
        while self._waiting:
            self._await_oldest()

    def close(self) -> None:
        """Do what waits, a moment's work, and end the thread; what it raises, nothing hears."""
        self._pool.shutdown()
