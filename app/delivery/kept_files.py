"""What must be known of a half-sent file that is delivered as it is, to go on with it elsewhere.

Its upload, and what each part of it was. rs-order gives a file from its first byte on, so all of it
is read again: each part that comes is compared with the one that was sent, and what is the same is
not sent again. So a file that has changed meanwhile is never glued together from two, and its MD5
is that of all bytes, whichever process has sent them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.delivery.manifest import ManifestFile
from app.delivery.object_store import StoredPart, Upload


@dataclass(frozen=True, kw_only=True, slots=True)
class SentPart:
    """A part of a file that the store has."""

    number: int  # from 1
    stored: StoredPart
    md5: bytes  # of what was sent, 16 bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class FileStep:
    """Parts of a file that were sent since the step before; in whatever order they arrived."""

    position: int  # of the file in the manifest
    file_id: int
    size: int  # bytes of the file, as rs-order told them
    md5: str | None  # of the file, as rs-order told it
    upload: Upload  # of this very file, with the place where it is open, sealed
    part_size: int  # bytes of each part but the last
    number: int  # of the step, from 1
    parts: Sequence[SentPart]

    def is_of(self, file: ManifestFile) -> bool:
        """Whether a file is the one that these parts are of, as far as the manifest tells."""
        told = (file.position, file.file_id, file.size, file.md5)
        return told == (self.position, self.file_id, self.size, self.md5)


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptFile:
    """A file's upload that is open, and what the store has of it."""

    upload: Upload
    part_size: int  # bytes of each part but the last
    steps: int  # that were saved
    saved: Mapping[int, SentPart]  # by their numbers
    there: Mapping[int, str]  # the ETags that the store tells, by number

    def stored(self, number: int, md5: bytes) -> StoredPart | None:
        """Return a part that is there with bytes of this MD5; None: it is to be sent.

        What was sent behind the last step is not known here. But where an ETag is the MD5 of its
        part, that tells as much.
        """
        etag = self.there.get(number)
        if etag is None:
            return None
        sent = self.saved.get(number)
        if sent is not None and sent.stored.etag == etag:
            return sent.stored if sent.md5 == md5 else None
        return StoredPart(etag=etag, md5=md5) if etag == md5.hex() else None
