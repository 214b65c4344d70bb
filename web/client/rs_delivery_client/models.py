"""What the service tells, as values. Fields that are not known here are kept in `raw`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rs_delivery_client.manifest import Expected

ENDED = frozenset({"DONE", "ERROR"})  # states that nothing follows


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A delivery as the service shows it."""

    id: str  # of this delivery alone: a correlation id may be used again
    correlation_id: str
    state: str  # RECEIVED GRANTED ORDERED AVAILABLE READY TRANSFERRING DONE ERROR
    user: str | None = None
    target: str | None = None
    format: str | None = None
    labels: Sequence[str] = ()
    archive_name: str | None = None
    archive_bytes: int | None = None  # of the archive
    files: int | None = None
    bytes: int | None = None  # of the files together
    url: str | None = None  # where it is, in the words of its place: s3:, file:, …
    md5: str | None = None  # of the archive; of the manifest, where files are delivered
    error_type: str | None = None
    error_message: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.state in ENDED

    @property
    def done(self) -> bool:
        """Whether everything is at its place."""
        return self.state == "DONE"

    @property
    def expected(self) -> Expected:
        """What its archive should be."""
        return Expected(size=self.archive_bytes, md5=self.md5, sha256=self.raw.get("sha256"))

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Delivery:
        """Read one, as it is in an answer or an event."""
        return cls(
            id=str(body.get("id", "")),
            correlation_id=str(body.get("correlationId", "")),
            state=str(body.get("state", "")),
            user=body.get("user"),
            target=body.get("target"),
            format=body.get("format"),
            labels=tuple(body.get("labels") or ()),
            archive_name=body.get("archiveName"),
            archive_bytes=body.get("archiveBytes"),
            files=body.get("files"),
            bytes=body.get("bytes"),
            url=body.get("url"),
            md5=body.get("md5"),
            error_type=body.get("errorType"),
            error_message=body.get("errorMessage"),
            raw=body,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class StateEvent:
    """A delivery came into a state, or an attempt in it was given up: then `cause` says why."""

    id: int | None  # by which a reader who comes again says what it has heard
    delivery: Delivery
    cause: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProgressEvent:
    """How far the transfer is."""

    phase: str
    attempt: int
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    bytes_per_second: float | None = None
    seconds_left: float | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> ProgressEvent:
        """Read one."""
        return cls(
            phase=str(body.get("phase", "")),
            attempt=int(body.get("attempt") or 0),
            bytes_done=int(body.get("bytesDone") or 0),
            bytes_total=int(body.get("bytesTotal") or 0),
            files_done=int(body.get("filesDone") or 0),
            files_total=int(body.get("filesTotal") or 0),
            bytes_per_second=body.get("bytesPerSecond"),
            seconds_left=body.get("secondsLeft"),
            raw=body,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ReloadEvent:
    """More has happened than is told; this is how the delivery is now."""

    id: int | None
    delivery: Delivery


Event = StateEvent | ProgressEvent | ReloadEvent


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveredFile:
    """A file of a delivery."""

    position: int
    path: str
    size: int | None = None  # bytes
    md5: str | None = None

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> DeliveredFile:
        """Read one."""
        return cls(
            position=int(body.get("position") or 0),
            path=str(body.get("member", "")),
            size=body.get("bytes"),
            md5=body.get("md5"),
        )
