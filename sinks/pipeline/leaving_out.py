"""Files that may be left out: those of a partial delivery whose bytes can't be had.

Nothing of an archive is to be made again for them: so a file that is small enough is whole in
memory, and verified, before its first byte goes on. A larger one goes on as it comes; where it
turns out to be wrong then, the archive is gone on with from before it (`Transfers`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Protocol, TypeVar

from app.delivery.file_bytes import FileBytes
from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.ports import LeavesOut
from app.errors import SourceGoneError, SourceRefusedError, WrongCrc32Error, WrongFileError
from sinks.pipeline.prefetch import FileSource
from sinks.pipeline.verify import check_whole

T = TypeVar("T")

_BATCH_SIZE = 1000  # missing files that are in memory at a time
_AT_ONCE = 256 * 1024  # bytes that are digested in the event loop


class Submits(Protocol):
    """Has something done in the event loop, unless the transfer ends: see `Placer.submit`."""

    def submit(self, act: Callable[[], Awaitable[T]]) -> Future[T]:
        """Begin to do it; for the archive's thread."""


def missing_files(may: LeavesOut | None, loop: Submits) -> Iterator[MissingFile]:
    """Iterate over what a delivery is without, some at a time; for the archive's thread."""
    if may is None:
        return
    coming = may.missing()

    async def some() -> list[MissingFile]:
        found: list[MissingFile] = []
        async for file in coming:
            found.append(file)
            if len(found) == _BATCH_SIZE:
                break
        return found

    while found := loop.submit(some).result():
        yield from found


class FileMissingError(Exception):
    """A file has no bytes: the archive goes on with the next one."""


class UnlessMissing:
    """Files of a delivery; reading one that is left out raises FileMissingError before any byte.

    One of `whole_up_to` bytes or less is read whole before its first byte is given, and again, with
    `pauses` in seconds between, while it is another one than the listing says. A larger one is
    asked for again so while it is refused before its first byte.
    """

    def __init__(
        self,
        source: FileSource,
        may: LeavesOut,
        *,
        whole_up_to: int,
        pauses: Callable[[], Iterator[float]],
    ) -> None:
        self._source = source
        self._may = may
        self._whole_up_to = whole_up_to
        self._pauses = pauses

    @contextlib.asynccontextmanager
    async def download(
        self, delivery: Delivery, file: ManifestFile
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a file's bytes."""

        def tell(size: int | None) -> None:
            stream.size = size

        is_small = file.size is not None and file.size <= self._whole_up_to
        read = self._whole(delivery, file) if is_small else self._begun(delivery, file, tell)
        stream = FileBytes(read)
        async with contextlib.aclosing(read):
            yield stream

    async def _begun(
        self, delivery: Delivery, file: ManifestFile, tell: Callable[[int | None], None]
    ) -> AsyncGenerator[bytes, None]:
        begun = False
        for pause in self._pauses():
            try:
                async with self._source.download(delivery, file) as stream:
                    async for chunk in stream:
                        if not begun and isinstance(stream, FileBytes):
                            tell(stream.size)
                        begun = True
                        yield chunk
                break
            except SourceRefusedError as error:
                if begun:
                    raise  # it is decided where the archive can be gone on with
                if await self._may.leaves_out(file, error):
                    raise FileMissingError(file.member) from error
                if isinstance(error, SourceGoneError):
                    raise
            await asyncio.sleep(pause)

    async def _whole(self, delivery: Delivery, file: ManifestFile) -> AsyncGenerator[bytes, None]:
        for pause in self._pauses():
            try:
                pieces = await self._verified(delivery, file)
                break
            except WrongCrc32Error:
                raise  # what was told of it may be wrong: all are read without, then
            except (SourceRefusedError, WrongFileError) as error:
                if await self._may.leaves_out(file, error):
                    raise FileMissingError(file.member) from error
                if isinstance(error, SourceGoneError):
                    raise
            await asyncio.sleep(pause)
        while pieces:
            yield pieces.popleft()

    async def _verified(self, delivery: Delivery, file: ManifestFile) -> deque[bytes]:
        pieces: deque[bytes] = deque()
        size = 0
        async with self._source.download(delivery, file) as stream:
            async for chunk in stream:
                pieces.append(chunk)
                size += len(chunk)
                if size > (file.size or 0):
                    break  # and is wrong
        if size > _AT_ONCE:
            await asyncio.to_thread(check_whole, file, pieces)
        else:
            check_whole(file, pieces)
        return pieces
