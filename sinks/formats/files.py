"""Files as they are, each an object, and a list of them: the manifest, which is written last.

To the pipeline that makes archives the manifest is one: its members are the lines that tell of the
files. So it has the parts, the checkpoints and the fences of an archive, and is completed like one.
A line is written once its file is at the target, whole and verified: who sees the manifest sees
every file.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ClassVar

from app.delivery import manifest_document
from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.manifest_document import BETWEEN, MAX_BEGIN, MAX_LINE, Contents
from app.delivery.missing import MissingFile
from app.errors import CheckpointUnusableError
from sinks.formats.archive_format import Coming, Member

# Of a file's object, where they were known before it was sent.
MD5_MARK = "rs-delivery-md5"
SHA256_MARK = "rs-delivery-sha256"
AT_ONCE = 32  # files that may be on their way to the target at the same time
_KEPT = 8  # bytes of memory a file: the size of its line
_RECORD = b"files"  # what is kept of a line that was written: nothing but whose it is


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A file that is at the target, whole and verified."""

    size: int  # bytes
    md5: str  # hex, lower case
    sha256: str | None = None  # hex, lower case; where it is asked for


# Begins to put a file; what comes of it is told when it is there.
Place = Callable[[ManifestFile, Iterator[bytes]], "Future[Placed]"]


class ManifestWriter:
    """See `ArchiveWriter`: its archive is the manifest, and `place` puts the files."""

    def __init__(
        self,
        correlation_id: str,
        place: Place,
        form: Files,
        missing: Callable[[], Iterable[MissingFile]],
    ) -> None:
        self._missing = missing  # asked for once all files are there
        self._correlation_id = correlation_id
        self._place = place
        self._form = form
        self._sizes = array("Q")  # of lines, with what stands before the first

    @property
    def count(self) -> int:
        """How many files are in the manifest."""
        return len(self._sizes)

    def batches(self, members: Iterable[Member]) -> Iterator[Iterator[bytes]]:
        """Yield the lines of files that are there, some at a time, in the order of the files."""
        pending: deque[tuple[ManifestFile, Future[Placed]]] = deque()
        for file, blocks in members:
            pending.append((file, self._place(file, blocks)))
            if len(pending) == AT_ONCE or pending[0][1].done():
                yield self._lines(pending)
        while pending:
            yield self._lines(pending)

    def _lines(self, pending: deque[tuple[ManifestFile, Future[Placed]]]) -> Iterator[bytes]:
        """Wait for the first; yield the lines up to the next one that is not there yet."""
        while True:
            file, placing = pending.popleft()
            placed = placing.result()
            line = self._before() + self._form.line(file, placed)
            yield line
            self._sizes.append(len(line))
            if not pending or not pending[0][1].done():
                return

    def _before(self) -> bytes:
        return BETWEEN if self._sizes else manifest_document.begin(self._correlation_id)

    def look_ahead(self, coming: Iterator[Coming]) -> None:
        """Begin nothing: there is nothing to gain."""

    def skip(self, file: ManifestFile, finished: FinishedMember) -> None:
        """Take a file as there. Raises CheckpointUnusableError unless that is what was saved."""
        if finished.record != _RECORD:
            raise CheckpointUnusableError(
                f"what was saved of file {file.member} is not of a manifest: it begins again"
            )
        self._sizes.append(finished.size)

    def finished(self, first: int, end: int) -> list[FinishedMember]:
        """Return what is known of lines: their sizes."""
        return [FinishedMember(size, _RECORD) for size in self._sizes[first:end]]

    def end(self) -> Iterator[bytes]:
        """Return what closes the list."""
        return manifest_document.end(self._missing())

    def close(self) -> None:
        """End nothing: it has no threads."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """See `Form`."""

    crc32: bool = True  # whether lines tell it, where the listing does
    sha256: bool = False  # whether lines tell it

    suffix: ClassVar[str] = MANIFEST_NAME  # which is all of its name
    media_type: ClassVar[str] = manifest_document.MEDIA_TYPE

    @property
    def made_by(self) -> str:
        """What lines tell beside size and MD5: a manifest is gone on with as it was begun."""
        return " ".join(name for name in ("crc32", "sha256") if getattr(self, name))

    def as_made_by(self, made_by: str) -> Files:
        """Return what makes lines as in a manifest that was begun.

        Raises CheckpointUnusableError where a later version has begun it.
        """
        told = made_by.split()
        form = Files(crc32="crc32" in told, sha256="sha256" in told)
        if form.made_by != made_by:
            raise CheckpointUnusableError(
                f"a manifest that tells {made_by} of each file is not of this version: it begins "
                "again"
            )
        return form

    def line(self, file: ManifestFile, placed: Placed) -> bytes:
        """Return the line of a file. It depends on no attempt: what one tells, any other does."""
        contents = Contents(
            size=placed.size,
            md5=placed.md5,
            sha256=placed.sha256 if self.sha256 else None,
            # Not as digested: of what an earlier attempt has put, that is not known.
            crc32=file.crc32 if self.crc32 else None,
        )
        return manifest_document.line(file, contents)

    def largest(self, *, total_bytes: int, file_count: int) -> int:  # noqa: ARG002
        """Return the bytes of the manifest at most, however large the files are."""
        return MAX_BEGIN + file_count * MAX_LINE

    def memory(self, *, file_count: int, name_bytes: int) -> int:  # noqa: ARG002
        """Return the bytes that the sizes of the lines take."""
        return file_count * _KEPT

    def writer(
        self,
        correlation_id: str,
        place: Place,
        *,
        missing: Callable[[], Iterable[MissingFile]] = tuple,
    ) -> ManifestWriter:
        """Begin a manifest; `missing` tells what it is without, to the archive's thread."""
        return ManifestWriter(correlation_id, place, self, missing)
