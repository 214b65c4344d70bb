"""What the object with a key says of the archive."""

from __future__ import annotations

from app.delivery.object_store import FoundObject
from sinks.stores.gcs.calls import NONE, Stored

# Metadata beside the marks.
ETAG = "rs-delivery-etag"  # that of the object, as `sinks.stores.expected` makes it
MD5 = "rs-delivery-md5"  # of a composed object, in hex: for those who read it
_OWN = (ETAG, MD5)


def object_of(stored: Stored | None) -> FoundObject | None:
    """Return the object that this is; None where there is none.

    Its ETag is the one that its parts make: Google's own is opaque, and changes with its metadata.
    Of one that was not made here, it is its MD5, or else its generation.
    """
    if stored is None:
        return None
    own = stored.md5.hex() if stored.md5 is not None else stored.generation
    marks = {name: value for name, value in stored.metadata.items() if name not in _OWN}
    return FoundObject(size=stored.size, etag=stored.metadata.get(ETAG) or own, marks=marks)


def generation_of(stored: Stored | None) -> str:
    """Return what a request says that it found there."""
    return NONE if stored is None else stored.generation
