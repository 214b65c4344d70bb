"""tar, compressed by Zstandard: smaller than a ZIP, and faster to unpack.

Each member is compressed by itself, a large one piece by piece, and each piece is a frame of its
own. Frames need nothing of each other: several threads compress at once, a worker that goes on with
a half-made archive begins with the member it lies in, and the bytes are the same whatever thread
was first. Put behind one another they are one file to `zstd`, and so to every tar that knows it.
"""

from __future__ import annotations

import threading
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar, NamedTuple

from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import ManifestFile
from app.errors import CheckpointUnusableError
from sinks.formats.archive_format import BLOCK, Coming, Member
from sinks.formats.tar import END, laid_out, largest_of, memory_of, padding, size_of

DEFAULT_LEVEL = 3  # what zstd itself takes
# Threads that compress, for each transfer; on fewer processors they wait for one.
_THREADS = 4
# Frames that are not handed on yet: one for each thread, and the next one is at hand.
_IN_FLIGHT = _THREADS + 1
_LEVEL = " at level "
_SMALL = BLOCK  # bytes; a member of more is archived apart
# Small members are compressed some at a time, for what a hand-over costs; and archived some at a
# time, so that all threads have work.
_JOB_BYTES = 256 * 1024
_BATCH, _BATCH_BYTES = 1024, 2 * BLOCK
_PIECE = BLOCK + 4096  # bytes that are compressed at once, at most: with a header, filled up
_BUFFERS = 512 * 1024  # that a compressor has beside its tables, and the piece


class _Frame(NamedTuple):
    """What becomes a frame: a member, or a piece of it."""

    pieces: list[bytes]
    ends: bool  # whether it is the member's last one


_Job = list[_Frame]  # that one thread compresses


def _bound(size: int) -> int:
    """Return the bytes that a frame has at most, whatever is in it."""
    return size + size // 256 + 64 + 22  # what does not shrink is stored; a header, a checksum


class TarZstWriter:
    """See `ArchiveWriter`. A member needs nothing at the end."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._sizes = array("Q")  # of the members' frames
        self._open = 0  # bytes of the member that is being handed on
        self._compressors = threading.local()
        self._pool: ThreadPoolExecutor | None = None

    @property
    def count(self) -> int:
        """How many members are in the archive."""
        return len(self._sizes)

    def batches(self, members: Iterable[Member]) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of some small members, or of a large one, at a time."""
        coming = iter(members)
        first = next(coming, None)
        while first is not None:
            batch = _Batch(first, coming)
            yield self._compressed(batch.jobs())
            first = batch.behind or next(coming, None)

    def _compressed(self, jobs: Iterator[_Job]) -> Iterator[bytes]:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="archive-zstd")
        running: deque[tuple[Future[list[bytes]], list[bool]]] = deque()
        for job in jobs:
            ends = [frame.ends for frame in job]
            running.append((self._pool.submit(self._compress, job), ends))
            del job  # its bytes are the thread's now
            if len(running) == _IN_FLIGHT:
                yield self._taken(*running.popleft())
        while running:
            yield self._taken(*running.popleft())

    def _compress(self, job: _Job) -> list[bytes]:
        compressor = getattr(self._compressors, "own", None)
        if compressor is None:
            compressor = self._compressors.own = _compressor(self._level)
        frames = []
        for frame in job:
            frames.append(compressor.compress(b"".join(frame.pieces)))
            frame.pieces.clear()
        return frames

    def _taken(self, compressing: Future[list[bytes]], ends: list[bool]) -> bytes:
        frames = compressing.result()
        for frame, is_last in zip(frames, ends, strict=True):
            self._open += len(frame)
            if is_last:
                self._sizes.append(self._open)
                self._open = 0
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def look_ahead(self, coming: Iterator[Coming]) -> None:
        """Begin nothing: there is nothing to gain."""

    def skip(self, file: ManifestFile, finished: FinishedMember) -> None:
        """Take a member as made. Raises CheckpointUnusableError unless its record is of tar."""
        self._sizes.append(size_of(file, finished))

    def finished(self, first: int, end: int) -> list[FinishedMember]:
        """Return what is known of members: the sizes of their frames."""
        return [FinishedMember(size, b"") for size in self._sizes[first:end]]

    def end(self) -> Iterator[bytes]:
        """Return the end of the tar, in a frame of its own."""
        yield _compressor(self._level).compress(END)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class _Batch:
    """Members that are archived at once: some small ones, or one that is not."""

    def __init__(self, first: Member, coming: Iterator[Member]) -> None:
        self._first = first
        self._coming = coming
        # When all jobs were taken:
        self.behind: Member | None = None  # that was asked for, and is too large for it

    def jobs(self) -> Iterator[_Job]:
        """Yield what is to be compressed, in the order of the archive."""
        if not _is_small(self._first[0]):
            yield from _pieces(*self._first)
            return
        job: _Job = []
        job_size = size = count = 0
        member: Member | None = self._first
        while member is not None:
            file, blocks = member
            head, file_size, blocks = laid_out(file, blocks)
            more = len(head) + file_size
            if job_size + more > _JOB_BYTES and job:
                yield job
                job, job_size = [], 0
            job.append(_Frame([head, *blocks, padding(file_size)], ends=True))
            job_size += more
            size += more
            count += 1
            if count == _BATCH or size >= _BATCH_BYTES:
                break
            member = next(self._coming, None)
            if member is not None and not _is_small(member[0]):
                self.behind = member
                break
        if job:
            yield job


def _is_small(file: ManifestFile) -> bool:
    return file.size is not None and file.size <= _SMALL


def _pieces(file: ManifestFile, blocks: Iterator[bytes]) -> Iterator[_Job]:
    """Yield a frame for each block of a member: the first with its header, the last filled up."""
    head, left, blocks = laid_out(file, blocks)
    fill = padding(left)
    pieces = [head]
    for block in blocks:
        pieces.append(block)
        left -= len(block)
        if left > 0:
            yield [_Frame(pieces, ends=False)]
            pieces = []
    yield [_Frame([*pieces, fill], ends=True)]


def _compressor(level: int) -> Any:
    import zstandard

    return zstandard.ZstdCompressor(level=level, write_checksum=True, write_content_size=True)


def _library() -> str:
    import zstandard

    return "libzstd " + ".".join(map(str, zstandard.ZSTD_VERSION))


def memory_of_level(level: int) -> int:
    """Return the bytes that a compressor takes at most."""
    import zstandard

    of_level = zstandard.ZstdCompressionParameters.from_level(level, source_size=_PIECE)
    return int(of_level.estimated_compression_context_size()) + _PIECE + _BUFFERS


class TarZst:
    """See `ArchiveFormat`. Each member is compressed; what does not shrink is stored."""

    suffix: ClassVar[str] = ".tar.zst"
    media_type: ClassVar[str] = "application/zstd"

    def __init__(self, level: int = DEFAULT_LEVEL) -> None:
        self._level = level  # 1 to 19

    @property
    def made_by(self) -> str:
        """What the bytes depend on beside the files."""
        return f"{_library()}{_LEVEL}{self._level}"

    def as_made_by(self, made_by: str) -> TarZst:
        """Return this format as a half-made archive has it. Raises CheckpointUnusableError.

        That is, where its library is another one: the same level makes other bytes then.
        """
        library, _, level = made_by.rpartition(_LEVEL)
        if library != _library():
            raise CheckpointUnusableError(
                f"what was sent was made by {library or made_by}, and this worker has "
                f"{_library()}, which makes other bytes of the same files"
            )
        return self if int(level) == self._level else TarZst(int(level))

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        """Return the bytes at most: those of a tar that nothing compresses, and its frames."""
        tar = largest_of(total_bytes=total_bytes, file_count=file_count)
        frames = total_bytes // BLOCK + 2 * file_count + 1
        return tar + tar // 256 + frames * _bound(0)

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        """Return the bytes that members' sizes take, and what is being compressed."""
        del name_bytes
        # Each piece as it came, and compressed; what is being compressed, also joined.
        pieces = 2 * _IN_FLIGHT * _bound(_PIECE) + _THREADS * _PIECE
        return memory_of(file_count) + pieces + _THREADS * memory_of_level(self._level)

    def writer(self, *, compression: str) -> TarZstWriter:
        """Begin an archive."""
        del compression
        return TarZstWriter(self._level)
