"""Files and folders of a server: what its clients all need, beside what asyncssh has."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from typing import cast

import asyncssh
from asyncssh import sftp as words

from sinks.stores.sftp.requests import GONE

_IN_FLIGHT = 1024 * 1024  # bytes that are sent of one file, and not confirmed yet
_MAX_BLOCK = 256 * 1024  # bytes of one request, if the server takes as much
_PIECE = 256 * 1024  # bytes that are read at once
_AT_ONCE = 32  # files that are removed at the same time
_CLOSE_TIMEOUT = 10.0  # seconds
_PRIVATE = asyncssh.SFTPAttrs(permissions=0o700)

WRITE = asyncssh.FXF_WRITE
CREATE = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC
READ = asyncssh.FXF_READ

_closing: set[asyncio.Task[None]] = set()


@contextlib.asynccontextmanager
async def opened(
    sftp: asyncssh.SFTPClient, path: str, flags: int
) -> AsyncIterator[asyncssh.SFTPClientFile]:
    """Open a file. What the server says when it is closed counts: bytes may be written only then.

    After an error nothing more is waited for: a server that is silent would be so here, too.
    """
    file = await sftp.open(path, flags, encoding=None, block_size=0)
    try:
        yield file
    except BaseException:
        task = asyncio.create_task(_let_go(file))
        _closing.add(task)
        task.add_done_callback(_closing.discard)
        raise
    await file.close()


async def _let_go(file: asyncssh.SFTPClientFile) -> None:
    with contextlib.suppress(asyncssh.Error, OSError):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await file.close()


async def send(
    sftp: asyncssh.SFTPClient,
    file: asyncssh.SFTPClientFile,
    offset: int,
    pieces: AsyncIterable[bytes | memoryview],
) -> int:
    """Write pieces from an offset on, several requests at a time; return how many bytes."""
    block = min(sftp.limits.max_write_len, _MAX_BLOCK)
    flying: deque[asyncio.Task[int]] = deque()
    in_flight, end = 0, offset
    try:
        async for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), block):
                data = bytes(view[start : start + block])
                while flying and in_flight + len(data) > _IN_FLIGHT:
                    in_flight -= await flying.popleft()
                flying.append(asyncio.create_task(file.write(data, end)))
                in_flight += len(data)
                end += len(data)
        while flying:
            await flying.popleft()
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
    return end - offset


async def receive(
    sftp: asyncssh.SFTPClient, path: str, *, at_most: int
) -> AsyncGenerator[bytes, None]:
    """Give the bytes of a file, up to a number of them."""
    async with opened(sftp, path, READ) as file:
        offset = 0
        while offset < at_most:
            piece = cast("bytes", await file.read(min(_PIECE, at_most - offset), offset))
            if not piece:
                break
            yield piece
            offset += len(piece)


async def sync(file: asyncssh.SFTPClientFile) -> None:
    """Have the server's disk confirm a file, where the server can ask it."""
    with contextlib.suppress(words.SFTPOpUnsupported):
        await file.fsync()


async def room_in(sftp: asyncssh.SFTPClient, folder: str) -> float:
    """Return how many bytes are free where a folder lies; infinite, where no server tells."""
    try:
        told = await sftp.statvfs(folder)
    except asyncssh.SFTPError:
        return math.inf
    return told.bavail * told.frsize


async def touch(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Make an empty file; of one that is there nothing stays."""
    async with opened(sftp, path, CREATE):
        pass


async def described(sftp: asyncssh.SFTPClient, path: str) -> asyncssh.SFTPAttrs | None:
    """Describe a file or folder; None if there is none."""
    try:
        return await sftp.stat(path)
    except GONE:
        return None


async def names_in(sftp: asyncssh.SFTPClient, folder: str) -> list[str]:
    """Return the names in a folder."""
    found = [str(name) for name in await sftp.listdir(folder)]
    return [name for name in found if name not in (".", "..")]


async def make_folder(sftp: asyncssh.SFTPClient, path: str, *, private: bool = False) -> None:
    """Make a folder; one that is there will do, unless it shall be `private`."""
    try:
        await sftp.mkdir(path, _PRIVATE if private else asyncssh.SFTPAttrs())
    except words.SFTPFailure:  # which is all that most servers say of one that is there
        if private or not await sftp.isdir(path):
            raise


async def replace(sftp: asyncssh.SFTPClient, path: str, by: str) -> None:
    """Give a file the name of another one, which may be there: in one step where the server can.

    For this service's own notes; an object is never without a file in between.
    """
    try:
        await sftp.posix_rename(by, path)
    except words.SFTPOpUnsupported:
        await remove(sftp, path)
        await sftp.rename(by, path)


async def remove(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Remove a file; one that is gone already is fine."""
    with contextlib.suppress(GONE):
        await sftp.remove(path)


async def remove_folder(sftp: asyncssh.SFTPClient, path: str) -> None:
    """Remove a folder with all that is in it; what is gone already is fine."""
    try:
        entries = [entry async for entry in sftp.scandir(path)]
    except GONE:
        return
    for some in _some(entry for entry in entries if entry.filename not in (".", "..")):
        await asyncio.gather(*(_remove_entry(sftp, path, entry) for entry in some))
    with contextlib.suppress(GONE):
        await sftp.rmdir(path)


async def _remove_entry(sftp: asyncssh.SFTPClient, folder: str, entry: asyncssh.SFTPName) -> None:
    path = f"{folder}/{entry.filename!s}"
    if entry.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
        await remove_folder(sftp, path)
    else:
        await remove(sftp, path)


def _some(entries: Iterable[asyncssh.SFTPName]) -> Iterable[list[asyncssh.SFTPName]]:
    some: list[asyncssh.SFTPName] = []
    for entry in entries:
        some.append(entry)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    yield some
