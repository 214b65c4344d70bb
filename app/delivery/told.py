"""What a client is told at the end, beside what REGARDS tells it (contract, section 6)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from app.delivery.manifest import MANIFEST_NAME
from app.delivery.object_store import StoredObject
from app.delivery.targets import Noted


@dataclass(frozen=True, kw_only=True, slots=True)
class Told(Noted):
    """What is kept of it with the delivery: what is told again is the same.

    Nothing that opens a door: a link is in no row.
    """

    files: int | None = None  # that were delivered; None: by a version that did not count them
    manifest_url: str | None = None  # `Target.url_of`
    sha256: str | None = None  # of the object, hex, lower case; where its tenant asks for it
    expires: str | None = None  # RFC 3339, in UTC: the content is removed then
    missing: int | None = None  # files that were ordered, and are not among these; never 0
    report_url: str | None = None  # of ERROR, where a report was written: `Target.url_of`

    @classmethod
    def of(cls, result: StoredObject, *, manifest_url: str | None = None) -> Told:
        """Return what an object tells of itself, and of the manifest beside it, if there is one."""
        if result.url.endswith(f"/{MANIFEST_NAME}"):
            manifest_url = result.url
        return cls(files=result.files, manifest_url=manifest_url, sha256=result.sha256)

    def noted(self) -> dict[str, Any]:
        """Return it as JSON; what is not known is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}
