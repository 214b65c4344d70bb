"""Files as they are, each an object, and a list of them: the manifest, which is written last.

To the pipeline that makes archives the manifest is one: its members are the lines that tell of the
files. So it has the parts, the checkpoints and the fences of an archive, and is completed like one.
A line is written once its file is at the target, whole and verified: who sees the manifest sees
every file.
"""

from __future__ import annotations

import json
import mimetypes
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ClassVar

from app import __version__
from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.naming import MAX_MEMBER_BYTES
from app.errors import CheckpointUnusableError
from sinks.formats.archive_format import Member

AT_ONCE = 32  # files that may be on their way to the target at the same time
_LINE = MAX_MEMBER_BYTES + 2048  # bytes of the manifest that a file takes, with its product's id
_BEGIN = 2048  # bytes of what stands before the first line, at most
_KEPT = 8  # bytes of memory a file: the size of its line
_RECORD = b"files"  # what is kept of a line that was written: nothing but whose it is
# The table that comes with Python, whatever the machine has beside it: so lines are the same.
_TYPES = mimetypes.MimeTypes(filenames=())


@dataclass(frozen=True, kw_only=True, slots=True)
class Placed:
    """A file that is at the target, whole and verified."""

    size: int  # bytes
    md5: str  # hex, lower case


# Begins to put a file; what comes of it is told when it is there.
Place = Callable[[ManifestFile, Iterator[bytes]], "Future[Placed]"]


def media_type_of(file: ManifestFile) -> str:
    """Return the media type of a file, as rs-order tells it; else as its name does."""
    if file.media_type is not None:
        return file.media_type
    kind, encoding = _TYPES.guess_type(f"file:{file.member}", strict=True)
    return kind if kind and not encoding else "application/octet-stream"


class ManifestWriter:
    """See `ArchiveWriter`: its archive is the manifest, and `place` puts the files."""

    def __init__(self, correlation_id: str, place: Place) -> None:
        self._correlation_id = correlation_id
        self._place = place
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
            line = self._before() + _line(file, placed)
            yield line
            self._sizes.append(len(line))
            if not pending or not pending[0][1].done():
                return

    def _before(self) -> bytes:
        if self._sizes:
            return b",\n"
        head = {"version": __version__, "correlationId": self._correlation_id}
        return _json(head)[:-1] + b',"files":[\n'

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
        yield b"\n]}\n"

    def close(self) -> None:
        """End nothing: it has no threads."""


def _line(file: ManifestFile, placed: Placed) -> bytes:
    product = {"product": file.product_id, "version": file.product_version}
    return _json(
        {
            "path": file.member,
            **{name: value for name, value in product.items() if value is not None},
            "size": placed.size,
            "md5": placed.md5,
            "mediaType": media_type_of(file),
        }
    )


def _json(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()


class Files:
    """See `Form`."""

    suffix: ClassVar[str] = MANIFEST_NAME  # which is all of its name
    media_type: ClassVar[str] = "application/json"

    def largest(self, *, total_bytes: int, file_count: int) -> int:  # noqa: ARG002
        """Return the bytes of the manifest at most, however large the files are."""
        return _BEGIN + file_count * _LINE

    def memory(self, *, file_count: int, name_bytes: int) -> int:  # noqa: ARG002
        """Return the bytes that the sizes of the lines take."""
        return file_count * _KEPT

    def writer(self, correlation_id: str, place: Place) -> ManifestWriter:
        """Begin a manifest."""
        return ManifestWriter(correlation_id, place)
