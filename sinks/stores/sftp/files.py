"""Files and folders of a server: what its clients all need, beside what asyncssh has."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Coroutine
from typing import Any, cast

import asyncssh
from asyncssh import sftp as words

from sinks.stores.sftp.requests import GONE, THERE

_IN_FLIGHT = 1024 * 1024  # bytes that are sent of one file, and not confirmed yet
_MAX_FLYING = 64  # requests
ANSWER_TIMEOUT = 120.0  # seconds for the oldest of them: a line may be shared by many files
_MIN_BLOCK = 4 * 1024  # bytes of one request, whatever the server says; all take as much
_MAX_BLOCK = 256 * 1024  # the same, if the server takes as much
_PIECE = 256 * 1024  # bytes that are read at once
_END = 64 * 1024  # bytes at each end of a file that tell it from others of its size
_MAX_NAMES = 50_000  # in a folder of this service's own: an upload has 10,000 parts at most
_AT_ONCE = 32  # files that are removed at the same time
_MAX_DEPTH = 3  # of a folder that is removed: an upload has two
_ROUNDS = 3  # in which one is read that is said to hold something still
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
        _close_unawaited(file)
        raise
    await file.close()


def _close_unawaited(file: asyncssh.SFTPClientFile) -> None:
    task = asyncio.create_task(_let_go(file))
    _closing.add(task)
    task.add_done_callback(_closing.discard)


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
    """Write pieces from an offset on, several requests at a time; return how many bytes.

    Raises TimeoutError where this file's oldest request is not answered, though others' may be.
    """
    # A server chooses the first; what it chooses must not be a task for each byte.
    block = min(max(sftp.limits.max_write_len, _MIN_BLOCK), _MAX_BLOCK)
    flying: deque[asyncio.Task[int]] = deque()
    in_flight, end = 0, offset
    try:
        async for piece in pieces:
            view = memoryview(piece)
            for start in range(0, len(view), block):
                data = bytes(view[start : start + block])
                while flying and (in_flight + len(data) > _IN_FLIGHT or len(flying) >= _MAX_FLYING):
                    in_flight -= await _answered(flying)
                flying.append(asyncio.create_task(file.write(data, end)))
                in_flight += len(data)
                end += len(data)
        while flying:
            await _answered(flying)
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
    return end - offset


async def _answered(flying: deque[asyncio.Task[int]]) -> int:
    """Return how many bytes the oldest request has written."""
    within = ANSWER_TIMEOUT
    try:
        async with asyncio.timeout(within) as deadline:
            written = await flying[0]
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise TimeoutError(f"a write was not answered for {within:g} s") from error
    flying.popleft()
    return written


async def receive(
    sftp: asyncssh.SFTPClient, path: str, *, at_most: int, offset: int = 0
) -> AsyncGenerator[bytes, None]:
    """Give the bytes of a file from an offset on, up to a number of them."""
    end = offset + at_most
    async with opened(sftp, path, READ) as file:
        while offset < end:
            piece = cast("bytes", await file.read(min(_PIECE, end - offset), offset))
            if not piece:
                break
            yield piece
            offset += len(piece)


async def read_small(sftp: asyncssh.SFTPClient, path: str, *, at_most: int) -> bytes:
    """Return the bytes of a small file, up to a number of them, in two round trips.

    Its size is asked for together with its bytes: a server may give fewer than it has. That it is
    closed is not waited for.
    """
    file = await sftp.open(path, READ, encoding=None, block_size=0)
    try:
        told, content = await together(file.stat(), file.read(at_most, 0))
    finally:
        _close_unawaited(file)
    if len(content) >= min(told.size or 0, at_most):
        return cast("bytes", content)
    return b"".join([piece async for piece in receive(sftp, path, at_most=at_most)])


async def ends_of(sftp: asyncssh.SFTPClient, path: str, size: int) -> str:
    """Return the MD5 of a file's first and last bytes, in hex; of a small one, of all.

    In two round trips: what tells it from others of its size, where their times do not.
    """
    file = await sftp.open(path, READ, encoding=None, block_size=0)
    try:
        offsets = [0] if size <= _END else [0, max(_END, size - _END)]
        ends = await together(
            *(_stretch(file, offset, min(_END, size - offset)) for offset in offsets)
        )
    finally:
        _close_unawaited(file)
    return hashlib.md5(b"".join(ends), usedforsecurity=False).hexdigest()


async def _stretch(file: asyncssh.SFTPClientFile, offset: int, length: int) -> bytes:
    """Return so many bytes of a file, or fewer at its end: a server may give few at a time."""
    content = b""
    while len(content) < length:
        piece = cast("bytes", await file.read(length - len(content), offset + len(content)))
        if not piece:
            break
        content += piece
    return content


async def together(*requests: Coroutine[Any, Any, Any]) -> list[Any]:
    """Ask for all at once; none is under way any more when this returns."""
    tasks = [asyncio.create_task(request) for request in requests]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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


async def names_in(
    sftp: asyncssh.SFTPClient, folder: str, *, start: str = "", at_most: int = _MAX_NAMES
) -> list[str]:
    """Return the names in a folder, or those that `start` so.

    Raises SFTPFailure for more than `at_most` of them: a server can tell of names for ever.
    """
    found: list[str] = []
    async with contextlib.aclosing(_entries(sftp, folder)) as entries:
        async for entry in entries:
            name = str(entry.filename)
            if not name.startswith(start):
                continue
            if len(found) == at_most:
                raise words.SFTPFailure(f"{folder} has more than {at_most} names")
            found.append(name)
    return found


async def _entries(
    sftp: asyncssh.SFTPClient, folder: str
) -> AsyncGenerator[asyncssh.SFTPName, None]:
    async for entry in sftp.scandir(folder):
        if entry.filename not in (".", ".."):
            yield entry


async def make_folder(sftp: asyncssh.SFTPClient, path: str, *, private: bool = False) -> None:
    """Make a folder; one that is there will do, unless it shall be `private`."""
    try:
        await sftp.mkdir(path, _PRIVATE if private else asyncssh.SFTPAttrs())
    except THERE:
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


async def remove_folder(sftp: asyncssh.SFTPClient, path: str, *, depth: int = _MAX_DEPTH) -> None:
    """Remove a folder with all that is in it; what is gone already is fine.

    What is in it is removed as it is told of, so that no list of it is kept. A server may pass
    names over while others are removed: so it is read again.
    """
    for last in range(1, _ROUNDS + 1):
        try:
            await _empty(sftp, path, depth)
            await sftp.rmdir(path)
        except GONE:
            return
        except words.SFTPFailure:
            if last == _ROUNDS:
                raise
        else:
            return


async def _empty(sftp: asyncssh.SFTPClient, path: str, depth: int) -> None:
    if not depth:
        raise words.SFTPFailure(f"{path} is deeper than a folder of this service")
    some: list[asyncssh.SFTPName] = []
    async with contextlib.aclosing(_entries(sftp, path)) as entries:
        async for entry in entries:
            some.append(entry)
            if len(some) == _AT_ONCE:
                await _remove_some(sftp, path, some, depth)
                some = []
    await _remove_some(sftp, path, some, depth)


async def _remove_some(
    sftp: asyncssh.SFTPClient, folder: str, some: list[asyncssh.SFTPName], depth: int
) -> None:
    await asyncio.gather(*(_remove_entry(sftp, folder, entry, depth) for entry in some))


async def _remove_entry(
    sftp: asyncssh.SFTPClient, folder: str, entry: asyncssh.SFTPName, depth: int
) -> None:
    path = f"{folder}/{entry.filename!s}"
    if entry.attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
        await remove_folder(sftp, path, depth=depth - 1)
    else:
        await remove(sftp, path)
