"""Files that a partial delivery is without (contract, section 6): which, and why."""

from __future__ import annotations

from dataclasses import dataclass

from app.delivery.manifest import ListedFile, ManifestFile
from app.errors import as_cause

# Numbers of missing files that rs-order never listed come behind all positions of a manifest.
NEVER_LISTED = 1 << 40
MAX_CAUSE = 500  # characters that are kept of a file's cause: an order may have a million files


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingFile:
    """A file that was ordered, and is not delivered.

    Of files that rs-order counts, and does not name, there is one entry, with their number.
    """

    cause: str  # why, in words for the client
    file_id: int | None = None  # rs-order's; None: it does not name them
    member: str | None = None  # the name that it would have; None: it does not name them
    size: int | None = None  # bytes, where that is told
    product_id: str | None = None
    product_version: int | None = None
    files: int = 1  # that this stands for
    # Its place in the manifest, which it has left; None: it never was there, as rs-order never
    # listed it.
    position: int | None = None

    @classmethod
    def of(cls, file: ManifestFile, cause: str) -> MissingFile:
        """Return a file of the manifest as one that is missing."""
        return cls(
            cause=bounded(cause),
            file_id=file.file_id,
            member=file.member,
            size=file.size,
            product_id=file.product_id,
            product_version=file.product_version,
            position=file.position,
        )

    @classmethod
    def never_listed(cls, file: ListedFile, member: str, cause: str) -> MissingFile:
        """Return a file that rs-order tells of, and has not made available."""
        return cls(
            cause=bounded(cause),
            file_id=file.file_id,
            member=member,
            size=file.size,
            product_id=as_cause(file.product_id),
            product_version=file.version,
        )

    def laid_out(self) -> ManifestFile:
        """Return it as it was in the manifest."""
        assert self.position is not None  # noqa: S101 - it was there
        assert self.file_id is not None  # noqa: S101 - likewise
        return ManifestFile(
            position=self.position,
            file_id=self.file_id,
            member=self.member or "",
            size=self.size,
            md5=None,
            product_id=self.product_id,
            product_version=self.product_version,
        )

    @classmethod
    def unnamed(cls, files: int, cause: str) -> MissingFile:
        """Return the entry for files that rs-order counts, and does not name."""
        return cls(cause=bounded(cause), files=files)


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingSoFar:
    """What a delivery is without, in short."""

    files: int = 0
    cause: str | None = None  # of most of them; of equally many, that of the first
    left: int = 0  # files that are in its manifest


def bounded(cause: str) -> str:
    """Return a cause as it is kept with each file."""
    cause = as_cause(cause)
    return cause if len(cause) <= MAX_CAUSE else cause[: MAX_CAUSE - 1] + "…"
