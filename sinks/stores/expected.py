"""What a completed object must be, and what it may take the place of: the same in every store."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.delivery.marks import Whose, check_replaceable, whose
from app.delivery.object_store import FoundObject, StoredPart
from app.delivery.targets import Target
from app.telemetry.logs import get_logger

log = get_logger(__name__)

LEAST_PART = 5 * 1024 * 1024  # bytes; a smaller object is put at once


def etag_of(parts: Sequence[StoredPart]) -> str | None:
    """Return the ETag that S3 makes of parts' MD5s; None where one is not known."""
    digests = [part.md5 for part in parts if part.md5 is not None]
    if len(digests) < len(parts):
        return None
    whole = hashlib.md5(b"".join(digests), usedforsecurity=False).hexdigest()
    return f"{whole}-{len(parts)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What a completed object must be."""

    size: int
    etag: str | None  # None: not known in advance; then the marks tell whose it is
    marks: Mapping[str, str]

    def is_met(self, found: FoundObject) -> bool:
        """Whether it is this object: the same bytes with another's marks are another's.

        A store that keeps no metadata leaves size and ETag to tell it by.
        """
        marked = found.has(self.marks)
        if self.etag is not None:
            unmarked = whose(found.marks, self.marks) is Whose.UNKNOWN
            marked = found.etag == self.etag and (marked or unmarked)
        return marked and found.size == self.size

    def is_made(self, found: FoundObject, *, again: bool) -> bool:
        """Whether what was found before a completion is the object already.

        Made by an earlier attempt; or, if an earlier call was in doubt (`again`), by that.
        """
        return self.is_met(found) and (again or found.has(self.marks))

    def check_replaceable(self, found: FoundObject, target: Target, key: str) -> None:
        """Raise ForeignObjectError if the object may not take the place of what is there."""
        check_replaceable(found.marks, self.marks, target, key)

    def tell_replaced(self, found: FoundObject, target: Target, key: str) -> None:
        """Log that the object took the place of what was there."""
        owner = whose(found.marks, self.marks)
        tell = log.warning if owner is Whose.UNKNOWN else log.info
        tell(
            "object_replaced",
            url=target.url_of(key),
            bytes=found.size,
            etag=found.etag,
            owner=owner.name.lower(),
            by=self.marks.get("rs-delivery-id"),
        )

    def tell_others_replaced(self, found: FoundObject, target: Target, key: str) -> None:
        """Log the same, unless what was there is of the same delivery: of many files none is."""
        if whose(found.marks, self.marks) is not Whose.ITS_OWN:
            self.tell_replaced(found, target, key)

    def flaw_of(self, found: FoundObject | None, target: Target, key: str) -> str:
        """Return in words how what was found differs."""
        return f"{key} in {target} should have {self.size} bytes and ETag {self.etag}, found " + (
            f"{found.size} bytes and ETag {found.etag}" if found else "nothing"
        )
