"""What comes in: requests, cancels, and by what each is known again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.delivery.states import State


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
