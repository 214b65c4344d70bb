"""Bytes that are on their way to the store, bounded: a thread takes, the event loop gives back."""

from __future__ import annotations

import threading


class Room:
    """So many bytes; for one thread that takes."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()
        self._error: BaseException | None = None

    def take(self, size: int) -> None:
        """Take bytes, once they are free. Raises what `fail` was told."""
        with self._changed:
            while self._free < size and self._error is None:
                self._changed.wait()
            if self._error is not None:
                raise self._error
            self._free -= size

    def give(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._free += size
            self._changed.notify()

    def fail(self, error: BaseException) -> None:
        """Let `take` raise an error from now on; the first one counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify()
