"""Small members that threads deflate before their turn, some at a time.

Where the archive's thread takes longer for a small file than its download does, the next ones are
there, and wait. A thread beside deflates them meanwhile: what it makes are the bytes that the
archive's would have made, so the archive is the same whether there was time for it or not. Where
none waits, nothing is begun: the archive's thread has the time itself then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import NamedTuple

from sinks.formats.archive_format import BLOCK, SMALL, Coming
from sinks.formats.deflate import DeflatePool, compressed

# Bytes that are handed to a thread at once: a hand-over costs a third of what deflate takes for
# 20 KB.
_RUN = 128 * 1024
# Bytes that are ahead at most, but for a file: a block in all. `DeflatePool.memory` has room for it
# beside a large member's blocks, each of which it counts as it came and compressed.
_MOST = BLOCK - SMALL


class _Run(NamedTuple):
    """Some members that are made at once."""

    contents: list[bytes]
    making: Future[list[bytes]]

    def is_dropped(self) -> bool:
        """Drop it, if no thread has begun it; tell whether that is so."""
        if not self.making.cancel():
            return False
        self.contents.clear()  # it stays in the threads' line until its turn comes
        return True


class _Begun(NamedTuple):
    """A member that a thread has, or has made."""

    position: int
    size: int
    run: _Run
    number: int  # in it


class Ahead:
    """The members of one archive that are begun before their turn; for one thread that asks."""

    def __init__(self, pool: DeflatePool) -> None:
        self._pool = pool
        self._executor: ThreadPoolExecutor | None = None  # once it is needed
        self._begun: deque[_Begun] = deque()
        self._next: deque[Coming] = deque()  # those behind: not enough for a run by now
        self._begun_size = self._next_size = 0

    @property
    def size(self) -> int:
        """Bytes of the members that are ahead."""
        return self._begun_size + self._next_size

    def begin(self, coming: Iterator[Coming]) -> None:
        """Begin what comes, as far as there is room for it."""
        while self._begun_size + _RUN <= _MOST:
            while self._next_size < _RUN:
                if (found := next(coming, None)) is None:
                    return
                self._next.append(found)
                self._next_size += len(found.content)
            self._hand_over()

    def _hand_over(self) -> None:
        if self._executor is None:
            self._executor = self._pool.enter()
        contents = [whole.content for whole in self._next]
        run = _Run(contents, self._executor.submit(partial(_made, contents)))
        for number, (file, content) in enumerate(self._next):
            self._begun.append(_Begun(file.position, len(content), run, number))
        self._begun_size += self._next_size
        self._next.clear()
        self._next_size = 0

    def take(self, position: int) -> bytes | None:
        """Return what has become of a member whose turn it is.

        None: it is not begun, and isn't any more. Raises what making it raised.
        """
        if self._begun and self._begun[0].position == position:
            begun = self._begun.popleft()
            self._begun_size -= begun.size
            # What no thread has begun is not waited for: others may be first in their line.
            return None if begun.run.is_dropped() else begun.run.making.result()[begun.number]
        if not self._begun and self._next and self._next[0].file.position == position:
            self._next_size -= len(self._next.popleft().content)
        return None

    def close(self) -> None:
        """Return when nothing of it is made any more; what is not begun never is."""
        running = {begun.run.making for begun in self._begun if not begun.run.is_dropped()}
        self._begun.clear()
        self._next.clear()
        self._begun_size = self._next_size = 0
        wait(running)
        if self._executor is not None:
            self._executor = None
            self._pool.leave()


def _made(contents: list[bytes]) -> list[bytes]:
    made = [compressed(content) for content in contents]
    contents.clear()
    return made
