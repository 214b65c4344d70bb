"""A folder of a shared file system: what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, ClassVar

from pydantic import BaseModel

from app.delivery.targets import Noted
from app.settings import Settings
from sinks.stores.file.roots import Roots
from sinks.stores.file.settings import FileSettings

_MODE = 0o640


@dataclass(frozen=True, kw_only=True, slots=True)
class FileTarget(Noted):
    """See `app.delivery.targets.Target`."""

    kind: ClassVar[str] = "file"
    settings: ClassVar[type[BaseModel]] = FileSettings

    path: str  # absolute, without . and ..
    prefix: str = ""  # of every key; ends with / unless empty
    mode: int = _MODE  # of archives
    group: str | None = None  # its name, or its number

    def __str__(self) -> str:
        return f"folder {self.path}"

    @property
    def endpoint(self) -> str:
        """The folder: each may be on a file system of its own."""
        return f"file://{self.path}"

    @property
    def namespace(self) -> str:
        """One for all: every worker has the same file systems at the same paths."""
        return "file"

    @property
    def container(self) -> str:
        """The path of the folder."""
        return self.path

    @property
    def leftovers(self) -> str:
        """What ends uploads that were left open."""
        return "an operator removes folders `.rs-delivery-*.upload` that are days old"

    @property
    def opened_with(self) -> Mapping[str, str]:
        """Return nothing: mode and group are given when an object appears."""
        return {}

    def url_of(self, key: str) -> str:
        """Return what clients call the object: a `file:` URL, with % for what none may hold."""
        url = PurePosixPath(self.path, key).as_uri()
        return url if key and not key.endswith("/") else f"{url}/"

    def noted(self) -> dict[str, Any]:
        """Return all fields, and the kind."""
        return {"kind": self.kind} | asdict(self)

    @classmethod
    def configured(cls, place: Mapping[str, Any]) -> FileTarget:
        """Read an entry of `delivery_targets`."""
        prefix = (place.get("prefix") or "").strip("/")
        mode = place.get("mode")
        return cls(
            path="/" + place["path"].strip("/"),
            prefix=f"{prefix}/" if prefix else "",
            mode=_MODE if mode is None else int(mode, 8),
            group=place.get("group"),
        )

    @classmethod
    def flaw_of(cls, place: Mapping[str, Any], settings: Settings) -> tuple[str, str] | None:
        """Judge its path; links on the way are judged at each use."""
        flaw = Roots.of(settings).flaw_of("/" + place["path"].strip("/"))
        return None if flaw is None else ("path", flaw)
