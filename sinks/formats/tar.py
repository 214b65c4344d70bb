"""tar, in the form of POSIX' pax: names and sizes of any length, for every tar that knows pax.

A member's size stands before its bytes, so it has to be known by then. The listing's is verified
while the member passes: what does not agree with it fails the transfer.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import ClassVar

from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import ManifestFile
from app.delivery.naming import MAX_MEMBER_BYTES
from app.errors import CheckpointUnusableError, SizeNotToldError
from sinks.formats.archive_format import BLOCK, Coming, Member

RECORD = 512  # bytes; all that is in a tar is filled up to whole ones
END = bytes(2 * RECORD)
_MODE = 0o644
_DATE = 315_532_800  # 1980-01-01, as in a ZIP: the same whenever it is made, and no one's own
# Extended records, of a name and a size, each with its length and key.
_EXTENDED = MAX_MEMBER_BYTES + 64
# The extended header and its records, the member's own header, and what fills it up.
_HEADERS = RECORD + -(-_EXTENDED // RECORD) * RECORD + RECORD
_MEMBER = _HEADERS + RECORD - 1
# Of a file whose size is not told, so many bytes are held until it ends: about a part of the size
# that is set by default.
_HELD = 8 * BLOCK
_KEPT = 10  # bytes for a member's size, in a list that grows by a sixteenth at a time
_SMALL = BLOCK // 8  # bytes; a member of no more is one block: a hand-over costs more than a copy


def laid_out(file: ManifestFile, blocks: Iterator[bytes]) -> tuple[bytes, int, Iterator[bytes]]:
    """Return what stands before a member's bytes, how many these are, and these in blocks.

    Raises SizeNotToldError when that is not known, and too many come to hold them.
    """
    size = file.size
    if size is None:
        size, blocks = _held(file, blocks)
    return _header(file.member, size), size, blocks


def _held(file: ManifestFile, blocks: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
    held: list[bytes] = []
    size = 0
    for block in blocks:
        size += len(block)
        if size > _HELD:
            raise SizeNotToldError(
                f"file {file.file_id} ({file.member}) has more than {_HELD} bytes, and rs-order "
                "does not tell how many: a tar needs to know that before the first one. Ask for "
                "these files as zip"
            )
        held.append(block)
    return size, iter(held)


def _header(name: str, size: int) -> bytes:
    import tarfile

    header = tarfile.TarInfo(name)
    header.size = size
    header.mode = _MODE
    header.mtime = _DATE
    return header.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


def padding(size: int) -> bytes:
    """Return what stands behind so many bytes of a member."""
    return bytes(-size % RECORD)


def size_of(file: ManifestFile, finished: FinishedMember) -> int:
    """Return how many bytes a member has that is made. Raises CheckpointUnusableError: it has not.

    Nothing else is kept of it.
    """
    if finished.record or not finished.size:
        raise CheckpointUnusableError(
            f"what was saved of member {file.member} of the archive is not of tar: it begins again"
        )
    return finished.size


def memory_of(file_count: int) -> int:
    """Return the bytes of memory that the sizes of members take, and one whose own is not told."""
    return file_count * _KEPT + _HELD + BLOCK


def largest_of(*, total_bytes: int, file_count: int) -> int:
    """Return the bytes that a tar of such files has at most."""
    return total_bytes + file_count * _MEMBER + len(END)


class TarWriter:
    """See `ArchiveWriter`. A member needs nothing at the end."""

    def __init__(self) -> None:
        self._sizes = array("Q")  # of the members, headers and all

    @property
    def count(self) -> int:
        """How many members are in the archive."""
        return len(self._sizes)

    def batches(self, members: Iterable[Member]) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of one member at a time."""
        for file, blocks in members:
            yield self._member(file, blocks)

    def _member(self, file: ManifestFile, blocks: Iterator[bytes]) -> Iterator[bytes]:
        head, size, blocks = laid_out(file, blocks)
        fill = padding(size)
        if size <= _SMALL:
            yield b"".join([head, *blocks, fill])
        else:
            yield head
            yield from blocks
            if fill:
                yield fill
        self._sizes.append(len(head) + size + len(fill))

    def look_ahead(self, coming: Iterator[Coming]) -> None:
        """Begin nothing: there is nothing to gain."""

    def skip(self, file: ManifestFile, finished: FinishedMember) -> None:
        """Take a member as made. Raises CheckpointUnusableError unless its record is of tar."""
        self._sizes.append(size_of(file, finished))

    def finished(self, first: int, end: int) -> list[FinishedMember]:
        """Return what is known of members: their sizes."""
        return [FinishedMember(size, b"") for size in self._sizes[first:end]]

    def end(self) -> Iterator[bytes]:
        """Return two empty records."""
        yield END

    def close(self) -> None:
        """End nothing: it has no threads."""


class Tar:
    """See `ArchiveFormat`. It compresses nothing."""

    suffix: ClassVar[str] = ".tar"
    media_type: ClassVar[str] = "application/x-tar"

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        """Return the bytes at most: the files, and what stands around each."""
        return largest_of(total_bytes=total_bytes, file_count=file_count)

    def least(self, *, total_bytes: int, file_count: int) -> int:
        """Return the bytes at least: a header for each file, and the end."""
        return total_bytes + file_count * RECORD + len(END)

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        """Return the bytes that the members' sizes take, and a file whose own is not told."""
        del name_bytes
        return memory_of(file_count)

    def writer(self, *, compression: str) -> TarWriter:
        """Begin a tar."""
        del compression
        return TarWriter()
