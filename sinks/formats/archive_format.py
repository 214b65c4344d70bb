"""What a format of archives is: members in, the bytes of one archive out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

from app.delivery.manifest import ManifestFile

# Bytes of a file that the pipeline hands to a format at once: large, for every hand-over costs the
# same, and always as many, so that the archive does not depend on how the network cut the file.
# (Whole stored blocks of deflate: neither the archive nor the parts of it have to be cut again.)
BLOCK = 16 * 0xFFFF

# A file of the archive, and its bytes: verified as they pass, BLOCK of them at a time but the last.
Member = tuple[ManifestFile, Iterator[bytes]]


class ArchiveFormat(Protocol):
    """One way to make an archive of files. It has no state: transfers share it."""

    suffix: ClassVar[str]  # of archives' names, with its dot; no suffix is the end of another
    media_type: ClassVar[str]  # that the object is stored with

    def largest(self, *, total_bytes: int, file_count: int) -> int:
        """Return the bytes that an archive of such files has at most, whatever their names.

        `total_bytes` is the sum of their sizes. Parts are planned by it, so an archive that gets
        larger than this is found to be too large when hours of work are done.
        """

    def memory(self, *, file_count: int, name_bytes: int) -> int:
        """Return the bytes of memory that `blocks` keeps of its members until the archive's end.

        At most; `name_bytes` is what all their names have, in UTF-8.
        """

    def blocks(self, members: Iterable[Member], *, compression: str) -> Iterator[bytes]:
        """Return the archive's bytes, in blocks about as large as those that come in.

        Synchronous, for a thread of its own. It takes members one after the other, reads each to
        its end before it asks for the next one, and holds no more than a block or two. The same
        members give the same bytes. `compression` is `auto`, `store` or `deflate`; a format that
        can't compress passes it over. Raises what reading a member raises.
        """
