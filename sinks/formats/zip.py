"""ZIP: read everywhere, written without knowing anything of a file before its last byte.

What is not compressed, and has a size and a CRC-32 that are known, is stored as it is, behind a
header that tells both. Else both are told behind the member's bytes, which deflate has to frame
then: only so does a reader find their end.

The same members give the same bytes, as long as the same is known of them: they carry one fixed
date, and what is compressed is decided by name, bytes and threshold alone; with an archive that is
half made, that of its beginning is kept. Of a delivery that is so, but for CRC-32s that were told
wrongly (`told_crc32s_forgotten`). Two deliveries of the same files differ
where rs-order told CRC-32s for one of them only.
"""

from __future__ import annotations

import itertools
import struct
from array import array
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, NamedTuple

from app.delivery.checkpoint import FinishedMember
from app.delivery.formats import DEFAULT_THRESHOLD
from app.delivery.manifest import ManifestFile
from app.delivery.naming import MAX_MEMBER_BYTES
from app.errors import CheckpointUnusableError
from sinks.formats.ahead import Ahead
from sinks.formats.archive_format import BLOCK, Coming, Member
from sinks.formats.deflate import (
    Begun,
    BlockDeflate,
    Deflate,
    DeflatePool,
    UnderWay,
    begun,
    compressed,
    earlier_compressed,
    earlier_stream,
)

_STORED = 0xFFFF  # bytes; the longest stored block of deflate
_OUT = BLOCK // _STORED * (_STORED + 5)  # what a stored BLOCK becomes
_SAMPLE = 256 * 1024  # bytes of a file that decide whether it is compressed
# What made archives before `made_by` was told: members of any length as one stream.
_EARLIER_THRESHOLD = 0.95
_MADE_BY = "deflate in blocks, below "
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
# A member's entry in the directory, beside its name; of ZIP64, with sizes and offset behind it.
_ENTRY_32 = 46
_ENTRY_64 = _ENTRY_32 + 28
_ENTRY_BEGINS = b"PK\x01\x02"
_DIRECTORY_END = struct.Struct("<4sHHHHIIH")
_DIRECTORY_END_64 = struct.Struct("<4sQHHIIQQQQ")
_DIRECTORY_LOCATOR_64 = struct.Struct("<4sIQI")
# What is behind the directory.
_END_32 = _DIRECTORY_END.size
_END_64 = _DIRECTORY_END_64.size + _DIRECTORY_LOCATOR_64.size + _DIRECTORY_END.size
# What a member takes in memory until the end, beside the bytes of its name: the entry as an object
# (33 bytes more), rounded up as allocators do, and a place in each of two lists that grow by an
# eighth at a time.
_KEPT = 33 + _ENTRY_64 + 16 + 2 * 9
_ENTRIES = 4096  # of the directory that are one block
# Small members are made some at a time: the library takes 70 µs to begin.
_BATCH, _BATCH_BYTES = 256, 256 * 1024


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

    def feed(self, blocks: Iterable[bytes]) -> Iterable[bytes]:
        """Return what to call `compress` with."""
        return blocks

    def flush(self) -> bytes:
        """Return the last block, which is empty."""
        return b"\x01\x00\x00\xff\xff"


class _OneStream:
    """A member whose first bytes are compressed already, to see whether that is worth it."""

    def __init__(self, started: Begun) -> None:
        self._started: Begun | None = started
        self._deflate = started.deflate  # for what comes behind them; None: nothing does

    def feed(self, blocks: Iterable[bytes]) -> Iterable[bytes]:
        """Return what to call `compress` with."""
        return blocks

    def compress(self, data: bytes) -> bytes:
        """Return what became of the first bytes, and go on with those behind them."""
        made, taken, _ = self._started or Begun(b"", 0, None)
        self._started = None
        if self._deflate is None:
            return made
        rest: bytes = self._deflate.compress(memoryview(data)[taken:])
        return made + rest if made else rest

    def flush(self) -> bytes:
        """Return the end."""
        return b"" if self._deflate is None else self._deflate.flush()


class _Compression:
    """How the members of one archive are compressed."""

    def __init__(
        self,
        compression: str,
        threshold: float,
        under_way: UnderWay | None,
        ahead: Ahead | None,
    ) -> None:
        self._compression = compression
        self._threshold = threshold
        self._under_way = under_way  # None: a member is one stream, however long it is
        self._ahead = ahead

    def of(self, file: ManifestFile, first: bytes) -> _OneStream | BlockDeflate | None:
        """Choose what compresses a member that begins with this block; None: nothing does."""
        made = None if self._ahead is None else self._ahead.take(file.position)
        if not first or self._is_stored(file):
            return None
        always = self._compression == "deflate"
        if always and made is None:
            if self._under_way is None:
                return _OneStream(Begun(b"", 0, earlier_stream()))
            return BlockDeflate(self._under_way)
        # The sample is the beginning of the member, too, if it is worth it: no work is done twice.
        taken = min(len(first), _SAMPLE)
        is_earlier = self._under_way is None
        if taken == len(first):
            if made is None:
                made = earlier_compressed(first) if is_earlier else compressed(first)
            started = Begun(made, taken, None)
        else:
            started = begun(first, taken, earlier_stream() if is_earlier else Deflate())
        if not always and len(started.made) >= taken * self._threshold:
            return None
        if self._under_way is None or started.deflate is None:
            return _OneStream(started)
        return BlockDeflate(self._under_way, started)

    def takes(self, coming: Coming) -> bool:
        """Whether a file is compressed, or tried, and as a whole."""
        file, content = coming
        return 0 < len(content) <= _SAMPLE and not self._is_stored(file)

    def _is_stored(self, file: ManifestFile) -> bool:
        """Whether a member is not compressed, whatever its bytes are."""
        if self._compression == "store" or file.size == 0:
            return True
        if self._compression == "deflate":
            return False
        return not self._threshold or _suffix(file.member).lower() in _COMPRESSED


def _suffix(member: str) -> str:
    """Return what a name ends in, as `PurePosixPath.suffix` does, without making a path."""
    name = member.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:] if dot > 0 else ""


@cache
def _library_stores(*, is_64: bool) -> Any:
    from stream_zip import NO_COMPRESSION_32, NO_COMPRESSION_64

    return (NO_COMPRESSION_64 if is_64 else NO_COMPRESSION_32)(0, 0)


class _StoredAsItIs:
    """What the library's NO_COMPRESSION_32(size, crc32) is, or its 64.

    Those make a class each time, which takes as long as all else of a small member.
    """

    def __init__(self, size: int, crc32: int, *, is_64: bool) -> None:
        self._told = size, crc32
        self._library = _library_stores(is_64=is_64)

    def _get(self, offset: int, compressor: Any) -> tuple[Any, ...]:
        *method, _, _ = self._library._get(offset, compressor)  # noqa: SLF001 - as it asks
        return (*method, *self._told)


class _Batch:
    """Members that `stream_zip` makes at once: an archive of their own, whose end is taken off."""

    def __init__(
        self, members: Iterator[Member], compression: _Compression, before: _Extent
    ) -> None:
        self._members = members
        self._compression = compression
        self._compressor: Any = None  # of the member that is made; None: it is stored
        self._before = before
        self._entries_size = 0  # bytes of its own directory
        self._end_size = _END_32
        # When all blocks were taken:
        self.directory = b""
        self.behind: Member | None = None  # that was asked for, and is too large for it

    def blocks(self) -> Iterator[bytes]:
        """Return the members' bytes."""
        from stream_zip import stream_zip

        listed = self._listed()
        first = next(listed)
        made = stream_zip(
            itertools.chain([first], listed),
            # As a large member's blocks come out of its compression: cut so, none is copied.
            chunk_size=BLOCK if self._compressor is None else _OUT,
            get_compressobj=lambda: self._compressor,
            extended_timestamps=False,
        )
        del first
        held: deque[bytes] = deque()  # what may belong to the end
        held_size = 0
        for block in made:
            held.append(block)
            held_size += len(block)
            while held_size - len(held[0]) >= self._entries_size + self._end_size:
                held_size -= len(held[0])
                yield held.popleft()
        last = b"".join(held)
        directory = len(last) - self._entries_size - self._end_size
        self.directory = last[directory : len(last) - self._end_size]
        yield last[:directory]

    def _listed(self) -> Iterator[Any]:
        """Yield small members until they are enough, or a large one."""
        most = 0
        for number, (file, blocks) in enumerate(self._members, start=1):
            name_size = len(file.member.encode())
            size = _BATCH_BYTES if file.size is None else _most(file.size, name_size)
            if number > 1 and size >= _BATCH_BYTES:
                self.behind = file, blocks
                return
            most += size
            is_64 = file.size is None or not self._before.has_room(number, most)
            self._entries_size += (_ENTRY_64 if is_64 else _ENTRY_32) + name_size
            if is_64:
                self._end_size = _END_64
            yield file.member, _DATE, _MODE, *self._chosen(file, blocks, is_64=is_64)
            if number == _BATCH or most >= _BATCH_BYTES or self._before.is_at_the_border():
                return

    def _chosen(
        self, file: ManifestFile, blocks: Iterator[bytes], *, is_64: bool
    ) -> tuple[Any, Iterator[bytes]]:
        """Choose how a member is made: return the library's name for it, and all blocks."""
        from stream_zip import ZIP_32, ZIP_64

        first = next(blocks, b"")
        self._compressor = self._compression.of(file, first)
        whole = itertools.chain([first], blocks)
        if self._compressor is None:
            if file.size is not None and file.crc32 is not None:
                return _StoredAsItIs(file.size, file.crc32, is_64=is_64), whole
            self._compressor = StoredBlocks()
        return ZIP_64 if is_64 else ZIP_32, self._compressor.feed(whole)


def _most(size: int, name_size: int) -> int:
    """Return the bytes that a member takes at most, its entry in the directory included.

    A bound: deflate can grow data a little.
    """
    return size + size // 1000 + 1024 + 3 * name_size


class _Extent(NamedTuple):
    """What is in an archive."""

    members: int
    size: int  # bytes, with their entries in the directory

    def has_room(self, members: int, size: int) -> bool:
        """Whether so much more may be ZIP32 for certain.

        That is read by the widest set of programs, so it is kept wherever nothing can overflow.
        """
        return self.members + members < _MEMBERS_32 and self.size + size <= _LIMIT_32

    def is_at_the_border(self) -> bool:
        """Whether a batch may be the one in which members no longer fit into ZIP32.

        What a batch has is known as a bound while it is made, and exactly behind it. So there each
        member is a batch, and which of them is ZIP64 does not depend on where batches begin: that
        differs where an attempt has paused.
        """
        return self.size <= _LIMIT_32 < self.size + 2 * _BATCH_BYTES


class ZipWriter:
    """See `ArchiveWriter`.

    The directory is put together here, so that members may be in it that another worker made.
    """

    def __init__(
        self,
        compression: str,
        threshold: float,
        under_way: UnderWay | None,
        ahead: Ahead | None,
    ) -> None:
        self._under_way = under_way
        self._ahead = ahead
        self._compression = _Compression(compression, threshold, under_way, ahead)
        # Of each member its entry in the directory, and where it ends: the next one begins there,
        # which its entry may not say.
        self._entries: list[bytes] = []
        self._ends = array("Q")
        self._directory = 0  # bytes of all entries
        self._is_64 = False  # whether the directory has entries of ZIP64

    @property
    def count(self) -> int:
        """How many members are in the archive."""
        return len(self._entries)

    @property
    def _size(self) -> int:
        return self._begins(self.count)

    def _begins(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def batches(self, members: Iterable[Member]) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of some small members, or of a large one, at a time."""
        coming = iter(members)
        first = next(coming, None)
        while first is not None:
            before = _Extent(self.count, self._size + self._directory)
            batch = _Batch(itertools.chain([first], coming), self._compression, before)
            yield self._made(batch)
            first = batch.behind or next(coming, None)

    def _made(self, batch: _Batch) -> Iterator[bytes]:
        base = self._size
        size = 0
        for block in batch.blocks():
            size += len(block)
            yield block
        entries = _entries_of(batch.directory)
        starts = [*map(_start, entries), size]
        for entry, end in zip(entries, starts[1:], strict=True):
            self._add(entry, base + end)

    def _add(self, entry: bytes, end: int) -> None:
        self._directory += len(entry)
        self._is_64 = self._is_64 or _is_64(entry)
        self._ends.append(end)  # before it counts: `finished` is asked for beside this
        self._entries.append(entry)

    def look_ahead(self, coming: Iterator[Coming]) -> None:
        """Have small members deflated before their turn."""
        if self._ahead is not None:
            self._ahead.begin(filter(self._compression.takes, coming))

    def skip(self, file: ManifestFile, finished: FinishedMember) -> None:
        """Take a member as made. Raises CheckpointUnusableError unless its record is its own."""
        fields, extra = finished.record[:_ENTRY_32], finished.record[_ENTRY_32:]
        name = file.member.encode()
        if (
            len(fields) != _ENTRY_32
            or fields[:4] != _ENTRY_BEGINS
            or (_name_size(fields), _extra_size(fields)) != (len(name), len(extra))
        ):
            raise CheckpointUnusableError(
                f"what was saved of member {file.member} of the archive is not of ZIP, or of "
                "another file: it begins again"
            )
        self._add(fields + name + extra, self._size + finished.size)

    def finished(self, first: int, end: int) -> list[FinishedMember]:
        """Return what is known of members: their entries, without the names."""
        found = []
        for number in range(first, end):
            entry = self._entries[number]
            record = entry[:_ENTRY_32] + entry[_ENTRY_32 + _name_size(entry) :]
            size = self._ends[number] - self._begins(number)
            found.append(FinishedMember(size, record))
        return found

    def end(self) -> Iterator[bytes]:
        """Return the directory, and what says where it is."""
        for first in range(0, self.count, _ENTRIES):
            entries = self._entries[first : first + _ENTRIES]
            yield b"".join(map(_at, entries, map(self._begins, itertools.count(first))))
        count, size, start = self.count, self._directory, self._size
        if self._is_64:
            yield _DIRECTORY_END_64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, start)
            yield _DIRECTORY_LOCATOR_64.pack(b"PK\x06\x07", 0, start + size, 1)
            disk, count, size, start = 0xFFFF, _MEMBERS_32, _LIMIT_32, _LIMIT_32
        else:
            disk = 0
        yield _DIRECTORY_END.pack(b"PK\x05\x06", disk, disk, count, count, size, start, 0)

    def close(self) -> None:
        """End what threads make of it, and the threads if no other transfer needs them."""
        if self._under_way is not None:
            self._under_way.close()
        if self._ahead is not None:
            self._ahead.close()


def _entries_of(directory: bytes) -> list[bytes]:
    entries = []
    while directory:
        size = _ENTRY_32 + _name_size(directory) + _extra_size(directory)
        entries.append(directory[:size])
        directory = directory[size:]
    return entries


def _name_size(entry: bytes) -> int:
    return int.from_bytes(entry[28:30], "little")


def _extra_size(entry: bytes) -> int:
    return int.from_bytes(entry[30:32], "little")


def _is_64(entry: bytes) -> bool:
    return entry[42:46] == b"\xff\xff\xff\xff"


def _start(entry: bytes) -> int:
    """Return where an entry says that its member begins."""
    return int.from_bytes(entry[-8:] if _is_64(entry) else entry[42:46], "little")


def _at(entry: bytes, start: int) -> bytes:
    """Return the entry of a member that begins at `start`."""
    if _is_64(entry):  # the last of its fields, behind the name
        return entry[:-8] + start.to_bytes(8, "little")
    return entry[:42] + start.to_bytes(4, "little") + entry[46:]


@dataclass(frozen=True, kw_only=True, slots=True)
class Zip:
    """See `ArchiveFormat`."""

    threshold: float = DEFAULT_THRESHOLD  # 0 to 1; 0: all is stored
    in_blocks: bool = True  # False: as before, a member is one stream
    pool: DeflatePool = field(default_factory=DeflatePool, compare=False)

    suffix: ClassVar[str] = ".zip"
    media_type: ClassVar[str] = "application/zip"

    @property
    def made_by(self) -> str:
        """What the bytes depend on beside the files; as before, it is not told."""
        return f"{_MADE_BY}{self.threshold!r}" if self.in_blocks else ""

    def as_made_by(self, made_by: str) -> Zip:
        """Return this format as a half-made archive has it, whatever its tenant wants by now.

        Raises CheckpointUnusableError where a later version has begun it.
        """
        if not made_by:
            return replace(self, threshold=_EARLIER_THRESHOLD, in_blocks=False)
        threshold = made_by.removeprefix(_MADE_BY)
        try:
            return replace(self, threshold=float(threshold), in_blocks=True)
        except ValueError:
            raise CheckpointUnusableError(
                f"what was sent was made by {made_by}, which this version does not know: it begins "
                "again"
            ) from None

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        """Return the bytes at most: what deflate can add, and a member's headers, of ZIP64."""
        return total_bytes + total_bytes // 1000 + file_count * _MEMBER + _END

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        """Return the bytes that the directory takes at most, and what is being deflated."""
        return file_count * _KEPT + name_bytes + self.pool.memory

    def writer(self, *, compression: str) -> ZipWriter:
        """Begin a ZIP file."""
        under_way = UnderWay(self.pool) if self.in_blocks else None
        ahead = Ahead(self.pool) if self.in_blocks and compression != "store" else None
        return ZipWriter(compression, self.threshold, under_way, ahead)
