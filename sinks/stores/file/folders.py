"""The way from an allowed folder to a file: one step at a time, and never through a link.

What is opened is looked up in the folder that was opened before, so that no link that comes in
between leads elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from app.delivery.marks import tenant_of
from app.errors import TargetForbiddenError, TargetRefusedError, TargetUnavailableError
from sinks.stores.file import names
from sinks.stores.file.groups import group_id
from sinks.stores.file.names import HIDDEN, MARKER
from sinks.stores.file.roots import Roots
from sinks.stores.file.system import System
from sinks.stores.file.target import FileTarget

_NO_FOLDER = (errno.ELOOP, errno.ENOTDIR)
_UNFINISHED = 0o700  # the mode of a folder that has not got its own yet


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What one call works with, in a thread of its own."""

    system: System
    roots: Roots
    target: FileTarget
    min_free: int  # bytes
    # Raises TargetUnavailableError once none waits for the call any more: it goes no further then.
    check: Callable[[], None]

    def check_allowed(self, marks: Mapping[str, str]) -> None:
        """Raise TargetForbiddenError unless the operator lets the tenant of the marks deliver."""
        flaw = self.roots.flaw_of(self.target.path, tenant_of(marks))
        if flaw is not None:
            raise TargetForbiddenError(f"nothing is put into {self.target}: it {flaw}")

    @contextlib.contextmanager
    def open(self) -> Iterator[int]:
        """Open the folder of the target.

        Raises TargetUnavailableError where the root is not mounted, TargetRefusedError where there
        is no such folder, or a link or another mount on the way.
        """
        self.check_allowed({})
        root = self.roots.holding(self.target.path)
        assert root is not None  # noqa: S101 - it is allowed
        with contextlib.ExitStack() as opened:
            root_fd = fd = self._open_root(root)
            opened.callback(self.system.close, fd)
            for part in self.target.path[len(root) :].strip("/").split("/"):
                if part:
                    fd = self._open_part(part, at=fd)
                    opened.callback(self.system.close, fd)
            if fd != root_fd:
                self._check_one_file_system(fd, root_fd, root)
            yield fd

    def is_there(self) -> bool:
        """Whether there is such a folder. Raises as `open` does, for another reason than that."""
        try:
            with self.open():
                return True
        except TargetRefusedError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise

    def _open_root(self, root: str) -> int:
        self.check()
        try:
            fd = self.system.open_root(root)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise TargetUnavailableError(
                f"{root}, which {self.target} is in, is not there: mount it, or take it from "
                "DELIVERY_FILE_ROOTS"
            ) from error
        try:
            self._check_marked(fd, root)
        except BaseException:
            self.system.close(fd)
            raise
        return fd

    def _check_marked(self, fd: int, root: str) -> None:
        """Without it, this is what lies below a mount that is missing: the disk of this machine."""
        try:
            self.system.describe(MARKER, at=fd)
        except FileNotFoundError as error:
            raise TargetUnavailableError(
                f"{root}, which {self.target} is in, has no file {MARKER}: its file system is not "
                "mounted on this worker, or was never marked. Mount it; then, if the file is still "
                f"not there, make it once: `touch '{root}/{MARKER}'`"
            ) from error

    def _check_one_file_system(self, fd: int, root_fd: int, root: str) -> None:
        """Raise TargetRefusedError where a mount lies between, of which the marker says nothing."""
        here, above = (self.system.describe_open(each).st_dev for each in (fd, root_fd))
        if here != above:
            raise TargetRefusedError(
                f"{self.target} is on another file system than {root}: the operator names the "
                "folder that this is mounted at in DELIVERY_FILE_ROOTS, and marks it by a file "
                f"{MARKER} in it"
            )

    def _open_part(self, part: str, *, at: int) -> int:
        self.check()
        try:
            return self.system.open_folder(part, at=at)
        except FileNotFoundError as error:
            raise TargetRefusedError(
                f"there is no {self.target}: make it, or correct the tenant's settings"
            ) from error
        except OSError as error:
            if error.errno in _NO_FOLDER:
                raise self._no_folder(part) from error
            raise

    def _no_folder(self, part: str) -> TargetRefusedError:
        return TargetRefusedError(
            f"{part!r}, on the way to a file in {self.target}, is a link or no folder: links are "
            "not followed below the folders of DELIVERY_FILE_ROOTS; put a folder there"
        )

    @contextlib.contextmanager
    def folder_of(self, key: str, *, make: bool = False) -> Iterator[tuple[int, str] | None]:
        """Open the folder that a key's file is in; give it, and the name in it.

        None: there is no such folder. `make`: it is made.
        """
        *folders, name = self._parts(key)
        with contextlib.ExitStack() as opened:
            fd = opened.enter_context(self.open())
            for part in folders:
                inner = self._enter(part, at=fd, make=make)
                if inner is None:
                    yield None
                    return
                fd = inner
                opened.callback(self.system.close, fd)
            yield fd, name

    @contextlib.contextmanager
    def beside(self, folder: int, name: str, *, make: bool = False) -> Iterator[int | None]:
        """Open the hidden folder of an object; None: there is none. `make`: it is made."""
        fd = self._enter(names.beside(name), at=folder, make=make)
        try:
            yield fd
        finally:
            if fd is not None:
                self.system.close(fd)

    def leave_beside(self, folder: int, name: str) -> None:
        """Remove the hidden folder of an object if it is empty."""
        with contextlib.suppress(OSError):  # something is in it, as a rule, or it is gone
            self.system.remove_folder(names.beside(name), at=folder)

    def _parts(self, key: str) -> list[str]:
        """Return the names that a key is made of. Raises TargetRefusedError."""
        parts = key.split("/")
        for part in parts:
            if part in ("", ".", "..") or "\0" in part or part.startswith(HIDDEN):
                raise TargetRefusedError(
                    f"{key!r} is no name of a file in {self.target}: it has an empty part, . or .. "
                    f"between slashes, or one that begins with {HIDDEN}; choose another prefix, or "
                    "another correlationId"
                )
        return parts

    def _enter(self, part: str, *, at: int, make: bool) -> int | None:
        self.check()
        made = False
        try:
            fd = self.system.open_folder(part, at=at)
        except FileNotFoundError:
            if not make:
                return None
            with contextlib.suppress(FileExistsError):  # another has made it just now
                self.system.make_folder(part, _UNFINISHED, at=at)
                made = True
                self.system.sync(at)
            fd = self.system.open_folder(part, at=at)
        except OSError as error:
            if error.errno in _NO_FOLDER:
                raise self._no_folder(part) from error
            raise
        try:
            if make:
                self._finish(fd, made=made)
        except BaseException:
            self.system.close(fd)
            if made:
                with contextlib.suppress(OSError):  # or it would stay as one that few can enter
                    self.system.remove_folder(part, at=at)
            raise
        return fd

    def _finish(self, fd: int, *, made: bool) -> None:
        """Let those enter a folder who may read the files in it, as it was made.

        Also one that was made by a worker that died then; that of another user is that user's.
        """
        folder, mode = self.system.describe_open(fd), self.target.mode
        enter = mode | (mode & 0o444) >> 2 | 0o700
        left = folder.st_uid == os.geteuid() and folder.st_mode & 0o777 == _UNFINISHED != enter
        if made or left:
            self.own(fd, enter | folder.st_mode & 0o7000)  # setgid is inherited

    def own(self, fd: int, mode: int) -> None:
        """Give what is open the target's group, and a mode."""
        if self.target.group is not None:
            self.system.set_group(fd, group_id(self.target))
        self.system.set_mode(fd, mode)

    def leave(self, key: str) -> None:
        """Remove the folders of a key that are empty: all but those of the prefix."""
        *folders, _ = self._parts(key)
        kept = self.target.prefix.count("/") if key.startswith(self.target.prefix) else 0
        with contextlib.ExitStack() as opened:
            fds = [opened.enter_context(self.open())]
            for part in folders[:-1]:
                inner = self._enter(part, at=fds[-1], make=False)
                if inner is None:
                    return
                opened.callback(self.system.close, inner)
                fds.append(inner)
            for number in range(len(folders) - 1, kept - 1, -1):
                try:
                    self.system.remove_folder(folders[number], at=fds[number])
                except OSError:  # there is something in it, as a rule
                    return

    def check_room(self, fd: int, size: int) -> None:
        """Raise TargetUnavailableError unless so many bytes can be written to the file system."""
        free = self.system.free(fd)
        if free - size < self.min_free:
            raise TargetUnavailableError(
                f"{self.target} has {free} bytes free, of which {self.min_free} stay free "
                f"(DELIVERY_FILE_MIN_FREE), and {size} are to be written: free some"
            )
