"""A second format, which shows that there could be one: tests alone know it."""

from __future__ import annotations

import tarfile
from array import array
from collections.abc import Iterable, Iterator
from typing import ClassVar

from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import ManifestFile
from app.delivery.naming import MAX_MEMBER_BYTES
from sinks.formats.archive_format import Member

_BLOCK = 512
# The file's own header, and an extended one with its data: records of a name and a size.
_MEMBER = 3 * _BLOCK + MAX_MEMBER_BYTES + 100 + _BLOCK


class TarWriter:
    """See `ArchiveWriter`. A member needs nothing at the end."""

    def __init__(self) -> None:
        self._sizes = array("Q")

    @property
    def count(self) -> int:
        return len(self._sizes)

    def batches(self, members: Iterable[Member]) -> Iterator[Iterator[bytes]]:
        for file, blocks in members:
            yield self._member(file, blocks)

    def _member(self, file: ManifestFile, blocks: Iterator[bytes]) -> Iterator[bytes]:
        assert file.size is not None
        header = tarfile.TarInfo(file.member)
        header.size = file.size
        head = header.tobuf(tarfile.PAX_FORMAT, "utf-8")
        yield head
        yield from blocks
        padding = -file.size % _BLOCK
        yield bytes(padding)
        self._sizes.append(len(head) + file.size + padding)

    def skip(self, file: ManifestFile, finished: FinishedMember) -> None:
        del file
        self._sizes.append(finished.size)

    def finished(self, first: int, end: int) -> list[FinishedMember]:
        return [FinishedMember(size, b"") for size in self._sizes[first:end]]

    def end(self) -> Iterator[bytes]:
        yield bytes(2 * _BLOCK)


class Tar:
    """See `ArchiveFormat`. It needs to know each file's size in advance."""

    suffix: ClassVar[str] = ".tar"
    media_type: ClassVar[str] = "application/x-tar"

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        return total_bytes + file_count * (_MEMBER + _BLOCK) + 2 * _BLOCK

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        return 10 * file_count

    def writer(self, *, compression: str) -> TarWriter:
        del compression
        return TarWriter()
