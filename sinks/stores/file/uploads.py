"""An upload that is open: a hidden folder beside its object-to-be. All of it blocks.

What has it open looks it up by its name, which an abort and a completion take away: what comes
later finds none.

Each part has a lock, which is that of a byte of `data`, far behind all that can be there: a server
may let none write to bytes that another has locked. A part is written under its lock, an object
appears under that of all parts: so a worker that was thought dead, and writes late, writes into no
object. The lock is on the file that is written, and taken before that is looked at: with it, NFS
forgets what it remembers of the file, and after it was lost, lets none write by what is still open.
"""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from app.delivery.object_store import StoredPart, Upload
from app.errors import UploadLostError, WrongObjectError
from sinks.stores.file import names
from sinks.stores.file.faults import PlaceBusyError, is_removed, lost
from sinks.stores.file.folders import Place
from sinks.stores.file.ledger import Ledger, Recorded, header
from sinks.stores.file.notes import listed_in, read_file, tidy, write_all, write_file
from sinks.stores.file.target import FileTarget

LOCKS = 2**62  # from this byte on there are locks in place of data
TRIES = 5  # while others remove the folders that one makes, since they are empty
_COMPARED = 256 * 1024  # bytes that are read at once

Pieces = Sequence[bytes | memoryview]


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What was said of an object when its upload was opened."""

    media_type: str
    marks: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenUpload:
    """One that was found, with what it is made of open."""

    place: Place
    upload: Upload
    beside: int  # the folder that its object comes to
    name: str  # of its object, there
    hidden: int  # the hidden folder of that, which it is in
    folder: int
    data: int
    ledger: Ledger

    @property
    def target(self) -> FileTarget:
        """Where it is."""
        return self.place.target

    def lock(self, number: int | None = None) -> None:
        """Lock a part, or all of them, until the files are closed. Raises BlockingIOError."""
        if number is None:
            self.place.system.lock(self.data, LOCKS)
        else:
            self.place.system.lock(self.data, LOCKS + number, 1)
        self.ledger.lock(number)

    def check_open(self) -> None:
        """Raise UploadLostError if it was aborted or completed since it was opened."""
        system = self.place.system
        ours = system.describe_open(self.data)
        try:
            named = system.describe(names.DATA, at=self.folder)
        except FileNotFoundError as error:
            raise lost(self.target, self.upload) from error
        if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            raise lost(self.target, self.upload)
        if not self.ledger.is_of(ours):
            raise lost(self.target, self.upload, "its data has become another file")
        # A worker that died between the two steps of a completion leaves it like that.
        if ours.st_nlink > 1:
            raise lost(self.target, self.upload, "its object is there")

    def about(self) -> About:
        """Return what was said when it was opened. Raises UploadLostError where that is gone."""
        try:
            said = json.loads(read_file(self.place, names.ABOUT, at=self.folder))
            return About(media_type=said["mediaType"], marks=said["marks"])
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            raise lost(self.target, self.upload, "what it is about was not noted") from error


def create(place: Place, key: str, marks: Mapping[str, str], media_type: str) -> Upload:
    """Open one."""
    place.check_allowed(marks)
    for left in reversed(range(TRIES)):
        # One that was removed stays so: what ended it must not meet it again.
        upload = Upload(container=place.target.container, key=key, upload_id=names.new_id())
        try:
            with place.folder_of(key, make=True) as found:
                assert found is not None  # noqa: S101 - it is made
                place.check_room(found[0], 0)
                with place.beside(*found, make=True) as hidden:
                    assert hidden is not None  # noqa: S101 - it is made
                    _make(place, hidden, upload, marks, media_type)
        except BaseException as error:
            with contextlib.suppress(Exception):  # what is left is found by `list_open`
                abort(place, upload)
            if not is_removed(error):
                raise
            if not left:
                raise PlaceBusyError(
                    f"the folder of {key} in {place.target} is removed again and again while an "
                    "upload begins in it"
                ) from error
        else:
            return upload
    raise AssertionError  # the last try returns, or raises


def _make(
    place: Place,
    hidden: int,
    upload: Upload,
    marks: Mapping[str, str],
    media_type: str,
) -> None:
    system, called = place.system, f"{upload.upload_id}{names.UPLOAD}"
    system.make_folder(called, 0o700, at=hidden)
    folder = system.open_folder(called, at=hidden)
    try:
        said = {
            "container": upload.container,
            "key": upload.key,
            "mediaType": media_type,
            "marks": dict(marks),
        }
        about = json.dumps(said).encode()
        write_file(place, names.ABOUT, about, at=folder)
        write_file(place, names.DATA, b"", at=folder)
        data = system.describe(names.DATA, at=folder)
        write_file(place, names.PARTS, header(data), at=folder)
        system.sync(folder)
    finally:
        system.close(folder)
    system.sync(hidden)


@contextlib.contextmanager
def opened(place: Place, upload: Upload) -> Iterator[OpenUpload]:
    """Find an upload. Raises UploadLostError."""
    system = place.system
    with contextlib.ExitStack() as stack:
        found = stack.enter_context(place.folder_of(upload.key))
        if found is None or not names.is_id(upload.upload_id):
            raise lost(place.target, upload)
        beside, name = found
        hidden = stack.enter_context(place.beside(beside, name))
        if hidden is None:
            raise lost(place.target, upload)
        try:
            folder = system.open_folder(f"{upload.upload_id}{names.UPLOAD}", at=hidden)
            stack.callback(system.close, folder)
            data = system.open_file(names.DATA, at=folder, write=True)
            stack.callback(system.close, data)
            parts = system.open_file(names.PARTS, at=folder, write=True)
            stack.callback(system.close, parts)
        except FileNotFoundError as error:
            raise lost(place.target, upload) from error
        yield OpenUpload(
            place=place,
            upload=upload,
            beside=beside,
            name=name,
            hidden=hidden,
            folder=folder,
            data=data,
            ledger=Ledger(system, parts),
        )


def put(
    place: Place,
    upload: Upload,
    number: int,
    pieces: Pieces,
    md5: bytes,
    *,
    part_size: int | None,
    read_back: bool,
) -> None:
    """Write a part, which lasts when this returns.

    `part_size` is that of the first part, where this process has sent it.
    """
    with opened(place, upload) as open_upload:
        ledger = open_upload.ledger
        try:
            open_upload.lock(number)
        except BlockingIOError as error:
            raise PlaceBusyError(
                f"part {number} of {upload.key} in {place.target} is just being written, or the "
                "upload is being completed: by an earlier try, or a worker that lost its lease"
            ) from error
        open_upload.check_open()
        size = sum(map(len, pieces))
        place.check()
        place.check_room(open_upload.data, size)
        ledger.forget(number)
        offset = _offset(ledger, number, part_size)
        if offset is None:
            _write_aside(open_upload, number, pieces, read_back=read_back)
        else:
            write_pieces(place, open_upload.data, pieces, offset, read_back=read_back)
        ledger.record(number, Recorded(md5=md5, size=size, offset=offset))


def _offset(ledger: Ledger, number: int, part_size: int | None) -> int | None:
    """Return where a part belongs; None while the size of parts is not known.

    All but the last have that of the first. One that comes before it may be the last.
    """
    if number == 1:
        return 0
    if part_size is None:
        first = ledger.part(1)
        part_size = None if first is None else first.size
    return None if part_size is None else (number - 1) * part_size


def _write_aside(open_upload: OpenUpload, number: int, pieces: Pieces, *, read_back: bool) -> None:
    place, name = open_upload.place, names.aside(number)
    with contextlib.suppress(FileNotFoundError):  # of a try before
        place.system.unlink(name, at=open_upload.folder)
    try:
        fd = place.system.make_file(name, at=open_upload.folder)
    except FileNotFoundError as error:
        raise lost(place.target, open_upload.upload) from error
    try:
        write_pieces(place, fd, pieces, 0, read_back=read_back)
    finally:
        place.system.close(fd)
    place.system.sync(open_upload.folder)


def write_pieces(place: Place, fd: int, pieces: Pieces, offset: int, *, read_back: bool) -> None:
    """Write bytes, which last, and are compared, when this returns."""
    end = offset
    for piece in pieces:
        end = write_all(place, fd, piece, end)
    place.check()  # the pieces are taken away from a call that was given up
    place.system.sync(fd)
    there = place.system.describe_open(fd).st_size
    if there < end:
        raise WrongObjectError(
            f"{place.target} has confirmed {end} bytes of a file, and it has {there}"
        )
    if read_back:
        place.system.forget(fd, offset, end - offset)
        _compare(place, fd, pieces, offset)


def _compare(place: Place, fd: int, pieces: Pieces, offset: int) -> None:
    """Raise WrongObjectError unless the file system gives the same bytes back."""
    # One that is used again stays in the processor's cache. (A bytearray and a view are compared
    # at once; two views are, byte by byte.)
    there = bytearray(_COMPARED)
    for piece in pieces:
        view = memoryview(piece)
        for begin in range(0, len(view), _COMPARED):
            place.check()
            part = view[begin : begin + _COMPARED]
            if len(part) != len(there):
                there = bytearray(len(part))
            if place.system.read_into(fd, there, offset) != len(part) or there != part:
                raise WrongObjectError(
                    f"{place.target} gave other bytes back than were written, between byte "
                    f"{offset} and {offset + len(part)} of a file"
                )
            offset += len(part)
    place.check()


def etags(place: Place, upload: Upload) -> dict[int, str]:
    """Return the ETags of the parts that are there."""
    with opened(place, upload) as open_upload:
        open_upload.check_open()
        return {number: part.md5.hex() for number, part in open_upload.ledger.parts().items()}


def list_open(place: Place, key: str) -> list[Upload]:
    """Return every open upload of a key.

    Not those that were begun by another name of the same file: of a target whose path is longer,
    and its prefix shorter. They are another's, who is asked for by that name.
    """
    with place.folder_of(key) as found:
        if found is None:
            return []
        with place.beside(*found) as hidden:
            if hidden is None:
                return []
            entries = listed_in(place, hidden)
            listed = [
                Upload(container=place.target.container, key=key, upload_id=upload_id)
                for upload_id in names.ids(names.UPLOAD, entries)
            ]
            found_open = [upload for upload in listed if _is_begun_as(place, hidden, upload)]
        if not entries:  # a worker died as it began one: there is nothing else to end
            place.leave_beside(*found)
        return found_open


def _is_begun_as(place: Place, hidden: int, upload: Upload) -> bool:
    """Whether an upload was begun by these names; or by a worker that died before it noted any."""
    system = place.system
    try:
        folder = system.open_folder(f"{upload.upload_id}{names.UPLOAD}", at=hidden)
    except FileNotFoundError:
        return False
    try:
        said = json.loads(read_file(place, names.ABOUT, at=folder))
        return (said["container"], said["key"]) == (upload.container, upload.key)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return True
    finally:
        system.close(folder)


def abort(place: Place, upload: Upload) -> None:
    """Remove an upload, and what it has noted unless its object is there.

    The object's name goes by way of `data`: without that, no completion makes it.
    """
    with place.folder_of(upload.key) as found:
        if found is None or not names.is_id(upload.upload_id):
            return
        folder, name = found
        remove(place, folder, name, upload.upload_id)
        tidy(place, folder, name)
        place.system.sync(folder)
    place.leave(upload.key)


def remove(place: Place, beside: int, name: str, upload_id: str) -> None:
    """Remove the folder of an upload, its data first; one that is gone already is fine.

    NFS keeps a file that this machine has open under a name of its own (`.nfs…`), until it is
    closed. Raises TargetUnavailableError while a call that hangs has one: what is left can't be
    completed, but it is not gone.
    """
    with place.beside(beside, name) as hidden:
        if hidden is not None:
            _remove(place, hidden, name, upload_id)


def _remove(place: Place, hidden: int, name: str, upload_id: str) -> None:
    system, called = place.system, f"{upload_id}{names.UPLOAD}"
    try:
        folder = system.open_folder(called, at=hidden)
    except FileNotFoundError:
        return
    try:
        for _ in range(TRIES):
            with contextlib.suppress(FileNotFoundError):
                system.unlink(names.DATA, at=folder)
            kept = _empty(place, folder)
            try:
                system.remove_folder(called, at=hidden)
            except FileNotFoundError:
                return
            except OSError as error:
                # A worker that lost its lease puts something there meanwhile.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                if kept:
                    raise PlaceBusyError(
                        f"{place.target} keeps an upload of {name}, without its data: this machine "
                        "still has files of it open, in a call that hangs or a worker that is "
                        "about to stop; it is removed once these are closed"
                    ) from error
            else:
                return
    finally:
        system.close(folder)
    raise PlaceBusyError(
        f"{place.target} can't be rid of an upload of {name}: files come into it again and again"
    )


def _empty(place: Place, folder: int) -> bool:
    """Remove all files of a folder; return whether some are kept, as they are open."""
    kept = False
    for entry in place.system.names(folder):
        try:
            place.system.unlink(entry, at=folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            kept = True
    return kept


def check_parts(open_upload: OpenUpload, parts: Sequence[StoredPart]) -> list[tuple[int, Recorded]]:
    """Return what is recorded of the parts that are named, in order.

    Raises UploadLostError where one is not there, or another one.
    """
    recorded = open_upload.ledger.parts()
    found = []
    for number, part in enumerate(parts, start=1):
        there = recorded.get(number)
        if there is None or there.md5.hex() != part.etag:
            raise UploadLostError(
                f"part {number} of the upload of {open_upload.upload.key} in {open_upload.target} "
                "is not the one that was sent: a worker that had lost its lease has sent another, "
                "or it is gone; it begins again"
            )
        found.append((number, there))
    return found
