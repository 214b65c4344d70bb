"""What is asked of the operating system: a line each, so that tests can let any of it fail.

Every name is looked up in an open folder (`at`), and no link is followed, but in the path of a
root. All of it may block for as long as the file system likes.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # none waits for the other end of a pipe
# type, whence, start, length, process: `struct flock` where offsets have 64 bits.
_LOCK = struct.Struct("hh4xqqi4x")
_EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
_NOREPLACE = 1  # RENAME_NOREPLACE
_renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)


class System:
    """The real one."""

    def open_root(self, path: str) -> int:
        """Open a folder by its path; links in it are the operator's, and followed."""
        return os.open(path, _FOLDER)

    def open_folder(self, name: str, *, at: int) -> int:
        """Open a folder, which is no link."""
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=at)

    def open_file(self, name: str, *, at: int, write: bool = False) -> int:
        """Open a file that is there."""
        return os.open(name, _FILE | (os.O_RDWR if write else os.O_RDONLY), dir_fd=at)

    def make_file(self, name: str, *, at: int) -> int:
        """Make a file that is not there, to be read and written by this user alone."""
        return os.open(name, _FILE | os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=at)

    def make_folder(self, name: str, mode: int, *, at: int) -> None:
        """Make a folder that is not there."""
        os.mkdir(name, mode, dir_fd=at)

    def close(self, fd: int) -> None:
        """Close a file or a folder, which lets go of its locks."""
        os.close(fd)

    def names(self, folder: int) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(folder)

    def describe(self, name: str, *, at: int) -> os.stat_result:
        """Describe what has a name: a link, if it is one."""
        return os.stat(name, dir_fd=at, follow_symlinks=False)

    def describe_open(self, fd: int) -> os.stat_result:
        """Describe what is open."""
        return os.fstat(fd)

    def free(self, fd: int) -> int:
        """Return the bytes that this user may still write to the file system."""
        found = os.fstatvfs(fd)
        return found.f_bavail * found.f_frsize

    def write(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write some of the bytes; return how many."""
        return os.pwrite(fd, data, offset)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Read bytes: fewer only at the end."""
        return os.pread(fd, size, offset)

    def read_into(self, fd: int, buffer: bytearray, offset: int) -> int:
        """Fill a buffer; return how many bytes were read: fewer only at the end."""
        return os.preadv(fd, [buffer], offset)

    def truncate(self, fd: int, size: int) -> None:
        """Cut what lies behind."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Return when what was written outlives a crash of the machine."""
        os.fsync(fd)

    def forget(self, fd: int, offset: int, size: int) -> None:
        """Let what was synced be read from the file system, and not from this machine's memory."""
        os.posix_fadvise(fd, offset, size, os.POSIX_FADV_DONTNEED)

    def set_mode(self, fd: int, mode: int) -> None:
        """Set who may do what with a file."""
        os.fchmod(fd, mode)

    def set_group(self, fd: int, group: int) -> None:
        """Give a file to a group."""
        os.fchown(fd, -1, group)

    def lock(self, fd: int, start: int = 0, size: int = 0) -> None:
        """Lock bytes of a file until it is closed; 0: to its end. Raises BlockingIOError.

        Of this open file, not of this process: so threads exclude each other, too, and so do
        machines where the file system has locks.
        """
        request = _LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, size, 0)
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
        except PermissionError as error:  # EACCES says the same as EAGAIN
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error

    def link(self, name: str, to: str, *, at: int, to_at: int) -> None:
        """Give a file a second name. Raises FileExistsError if anything has it."""
        os.link(name, to, src_dir_fd=at, dst_dir_fd=to_at, follow_symlinks=False)

    def rename(self, name: str, to: str, *, at: int, to_at: int) -> None:
        """Move a file; what had the name is gone."""
        os.rename(name, to, src_dir_fd=at, dst_dir_fd=to_at)

    def move(self, name: str, to: str, *, at: int, to_at: int) -> None:
        """Move a file. Raises FileExistsError if anything has the name."""
        _rename(name, to, at, to_at, _NOREPLACE)

    def exchange(self, name: str, to: str, *, at: int, to_at: int) -> None:
        """Let two files change names, in one step."""
        _rename(name, to, at, to_at, _EXCHANGE)

    def unlink(self, name: str, *, at: int) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=at)

    def remove_folder(self, name: str, *, at: int) -> None:
        """Remove an empty folder."""
        os.rmdir(name, dir_fd=at)


def _rename(name: str, to: str, at: int, to_at: int, flags: int) -> None:
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    if _renameat2(at, os.fsencode(name), to_at, os.fsencode(to), ctypes.c_uint(flags)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
