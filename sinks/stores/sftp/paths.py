"""Where things lie in a target's folder.

`KEY` is the object; what begins with a dot is this service's own, beside the object and so on the
same file system:

    folder/a.zip                                   the object
    folder/.a.zip.rs-delivery.json                 whose it is, and what it must be
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """The place of one object."""

    base: str  # the target's folder
    folder: str  # that the object is in
    name: str  # of the object there

    @classmethod
    def of(cls, target: SftpTarget, key: str) -> Place:
        """Return the place of a key. TargetRefusedError for one that would lead elsewhere."""
        parts = key.split("/")
        if any(part in ("", ".", "..") or _CONTROL.search(part) for part in parts):
            raise TargetRefusedError(f"{key!r} is no path of a file in {target}")
        base = target.path.rstrip("/")
        return cls(base=base or "/", folder="/".join([base, *parts[:-1]]) or "/", name=parts[-1])

    @property
    def object(self) -> str:
        """The object."""
        return _join(self.folder, self.name)

    @property
    def sidecar(self) -> str:
        """What is noted of the object."""
        return _join(self.folder, f".{self._label}.rs-delivery.json")

    def upload(self, upload_id: str) -> str:
        """Return the folder of an upload that is open. Raises TargetRefusedError for no id."""
        if not _UPLOAD_ID.fullmatch(upload_id):
            raise TargetRefusedError(f"{upload_id!r} is no id of an upload of {self.name}")
        return _join(self.folder, self._prefix + upload_id)

    def gone(self, upload_id: str) -> str:
        """Return what that folder is called once nothing can come of it any more."""
        return self.upload(upload_id) + _GONE

    def uploads_of(self, names: list[str], *, container: str, key: str) -> list[Upload]:
        """Return the uploads that names in the folder are those of."""
        ids = {
            name.removeprefix(self._prefix).removesuffix(_GONE)
            for name in names
            if name.startswith(self._prefix)
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

    @property
    def _prefix(self) -> str:
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
