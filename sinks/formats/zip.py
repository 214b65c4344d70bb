"""ZIP: read everywhere, written without knowing anything of a file before its last byte.

The same members give the same bytes: they carry one fixed date, and what is compressed is decided
by name and bytes alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any, ClassVar

from isal import isal_zlib

from app.delivery.manifest import ManifestFile
from app.delivery.naming import MAX_MEMBER_BYTES
from sinks.formats.archive_format import BLOCK, Member

_STORED = 0xFFFF  # bytes; the longest stored block of deflate
_OUT = BLOCK // _STORED * (_STORED + 5)  # what a stored BLOCK becomes
_SAMPLE = 256 * 1024  # bytes of a file that decide whether it is compressed
_LEVEL = 1  # of ISA-L; 0 is no faster, 2 is slower for little gain
_WORTH_IT = 0.95  # a sample that does not shrink below this is stored
# Formats that are compressed already; their headers may look otherwise.
_COMPRESSED = frozenset(
    {".7z", ".br", ".bz2", ".gz", ".j2k", ".jp2", ".jpeg", ".jpg", ".lz4", ".mp4", ".png"}
    | {".tgz", ".webp", ".xz", ".zip", ".zst"}
)
_DATE = datetime(1980, 1, 1, tzinfo=UTC)  # the earliest that a ZIP can hold
_MODE = 0o100644
_LIMIT_32 = 0xFFFFFFFF
_MEMBERS_32 = 0xFFFF
# Headers, at most: local 50 bytes, descriptor 24, directory 74, the name twice, deflate's own ends.
_MEMBER = 50 + 24 + 74 + 2 * MAX_MEMBER_BYTES + 64
_END = 1024  # bytes; the records behind the directory
# What a member takes in memory until the end, beside the bytes of its name: a tuple (64 bytes),
# the record (75), that of ZIP64 (61), the object of the name (33), a place in the list (8); each
# rounded up as allocators do.
_ENTRY = 280


def _sizes_32(file: ManifestFile, index: int, offset: int) -> tuple[bool, int]:
    """Whether the member may be ZIP32 for certain, and the furthest offset where it can end.

    Bounds, not sizes: deflate can grow data a little. ZIP32 is read by the widest set of
    programs, so it is kept wherever nothing can overflow.
    """
    if file.size is None:
        return False, _LIMIT_32 + 1
    end = offset + file.size + file.size // 1000 + 1024 + 3 * len(file.member.encode())
    return end <= _LIMIT_32 and index < _MEMBERS_32, end


class StoredBlocks:
    """Deflate that only stores; zlib's level 0 does the same at an eighth of the speed.

    (ISA-L's level 0 is not "stored": it compresses, and grows what can't be.)
    """

    def compress(self, data: bytes) -> bytes:
        """Return `data` in stored blocks."""
        view = memoryview(data)
        out: list[bytes | memoryview] = []
        for start in range(0, len(view), _STORED):
            piece = view[start : start + _STORED]
            out += (struct.pack("<BHH", 0, len(piece), len(piece) ^ _STORED), piece)
        return b"".join(out)

    def flush(self) -> bytes:
        """Return the last block, which is empty."""
        return b"\x01\x00\x00\xff\xff"


class _PrimedDeflate:
    """Deflate that has compressed the first bytes already, to see whether that is worth it."""

    def __init__(self, begun: bytes, taken: int, deflate: Any | None) -> None:
        self._begun = begun
        self._taken = taken
        self._deflate = deflate  # for what comes behind them, if anything does

    def compress(self, data: bytes) -> bytes:
        """Return what became of the first bytes, and go on with those behind them."""
        begun, taken = self._begun, self._taken
        self._begun, self._taken = b"", 0
        if self._deflate is None:
            return begun
        rest: bytes = self._deflate.compress(memoryview(data)[taken:])
        return begun + rest if begun else rest

    def flush(self) -> bytes:
        """Return the end."""
        return b"" if self._deflate is None else self._deflate.flush()


class _MemberCompression:
    """The member that is being zipped: its name and its first block decide how."""

    def __init__(self, compression: str) -> None:
        self._compression = compression
        self._blocks: Iterator[bytes] = iter(())
        self._first: bytes | None = None
        self._name = ""

    def open(self, name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
        self._name = name
        self._blocks = blocks
        self._first = None
        return self._all()

    def _all(self) -> Iterator[bytes]:
        if self._first:
            yield self._first
            self._first = None
        yield from self._blocks

    def compressor(self) -> Any:
        """Choose how; stream_zip asks once a member, right before it takes its first block."""
        self._first = first = next(self._blocks, b"")
        if self._compression == "store" or not first:
            return StoredBlocks()
        if self._compression == "deflate":
            return _deflate()
        if PurePosixPath(self._name).suffix.lower() in _COMPRESSED:
            return StoredBlocks()
        # The sample is the beginning of the member, too, if it is worth it: no work is done twice.
        taken = min(len(first), _SAMPLE)
        deflate = None
        if taken == len(first):
            begun = isal_zlib.compress(first, _LEVEL, -zlib.MAX_WBITS)
        else:
            deflate = _deflate()
            begun = deflate.compress(memoryview(first)[:taken])
            begun += deflate.flush(isal_zlib.Z_SYNC_FLUSH)
        if len(begun) >= taken * _WORTH_IT:
            return StoredBlocks()
        return _PrimedDeflate(begun, taken, deflate)


def _deflate() -> Any:
    return isal_zlib.compressobj(level=_LEVEL, wbits=-zlib.MAX_WBITS)


class Zip:
    """See `ArchiveFormat`."""

    suffix: ClassVar[str] = ".zip"
    media_type: ClassVar[str] = "application/zip"

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        """Return the bytes at most: what deflate can add, and a member's headers, of ZIP64."""
        return total_bytes + total_bytes // 1000 + file_count * _MEMBER + _END

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        """Return the bytes that the central directory takes at most."""
        return file_count * _ENTRY + name_bytes

    def blocks(self, members: Iterable[Member], *, compression: str) -> Iterator[bytes]:
        """Return the ZIP file in blocks. Raises what reading a member raises."""
        from stream_zip import ZIP_32, ZIP_64, stream_zip

        current = _MemberCompression(compression)

        def entries() -> Iterator[Any]:
            offset = 0
            for index, (file, blocks) in enumerate(members):
                small, offset = _sizes_32(file, index, offset)
                method = ZIP_32 if small else ZIP_64
                yield file.member, _DATE, _MODE, method, current.open(file.member, blocks)

        return iter(
            stream_zip(
                entries(),
                chunk_size=_OUT,
                get_compressobj=current.compressor,
                extended_timestamps=False,
            )
        )
