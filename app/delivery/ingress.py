"""What comes in: requests, cancels, and by what each is known again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.delivery.formats import DEFAULT_FORMAT
from app.delivery.states import State


class ArrivalKind(StrEnum):
    """What arrived over AMQP. A saved one of another kind is left to the version that knows it."""

    REQUEST = "request"  # a client asks for a delivery
    ORDER_EVENT = "order-event"  # rs-order says how an order goes
    CANCEL = "cancel"  # a client asks for a delivery to end


@dataclass(frozen=True, kw_only=True, slots=True)
class Ingress:
    """One arrival of a message: by this it is known again, and a copy told from a new message."""

    id: UUID  # given at arrival; becomes the id of the delivery that it opens
    kind: ArrivalKind
    digest: bytes  # of tenant, body and properties: the same for each copy of a message
    redelivered: bool  # it may be a repeat: then its digest decides
    received_at: datetime | None  # by the worker's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class IncomingMessage:
    """A message that arrived over AMQP, as far as all kinds are read alike."""

    ingress: Ingress
    tenant: str  # any: whether it is served here is not asked yet
    correlation_id: str
    origin_app: str | None  # who sent it: its app_id; of a request without, the ordering user
    priority: int  # 1 to 255
    trace: str | None = None  # W3C traceparent
    body: dict[str, Any] = field(repr=False)


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
    """A request whose every rule holds, by whatever way it came."""

    id: UUID  # becomes the delivery's: that of its arrival, if it is a message
    tenant: str
    correlation_id: str
    origin_app: str | None  # who is answered
    priority: int  # 1 to 255
    trace: str | None = None  # W3C traceparent
    target: str
    format: str | None = None  # None: the tenant's
    archive_template: str | None = None  # what its archive is to be called; None: the tenant's
    prefix_template: str | None = None  # None: the tenant's
    partial: bool = False  # what there is, is delivered, and what is missing is told
    labels: tuple[str, ...] = ()  # what its client calls it
    deadline: datetime | None = None  # when it is of no use any more
    user: str
    order: dict[str, Any]  # queries, filters and user as received, for rs-order


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """A delivery that is about to be saved."""

    request: DeliveryRequest
    state: State  # RECEIVED or GRANTED
    requested_at: datetime | None  # by the store's clock; None: now
    ttl: timedelta  # it expires so long after
    format: str = DEFAULT_FORMAT  # that is asked for, or the tenant's
    archive_template: str = ""  # likewise; empty: none
    prefix_template: str = ""  # likewise
    held: bool = False  # until its quota has a place for it


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """A message that RabbitMQ may forget, as the event that was made of it."""

    ingress_id: UUID  # also in the event
    kind: ArrivalKind
    key: bytes  # of the event in Kafka: tenant and correlation id
    value: bytes = field(repr=False)  # of the event in Kafka: JSON


@dataclass(frozen=True, kw_only=True, slots=True)
class Cancel:
    """A client asks for a delivery to end."""

    ingress: Ingress
    tenant: str
    correlation_id: str
    origin_app: str | None  # who asks
    reason: str | None


def event_key(tenant: str, correlation_id: str) -> bytes:
    """Return the key that keeps the events of one delivery in order."""
    return f"{tenant}/{correlation_id}".encode()
