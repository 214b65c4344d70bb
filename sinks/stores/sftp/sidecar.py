"""What is noted of an object beside it: an SFTP server keeps no metadata.

A hidden folder holds a note for each upload that is, or may become, the object: its marks, ETag,
size and time, and its ends (the MD5 of its first and last bytes). An upload writes its own before
its file gets the object's name, and touches no other's, so what comes meanwhile keeps its own.
Which of them the object is, its size and time tell; no two with the same are let to appear. Where
its time is none of theirs, as a person has touched it or the server sets its own, size and ends
tell: SFTP has no number of an inode. An object that is none of them was put there by another
client.

Notes of uploads that are over, and are not the object, are removed by those that end theirs.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncssh

from app.delivery.object_store import FoundObject
from app.errors import DeliveryError, TargetRefusedError, TargetUnavailableError
from sinks.stores.sftp import files
from sinks.stores.sftp.paths import Place
from sinks.stores.sftp.requests import GONE
from sinks.stores.sftp.target import SftpTarget

_MAX_SIZE = 65_536  # bytes
_MAX_NOTES = 1000  # of one object: those of uploads that ended are removed
_AT_ONCE = 32  # of them that are read at the same time
_ROUNDS = 3  # in which an object may change while it is looked at, or a folder go
_UNKNOWN = "application/octet-stream"
_NAME = re.compile(r"([A-Za-z0-9]{1,64})\.[0-9a-f]{8}\.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """What is noted of one upload."""

    upload_id: str
    size: int  # bytes
    modified: int  # its time, seconds since 1970
    etag: str
    marks: Mapping[str, str] = field(default_factory=dict)
    media_type: str = _UNKNOWN
    ends: str = ""  # see `files.ends_of`; of earlier versions there is none

    @classmethod
    def read(cls, upload_id: str, noted: Mapping[str, Any]) -> Note:
        """Read one. Raises KeyError, TypeError and ValueError for what is none."""
        return cls(
            upload_id=upload_id,
            size=int(noted["size"]),
            modified=int(noted["modified"]),
            etag=str(noted["etag"]),
            marks={str(name): str(value) for name, value in dict(noted["marks"]).items()},
            media_type=str(noted.get("media_type", _UNKNOWN)),
            ends=str(noted.get("ends", "")),
        )

    def written(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "size": self.size,
            "modified": self.modified,
            "etag": self.etag,
            "marks": dict(self.marks),
            "media_type": self.media_type,
            "ends": self.ends,
        }

    def fits(self, attrs: asyncssh.SFTPAttrs) -> bool:
        """Whether the file with these attributes is it, as far as they tell."""
        return (self.size, self.modified) == (attrs.size or 0, attrs.mtime or 0)

    def means(self, other: Note) -> bool:
        """Whether both are of the same bytes, and of the same delivery."""
        return (self.etag, self.marks) == (other.etag, other.marks)

    def clashes(self, other: Note) -> bool:
        """Whether files of both would be taken for each other."""
        here, there = (self.size, self.modified), (other.size, other.modified)
        return self.upload_id != other.upload_id and here == there


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """What is in an object's place."""

    object: FoundObject  # without marks, if nothing is noted of it
    attrs: asyncssh.SFTPAttrs
    doubt: DeliveryError | None = None  # why it may be a delivery's that is not known for one


async def look(
    sftp: asyncssh.SFTPClient, target: SftpTarget, place: Place, *, own: str = ""
) -> Seen | None:
    """Look what is in an object's place, and whose it is; None if nothing is.

    `own` is the upload that asks: that it is noted says nothing of what is there. Raises
    TargetRefusedError for a folder, and for notes that can't be read.
    """
    attrs, names = await files.together(files.described(sftp, place.object), _names(sftp, place))
    for _ in range(_ROUNDS):
        if attrs is None:
            return None
        if attrs.type == asyncssh.FILEXFER_TYPE_DIRECTORY:
            raise TargetRefusedError(
                f"{place.object} in {target} is a folder: remove it, or ask again with another "
                "correlationId"
            )
        asked_at_once, names = names, None
        seen = await _judged(sftp, target, place, attrs, own, names=asked_at_once)
        if seen.object.marks and seen.doubt is None:
            return seen
        if asked_at_once is not None:
            # What came in between has its note, which may not have been there yet.
            seen = await _judged(sftp, target, place, attrs, own)
        # What is noted may be of what came, and what was noted gone with what went.
        again = await files.described(sftp, place.object)
        if again is not None and (again.size, again.mtime) == (attrs.size, attrs.mtime):
            return seen
        attrs = again
    raise TargetUnavailableError(f"{place.object} in {target} changes again and again")


async def _judged(
    sftp: asyncssh.SFTPClient,
    target: SftpTarget,
    place: Place,
    attrs: asyncssh.SFTPAttrs,
    own: str,
    *,
    names: Iterable[str] | None = None,
) -> Seen:
    size = attrs.size or 0
    notes = await read_notes(sftp, target, place, names=names)
    fitting = [note for note in notes if note.fits(attrs)]
    over: list[Note] = []
    to_come: list[Note] = []
    if not fitting:
        # Some servers keep no time that is asked for, and a person may have touched the file. What
        # never came is not told by its bytes: it may have the same.
        for note in notes:
            if note.upload_id != own:
                is_open = await _is_open(sftp, place, note.upload_id)
                (to_come if is_open else over).append(note)
        fitting = await _of_its_bytes(sftp, place, over, size)
    if fitting and all(note.means(fitting[0]) for note in fitting):
        found = FoundObject(size=size, etag=fitting[0].etag, marks=fitting[0].marks)
        return Seen(object=found, attrs=attrs)
    doubt: DeliveryError | None = None
    if fitting or any(note.size == size for note in to_come):
        doubt = TargetUnavailableError(
            f"{place.object} in {target} may be the archive of another upload, which is not over "
            "yet: it is looked at again"
        )
    elif over:
        doubt = TargetRefusedError(
            f"{place.object} in {target} is another file than the archive that was put there, of "
            f"which {place.notes} tells: remove both if they may be replaced, or ask again with "
            "another correlationId"
        )
    unknown = FoundObject(size=size, etag=f"{size:x}-{attrs.mtime or 0:x}")
    return Seen(object=unknown, attrs=attrs, doubt=doubt)


async def _of_its_bytes(
    sftp: asyncssh.SFTPClient, place: Place, notes: Iterable[Note], size: int
) -> list[Note]:
    """Return those of which the object is one, by its size, and its ends where these are noted.

    None, where it has just gone.
    """
    sized = [note for note in notes if note.size == size]
    if not any(note.ends for note in sized):
        return sized
    try:
        ends = await files.ends_of(sftp, place.object, size)
    except GONE:
        return []
    return [note for note in sized if note.ends in ("", ends)]


async def read_notes(
    sftp: asyncssh.SFTPClient,
    target: SftpTarget,
    place: Place,
    *,
    names: Iterable[str] | None = None,
    but: str = "",
) -> list[Note]:
    """Return what is noted of an object; of these `names`, or of all that are there.

    But at one path. Raises TargetRefusedError for what can't be read: whose the object is, is in
    doubt.
    """
    there = await _names(sftp, place) if names is None else names
    asked = [name for name in there if f"{place.notes}/{name}" != but]
    notes: list[Note | None] = []
    for first in range(0, len(asked), _AT_ONCE):
        some = asked[first : first + _AT_ONCE]
        notes += await files.together(*(_read(sftp, target, place, name) for name in some))
    return [note for note in notes if note is not None]


async def _names(sftp: asyncssh.SFTPClient, place: Place) -> dict[str, str]:
    """Return the upload ids of the notes, by their names."""
    try:
        names = await files.names_in(sftp, place.notes, at_most=_MAX_NOTES)
    except GONE:
        return {}
    return {name: found[1] for name in sorted(names) if (found := _NAME.fullmatch(name))}


async def _read(
    sftp: asyncssh.SFTPClient, target: SftpTarget, place: Place, name: str
) -> Note | None:
    path = f"{place.notes}/{name}"
    try:
        raw = await files.read_small(sftp, path, at_most=_MAX_SIZE)
    except GONE:
        return None
    try:
        return Note.read(name.partition(".")[0], json.loads(raw))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TargetRefusedError(
            f"{path} in {target} can't be read, which says whose {place.name} is: remove it, if "
            "that may be replaced"
        ) from error


async def write_note(sftp: asyncssh.SFTPClient, place: Place, note: Note, *, folder: str) -> str:
    """Note this of an upload; return the path. Its own `folder` is on the way: see `upload`.

    The name is new each time, so nothing is replaced: of a request that comes late, too.
    """
    name = f"{note.upload_id}.{uuid4().hex[:8]}.json"
    by, path = f"{folder}/{name}", f"{place.notes}/{name}"
    async with files.opened(sftp, by, files.CREATE) as file:
        await file.write(json.dumps(note.written(), indent=1).encode(), 0)
        await files.sync(file)
    for _ in range(_ROUNDS):
        try:
            await sftp.rename(by, path)
        except GONE:  # an upload that ends may just have removed the folder, as it was empty
            await files.make_folder(sftp, place.notes)
        else:
            return path
    with contextlib.suppress(asyncssh.SFTPError):
        await sftp.rmdir(place.notes)
    raise GONE(f"{folder} is gone")


async def tidy(
    sftp: asyncssh.SFTPClient, target: SftpTarget, place: Place, *, ended: str = ""
) -> None:
    """Remove the notes of uploads that are over and are not the object.

    `ended` is one of which nothing can come any more, though something of it is left.

    First it is seen that an upload is over, then what the object is: so it has come by then, if it
    ever does. What is noted of an object that is another one now stays: that tells so.
    """
    names = await _names(sftp, place)
    over = {
        name: upload_id
        for name, upload_id in names.items()
        if upload_id == ended or not await _is_open(sftp, place, upload_id)
    }
    there = await files.described(sftp, place.object)
    notes: dict[str, Note] = {}
    if there is not None:
        for name in names:
            with contextlib.suppress(TargetRefusedError):
                note = await _read(sftp, target, place, name)
                if note is not None:
                    notes[name] = note
    fitting = [name for name, note in notes.items() if there and note.fits(there)]
    if len({names[name] for name in fitting}) == 1:
        fitting = fitting[:1]  # two processes may have noted the same upload
    sized: set[str] = set()
    if there is not None and not fitting:
        told = await _of_its_bytes(sftp, place, notes.values(), there.size or 0)
        sized = {note.upload_id for note in told}
    before = any(upload_id in sized for upload_id in over.values() if upload_id != ended)
    for name, upload_id in over.items():
        # Without its time, its bytes tell the one that was there before: see `_judged`.
        never_came = upload_id == ended and name in notes and (before or ended not in sized)
        if there is None or (name not in fitting if fitting else never_came):
            await files.remove(sftp, f"{place.notes}/{name}")
    with contextlib.suppress(asyncssh.SFTPError):
        await sftp.rmdir(place.notes)


async def _is_open(sftp: asyncssh.SFTPClient, place: Place, upload_id: str) -> bool:
    """Whether something of an upload is there; if not, nothing can come of it any more."""
    for folder in (place.upload(upload_id), place.gone(upload_id)):  # in which order it goes
        if await files.described(sftp, folder) is not None:
            return True
    return False
