"""Bytes as they come, with a look at those that follow."""

from __future__ import annotations

from collections.abc import Callable

Read = Callable[[int], bytes]  # at most so many bytes; none at the end
Passed = Callable[[int], None]  # is told how many bytes were passed over that are in no member

_AT_ONCE = 256 * 1024  # bytes that are read at a time


class Window:
    """Takes bytes from a stream in any size, and counts them."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._held = b""
        self._at = 0  # in what is held: bytes before it were taken
        self.offset = 0  # of the next byte in the stream

    def peek(self, count: int) -> bytes:
        """Return the next bytes and take none; fewer at the end of the stream."""
        while len(self._held) - self._at < count:
            more = self._read(_AT_ONCE)
            if not more:
                break
            self._held = self._held[self._at :] + more
            self._at = 0
        return self._held[self._at : self._at + count]

    def take(self, count: int) -> bytes:
        """Take the next bytes; fewer at the end of the stream."""
        taken = self.peek(count)
        self._at += len(taken)
        self.offset += len(taken)
        return taken

    def some(self, most: int) -> bytes:
        """Take bytes that are at hand, one at least but at the end of the stream."""
        if self._at == len(self._held):
            self._held, self._at = self._read(_AT_ONCE), 0
        taken = self._held[self._at : self._at + most]
        self._at += len(taken)
        self.offset += len(taken)
        return taken

    def back(self, data: bytes) -> None:
        """Give back what was taken last."""
        self._held = data + self._held[self._at :]
        self._at = 0
        self.offset -= len(data)

    def skip(self, count: int) -> int:
        """Pass over bytes; return how many there were."""
        left = count
        while left and (data := self.some(min(left, _AT_ONCE))):
            left -= len(data)
        return count - left

    def rest(self) -> int:
        """Pass over all that follows; return how many bytes that was."""
        count = 0
        while data := self.some(_AT_ONCE):
            count += len(data)
        return count
