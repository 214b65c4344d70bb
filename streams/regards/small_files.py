"""A small file's bytes, read at once: in one piece, before the first of them is given.

What watches, resumes and compares a stream of chunks takes longer than all else of such a file. So
it is tried without, once. What goes wrong then is played to the stream as its first connection:
from there on the file is read as any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import aiohttp

from app.delivery.file_bytes import FileBytes
from app.errors import SourceNotReadyError, SourceUnavailableError
from streams.regards.resume import Connection

SMALL = 256 * 1024  # bytes; a few reads of a socket

Tell = Callable[[int | None], object]  # how many bytes a file has, by the answer that begins it


@dataclass(kw_only=True)
class FirstTry:
    """What one request gave of a file, before it broke off."""

    pieces: list[bytes] = field(default_factory=list)
    validators: dict[str, str] = field(default_factory=dict)  # headers that ask for the same file
    error: SourceUnavailableError | SourceNotReadyError | None = None

    def connection(self) -> Connection:
        """Return it as a connection that gives the same, and breaks off likewise."""
        return Connection(start=0, chunks=self._chunks(), tells_its_end=False)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        for piece in self.pieces:
            yield piece
        if self.error is not None:
            raise self.error


class SmallFile(FileBytes):
    """What `read` returns of a file; or where that breaks off, what `resumed` gives.

    A context manager of itself: it opens nothing before the first byte is asked for.
    """

    def __init__(
        self,
        read: Callable[[Tell, FirstTry], Awaitable[bytes]],
        resumed: Callable[[Tell, FirstTry], AsyncGenerator[bytes, None]],
    ) -> None:
        self.size = None
        self._read = read
        self._resumed = resumed
        self._is_read = False
        self._rest: AsyncGenerator[bytes, None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._rest is not None:
            await self._rest.aclose()

    async def __anext__(self) -> bytes:
        if not self._is_read:
            self._is_read = True
            first = FirstTry()
            try:
                whole = await self._read(self._tell, first)
            except (SourceUnavailableError, SourceNotReadyError) as error:
                first.error = error
                self._rest = self._resumed(self._tell, first)
            else:
                if whole:
                    return whole
        if self._rest is None:
            raise StopAsyncIteration
        return await anext(self._rest)

    def _tell(self, size: int | None) -> None:
        self.size = size


async def read_into(
    pieces: list[bytes],
    content: aiohttp.StreamReader,
    *,
    most: int,
    watch: asyncio.Timeout,
    limit: float,
) -> int:
    """Read a body to its end, or until it has more than `most` bytes; return how many came.

    `watch` is over when nothing comes for `limit` seconds: as `unstalled`, without a timer of its
    own. Where it breaks off, `pieces` has what came before.
    """
    size = 0
    while size <= most and not content.at_eof():
        watch.reschedule(asyncio.get_running_loop().time() + limit)
        pieces.append(await content.readany())
        size += len(pieces[-1])
    return size
