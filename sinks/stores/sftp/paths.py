"""Where things lie in a target's folder.

`KEY` is the object; what begins with a dot is this service's own, beside the object and so on the
same file system:

    folder/a.zip                                   the object
    folder/.a.zip.rs-delivery/                     notes: whose it is, and what it must be
        <upload id>.<a few digits>.json            of each upload that is, or may become, the object
    folder/.a.zip.rs-delivery-<upload id>/         an upload that is open
    folder/.a.zip.rs-delivery-<upload id>.gone/    one that is aborted, or completed
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from app.delivery.object_store import Upload
from app.errors import TargetRefusedError
from sinks.stores.sftp.target import SftpTarget

_CONTROL = re.compile("[\x00-\x1f\x7f]")
_UPLOAD_ID = re.compile("[A-Za-z0-9]{1,64}")
_MAX_LABEL = 160  # bytes of an object's name that are kept in the names beside it
_GONE = ".gone"
_OWN = re.compile(r"\..+\.rs-delivery(-.*)?")  # what lies beside objects


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The place of one object."""

    base: str  # the target's folder
    stays: str  # that, with the target's prefix: it is not removed, though it may be empty
    folder: str  # that the object is in
    name: str  # of the object there

    @classmethod
    def of(cls, target: SftpTarget, key: str) -> Place:
        """Return the place of a key. TargetRefusedError for one that would lead elsewhere."""
        parts = key.split("/")
        if any(part in ("", ".", "..") or _CONTROL.search(part) for part in parts):
            raise TargetRefusedError(f"{key!r} is no path of a file in {target}")
        if any(_OWN.fullmatch(part) for part in parts):
            raise TargetRefusedError(
                f"{key!r} is called as this service's own files in {target}: it can't be put there"
            )
        base = target.path.rstrip("/")
        inner = target.prefix.strip("/") if key.startswith(target.prefix) else ""
        return cls(
            base=base or "/",
            stays=f"{base}/{inner}" if inner else base or "/",
            folder="/".join([base, *parts[:-1]]) or "/",
            name=parts[-1],
        )

    @property
    def object(self) -> str:
        """The object."""
        return _join(self.folder, self.name)

    @property
    def notes(self) -> str:
        """The folder of what is noted of the object."""
        return _join(self.folder, f".{self._label}.rs-delivery")

    def upload(self, upload_id: str) -> str:
        """Return the folder of an upload that is open. Raises TargetRefusedError for no id."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise TargetRefusedError(f"{upload_id!r} is no id of an upload of {self.name}")
        return _join(self.folder, self.prefix + upload_id)

    def gone(self, upload_id: str) -> str:
        """Return what that folder is called once nothing can come of it any more."""
        return self.upload(upload_id) + _GONE

    def uploads_of(self, names: list[str], *, container: str, key: str) -> list[Upload]:
        """Return the uploads that names in the folder are those of."""
        ids = {
            name.removeprefix(self.prefix).removesuffix(_GONE)
            for name in names
            if name.startswith(self.prefix)
        }
        return [
            Upload(container=container, key=key, upload_id=upload_id)
            for upload_id in sorted(ids)
            if _UPLOAD_ID.fullmatch(upload_id)
        ]

    def parents(self) -> list[str]:
        """Return the folders between the target's and the object, from the innermost."""
        found, folder = [], self.folder
        while folder != self.base and folder.startswith(self.base):
            found.append(folder)
            folder = folder.rpartition("/")[0] or "/"
        return found

    def removable(self) -> list[str]:
        """Return those of them that are removed once they are empty, from the innermost."""
        return [folder for folder in self.parents() if len(folder) > len(self.stays)]

    @property
    def prefix(self) -> str:
        """What the names of the folders of this object's uploads start with."""
        return f".{self._label}.rs-delivery-"

    @property
    def _label(self) -> str:
        raw = self.name.encode()
        if len(raw) <= _MAX_LABEL:
            return self.name
        short = raw[:_MAX_LABEL].decode(errors="ignore")
        return f"{short}~{hashlib.sha256(raw).hexdigest()[:16]}"


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}"
