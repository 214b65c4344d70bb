"""What an error of the file system means here: whether it passes, and what to do about it."""

from __future__ import annotations

import errno
import os

from app.delivery.object_store import Upload
from app.errors import (
    DeliveryError,
    TargetRefusedError,
    TargetUnavailableError,
    UploadLostError,
)
from sinks.stores.file.target import FileTarget


class PlaceBusyError(TargetUnavailableError):
    """Another call has what this one needs: nothing is wrong with the file system."""


# It stays so until a person changes something about the place, or what is asked for.
_REFUSED = {
    errno.EACCES: "give the service's user, or its group, the right to read and write there",
    errno.EPERM: "give the service's user the right to; `group` must be one that it is in",
    errno.ENAMETOOLONG: "choose a shorter path or prefix, or ask with a shorter correlationId",
    errno.ELOOP: "there is a link in the path, and none is followed below the allowed folder",
    errno.ENOTDIR: "a part of the path is a link or no folder; links are not followed",
    errno.EISDIR: "there is a folder in the place of a file",
    errno.EFBIG: "the file system, or a limit of the process, takes no file of that size",
    errno.EXDEV: "an upload and its archive must be on one file system: mount none in between",
    errno.EOPNOTSUPP: "the file system must have locks, and links or renames that replace nothing; "
    "see its mount options",
    errno.ENOSYS: "the file system must have locks (Lustre: mount it with `flock`)",
    errno.EMLINK: "the folder, or the file, takes no further name",
}
# It may pass by itself, or an operator ends it: deliveries wait.
_PASSING = {
    errno.ENOSPC: "there is no space left: free some",
    errno.EDQUOT: "a quota is used up: raise it, or free space",
    errno.EROFS: "the file system is mounted read-only, maybe after an error of its own: see the "
    "kernel's log, and mount it again",
    errno.ESTALE: "the server exports another folder than it did when this one was opened: it is "
    "opened again",
    errno.EIO: "the file system reports an error of its own: see the kernel's log",
    errno.ENOLCK: "no lock is given: see that the lock service of the file system runs",
    errno.ENOTCONN: "the file system is not connected: mount it again",
    errno.EMFILE: "this process has too many files open: raise its limit",
}


def translated(error: OSError, target: FileTarget, action: str) -> DeliveryError:
    """Return what to raise instead of an error of the operating system."""
    number = error.errno or 0
    said = f"{os.strerror(number)}, {errno.errorcode.get(number, number)}" if number else str(error)
    sentence = f"could not {action} in {target} ({said})"
    if number in _REFUSED:
        return TargetRefusedError(f"{sentence}: {_REFUSED[number]}")
    return TargetUnavailableError(f"{sentence}: {_PASSING.get(number, 'it is tried again')}")


def lost(target: FileTarget, upload: Upload, why: str = "") -> UploadLostError:
    """Return the error of an upload that is gone."""
    why = why or "another worker, or a person, has removed it"
    return UploadLostError(
        f"{target} has the upload {upload.upload_id} of {upload.key} no more: {why}; it begins "
        "again"
    )


def is_removed(error: BaseException) -> bool:
    """Whether something is gone that was open, or looked up: NFS calls what was open stale."""
    return isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ESTALE)
