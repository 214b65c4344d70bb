"""Objects that are there, and what is put aside. All of it blocks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from app.delivery.object_store import FoundObject
from app.errors import TargetRefusedError
from sinks.stores.file import names
from sinks.stores.file.faults import PlaceBusyError, is_removed
from sinks.stores.file.folders import Place
from sinks.stores.file.notes import Note, look, tidy, write_note
from sinks.stores.file.uploads import TRIES, Pieces, write_pieces

_PIECE = 1024 * 1024  # bytes that are read at once
_MEDIA_TYPE = "application/octet-stream"


def find(place: Place, key: str) -> FoundObject | None:
    """Describe an object."""
    with place.folder_of(key) as found:
        there = None if found is None else look(place, *found)
        return None if there is None else there.found


def delete(place: Place, key: str, etag: str) -> None:
    """Remove an object, if it is still the one with this ETag."""
    with place.folder_of(key) as found:
        there = None if found is None else look(place, *found)
        if found is None or there is None or there.found.etag != etag:
            raise TargetRefusedError(
                f"{place.target} does not remove {key}: it is gone, or another one by now"
            )
        folder, name = found
        _remove(place, folder, name)
    place.leave(key)


def drop(place: Place, key: str) -> None:
    """Remove an object, if it is there."""
    with place.folder_of(key) as found:
        if found is None:
            return
        _remove(place, *found)
    place.leave(key)


def _remove(place: Place, folder: int, name: str) -> None:
    """Remove a file, then what is noted of it."""
    with contextlib.suppress(FileNotFoundError):
        place.system.unlink(name, at=folder)
    tidy(place, folder, name)
    place.system.sync(folder)


def put_aside(
    place: Place,
    key: str,
    pieces: Pieces,
    md5: bytes,
    marks: Mapping[str, str],
    *,
    read_back: bool,
) -> None:
    """Make a small object, which appears whole; one that is there is replaced."""
    place.check_allowed(marks)
    put_id = names.new_id()
    for left in reversed(range(TRIES)):
        try:
            with place.folder_of(key, make=True) as found:
                assert found is not None  # noqa: S101 - it is made
                with place.beside(*found, make=True) as hidden:
                    assert hidden is not None  # noqa: S101 - it is made
                    _put(place, hidden, *found, put_id, pieces, md5, marks, read_back=read_back)
        except BaseException as error:
            with contextlib.suppress(Exception), place.folder_of(key) as found:
                if found is not None:
                    tidy(place, *found)
            with contextlib.suppress(Exception):
                place.leave(key)
            if not is_removed(error):
                raise
            if not left:
                raise PlaceBusyError(
                    f"the folder of {key} in {place.target} is removed again and again while it "
                    "is written there"
                ) from error
        else:
            return


def _put(
    place: Place,
    hidden: int,
    folder: int,
    name: str,
    put_id: str,
    pieces: Pieces,
    md5: bytes,
    marks: Mapping[str, str],
    *,
    read_back: bool,
) -> None:
    system, new = place.system, f"{put_id}{names.WHOLE}"
    size = sum(map(len, pieces))
    place.check()
    place.check_room(folder, size)
    fd = system.make_file(new, at=hidden)
    try:
        write_pieces(place, fd, pieces, 0, read_back=read_back)
        file = system.describe_open(fd)
    finally:
        system.close(fd)
    note = Note(
        name=name,
        etag=md5.hex(),
        size=size,
        changed=file.st_mtime_ns,
        inode=file.st_ino,
        media_type=_MEDIA_TYPE,
        marks=dict(marks),
    )
    write_note(place, hidden, put_id, note)
    place.check()
    system.rename(new, name, at=hidden, to_at=folder)
    system.sync(folder)
    tidy(place, folder, name)


def read_range(place: Place, key: str, etag: str, offset: int, length: int) -> list[bytes] | None:
    """Return some bytes of an object; None where it is not there, or has another ETag.

    It is opened before the look: what has its name then is what is read.
    """
    with place.folder_of(key) as found:
        if found is None:
            return None
        folder, name = found
        try:
            fd = place.system.open_file(name, at=folder)
        except FileNotFoundError:
            return None
        try:
            there, opened = look(place, folder, name), place.system.describe_open(fd)
            if (
                there is None
                or there.found.etag != etag
                or (there.file.st_dev, there.file.st_ino) != (opened.st_dev, opened.st_ino)
            ):
                return None
            return _pieces(place, fd, offset, length)
        finally:
            place.system.close(fd)


def _pieces(place: Place, fd: int, offset: int, most: int) -> list[bytes]:
    """Return the bytes from an offset on, and no more than so many."""
    pieces: list[bytes] = []
    while most:
        place.check()
        piece = place.system.read(fd, min(most, _PIECE), offset)
        if not piece:
            break
        pieces.append(piece)
        offset, most = offset + len(piece), most - len(piece)
    return pieces


def read(place: Place, key: str, size: int) -> list[bytes]:
    """Return the bytes of an object, in pieces, and one byte more than `size` at most."""
    with place.folder_of(key) as found:
        if found is None:
            return []
        folder, name = found
        try:
            fd = place.system.open_file(name, at=folder)
        except FileNotFoundError:
            return []
        try:
            return _pieces(place, fd, 0, size + 1)
        finally:
            place.system.close(fd)
