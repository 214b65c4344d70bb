"""What a format of archives is: members in, the bytes of one archive out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, NamedTuple, Protocol

from app.delivery.checkpoint import FinishedMember
from app.delivery.manifest import ManifestFile

# Bytes of a file that the pipeline hands to a format at once: large, for every hand-over costs the
# same, and always as many, so that the archive does not depend on how the network cut the file.
# (Whole stored blocks of deflate: neither the archive nor the parts of it have to be cut again.)
BLOCK = 16 * 0xFFFF
# Bytes of a file at most that a format may begin before its turn.
SMALL = 256 * 1024

# A file of the archive, and its bytes: verified as they pass, BLOCK of them at a time but the last.
Member = tuple[ManifestFile, Iterator[bytes]]


class Coming(NamedTuple):
    """A small file that is there to its end before its turn. Nothing of it is verified yet."""

    file: ManifestFile
    content: bytes


class ArchiveWriter(Protocol):
    """One archive, made batch by batch: for one thread. The same members give the same bytes."""

    @property
    def count(self) -> int:
        """How many members are in the archive."""

    def batches(self, members: Iterable[Member]) -> Iterator[Iterator[bytes]]:
        """Yield the bytes of some small members, or of a large one, at a time.

        In blocks about as large as those that come in; each batch is read to its end before the
        next one. It takes members one after the other, reads each to its end before it asks for
        the next one, and holds no more than a block or two beside what its format's `memory` tells.
        Raises what reading a member raises, and SizeNotToldError. The bytes of a member depend on
        it alone, not on what comes in the same batch.
        """

    def look_ahead(self, coming: Iterator[Coming]) -> None:
        """Begin members that follow, if that is any use; what is begun is none of the archive yet.

        Asked between two members. `coming` waits for nothing, and yields no file twice.
        """

    def skip(self, file: ManifestFile, finished: FinishedMember) -> None:
        """Take a member as made: its bytes are in the archive already."""

    def finished(self, first: int, end: int) -> list[FinishedMember]:
        """Return what is known of members, from number `first`, counted from 0, up to `end`.

        May be asked from another thread, for members that are in the archive by then.
        """

    def end(self) -> Iterator[bytes]:
        """Return what comes behind the last member."""

    def close(self) -> None:
        """End the threads that it has; nothing is asked of it behind that."""


class Form(Protocol):
    """What a delivery's object is. It never changes: transfers share it."""

    suffix: ClassVar[str]  # of objects' names, with its dot; no suffix is the end of another
    media_type: ClassVar[str]  # that the object is stored with

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        """Return the bytes that an archive of such files has at most, whatever their names.

        `total_bytes` is the sum of their sizes. Parts are planned by it, so an archive that gets
        larger than this is found to be too large when hours of work are done.
        """

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        """Return the bytes of memory that a writer takes at most, beside a block or two.

        What it keeps of its members until the archive's end, and what it holds of those that it
        makes just now. `name_bytes` is what all their names have, in UTF-8.
        """


class ArchiveFormat(Form, Protocol):
    """One way to make an archive of files."""

    def writer(self, *, compression: str) -> ArchiveWriter:
        """Begin an archive.

        `compression` is `auto`, `store` or `deflate`; a format that can't compress passes it over.
        """
