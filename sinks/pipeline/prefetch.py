"""Opens the next files while one is archived: what decides the speed of small files.

Each file reserves its share of a byte budget before its download begins, and files begin in the
order of the archive. So the file that is being archived always has its share, and can't be starved
by those behind it.
"""

from __future__ import annotations

import asyncio
import queue
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from app.delivery.file_bytes import FileBytes
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.model import Delivery
from app.errors import DeliveryError, SourceRefusedError, WrongFileError
from sinks.formats.archive_format import BLOCK, SMALL, Coming
from sinks.pipeline.handover import AbortedError, ByteQueue

_MIN_SHARE = 64 * 1024  # what the bookkeeping of an empty file may count for
_SHARES = 4  # of the budget: no file has more than one
# Files larger than their share that are open at the same time: the one that is archived, and the
# next. Of one further behind no more could be read than its share, and each that is broken off, as
# an attempt ends, counts for its user's quota and is fetched again.
_LARGE = 2
# What the loop is woken for where it waits for room: waking it costs more than a small file's rest.
_FILES, _BYTES = 16, 1024 * 1024


def share_of(budget: int) -> int:
    """Return the most bytes of a budget that one file has."""
    return budget // _SHARES


class FileSource(Protocol):
    """Where the bytes of files come from: `OrderSource.download`."""

    def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a file's bytes, from the first to the last."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file whose bytes are on their way."""

    file: ManifestFile
    chunks: ByteQueue
    share: int  # bytes of the budget


class Prefetcher:
    """Feeds the files of a delivery to one archiving thread, in order."""

    def __init__(
        self, delivery: Delivery, source: FileSource, *, budget: int, connections: int
    ) -> None:
        self._delivery = delivery
        self._source = source
        self._free = self._budget = budget
        self._connections = asyncio.Semaphore(connections)
        self._large = asyncio.Semaphore(_LARGE)
        self._loop = asyncio.get_running_loop()
        self._freed = asyncio.Event()
        self._opened: queue.SimpleQueue[Opened | Seam | BaseException | None] = queue.SimpleQueue()
        # What the thread has taken out of it to look at, and how many of these it has told.
        self._seen: deque[Opened | Seam | BaseException | None] = deque()
        self._told = 0
        self._live: set[ByteQueue] = set()
        # Files that the thread has read. The loop takes their shares back when it needs them; only
        # where it waits for that is it woken.
        self._done: deque[Opened] = deque()
        self._waits = False
        self._untold = (0, 0)  # files and bytes that were given back since it was woken
        self._worth_telling = min(_BYTES, share_of(budget))
        self._over = False  # no more files are opened
        self.cut = False  # it paused before its last file, or seam

    async def run(self, files: AsyncIterator[ManifestFile | Seam]) -> None:
        """Open every file in its turn, also those behind a seam, unless it ends before.

        Returns when all are read. What `files` raises, the archiving thread is told.
        """
        async with asyncio.TaskGroup() as downloads:
            try:
                async for file in files:
                    if file is Seam.WAIT:
                        await self._all_archived()
                        continue
                    if isinstance(file, Seam):
                        self._put(file)
                        continue
                    share = self._share(file)
                    turns = [self._connections]
                    if file.size is None or file.size > share:
                        turns.append(self._large)
                    await self._reserve(share)
                    for turn in turns:
                        await turn.acquire()
                    if self._over:
                        return
                    chunks = ByteQueue(self._loop, share, batch=BLOCK)
                    self._live.add(chunks)
                    self._opened.put(Opened(file, chunks, share))
                    downloads.create_task(self._download(file, chunks, turns))
            except DeliveryError as error:
                # The thread must hear why there are no more files: also where it waits for the
                # bytes of one that is open, which ends like this, and not as one that is cancelled.
                self.abort(error)
            else:
                self._put(None)

    def _put(self, seam: Seam | None) -> None:
        self._opened.put(seam)
        if seam in {None, Seam.PAUSE}:
            self._over = True

    async def _all_archived(self) -> None:
        """Wait until the archiving thread has read every file to its end."""
        self._take_back()
        while self._live:
            await self._more_is_back()

    def _share(self, file: ManifestFile) -> int:
        most = share_of(self._budget)
        return most if file.size is None else min(max(file.size, _MIN_SHARE), most)

    async def _reserve(self, share: int) -> None:
        self._take_back()
        while self._free < share:
            await self._more_is_back()
        self._free -= share

    async def _more_is_back(self) -> None:
        """Wait until the archiving thread has given shares back."""
        self._freed.clear()
        self._waits = True
        if not self._take_back():  # what came before it could see that this waits
            await self._freed.wait()
            self._take_back()
        self._waits = False

    def _take_back(self) -> bool:
        """Take the shares back of what the thread has read; tell whether that is anything."""
        is_any = bool(self._done)
        while self._done:
            opened = self._done.popleft()
            self._live.discard(opened.chunks)
            self._free += opened.share
        return is_any

    async def _download(
        self, file: ManifestFile, chunks: ByteQueue, turns: Sequence[asyncio.Semaphore]
    ) -> None:
        try:
            async with self._source.download(self._delivery, file) as stream:
                async for chunk in stream:
                    if chunks.total is None and isinstance(stream, FileBytes):
                        chunks.total = stream.size
                    await chunks.put(chunk)
            chunks.end()
        except AbortedError:
            pass
        except asyncio.CancelledError:
            chunks.end(AbortedError())
            raise
        except Exception as error:  # noqa: BLE001 - it travels to the thread, which raises it
            if isinstance(error, SourceRefusedError | WrongFileError) and error.position is None:
                error.position = file.position
            chunks.end(error)
        finally:
            for turn in turns:
                turn.release()

    def next(self) -> Opened | Seam | None:
        """Return the next file or seam, or None after the last.

        Blocks; for the archiving thread only.
        """
        if self._seen:
            opened = self._seen.popleft()
            self._told = max(self._told - 1, 0)
        else:
            if self._done and self._opened.empty():
                self._tell()  # what it waits for may be all that the loop has room for
            opened = self._opened.get()
        if not isinstance(opened, Opened):
            self._tell()  # behind a seam it may take no more
        if isinstance(opened, BaseException):
            raise opened
        return opened

    def coming(self) -> Iterator[Coming]:
        """Yield the next files that `next` will return, as far as they are small, and whole by now.

        Each once, in order: none behind one that is not. For the archiving thread only.
        """
        while True:
            if self._told == len(self._seen):
                try:
                    self._seen.append(self._opened.get_nowait())
                except queue.Empty:
                    return
            opened = self._seen[self._told]
            if not isinstance(opened, Opened):
                return
            whole = opened.chunks.whole(SMALL)
            if whole is None:
                return
            self._told += 1
            yield Coming(opened.file, whole)

    def done(self, opened: Opened) -> None:
        """Give a file's share back; for the archiving thread."""
        self._done.append(opened)
        files, size = self._untold
        self._untold = files + 1, size + opened.share
        if files + 1 >= _FILES or size + opened.share >= self._worth_telling:
            self._tell()

    def _tell(self) -> None:
        if self._waits:
            self._untold = (0, 0)
            self._loop.call_soon_threadsafe(self._freed.set)

    def pause(self) -> None:
        """Open no more files: behind those that are open, the archive pauses.

        Where all are open, nothing changes.
        """
        if not self._over:
            self.cut = True
            self._put(Seam.PAUSE)

    def abort(self, error: BaseException | None = None) -> None:
        """Wake the archiving thread, wherever it waits, with an error; AbortedError by default."""
        error = error or AbortedError()
        self._over = True
        self._opened.put(error)
        for chunks in self._live:
            chunks.end(error)
