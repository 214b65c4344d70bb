"""What the service talks about: deliveries, their states, files, and what is read and written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Self
from uuid import UUID

DEFAULT_TARGET = "regards-s3-minio"  # what requests without a target mean


class State(StrEnum):
    """Where a delivery stands. Only `Status` reaches the outside."""

    RECEIVED = "RECEIVED"  # the request is saved; whether its user may order is being asked
    GRANTED = "GRANTED"  # the request is answered; rs-order is being asked
    ORDERED = "ORDERED"  # rs-order accepted the order and named it
    AVAILABLE = "AVAILABLE"  # the order is done: its files can be listed
    READY = "READY"  # the manifest is written: a worker may transfer it
    TRANSFERRING = "TRANSFERRING"  # a worker streams, or the last gave up and another is due
    DONE = "DONE"  # the archive is on the target, verified
    ERROR = "ERROR"  # ended without an archive

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to the delivery: no transition leads out of this state."""
        return not TRANSITIONS[self]

    @property
    def work(self) -> Work | None:
        """What a worker can do for the delivery now; None while it waits for rs-order, or if ended.

        PostgreSQL computes the same (the column `work` of `delivery`), since claims go by it.
        """
        return _WORK.get(self)


class Work(StrEnum):
    """What a worker claims a delivery for."""

    CHECK = "check"  # ask rs-admin about the user
    PLAN = "plan"  # read the order's listing, write the manifest
    TRANSFER = "transfer"  # stream the archive to the target


_WORK = MappingProxyType(
    {
        State.RECEIVED: Work.CHECK,
        State.AVAILABLE: Work.PLAN,
        State.READY: Work.TRANSFER,
        State.TRANSFERRING: Work.TRANSFER,  # once its lease has run out, or was let go of
    }
)

# Every move of a delivery: what may follow each state. `Transaction.advance` makes them, and
# refuses all others; those to TRANSFERRING are made by `Leases.claim`. None leads back: work that
# is given up for later stays in its state, and what ended in ERROR is tried again as a new
# delivery.
#
# ERROR follows every state but the last two: the time to live is over, a client or an operator
# cancels, rs-order fails the order, or a worker meets what will not go well (PermanentError).
TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.RECEIVED: frozenset(
            {
                State.GRANTED,  # rs-admin knows the user; of one it doesn't, nothing is kept
                State.ERROR,
            }
        ),
        State.GRANTED: frozenset(
            {
                State.ORDERED,  # rs-order says GRANTED, or that a suborder is done
                State.AVAILABLE,  # it says DONE first: what it said before is late, or lost
                State.ERROR,
            }
        ),
        State.ORDERED: frozenset(
            {
                State.ORDERED,  # it says more of the order, which is noted (`total_suborders`)
                State.AVAILABLE,  # it says DONE
                State.ERROR,
            }
        ),
        State.AVAILABLE: frozenset(
            {
                State.READY,  # a worker has written the manifest, in the same transaction
                State.ERROR,
            }
        ),
        State.READY: frozenset(
            {
                State.TRANSFERRING,  # a worker claims it: its first attempt
                State.ERROR,
            }
        ),
        State.TRANSFERRING: frozenset(
            {
                # A further attempt: the last was given up for later, or its worker is dead.
                State.TRANSFERRING,
                State.DONE,  # by the last attempt alone, once the object is verified
                State.ERROR,
            }
        ),
        State.DONE: frozenset(),
        State.ERROR: frozenset(),
    }
)


class Status(StrEnum):
    """What a client is told."""

    GRANTED = "GRANTED"
    DENIED = "DENIED"
    DONE = "DONE"
    ERROR = "ERROR"


class ErrorType(StrEnum):
    """Why a request was denied or a delivery failed (contract, section 1)."""

    INVALID_CONTENT = "INVALID_CONTENT"
    FORBIDDEN = "FORBIDDEN"
    ORDER_LIMIT_REACHED = "ORDER_LIMIT_REACHED"
    TOO_MANY_SUBORDERS = "TOO_MANY_SUBORDERS"
    EMPTY_ORDER = "EMPTY_ORDER"
    EXPIRED = "EXPIRED"
    INTERNAL_ERROR = "INTERNAL_ERROR"


class ArrivalKind(StrEnum):
    """What arrived over AMQP."""

    REQUEST = "request"
    ORDER_EVENT = "order-event"
    CANCEL = "cancel"


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """By what one arrival of a message is known again, and a copy of it told from a new message."""

    event_id: UUID  # given at arrival
    kind: ArrivalKind
    digest: bytes  # of tenant, body and properties: the same for each copy of a message
    redelivered: bool  # it may be a repeat
    received_at: datetime | None  # by the worker's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """One arrival of a delivery request over AMQP, before its body is judged."""

    ingress_id: UUID  # given at arrival; becomes the delivery's id
    digest: bytes  # of tenant, body and properties: recognises a redelivered message
    redelivered: bool  # it may be a repeat: then its digest decides
    tenant: str
    correlation_id: str
    origin_app: str | None  # app_id of the message, else the ordering user
    priority: int  # 1 to 255
    received_at: datetime | None  # by the worker's clock
    trace: str | None = None  # W3C traceparent

    @property
    def identity(self) -> Identity:
        """By what it is known again."""
        return Identity(
            event_id=self.ingress_id,
            kind=ArrivalKind.REQUEST,
            digest=self.digest,
            redelivered=self.redelivered,
            received_at=self.received_at,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """By what a request over HTTP is known again: its caller may not have heard the answer."""

    request: bytes  # digest of tenant, caller, body and priority
    key: bytes | None  # digest of tenant, caller and the key that came with it


@dataclass(frozen=True, kw_only=True, slots=True)
class AskedBefore:
    """What was asked for over HTTP already."""

    request: bytes  # as in `Asked`
    delivery_id: UUID  # what it opened; gone, if it was denied


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryRequest:
    """A request whose every rule holds."""

    target: str
    user: str
    order: dict[str, Any]  # queries, filters and user as received, for rs-order


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """A delivery that is about to be saved."""

    receipt: Receipt
    request: DeliveryRequest
    state: State  # RECEIVED or GRANTED
    requested_at: datetime | None  # by the store's clock; None: now
    ttl: timedelta  # it expires so long after


@dataclass(frozen=True, kw_only=True, slots=True)
class Delivery:
    """A delivery as stored."""

    id: UUID
    tenant: str
    correlation_id: str
    state: State
    user: str
    target: str
    order: dict[str, Any]
    origin_app: str | None
    priority: int
    requested_at: datetime
    expires_at: datetime
    order_id: int | None = None
    total_suborders: int | None = None
    archive_name: str | None = None
    file_count: int = 0
    total_bytes: int = 0
    attempt: int = 0  # transfers begun; fences whoever began an earlier one
    failures: int = 0  # transfers ended by a wrong file or object
    tries: int = 0  # times that the work due now was given up for later
    last_cause: str | None = None  # why, the last time
    trace: str | None = None  # W3C traceparent
    upload: Upload | None = None  # multipart upload that the last attempt opened
    completing: StoredObject | None = None  # what an attempt was about to make appear

    def __str__(self) -> str:
        return f"delivery {self.correlation_id} of tenant {self.tenant}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Upload:
    """A multipart upload as S3 knows it."""

    bucket: str
    key: str
    upload_id: str
    target: str | None = field(default=None, repr=False)  # where it is open, sealed

    @property
    def url(self) -> str:
        """What the object is called that it becomes."""
        return f"s3://{self.bucket}/{self.key}"


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedFile:
    """A file as rs-order lists it."""

    file_id: int
    product_id: str
    version: int
    filename: str
    size: int | None  # bytes, where the listing tells
    md5: str | None  # hex, lower case, where the listing tells
    listed: int | None = None  # how many files the listing has, where its pages tell


@dataclass(frozen=True, kw_only=True, slots=True)
class ManifestFile:
    """A file of a delivery, with its place and name in the archive."""

    position: int  # from 0; the order of the members
    file_id: int
    member: str
    size: int | None
    md5: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What goes into one archive, as a whole; its files are many, and kept apart."""

    archive_name: str
    file_count: int
    total_bytes: int  # sum of the known sizes


@dataclass(frozen=True, kw_only=True, slots=True)
class _Noted:
    """What is kept as JSON: another version may have written it."""

    @classmethod
    def read(cls, noted: Mapping[str, Any]) -> Self:
        """Read what this or another version noted: fields that are not known here are left out."""
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in noted.items() if name in known})


@dataclass(frozen=True, kw_only=True, slots=True)
class S3Target(_Noted):
    """Where archives are put."""

    endpoint: str
    region: str
    key: str
    secret: str = field(repr=False)
    bucket: str
    prefix: str = ""  # of every key; ends with / unless empty
    addressing_style: str = "path"  # or "virtual": the bucket as a part of the host name
    storage_class: str | None = None  # None: the store's own choice
    encryption: str | None = None  # AES256 or aws:kms, by the store
    encryption_key: str | None = None  # of aws:kms

    def __str__(self) -> str:
        return f"bucket {self.bucket} at {self.endpoint}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetTrouble:
    """A server of targets does not answer this process: nothing new is sent there."""

    server: str  # host:port; with /bucket, if only that one is answered with errors
    cause: str  # what was met last, before it was left alone
    since: datetime
    asked_again: datetime  # when the next probe is due

    def until(self, asked_again: datetime) -> TargetTrouble:
        """Return the same with another time of the next probe."""
        return replace(self, asked_again=asked_again)


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocked:
    """Whose transfers are not to be claimed now."""

    tenants: tuple[str, ...] = ()
    spared: tuple[tuple[str, str], ...] = ()  # of those tenants: tenant and name of a target


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantSettings:
    """What a tenant has configured."""

    request_ttl: timedelta
    order_size_limit_bytes: int
    target: S3Target  # the default
    targets: Mapping[str, S3Target] = field(default_factory=dict)  # further ones, by name

    def target_named(self, name: str) -> S3Target | None:
        """Return the target that a request chooses by `targetDelivery`; None if unknown.

        As long as no targets are configured, any name means the default.
        """
        if name == DEFAULT_TARGET or not self.targets:
            return self.target
        return self.targets.get(name)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject(_Noted):
    """A verified archive."""

    url: str  # s3://bucket/key
    md5: str  # hex, lower case
    size: int
    etag: str | None = None  # where it is known


@dataclass(frozen=True, kw_only=True, slots=True)
class FoundObject:
    """An object as its store describes it."""

    size: int
    etag: str
    marks: Mapping[str, str] = field(default_factory=dict)  # its metadata

    def has(self, marks: Mapping[str, str]) -> bool:
        """Whether all of these marks are on it."""
        return marks.items() <= self.marks.items()


class OrderStatus(StrEnum):
    """What rs-order says of an order."""

    GRANTED = "GRANTED"
    DENIED = "DENIED"
    SUBORDER_DONE = "SUBORDER_DONE"
    DONE = "DONE"
    FAILED = "FAILED"


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A message that RabbitMQ may forget, as the event that was made of it."""

    id: UUID  # also in the event
    kind: ArrivalKind
    key: bytes
    value: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """A client asks for a delivery to end."""

    event_id: UUID  # given at arrival
    tenant: str
    correlation_id: str
    origin_app: str | None  # who asks
    reason: str | None
    digest: bytes | None = None  # None in events of a version that had none
    redelivered: bool = False
    received_at: datetime | None = None  # by the worker's clock

    @property
    def identity(self) -> Identity:
        """By what it is known again."""
        return Identity(
            event_id=self.event_id,
            kind=ArrivalKind.CANCEL,
            digest=self.digest or self.event_id.bytes,
            redelivered=self.redelivered,
            received_at=self.received_at,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderEvent:
    """One message of rs-order about an order."""

    tenant: str
    correlation_id: str
    status: OrderStatus
    order_id: int | None = None
    message: str | None = None
    error_type: str | None = None
    errors: int = 0
    total_suborders: int | None = None
    event_id: UUID | None = None  # given at arrival
    digest: bytes | None = None  # None in events of a version that had none
    redelivered: bool = False
    received_at: datetime | None = None  # by the worker's clock

    @property
    def identity(self) -> Identity | None:
        """By what it is known again; None when it did not arrive as a message."""
        if self.event_id is None:
            return None
        return Identity(
            event_id=self.event_id,
            kind=ArrivalKind.ORDER_EVENT,
            digest=self.digest or self.event_id.bytes,
            redelivered=self.redelivered,
            received_at=self.received_at,
        )


class Phase(StrEnum):
    """What a transfer is doing."""

    TRANSFERRING = "transferring"  # bytes flow
    COMPLETING = "completing"  # all parts are sent; S3 assembles the object
    DONE = "done"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether the attempt reports nothing more."""
        return self in (Phase.DONE, Phase.FAILED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a transfer is."""

    tenant: str
    correlation_id: str
    attempt: int
    phase: Phase
    bytes_done: int  # of the source files
    bytes_total: int
    files_done: int
    files_total: int
    elapsed: float  # seconds that bytes have flowed for
    delivery: UUID | None = None  # its id; None: a worker of a version before told it
