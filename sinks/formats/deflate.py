"""Deflate by several threads, block by block, which all transfers of a process share.

A block begins without a past and ends at a whole byte, so blocks need nothing of each other:
several are made at once, and put behind one another they are one deflate stream. Its bytes are the
same with any number of threads.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Any, NamedTuple

from isal import isal_zlib

from sinks.formats.archive_format import BLOCK

_LEVEL = 1  # of ISA-L; 0 is no faster, 2 is slower for little gain
_ALONE = 8  # bytes at the beginning of a stream
_MAX_THREADS = 8  # beyond that a transfer waits for its event loop, or for MD5
# Blocks of a transfer that are under way, beside one for each thread: a thread that is done begins
# the next one while the archive's own takes what it has made.
_BESIDE = 2
_BUFFERS = 1024 * 1024  # bytes that a thread has while it makes a block


class Begun(NamedTuple):
    """A block whose first bytes are compressed already."""

    made: bytes
    taken: int  # bytes that it was made of
    deflate: Any  # for those behind them


def earlier_stream() -> Any:
    """Return what makes a stream of an archive that was begun before there was `Deflate`."""
    return isal_zlib.compressobj(level=_LEVEL, wbits=-zlib.MAX_WBITS)


def earlier_compressed(whole: bytes) -> bytes:
    """Return a whole member of such an archive."""
    made: bytes = isal_zlib.compress(whole, _LEVEL, -zlib.MAX_WBITS)
    return made


class Deflate:
    """What makes one stream, in the way of `zlib.compressobj`: the same bytes each time.

    ISA-L reads a register that it has not set when it begins a stream with more than 16 bytes
    (`.write_first_byte` in its igzip_icf_body_h1_gr_bt.asm hashes from `tmp2`): what it finds of
    these bytes later depends on where in memory the stream is. So the first few are made alone, as
    a block, by what is for the end of a stream: it costs some ten bytes.
    """

    def __init__(self) -> None:
        self._deflate = earlier_stream()
        self._few = b""  # what came, while it is not enough to begin with
        self._has_begun = False

    def compress(self, data: bytes | memoryview) -> bytes:
        """Return what is made so far; all that came, or less."""
        made: bytes
        if self._has_begun:
            made = self._deflate.compress(data)
            return made
        came = b"".join((self._few, data)) if self._few else data
        if len(came) < _ALONE:
            self._few = bytes(came)
            return b""
        self._few, self._has_begun = b"", True
        view = memoryview(came)
        made = self._deflate.compress(view[:_ALONE]) + self._deflate.flush(isal_zlib.Z_SYNC_FLUSH)
        rest: bytes = self._deflate.compress(view[_ALONE:])
        return made + rest if rest else made

    def flush(self, mode: int = isal_zlib.Z_FINISH) -> bytes:
        """Return the rest of what came."""
        made: bytes = self._deflate.compress(self._few) + self._deflate.flush(mode)
        self._few = b""
        return made


def begun(first: bytes, taken: int, deflate: Any) -> Begun:
    """Compress the first bytes of a block, up to a whole byte of what is made."""
    made = deflate.compress(memoryview(first)[:taken]) + deflate.flush(isal_zlib.Z_SYNC_FLUSH)
    return Begun(made, taken, deflate)


def compressed(whole: bytes) -> bytes:
    """Return a whole member."""
    deflate = Deflate()
    return deflate.compress(whole) + deflate.flush()


def _block(block: bytes, started: Begun | None, *, is_last: bool) -> bytes:
    made, taken, deflate = started or Begun(b"", 0, Deflate())
    rest: bytes = deflate.compress(memoryview(block)[taken:])
    end: bytes = deflate.flush() if is_last else deflate.flush(isal_zlib.Z_SYNC_FLUSH)
    return b"".join((made, rest, end))


class DeflatePool:
    """Threads that all transfers share; they are begun for the first one, and end with the last.

    Each transfer has a few blocks under way, and blocks are made in the order of asking: so none
    waits for more than these of each other one.
    """

    def __init__(self, threads: int = 0) -> None:
        self.threads = threads or min(len(os.sched_getaffinity(0)), _MAX_THREADS)
        self._lock = threading.Lock()
        self._users = 0
        self._executor: ThreadPoolExecutor | None = None

    @property
    def limit(self) -> int:
        """How many blocks a transfer has under way at most."""
        return self.threads + _BESIDE

    @property
    def memory(self) -> int:
        """Return the bytes that a transfer's blocks take at most.

        As they came, and compressed; one more may be a member's last, and one is taken.
        """
        return 2 * (self.limit + 1) * BLOCK + self.threads * _BUFFERS

    def enter(self) -> ThreadPoolExecutor:
        """Return the threads, for one transfer more."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(
                    self.threads, thread_name_prefix="archive-deflate"
                )
            self._users += 1
            return self._executor

    def leave(self) -> None:
        """Note that a transfer needs the threads no more, and end them if it was the last."""
        with self._lock:
            self._users -= 1
            if self._users:
                return
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown()


class UnderWay:
    """The blocks of one transfer that the threads make, in order; for one thread that asks."""

    def __init__(self, pool: DeflatePool) -> None:
        self._pool = pool
        self._executor: ThreadPoolExecutor | None = None  # once it is needed
        self._making: deque[Future[bytes]] = deque()

    def __len__(self) -> int:
        return len(self._making)

    @property
    def is_full(self) -> bool:
        """Whether one must be taken before the next one is asked for."""
        return len(self._making) >= self._pool.limit

    def add(self, make: Callable[[], bytes]) -> None:
        """Have one more made."""
        if self._executor is None:
            self._executor = self._pool.enter()
        self._making.append(self._executor.submit(make))

    def take(self) -> bytes:
        """Return the first, once it is made. Raises what making it raised."""
        return self._making.popleft().result()

    def close(self) -> None:
        """Return when nothing of it is made any more; what is not begun never is."""
        running = [making for making in self._making if not making.cancel()]
        self._making.clear()
        wait(running)
        if self._executor is not None:
            self._executor = None
            self._pool.leave()


class BlockDeflate:
    """The stream of one member, of blocks that are under way: in the way of `zlib.compressobj`.

    What `compress` returns is of blocks that came before, and all of it only when it was called as
    `feed` says. A member of one block is made here: it would only wait for a thread.
    """

    def __init__(self, under_way: UnderWay, started: Begun | None = None) -> None:
        self._under_way = under_way
        self._started = started  # of the first block
        self._last: bytes | None = None  # block that came: behind it the member may end

    def feed(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Yield what to call `compress` with: the blocks, and nothing until all is out.

        (One call that returned all that is under way would have it in memory twice.)
        """
        yield from blocks
        while len(self._under_way):
            yield b""

    def compress(self, block: bytes) -> bytes:
        """Take a block, or none at the end; return the next that is made, if it is time for it."""
        last, self._last = self._last, block or None
        if last is not None:
            self._under_way.add(partial(_block, last, self._start(), is_last=not block))
            del last  # its bytes are the thread's now
        if block and not self._under_way.is_full:
            return b""
        return self._under_way.take()

    def flush(self) -> bytes:
        """Return a member of one block; of a longer one all is out."""
        last, self._last = self._last, None
        return b"" if last is None else _block(last, self._start(), is_last=True)

    def _start(self) -> Begun | None:
        started, self._started = self._started, None
        return started
