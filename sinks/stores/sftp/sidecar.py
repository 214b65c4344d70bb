"""What is noted of an object beside it: an SFTP server keeps no metadata.

A hidden file holds the marks and the ETag of the object, and, while another one takes its place,
those of both: it is written before. Which of them the object is, its size and time tell; the new
one is given a time of its own. An object that is none of them was put there by another client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncssh

from app.delivery.object_store import FoundObject
from app.errors import TargetRefusedError
from sinks.stores.sftp import files
from sinks.stores.sftp.paths import Place
from sinks.stores.sftp.requests import GONE
from sinks.stores.sftp.target import SftpTarget

_MAX_SIZE = 65_536  # bytes
_UNKNOWN = "application/octet-stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What is noted of one object."""

    size: int  # bytes
    modified: int  # its time, seconds since 1970
    etag: str
    marks: Mapping[str, str] = field(default_factory=dict)
    media_type: str = _UNKNOWN

    @classmethod
    def read(cls, noted: Mapping[str, Any]) -> Note:
        """Read one. Raises KeyError, TypeError and ValueError for what is none."""
        return cls(
            size=int(noted["size"]),
            modified=int(noted["modified"]),
            etag=str(noted["etag"]),
            marks={str(name): str(value) for name, value in dict(noted["marks"]).items()},
            media_type=str(noted.get("media_type", _UNKNOWN)),
        )

    def written(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "size": self.size,
            "modified": self.modified,
            "etag": self.etag,
            "marks": dict(self.marks),
            "media_type": self.media_type,
        }


async def read_notes(sftp: asyncssh.SFTPClient, target: SftpTarget, place: Place) -> list[Note]:
    """Return what is noted of an object, the newest first.

    Raises TargetRefusedError for what can't be read: whose the object is, is in doubt.
    """
    try:
        pieces = [piece async for piece in files.receive(sftp, place.sidecar, at_most=_MAX_SIZE)]
    except GONE:
        return []
    try:
        return [Note.read(noted) for noted in json.loads(b"".join(pieces))["objects"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TargetRefusedError(
            f"{place.sidecar} in {target} can't be read, which says whose {place.name} is: remove "
            "it, if that may be replaced"
        ) from error


async def write_notes(
    sftp: asyncssh.SFTPClient, place: Place, notes: list[Note], *, by: str
) -> None:
    """Note this of an object; `by` is the path that it is written at before."""
    text = json.dumps({"objects": [note.written() for note in notes]}, indent=1)
    async with files.opened(sftp, by, files.CREATE) as file:
        await file.write(text.encode(), 0)
        await files.sync(file)
    await files.replace(sftp, place.sidecar, by)


def note_of(attrs: asyncssh.SFTPAttrs, notes: list[Note]) -> Note | None:
    """Return what is noted of the object with these attributes; None if it is another one.

    Some servers keep no time that is asked for, and a person may have touched the file: then its
    size is all that it can be told by.
    """
    same = [note for note in notes if note.size == attrs.size]
    exactly = (note for note in same if note.modified == attrs.mtime)
    return next(exactly, same[0] if same else None)


def object_of(attrs: asyncssh.SFTPAttrs, notes: list[Note]) -> FoundObject:
    """Return an object as it is noted; without marks, if nothing is noted of this one."""
    size, note = attrs.size or 0, note_of(attrs, notes)
    if note is None:
        return FoundObject(size=size, etag=f"{size:x}-{attrs.mtime or 0:x}")
    return FoundObject(size=size, etag=note.etag, marks=note.marks)
