"""Names from archives and manifests on this machine's disk: none leads out of its folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

from rs_delivery_client.errors import LocalError, UnsafeError


def parts_of(path: str) -> list[str]:
    """Return a path's folders and name. Raises UnsafeError for one that is not to be written."""
    parts = path.split("/")
    why = None
    if path.startswith("/"):
        why = "it is absolute"
    elif any(part == ".." for part in parts):
        why = "it leads out of its folder"
    elif any(part in {"", "."} for part in parts):
        why = "a part of it is empty"
    elif "\\" in path or any(part[1:2] == ":" for part in parts):
        why = "on other systems it would lead elsewhere"
    elif os.name == "nt" and any(_means_another(part) for part in parts):
        why = "this system would take it for another one"
    elif any(ord(character) < 32 or ord(character) == 127 for character in path):
        why = "it has control characters"
    if why is not None:
        raise UnsafeError(f"the name {path!r} is not written to a disk: {why}")
    return parts


def _means_another(part: str) -> bool:
    """Whether Windows takes a name for another one: a stream of a file, a device."""
    return ":" in part or part.endswith((".", " ")) or PureWindowsPath(part).is_reserved()


def folds_case(folder: Path) -> bool:
    """Whether names in a folder that differ only in case are one name. Raises LocalError."""
    with told(folder):
        handle, name = tempfile.mkstemp(prefix="case-", dir=folder)
        os.close(handle)
        place = Path(name)
        try:
            return place.with_name(place.name.upper()).exists()
        finally:
            place.unlink()


def folded(path: str) -> str:
    """Return a name as a file system has it that folds case, and what is written in two ways."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


class Folder:
    """A folder to write into, which no name leads out of. Folders in it are made as needed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._last: tuple[str, ...] = ()

    def place(self, path: str) -> Path:
        """Return where a file goes, its folders made. Raises UnsafeError, LocalError."""
        parts = parts_of(path)
        folders = tuple(parts[:-1])
        with told(self.root):
            if folders != self._last:
                self._make(folders)
                self._last = folders
            elif not folders:
                self.root.mkdir(parents=True, exist_ok=True)
        return self.root.joinpath(*parts)

    def _make(self, folders: tuple[str, ...]) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        at = self.root
        for name in folders:
            at /= name
            if at.is_symlink():
                raise UnsafeError(f"{at} is a symbolic link: what goes into it would go elsewhere")
            at.mkdir(exist_ok=True)

    @contextlib.contextmanager
    def file(self, path: str) -> Iterator[Callable[[bytes], object]]:
        """Make a file that was not there; see `checking.Sink`."""
        place = self.place(path)
        try:
            with told(place), new_file(place) as file:
                yield file.write
        except LocalError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise UnsafeError(
                    f"the archive has {path!r} twice, or two names that are one on this disk"
                ) from None
            raise


@contextlib.contextmanager
def told(place: Path) -> Iterator[None]:
    """Raise what a disk says as LocalError."""
    try:
        yield
    except OSError as error:
        name = error.filename or place
        raise LocalError(f"{name}: {error.strerror or error}") from error


def new_file(place: Path) -> BinaryIO:
    """Make a file that was not there; where a link is, none is made."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(place, flags, 0o666), "wb")


def sync_file(file: BinaryIO) -> None:
    """Have the disk keep what was written."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(place: Path) -> None:
    """Have the disk keep a folder's names, on systems that can be asked to."""
    with contextlib.suppress(OSError):
        handle = os.open(place, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def put_in_place(part: Path, place: Path) -> None:
    """Give a finished file or folder its name: at once, or not at all."""
    with told(place):
        part.replace(place)
        sync_folder(place.parent)
