"""Which parts of an upload are there: a record of 40 bytes for each, at its number.

At 0 is the number of the data's inode: an exchange of names gives `data` to another file.

A record is written once its part is, and taken back before another one takes its place: so what is
recorded is there, whichever process dies when.
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass

from app.errors import TargetUnavailableError
from sinks.stores.file.system import System

_RECORD = struct.Struct(">16sQQI")  # MD5, size, offset, CRC-32 of these
_STRIDE = 40  # bytes: a record, and some that are 0
_INODE = struct.Struct(">Q")
_APART = 2**64 - 1  # in place of an offset


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """A part that is there."""

    md5: bytes  # 16 bytes
    size: int  # bytes
    offset: int | None  # where it begins in `data`; None: it lies in a file of its own


class Ledger:
    """The file of records, open."""

    def __init__(self, system: System, fd: int) -> None:
        self._system = system
        self._fd = fd

    def is_of(self, data: os.stat_result) -> bool:
        """Whether it is about this file."""
        return self._system.read(self._fd, _INODE.size, 0) == header(data)

    def lock(self, number: int | None = None) -> None:
        """Lock the record of a part, or all of them, until the file is closed.

        Raises BlockingIOError. NFS writes whole pages where nothing of a file is locked: also what
        other machines have written since it was read.
        """
        if number is None:
            self._system.lock(self._fd)
        else:
            self._system.lock(self._fd, number, 1)

    def part(self, number: int) -> Recorded | None:
        """Return what is recorded of a part."""
        return _read(self._system.read(self._fd, _RECORD.size, number * _STRIDE))

    def parts(self) -> dict[int, Recorded]:
        """Return what is recorded, by numbers."""
        size = self._system.describe_open(self._fd).st_size
        raw = self._system.read(self._fd, size, 0)
        records = (_read(raw[at : at + _RECORD.size]) for at in range(_STRIDE, len(raw), _STRIDE))
        return {number: record for number, record in enumerate(records, start=1) if record}

    def record(self, number: int, part: Recorded) -> None:
        """Record that a part is there."""
        offset = _APART if part.offset is None else part.offset
        body = _RECORD.pack(part.md5, part.size, offset, 0)[:-4]
        self._put(number, body + struct.pack(">I", zlib.crc32(body)))

    def forget(self, number: int) -> None:
        """Take back what is recorded of a part, if anything is."""
        if self.part(number) is not None:
            self._put(number, bytes(_RECORD.size))

    def _put(self, number: int, record: bytes) -> None:
        if self._system.write(self._fd, record, number * _STRIDE) != len(record):
            raise TargetUnavailableError(
                f"the record of part {number} was written in part: it is written again"
            )
        self._system.sync(self._fd)


def header(data: os.stat_result) -> bytes:
    """Return what a ledger begins with."""
    return _INODE.pack(data.st_ino)


def _read(raw: bytes) -> Recorded | None:
    if len(raw) < _RECORD.size:
        return None
    md5, size, offset, crc = _RECORD.unpack(raw)
    if zlib.crc32(raw[:-4]) != crc:
        return None
    return Recorded(md5=md5, size=size, offset=None if offset == _APART else offset)
