"""Marks as the metadata of blobs, whose names are identifiers of C#: letters, digits and `_`."""

from __future__ import annotations

from collections.abc import Mapping

# What the store itself keeps beside an object's marks.
ETAG = "rs_delivery_etag"  # that of the object, as `sinks.stores.expected` makes it
DISCARD = "rs_delivery_discard"  # of an empty blob that discarded blocks: it is no object
STATE = "rs_delivery_state"  # of an upload's record
MEDIA_TYPE = "rs_delivery_media_type"  # of what will become of it
# What Azure keeps of a folder, where an account has folders (a hierarchical namespace).
FOLDER = "hdi_isfolder"
_OWN = (ETAG, DISCARD, STATE, MEDIA_TYPE)


def as_metadata(marks: Mapping[str, str]) -> dict[str, str]:
    """Return marks as metadata. No mark has `_` in its name."""
    return {name.replace("-", "_"): value for name, value in marks.items()}


def marks_in(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the marks that are in a blob's metadata; on their way, names may change their case."""
    named = {name.lower(): value for name, value in metadata.items()}
    return {name.replace("_", "-"): value for name, value in named.items() if name not in _OWN}


def own_in(metadata: Mapping[str, str], name: str) -> str | None:
    """Return what the store keeps there by a name of its own."""
    return next((value for key, value in metadata.items() if key.lower() == name), None)
