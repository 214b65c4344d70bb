"""What the objects of an upload are called: its record, its parts, and what is composed of these.

They lie in a folder of their own behind the target's prefix, so that a rule of the bucket can find
what is left over there, by its age. A part's name tells its number and its MD5. Each request that
makes one has a name of its own, so whatever is carried out late replaces nothing, and nothing that
was removed comes again.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Self
from uuid import uuid4

from app.delivery.object_store import Upload
from sinks.stores.gcs.target import GcsTarget

_PART = re.compile("([0-9]{5})-([0-9a-f]{32})-[0-9a-f]{12}")
_ID = re.compile("[0-9a-f]{32}")
_FOLDER = ".rs-delivery-uploads/"


def new_upload_id() -> str:
    """Return 32 hexadecimal digits."""
    return uuid4().hex


def folder_of(target: GcsTarget, key: str) -> str:
    """Return what the names of all uploads of a key begin with: a key may be as long as a name."""
    return f"{target.prefix}{_FOLDER}{hashlib.sha256(key.encode()).hexdigest()[:32]}/"


def record_of(target: GcsTarget, upload: Upload) -> str:
    """Return the name of an upload's record."""
    return f"{folder_of(target, upload.key)}{upload.upload_id}"


def parts_of(target: GcsTarget, upload: Upload) -> str:
    """Return what the names of an upload's parts begin with."""
    return f"{record_of(target, upload)}/"


def upload_id_in(target: GcsTarget, key: str, name: str) -> str | None:
    """Return the id that the name of a record, or of a folder of parts, tells; None: neither."""
    found = name.removeprefix(folder_of(target, key)).removesuffix("/")
    return found if _ID.fullmatch(found) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class PartName:
    """What a part's name tells."""

    number: int  # from 1
    md5: str  # hex, lower case; Google compared it

    @classmethod
    def read(cls, name: str) -> Self | None:
        """Read the name of an object; None if it is no part's."""
        found = _PART.fullmatch(name.rpartition("/")[2])
        return None if found is None else cls(number=int(found[1]), md5=found[2])


def new_part(target: GcsTarget, upload: Upload, number: int, md5: bytes) -> str:
    """Return a new name for a part."""
    return f"{parts_of(target, upload)}{number:05}-{md5.hex()}-{secrets.token_hex(6)}"


def new_composed(target: GcsTarget, upload: Upload) -> str:
    """Return a new name for what is composed of parts."""
    return f"{parts_of(target, upload)}composed-{uuid4().hex}"
