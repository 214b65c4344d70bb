"""What the service tells, as values. Fields that are not known here are kept in `raw`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rs_delivery_client.manifest import Expected

ENDED = frozenset({"DONE", "ERROR"})  # states that nothing follows


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """Which deliveries are looked for; what is not told is any."""

    states: Sequence[str] = ()
    activities: Sequence[str] = ()  # moving stalled retrying waiting paused
    codes: Sequence[str] = ()  # of a cause
    labels: Sequence[str] = ()  # with all of them
    target: str | None = None
    worker: str | None = None  # that has it under way
    user: str | None = None  # who ordered it
    text: str | None = None  # in correlation id, archive name or cause
    since: str | None = None  # requested then or later, in ISO 8601
    until: str | None = None  # requested earlier

    @property
    def parameters(self) -> dict[str, str | list[str]]:
        """Return it with the names of the HTTP API."""
        lists = {
            "state": self.states,
            "activity": self.activities,
            "code": self.codes,
            "label": self.labels,
        }
        texts = {
            "target": self.target,
            "worker": self.worker,
            "user": self.user,
            "text": self.text,
            "since": self.since,
            "until": self.until,
        }
        return {name: list(values) for name, values in lists.items() if values} | {
            name: value for name, value in texts.items() if value is not None
        }


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
    code: str | None = None  # of why it failed, or waits; an older service tells none
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
    def failure(self) -> str:
        """Why it failed, and where that is told file by file; empty where it did not."""
        why = ": ".join(filter(None, (self.error_type, self.error_message)))
        report = self.raw.get("reportUrl")
        return f"{why}; what happened to each file is told by {report}" if report else why

    @property
    def attempts(self) -> Sequence[Attempt]:
        """The attempts of its transfer, the newest first; only where one delivery was asked for."""
        return tuple(map(Attempt.of, self.raw.get("attempts") or ()))

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
            code=body.get("code"),
            raw=body,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """An attempt of a delivery's transfer."""

    attempt: int
    worker: str
    target: str
    began: str  # ISO 8601
    ended: str | None = None  # None: it is under way
    outcome: str | None = None  # done error postponed parked handed_over lost
    code: str | None = None
    cause: str | None = None
    bytes: int | None = None  # of the delivery's files that were archived by then

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Attempt:
        """Read one."""
        return cls(
            attempt=int(body.get("attempt") or 0),
            worker=str(body.get("worker", "")),
            target=str(body.get("target", "")),
            began=str(body.get("began", "")),
            ended=body.get("ended"),
            outcome=body.get("outcome"),
            code=body.get("code"),
            cause=body.get("cause"),
            bytes=body.get("bytes"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who a token is of."""

    name: str
    role: str  # what counts
    tenant: str
    named_role: str | None = None  # as the token names it, where that is a role of the site
    correlation_id_prefix: str | None = None  # of the caller's own; None: any may be chosen
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Caller:
        """Read one."""
        return cls(
            name=str(body.get("name", "")),
            role=str(body.get("role", "")),
            tenant=str(body.get("tenant", "")),
            named_role=body.get("namedRole"),
            correlation_id_prefix=body.get("correlationIdPrefix"),
            raw=body,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something that needs an operator now."""

    code: str
    severity: str  # problem notice
    sentence: str
    advice: str
    since: str | None = None  # ISO 8601
    tenant: str | None = None  # None: it concerns all
    subject: str | None = None  # the target, worker, state or lane
    count: int = 0
    cause: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Finding:
        """Read one."""
        return cls(
            code=str(body.get("code", "")),
            severity=str(body.get("severity", "")),
            sentence=str(body.get("sentence", "")),
            advice=str(body.get("advice", "")),
            since=body.get("since"),
            tenant=body.get("tenant"),
            subject=body.get("subject"),
            count=int(body.get("count") or 0),
            cause=body.get("cause"),
            raw=body,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """How it goes with a place that is delivered to."""

    name: str
    state: str  # working failing paused unused, as the service has it
    type: str | None = None  # of its store
    since: str | None = None  # ISO 8601; since when it fails, or is paused
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Target:
        """Read one."""
        return cls(
            name=str(body.get("name", "")),
            state=str(body.get("state", "")),
            type=body.get("type"),
            since=body.get("since"),
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
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> DeliveredFile:
        """Read one."""
        return cls(
            position=int(body.get("position") or 0),
            path=str(body.get("member", "")),
            size=body.get("bytes"),
            md5=body.get("md5"),
            raw=body,
        )
