"""A file's bytes in one piece, although connections drop, stall or end early.

A new connection goes on where the last one broke off. A server that ignores `Range` sends the file
from its beginning: what was read already is skipped, and compared by its CRC, so that a file that
has changed in the meantime can't be glued together from two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass

from isal import isal_zlib

from app.errors import SourceNotReadyError, SourceUnavailableError, WrongFileError
from app.telemetry.logs import get_logger
from app.telemetry.metrics import SOURCE_RETRIES
from app.waiting.backoff import Backoff

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An answer with bytes of a file."""

    start: int  # offset of the first; 0 where a range was asked for and ignored
    chunks: AsyncIterator[bytes]
    tells_its_end: bool  # by a length or a last chunk: then an end without error is the end
    size: int | None = None  # bytes of the whole file, where the answer tells


OpenAt = Callable[[int], AbstractAsyncContextManager[Connection]]

# So much in one piece shows that the source works: the tries count from zero again.
_PROGRESS_BYTES = 8 * 1024 * 1024
# For longer than that, a source that says when to come again is not waited for in place.
_MAX_PAUSE = 300.0  # seconds


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """How often, and with what pauses, a download is resumed."""

    tries: int
    backoff: Backoff


async def resumed(
    open_at: OpenAt, *, what: str, size: int | None, compared: bool, how: Resumption
) -> AsyncGenerator[bytes, None]:
    """Iterate over the bytes from the first to the last.

    Raises SourceUnavailableError or SourceNotReadyError after `how.tries` in vain, WrongFileError
    when the file is another one than at the beginning, and what opening raises beside that. A file
    that is shorter than `size`, and told so, is given as it is: the verifier finds out. `compared`
    tells that it also has a checksum: without either, an end counts only where the answer tells it.
    """
    done = crc = 0
    broken_at = 0
    tries = 0
    while True:
        try:
            async with (
                open_at(done) as connection,
                aclosing(_from(done, connection, crc=crc, what=what)) as rest,
            ):
                size = connection.size if size is None else size
                async for chunk in rest:
                    crc = isal_zlib.crc32(chunk, crc)
                    done += len(chunk)
                    yield chunk
            if _is_whole(done, connection, size=size, compared=compared):
                return
            if size is None:
                break
            raise SourceUnavailableError(f"{what} ended after {done} of {size} bytes")
        except (SourceUnavailableError, SourceNotReadyError) as error:
            # A file that is not there yet is waited for, too: to begin the archive again would
            # fetch all before it once more.
            if done == size:
                return
            if done - broken_at >= _PROGRESS_BYTES:
                tries = 0
            broken_at = done
            if tries >= how.tries:
                raise
            pause = how.backoff.pause(tries, error.retry_after)
            if pause > max(how.backoff.longest, _MAX_PAUSE):
                raise
            tries += 1
            SOURCE_RETRIES.inc()
            log.warning(
                "download_resumes", what=what, at=done, retry_in_seconds=pause, cause=str(error)
            )
            await asyncio.sleep(pause)
    # Asked for again at once it would be answered as before, and counts for its user's quota.
    raise SourceUnavailableError(
        f"{what} ended after {done} bytes, and nothing tells whether that is all of it: rs-order "
        "lists it with neither size, MD5 nor CRC-32, and the answer has neither a Content-Length "
        "nor chunks; let the gateway before rs-order pass one of them on"
    )


def _is_whole(done: int, connection: Connection, *, size: int | None, compared: bool) -> bool:
    """Whether an end after so many bytes is the file's."""
    return connection.tells_its_end or (compared if size is None else done >= size)


async def _from(
    offset: int, connection: Connection, *, crc: int, what: str
) -> AsyncGenerator[bytes, None]:
    """Skip what lies before `offset`; `crc` is that of the first `offset` bytes."""
    if connection.start not in (0, offset):
        raise SourceUnavailableError(
            f"{what}: asked from byte {offset}, got from {connection.start}"
        )
    skip = offset - connection.start
    skipped = 0
    async for chunk in connection.chunks:
        if not skip:
            yield chunk
            continue
        view = memoryview(chunk)
        skipped = isal_zlib.crc32(view[:skip], skipped)
        rest = bytes(view[skip:])
        skip -= len(view) - len(rest)
        if not skip and skipped != crc:
            raise WrongFileError(f"{what} changed while it was read: its beginning is another")
        if rest:
            yield rest
    if skip and connection.tells_its_end:
        raise WrongFileError(f"{what} is shorter than when it was first read")
    if skip:
        raise SourceUnavailableError(f"{what} broke off before byte {offset}")
