"""The names beside an object that are this service's: hidden, and of one length.

Of an object `a.zip`, in the folder where it is or comes to be:

    .rs-delivery-<digest>/          all that is of this object: no look reads what is of others
        <upload>.upload/            an upload; gone once the object is there
            data                    the object-to-be: parts at their places
            parts                   which parts are there: `ledger`
            about.json              whose it is, as it was said when it was opened
            <number>.aside          a part that came before its place was known
        <upload>.json               whose the object is: `notes` (`.new`: being written)
        <upload>.whole              what is put aside, while it is being written

The folder is made with the first of these, and goes with the last.

In each folder that the operator allows, made by the operator: `.rs-delivery-root`, which says that
the file system is mounted.

`digest` stands for the object's name, which may be as long as a name can be.
"""

from __future__ import annotations

import hashlib
import re
from uuid import uuid4

HIDDEN = ".rs-delivery-"
MARKER = ".rs-delivery-root"
UPLOAD, WHOLE, NOTES, NEW = ".upload", ".whole", ".json", ".new"
DATA, PARTS, ABOUT = "data", "parts", "about.json"
_ID = re.compile("[0-9a-f]{32}")


def new_id() -> str:
    """Return an upload id that there never was."""
    return uuid4().hex


def is_id(upload_id: str) -> bool:
    """Whether an upload may have this id: of no other is any file looked for."""
    return _ID.fullmatch(upload_id) is not None


def beside(name: str) -> str:
    """Return what the hidden folder of the object with this name is called."""
    return f"{HIDDEN}{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def ids(ending: str, listed: list[str]) -> list[str]:
    """Return the upload ids of what such a folder has with this ending."""
    found = (entry.removesuffix(ending) for entry in listed if entry.endswith(ending))
    return sorted(filter(is_id, found))


def aside(number: int) -> str:
    """Return what a part is kept as that has no place yet."""
    return f"{number}.aside"
