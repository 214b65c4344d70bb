"""What is known of the bytes of files in an archive, kept until its manifest is written.

The listing tells some of it; the rest is digested while the files pass, and kept packed: with the
steps of a half-made archive, and beside what completes it. A record a file, with its position.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from app.delivery.formats import DEFAULT_THRESHOLD
from app.delivery.manifest import ManifestFile
from app.delivery.manifest_document import Contents

_PLAIN, _WITH_SHA256 = b"\x01", b"\x02"  # what records follow; a later version may have others
_RECORD = struct.Struct("<IQI16s")
_RECORD_WITH_SHA256 = struct.Struct("<IQI16s32s")
MAX_RECORD = _RECORD_WITH_SHA256.size  # bytes of a file


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What the tenant of an archive wants of it."""

    contents: bool = False  # told of each file, for a manifest beside the archive
    sha256: bool = False  # told of the archive, and of each file that is told of
    compression_threshold: float = DEFAULT_THRESHOLD  # see `app.delivery.formats`


NOTHING = Wanted()


class Packed:
    """Records that are kept, in memory: of files from a number on, counted as they are archived.

    One thread adds, another one may ask for what was added before.
    """

    def __init__(self, first: int, *, sha256: bool) -> None:
        self._first = first
        self._records = bytearray()
        self._form = _RECORD_WITH_SHA256 if sha256 else _RECORD
        self._tag = _WITH_SHA256 if sha256 else _PLAIN

    def add(self, position: int, *, size: int, crc32: int, md5: bytes, sha256: bytes) -> None:
        """Add the next file; `sha256` is empty where it is not asked for."""
        last = (sha256,) if sha256 else ()
        self._records += self._form.pack(position, size, crc32, md5, *last)

    def of(self, first: int, end: int) -> bytes | None:
        """Return the records of files, counted from 0, up to `end`; None: there are none."""
        size = self._form.size
        begin, stop = (first - self._first) * size, (end - self._first) * size
        records = bytes(self._records[max(begin, 0) : max(stop, 0)])
        return self._tag + records if records else None

    def forget(self, end: int) -> None:
        """Let go of those before `end`: they are kept elsewhere."""
        if end > self._first:
            del self._records[: (end - self._first) * self._form.size]
            self._first = end


def unpacked(records: bytes) -> Iterator[tuple[int, Contents]]:
    """Return the positions of files, and what is known of each; nothing of a later version's."""
    form = {_PLAIN: _RECORD, _WITH_SHA256: _RECORD_WITH_SHA256}.get(records[:1])
    if form is None or (len(records) - 1) % form.size:
        return
    for position, size, crc32, md5, *last in form.iter_unpack(memoryview(records)[1:]):
        sha256 = last[0].hex() if last else None
        yield position, Contents(size=size, md5=md5.hex(), sha256=sha256, crc32=crc32)


async def with_contents(
    files: AsyncIterator[ManifestFile], kept: AsyncIterator[bytes]
) -> AsyncIterator[tuple[ManifestFile, Contents]]:
    """Iterate over files, each with what is known of it: both come in the order of positions.

    Of one that has no record it is what the listing tells.
    """
    records: Iterator[tuple[int, Contents]] = iter(())
    position, contents = -1, Contents(size=None, md5=None)
    over = False
    async for file in files:
        while position < file.position and not over:
            found = next(records, None)
            if found is not None:
                position, contents = found
            elif (more := await anext(kept, None)) is not None:
                records = unpacked(more)
            else:
                over = True
        if position == file.position:
            yield file, contents
        else:
            yield file, Contents(size=file.size, md5=file.md5, crc32=file.crc32)
