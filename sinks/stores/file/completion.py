"""The completion of an upload: its object appears, whole and lasting, in the place of no other's.

It appears in one step of the file system: as a second name of what was uploaded (`link`), which
fails where anything has that name; or, in the place of an object that it may replace, by an
exchange of both, so that what comes out is seen to be what was looked at. NFS has no exchange:
there, a rename follows right upon the look.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.delivery.object_store import FoundObject, StoredPart, Upload
from app.errors import TargetRefusedError, TargetUnavailableError, WrongObjectError
from sinks.stores.expected import Expected
from sinks.stores.file import names, uploads
from sinks.stores.file.faults import PlaceBusyError, lost
from sinks.stores.file.folders import Place
from sinks.stores.file.ledger import Recorded
from sinks.stores.file.notes import Note, There, look, tidy, write_all, write_note
from sinks.stores.file.uploads import OpenUpload

LOCK_TIMEOUT = 20.0  # seconds that parts may still be written, by others or tries before
_MAX_ROUNDS = 5  # in which an object may come or change while it is looked at
_LOCK_INTERVAL = 0.05  # seconds
_PIECE = 1024 * 1024  # bytes that are copied at once
# What says that a file system can't do one thing, which another may stand in for.
_CANNOT = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EMLINK)


@dataclass(frozen=True, kw_only=True)
class FileCompletion:
    """One upload whose parts are all there. In a thread."""

    place: Place
    upload: Upload
    parts: Sequence[StoredPart]
    expected: Expected
    ask_until: float  # by the clock: what appears later is not decided when it was said to be
    lock_timeout: float = LOCK_TIMEOUT  # seconds
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def run(self, *, again: bool) -> str:
        """Let the object appear; return its ETag."""
        for _ in range(_MAX_ROUNDS):
            if (etag := self._made_before(again=again)) is not None:
                return etag
            if (etag := self._complete()) is not None:
                return etag
        raise PlaceBusyError(
            f"{self.upload.key} in {self.place.target} is written by others again and again"
        )

    def _made_before(self, *, again: bool) -> str | None:
        """Return the ETag of the object if it is there; no upload is left over then.

        By this upload, or by one before it: that can't be told.
        """
        with self.place.folder_of(self.upload.key) as found:
            there = None if found is None else look(self.place, *found)
            if found is None or there is None:
                return None
            if not self.expected.is_made(there.found, again=again):
                self.expected.check_replaceable(there.found, self.place.target, self.upload.key)
                return None
            folder, name = found
            uploads.remove(self.place, folder, name, self.upload.upload_id)
            tidy(self.place, folder, name)
            self.place.system.sync(folder)  # its maker may have died before that
            return there.found.etag

    def _complete(self) -> str | None:
        """Complete it; None if something came, went or changed in its place meanwhile."""
        with uploads.opened(self.place, self.upload) as upload:
            self._lock(upload)
            upload.check_open()
            there = look(self.place, upload.beside, upload.name)
            if there is not None:
                self.expected.check_replaceable(there.found, self.place.target, self.upload.key)
            note = self._finish(upload)
            try:
                write_note(self.place, upload.hidden, self.upload.upload_id, note)
            except FileNotFoundError as error:
                raise lost(self.place.target, self.upload) from error
            if not self._appear(upload, there):
                return None
            # Before the lock is let go of: it is the object, or what that has taken the place of.
            with contextlib.suppress(FileNotFoundError):
                self.place.system.unlink(names.DATA, at=upload.folder)
            self._check(upload, note)
        self._clean()
        if there is not None:
            self.expected.tell_replaced(there.found, self.place.target, self.upload.key)
        return note.etag

    def _clean(self) -> None:
        """Remove what is left of the upload, once none of its files is open here."""
        with self.place.folder_of(self.upload.key) as found:
            if found is not None:
                folder, name = found
                uploads.remove(self.place, folder, name, self.upload.upload_id)
                tidy(self.place, folder, name)
                self.place.system.sync(folder)

    def _lock(self, upload: OpenUpload) -> None:
        """Keep all others from writing parts.

        Raises UploadLostError where one does not end: it begins again, in an upload of its own.
        """
        until = self.clock() + self.lock_timeout
        while True:
            self.place.check()
            try:
                upload.lock()
            except BlockingIOError as error:
                if self.clock() > until:
                    raise lost(
                        self.place.target,
                        self.upload,
                        f"a part is still being written after {self.lock_timeout:g} s, by a worker "
                        "that lost its lease, or by a try that hangs",
                    ) from error
                self.sleep(_LOCK_INTERVAL)
            else:
                return

    def _finish(self, upload: OpenUpload) -> Note:
        """Make the file what the object is to be; return what is noted of it."""
        system, target = self.place.system, self.place.target
        recorded = uploads.check_parts(upload, self.parts)
        if not recorded:
            raise TargetRefusedError(f"{target} does not complete {self.upload.key}: no part")
        end = 0
        for number, part in recorded:
            if part.offset is None:
                self._copy(upload, number, part, end)
            elif part.offset != end:
                raise TargetRefusedError(
                    f"{target} does not complete {self.upload.key}: its parts have several sizes"
                )
            end += part.size
        assert self.expected.etag is not None  # noqa: S101 - parts here have MD5s
        etag = self.expected.etag
        if end != self.expected.size:
            made = FoundObject(size=end, etag=etag)
            raise WrongObjectError(self.expected.flaw_of(made, target, self.upload.key))
        about = upload.about()
        system.truncate(upload.data, end)
        self.place.own(upload.data, target.mode)
        system.sync(upload.data)
        file = system.describe_open(upload.data)
        if file.st_size != end:
            made = FoundObject(size=file.st_size, etag=etag)
            raise WrongObjectError(self.expected.flaw_of(made, target, self.upload.key))
        return Note(
            name=upload.name,
            etag=etag,
            size=end,
            changed=file.st_mtime_ns,
            inode=file.st_ino,
            media_type=about.media_type,
            marks=about.marks,
        )

    def _copy(self, upload: OpenUpload, number: int, part: Recorded, offset: int) -> None:
        """Put a part into its place that came before that was known."""
        system = self.place.system
        try:
            fd = system.open_file(names.aside(number), at=upload.folder)
        except FileNotFoundError as error:
            raise lost(self.place.target, self.upload, f"part {number} is gone") from error
        copied = hashlib.md5(usedforsecurity=False)
        try:
            for begin in range(0, part.size, _PIECE):
                piece = system.read(fd, min(_PIECE, part.size - begin), begin)
                copied.update(piece)
                write_all(self.place, upload.data, piece, offset + begin)
        finally:
            system.close(fd)
        if copied.digest() != part.md5:
            why = f"part {number} is not read as it was written"
            raise lost(self.place.target, self.upload, why)

    # The step in which it appears.

    def _appear(self, upload: OpenUpload, there: There | None) -> bool:
        """Give the file its name; False if another file has it than was looked at."""
        self.place.check()
        if self.clock() > self.ask_until:
            raise TargetUnavailableError(
                f"{self.place.target} took too long to make an archive ready; its "
                "completion is asked for again"
            )
        try:
            return self._add(upload) if there is None else self._replace(upload, there.file)
        except FileNotFoundError as error:
            # NFS says so, too, of a rename that it has made when its first answer was lost.
            if self._is(upload.data, upload):
                return True
            raise lost(self.place.target, self.upload) from error

    def _add(self, upload: OpenUpload) -> bool:
        system = self.place.system
        try:
            try:
                system.link(names.DATA, upload.name, at=upload.folder, to_at=upload.beside)
            except FileExistsError:
                raise
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
                system.move(names.DATA, upload.name, at=upload.folder, to_at=upload.beside)
        except FileExistsError:
            # NFS says so, too, of a link that it has made when its first answer was lost.
            return self._is(upload.data, upload)
        return True

    def _replace(self, upload: OpenUpload, seen: os.stat_result) -> bool:
        system = self.place.system
        try:
            system.exchange(names.DATA, upload.name, at=upload.folder, to_at=upload.beside)
        except FileNotFoundError:
            # Which of both is gone?
            upload.check_open()
            return False
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            now = look(self.place, upload.beside, upload.name)
            if now is None or not _is_as_seen(now.file, seen):
                return False
            system.rename(names.DATA, upload.name, at=upload.folder, to_at=upload.beside)
            return True
        with contextlib.suppress(FileNotFoundError):
            came_out = system.describe(names.DATA, at=upload.folder)
            if not _is_as_seen(came_out, seen):
                # Another one came in between: it goes back to where it was.
                system.exchange(names.DATA, upload.name, at=upload.folder, to_at=upload.beside)
                return False
        return True

    def _is(self, fd: int, upload: OpenUpload) -> bool:
        system = self.place.system
        with contextlib.suppress(FileNotFoundError):
            named = system.describe(upload.name, at=upload.beside)
            return os.path.samestat(named, system.describe_open(fd))
        return False

    def _check(self, upload: OpenUpload, note: Note) -> None:
        """Raise WrongObjectError unless the object is what was made."""
        there = look(self.place, upload.beside, upload.name)
        found = None if there is None else there.found
        if found is None or not self.expected.is_met(found) or found.etag != note.etag:
            raise WrongObjectError(self.expected.flaw_of(found, self.place.target, self.upload.key))


def _is_as_seen(file: os.stat_result, seen: os.stat_result) -> bool:
    """Whether a file is the one that was described before, and is closed since.

    File systems give the number of a file that is gone to the next one.
    """
    return os.path.samestat(file, seen) and (file.st_size, file.st_mtime_ns) == (
        seen.st_size,
        seen.st_mtime_ns,
    )
