"""Compares what is there with what a manifest lists: as it passes, nothing is kept of it."""

from __future__ import annotations

import hashlib
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, Protocol

from rs_delivery_client.archives import Member, Read, ZipReader, reader_of
from rs_delivery_client.errors import NotCheckedError, UnsafeError
from rs_delivery_client.flaws import Flaw, Kind, Report
from rs_delivery_client.ledger import Ledger
from rs_delivery_client.manifest import Expected

_BLOCK = 256 * 1024  # bytes
_ALLOWANCE = 1024**3  # bytes that may be unpacked beyond what is listed, before that ends
_BESIDE = 64 * 1024**2  # bytes beside files that may be there beyond as many as are listed

Advance = Callable[[int], None]  # so many more bytes were read


class Stopped(Exception):  # noqa: N818 - no error: the reader does not want to know any more
    """The work was given up."""


class Sink(Protocol):
    """Where files go that are unpacked."""

    def file(self, path: str) -> AbstractContextManager[Callable[[bytes], object]]:
        """Make a file; its bytes are written with what that gives. Raises UnsafeError."""


class _TooMuch(Exception):  # noqa: N818 - ends the reading
    """An archive holds far more than is listed."""


class Digests:
    """Counts bytes, and makes of them the digests that something is expected to have."""

    def __init__(self, expected: Expected) -> None:
        self._expected = expected
        self._md5 = None if expected.md5 is None else hashlib.md5(usedforsecurity=False)
        self._sha256 = None if expected.sha256 is None else hashlib.sha256()
        self._crc32 = 0
        self.size = 0

    def update(self, block: bytes) -> None:
        """Take bytes in."""
        self.size += len(block)
        if self._md5 is not None:
            self._md5.update(block)
        if self._sha256 is not None:
            self._sha256.update(block)
        if self._expected.crc32 is not None:
            self._crc32 = zlib.crc32(block, self._crc32)

    def flaws(self, path: str | None, whose: str = "the manifest tells") -> Iterator[Flaw]:
        """Yield what is not as expected."""
        expected = self._expected
        if expected.size is not None and self.size != expected.size:
            says = f"it has {self.size:,} bytes, {whose} {expected.size:,}"
            yield Flaw(kind=Kind.WRONG_SIZE, path=path, says=says)
        found: list[tuple[Kind, str, Any, Any]] = []
        if self._md5 is not None:
            found.append((Kind.WRONG_MD5, "MD5", self._md5.hexdigest(), expected.md5))
        if self._sha256 is not None:
            found.append((Kind.WRONG_SHA256, "SHA-256", self._sha256.hexdigest(), expected.sha256))
        if expected.crc32 is not None:
            crc32 = f"{self._crc32:08x}", f"{expected.crc32:08x}"
            found.append((Kind.WRONG_CRC32, "CRC-32", *crc32))
        for kind, name, is_, told in found:
            if is_ != told:
                yield Flaw(kind=kind, path=path, says=f"its {name} is {is_}, {whose} {told}")


class Tally:
    """Reads on behalf of a check: counts, digests, tells how far it is, stops when told to."""

    def __init__(
        self, read: Read, expected: Expected, advance: Advance | None, stop: threading.Event
    ) -> None:
        self._read = read
        self._advance = advance
        self._stop = stop
        self.digests = Digests(expected)

    def read(self, count: int) -> bytes:
        """Return at most so many bytes; none at the end. Raises Stopped."""
        if self._stop.is_set():
            raise Stopped
        data = self._read(count)
        self.digests.update(data)
        if self._advance is not None:
            self._advance(len(data))
        return data

    def drain(self) -> None:
        """Read what follows."""
        while self.read(_BLOCK):
            pass


class Checker:
    """Takes files in, one after the other, and tells what is wrong with each."""

    def __init__(
        self, ledger: Ledger, report: Report, *, sink: Sink | None = None, most: int | None = None
    ) -> None:
        self._ledger = ledger
        self._report = report
        self._sink = sink
        total = ledger.total if ledger.has_manifest else None
        total = most if total is None else total
        self._most = None if total is None else total + (0 if sink else _ALLOWANCE)
        self._most_beside = None if total is None else total + _BESIDE
        self._unpacked = 0
        self._beside = 0  # bytes that are in no file: in folders, behind the end, …
        self._by_size_alone = 0

    def members(self, members: Iterable[Member]) -> None:
        """Check all members of an archive. Raises UnsafeError for what must not be unpacked."""
        try:
            for member in members:
                if member.kind == "file":
                    self.file(member.name, member.blocks)
                elif member.kind == "folder":
                    self._folder(member)
                else:
                    self._unreadable(member)
        except _TooMuch:
            says = "it unpacks to far more than is listed: reading ended there"
            self._report.tell(Flaw(kind=Kind.EXTRA, says=says))

    def _folder(self, member: Member) -> None:
        if size := self._pass_beside(member.blocks):
            says = f"it is a folder, and has {size:,} bytes, which readers leave out or trip over"
            self._report.tell(Flaw(kind=Kind.EXTRA, path=member.name, says=says))

    def _pass_beside(self, blocks: Iterable[bytes]) -> int:
        size = 0
        for block in blocks:
            size += len(block)
            self.passed(len(block))
        return size

    def passed(self, count: int) -> None:
        """Count bytes that are in no file. Raises what ends the reading of too many."""
        self._beside += count
        if self._most_beside is None or self._beside <= self._most_beside:
            return
        if self._sink is not None:
            raise UnsafeError(
                f"unpacking ended: there is far more beside the archive's files than in them "
                f"({self._beside:,} bytes)"
            )
        raise _TooMuch

    def _unreadable(self, member: Member) -> None:
        if self._sink is not None:
            raise UnsafeError(f"{member.name!r} is not unpacked: it is {member.why}")
        self._ledger.found(member.name)
        self._report.tell(Flaw(kind=Kind.UNREADABLE, path=member.name, says=member.why))
        self._pass_beside(member.blocks)

    def file(self, path: str, blocks: Iterable[bytes]) -> None:
        """Check a file."""
        self._report.files += 1
        expected = Expected()
        if self._ledger.has_manifest:
            listed = self._ledger.listed(path)
            if listed is None:
                is_new = self._ledger.is_new(path)
                kind = Kind.EXTRA if is_new else Kind.DUPLICATE
                says = "the manifest does not list it" if is_new else "it is there once more"
                self._report.tell(Flaw(kind=kind, path=path, says=says))
                self._pass(blocks)
                return
            if listed.found:
                says = "it is there once more"
                self._report.tell(Flaw(kind=Kind.DUPLICATE, path=path, says=says))
                self._pass(blocks)
                return
            self._ledger.found(path)
            expected = listed.expected
            self._by_size_alone += not expected.tells_content
        elif not self._ledger.is_new(path):
            says = "it is there once more"
            self._report.tell(Flaw(kind=Kind.DUPLICATE, path=path, says=says))
            self._pass(blocks)
            return
        digests = Digests(expected)
        if self._sink is None:
            self._read(path, blocks, digests, None)
        else:
            with self._sink.file(path) as write:
                self._read(path, blocks, digests, write)
        for flaw in digests.flaws(path):
            self._report.tell(flaw)

    def _read(
        self,
        path: str,
        blocks: Iterable[bytes],
        digests: Digests,
        write: Callable[[bytes], object] | None,
    ) -> None:
        for block in blocks:
            self._count(block, path)
            digests.update(block)
            if write is not None:
                write(block)

    def _pass(self, blocks: Iterable[bytes]) -> None:
        for block in blocks:
            self._count(block, "")

    def _count(self, block: bytes, path: str) -> None:
        self._report.size += len(block)
        self._unpacked += len(block)
        if self._most is None or self._unpacked <= self._most:
            return
        if self._sink is not None:
            raise UnsafeError(
                f"unpacking ended in {path!r}: there is more in the archive than was told of it "
                f"({self._most:,} bytes)"
            )
        raise _TooMuch

    def end(self) -> None:
        """Tell what is missing, and what could not be looked at."""
        says = "it is listed, and not there"
        if self._report.kinds[Kind.DAMAGED] or self._report.kinds[Kind.TRUNCATED]:
            says = "it is listed, and was not found in what could be read"
        for path in self._ledger.missing():
            self._report.tell(Flaw(kind=Kind.MISSING, path=path, says=says))
        if self._by_size_alone:
            self._report.note(
                f"of {self._by_size_alone:,} files the manifest tells no digest: only how long "
                "they are was checked"
            )


def check_archive(
    read: Read,
    name: str,
    *,
    ledger: Ledger,
    expected: Expected,
    report: Report,
    stop: threading.Event,
    sink: Sink | None = None,
    advance: Advance | None = None,
    most: int | None = None,
) -> None:
    """Check an archive from its first byte to its last; with a sink, unpack it on the way.

    `expected` is what it should be as a whole; `most` are the bytes that it may unpack to, where no
    manifest tells. Raises NotCheckedError where nothing tells what its files should be and no flaw
    was found, UnsafeError, Stopped and what reading raises.
    """
    tally = Tally(read, expected, advance, stop)
    checker = Checker(ledger, report, sink=sink, most=most)
    reader = reader_of(tally.read, name, ledger, report.tell, checker.passed)
    checker.members(reader)
    tally.drain()
    for flaw in tally.digests.flaws(None, "and should be"):
        report.tell(flaw)
    checker.end()
    if ledger.has_manifest or not report.ok:
        return
    whole = expected.md5 is not None or expected.sha256 is not None
    if isinstance(reader, ZipReader):
        by = "and by its digest as a whole" if whole else "and by nothing else"
        report.note(f"without a manifest, files were checked by the archive's own CRC-32s, {by}")
    elif whole:
        report.note("without a manifest, it was checked by its digest as a whole")
    else:
        raise NotCheckedError(
            f"{name} holds together, but nothing tells what its files should be: give a manifest, "
            "or the archive's MD5 or SHA-256"
        )
