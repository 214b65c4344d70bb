"""What the blob with an object's name says of the object."""

from __future__ import annotations

from app.delivery.object_store import FoundObject
from app.errors import TargetRefusedError
from sinks.stores.azure.calls import Blob
from sinks.stores.azure.metadata import DISCARD, ETAG, FOLDER, marks_in, own_in
from sinks.stores.azure.target import AzureTarget


def object_of(blob: Blob | None) -> FoundObject | None:
    """Return the object that a blob is; None where there is none, or it only discarded blocks.

    Its ETag is the one that its parts make, and not Azure's own, which changes with its metadata.
    """
    if blob is None or own_in(blob.metadata, DISCARD) is not None:
        return None
    etag = own_in(blob.metadata, ETAG) or blob.version.strip('"')
    return FoundObject(size=blob.size, etag=etag, marks=marks_in(blob.metadata))


def check_no_folder(blob: Blob | None, target: AzureTarget, key: str) -> None:
    """Raise TargetRefusedError if what is there is a folder, which no blob can replace."""
    if blob is not None and own_in(blob.metadata, FOLDER) == "true":
        raise TargetRefusedError(
            f"{target.url_of(key)} is a folder: let it be removed, or ask again with another "
            "correlationId"
        )


def version_of(blob: Blob | None) -> str | None:
    """Return what a request says that it found there: None, that there was nothing."""
    return None if blob is None else blob.version
