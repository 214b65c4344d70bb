"""A second format, which shows that there could be one: tests alone know it."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from typing import ClassVar

from app.delivery.naming import MAX_MEMBER_BYTES
from sinks.formats.archive_format import Member

_BLOCK = 512
# The file's own header, and an extended one with its data: records of a name and a size.
_MEMBER = 3 * _BLOCK + MAX_MEMBER_BYTES + 100 + _BLOCK


class Tar:
    """See `ArchiveFormat`. It needs to know each file's size in advance."""

    suffix: ClassVar[str] = ".tar"
    media_type: ClassVar[str] = "application/x-tar"

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        return total_bytes + file_count * (_MEMBER + _BLOCK) + 2 * _BLOCK

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        return 0

    def blocks(self, members: Iterable[Member], *, compression: str) -> Iterator[bytes]:
        for file, blocks in members:
            assert file.size is not None
            header = tarfile.TarInfo(file.member)
            header.size = file.size
            yield header.tobuf(tarfile.PAX_FORMAT, "utf-8")
            yield from blocks
            yield bytes(-file.size % _BLOCK)
        yield bytes(2 * _BLOCK)
