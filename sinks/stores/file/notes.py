"""What an object says of itself: whose it is, and its ETag.

Not every file system keeps attributes with a file (NFS hardly does), so it lies beside it, in a
hidden folder of this object's own, and is written before the object appears. It tells the object
that it is about by size and time of change, and by the number of its inode where several would fit:
so what was written by other means has none, and what was copied here with its times still has its
own.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from app.delivery.object_store import FoundObject
from app.delivery.targets import Noted
from app.errors import TargetRefusedError
from sinks.stores.file.folders import Place
from sinks.stores.file.names import NEW, NOTES, UPLOAD, WHOLE, ids

_LARGEST = 64 * 1024  # bytes that are read of one


@dataclass(frozen=True, kw_only=True, slots=True)
class Note(Noted):
    """What is noted of one object."""

    name: str
    etag: str
    size: int  # bytes
    changed: int  # nanoseconds since 1970
    inode: int
    media_type: str
    marks: Mapping[str, str]

    def is_about(self, file: os.stat_result) -> bool:
        """Whether a file is the object."""
        return (self.size, self.changed) == (file.st_size, file.st_mtime_ns)


@dataclass(frozen=True, kw_only=True, slots=True)
class There:
    """A file that has the name of an object."""

    file: os.stat_result
    found: FoundObject
    noted_by: str | None  # the id of the upload that noted it; None: none has


def write_note(place: Place, beside: int, upload_id: str, note: Note) -> None:
    """Note what will be the object: whole, and lasting, before this returns."""
    name, new = (f"{upload_id}{ending}" for ending in (NOTES, NEW))
    raw = json.dumps(asdict(note)).encode()
    with contextlib.suppress(FileNotFoundError):  # of a try before
        place.system.unlink(new, at=beside)
    write_file(place, new, raw, at=beside, mode=place.target.mode)  # who copies both can read it
    place.system.rename(new, name, at=beside, to_at=beside)
    place.system.sync(beside)


def write_file(place: Place, name: str, raw: bytes, *, at: int, mode: int | None = None) -> None:
    """Make a small file, lasting; without a mode, for this user alone."""
    fd = place.system.make_file(name, at=at)
    try:
        if mode is not None:
            place.own(fd, mode)
        write_all(place, fd, raw, 0)
        place.system.sync(fd)
    finally:
        place.system.close(fd)


def write_all(place: Place, fd: int, data: bytes | memoryview, offset: int) -> int:
    """Write bytes; return where they end."""
    left = memoryview(data)
    while left:
        place.check()
        written = place.system.write(fd, left, offset)
        left, offset = left[written:], offset + written
    return offset


def look(place: Place, folder: int, name: str) -> There | None:
    """Describe what has an object's name. Raises TargetRefusedError where that is no file."""
    try:
        file = place.system.describe(name, at=folder)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(file.st_mode):
        raise TargetRefusedError(
            f"{place.target.path}/…/{name} is a link or a folder, and no archive is put there: "
            "remove it, or ask with another correlationId"
        )
    # Opened after the look, by its name: as long as the object is there, so is what is noted of it.
    with place.beside(folder, name) as beside:
        notes = {} if beside is None else _notes(place, beside, name)
    noted = [(upload_id, note) for upload_id, note in notes.items() if note.is_about(file)]
    for upload_id, note in sorted(noted, key=lambda one: one[1].inode != file.st_ino):
        found = FoundObject(size=file.st_size, etag=note.etag, marks=dict(note.marks))
        return There(file=file, found=found, noted_by=upload_id)
    # Nothing is known of its bytes: what tells it from another is when it was written.
    etag = f"{file.st_size:x}-{file.st_mtime_ns:x}"
    return There(file=file, found=FoundObject(size=file.st_size, etag=etag), noted_by=None)


def tidy(place: Place, folder: int, name: str) -> None:
    """Remove what is noted of no object that is there: by uploads that are gone, or replaced.

    What is being completed has its upload there until its object is; so it is seen as one of both.
    """
    with place.beside(folder, name) as beside:
        if beside is None:
            return
        listed = listed_in(place, beside)
        try:
            there = look(place, folder, name)
        except TargetRefusedError:  # no file has the name: nothing is noted of what has
            there = None
        kept = {*ids(UPLOAD, listed), *([there.noted_by] if there else [])}
        for ending in (NOTES, NEW, WHOLE):
            for upload_id in ids(ending, listed):
                if upload_id not in kept:
                    with contextlib.suppress(FileNotFoundError):
                        place.system.unlink(f"{upload_id}{ending}", at=beside)
    place.leave_beside(folder, name)


def listed_in(place: Place, beside: int) -> list[str]:
    """Return what such a folder has: nothing, where another has just removed it.

    NFS says that of others, too, in another word (ESTALE): so that is an error.
    """
    try:
        return place.system.names(beside)
    except FileNotFoundError:
        return []


def _notes(place: Place, beside: int, name: str) -> dict[str, Note]:
    """Return what is noted of an object, by the ids of the uploads."""
    found = (
        (each, _read(place, beside, name, each)) for each in ids(NOTES, listed_in(place, beside))
    )
    return {upload_id: note for upload_id, note in found if note is not None}


def _read(place: Place, beside: int, name: str, upload_id: str) -> Note | None:
    """Return a note; None where there is none, or none that can be understood."""
    try:
        raw = read_file(place, f"{upload_id}{NOTES}", at=beside)
        note = Note.read(json.loads(raw))
    except (FileNotFoundError, ValueError, TypeError, AttributeError):
        return None
    marks = note.marks
    good = isinstance(marks, dict) and all(isinstance(each, str) for each in marks.values())
    return note if good and note.name == name and isinstance(note.etag, str) else None


def read_file(place: Place, name: str, *, at: int) -> bytes:
    """Return a small file."""
    fd = place.system.open_file(name, at=at)
    try:
        return place.system.read(fd, _LARGEST, 0)
    finally:
        place.system.close(fd)
