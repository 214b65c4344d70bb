"""What the object with a key says of the archive."""

from __future__ import annotations

from app.delivery.object_store import FoundObject
from sinks.stores.gcs.calls import NONE, Stored

# Metadata beside the marks.
ETAG = "rs-delivery-etag"  # that of the object, as `sinks.stores.expected` makes it
CRC32C = "rs-delivery-crc32c"  # that a composed object must have, in hex: what its parts make
_OWN = (ETAG, CRC32C)
# Of a composed object, in hex: for those who read it. A file that is delivered as an object of its
# own has a mark of that name, which is the same.
MD5 = "rs-delivery-md5"


def object_of(stored: Stored | None) -> FoundObject | None:
    """Return the object that this is; None where there is none.

    Its ETag is the one that its parts make: Google's own is opaque, and changes with its metadata.
    Of one that was not made here, it is its MD5, or else its generation; likewise of one that was
    composed here, and has not the bytes of its parts: whichever attempt looks, it is another one.
    """
    if stored is None:
        return None
    told = stored.metadata.get(ETAG) if _is_as_composed(stored) else None
    own = stored.md5.hex() if stored.md5 is not None else stored.generation
    marks = {name: value for name, value in stored.metadata.items() if name not in _OWN}
    return FoundObject(size=stored.size, etag=told or own, marks=marks)


def _is_as_composed(stored: Stored) -> bool:
    """Whether an object has the bytes of its parts; of one that was put at once, Google says so."""
    return stored.metadata.get(CRC32C) in (None, noted_crc32c(stored.crc32c))


def noted_crc32c(crc32c: int) -> str:
    """Return a CRC32C as it is noted: 8 hexadecimal digits."""
    return f"{crc32c:08x}"


def generation_of(stored: Stored | None) -> str:
    """Return what a request says that it found there."""
    return NONE if stored is None else stored.generation
