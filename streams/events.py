"""The events on our Kafka topics: JSON, read strictly.

Some are made of what arrives over AMQP, read as far as it takes to answer it.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from app.delivery.ingress import Cancel, Receipt, Received
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.progress import Phase, Progress
from app.errors import UnreadableMessageError

_Bytes = Annotated[int, Field(ge=0, description="bytes")]


def event_key(tenant: str, correlation_id: str) -> bytes:
    """Return the key that keeps the events of one delivery in order."""
    return f"{tenant}/{correlation_id}".encode()


class Event(BaseModel):
    """What all events have."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        from_attributes=True,
        alias_generator=to_camel,
        populate_by_name=True,
        ser_json_bytes="base64",
        val_json_bytes="base64",
    )

    tenant: str
    correlation_id: str

    @classmethod
    def decode(cls, value: bytes) -> Self:
        """Read an event. Raises UnreadableMessageError."""
        try:
            return cls.model_validate_json(value)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "all of it"
            raise UnreadableMessageError(
                f"the event is no {cls.__name__}: {where}: {first['msg']}"
            ) from None

    def encode(self) -> bytes:
        """Write the event."""
        return self.model_dump_json(by_alias=True).encode()


class Arrived(Event):
    """What arrived over AMQP."""


_DIGEST = Field(
    None, description="SHA-256 of tenant, properties and body: knows a redelivered message."
)
_REDELIVERED = Field(
    False,
    description="It may be a repeat: RabbitMQ says so, or it has a message id.",
)
_RECEIVED_AT = Field(None, description="By the clock of the worker that took it.")


class RequestReceived(Arrived):
    """A delivery request arrived over AMQP. Topic `delivery.requests`."""

    ingress_id: UUID = Field(description="Given at this arrival; the id of what it may open.")
    digest: bytes = Field(
        description="SHA-256 of tenant, properties and body: knows a redelivered message."
    )
    redelivered: bool = Field(
        description="It may be a repeat: RabbitMQ says so, or it has a message id. Its digest "
        "decides."
    )
    origin_app: str | None = Field(description="`app_id` of the message, else the ordering user.")
    priority: int
    received_at: datetime = Field(description="By the clock of the worker that took it.")
    trace: str | None = Field(None, description="W3C traceparent, where the request is traced.")
    body: dict[str, Any] = Field(description="As it came; its rules are checked by who reads this.")


class OrderProgressed(Arrived):
    """What rs-order said of an order. Topic `delivery.order-events`."""

    status: OrderStatus
    order_id: int | None = None
    message: str | None = None
    error_type: str | None = None
    errors: int = 0
    total_suborders: int | None = None
    event_id: UUID | None = Field(None, description="Given at this arrival.")
    digest: bytes | None = _DIGEST
    redelivered: bool = _REDELIVERED
    received_at: datetime | None = _RECEIVED_AT


class CancelRequested(Arrived):
    """A client asks for a delivery to end. Topic `delivery.cancels`."""

    event_id: UUID = Field(description="Given at this arrival.")
    origin_app: str | None = Field(description="`app_id` of the message.")
    reason: str | None = None
    digest: bytes | None = _DIGEST
    redelivered: bool = _REDELIVERED
    received_at: datetime | None = _RECEIVED_AT


class WorkDue(Event):
    """A delivery can be worked on: listed (`delivery.orders-ready`), transferred (`…transfers`).

    Only a hint to look at once: what is due is in PostgreSQL.
    """

    delivery_id: UUID


class TransferProgressed(Event):
    """How far a transfer is. Topic `delivery.progress`, compacted."""

    attempt: int
    phase: Phase
    bytes_done: _Bytes
    bytes_total: _Bytes
    files_done: int
    files_total: int
    elapsed: float = Field(description="Seconds that bytes have flowed for.")
    delivery: UUID | None = Field(
        None, description="Id of the delivery: another may have its correlation id later."
    )


_Value = TypeVar("_Value", Receipt, OrderEvent, Cancel, Progress)


def _as(kind: type[_Value], event: Event, *, leave_out: frozenset[str] = frozenset()) -> _Value:
    return kind(**{k: v for k, v in event if k not in leave_out})


def encode_request(received: Received) -> bytes:
    """Encode for `delivery.requests`."""
    receipt = received.receipt
    fields = {name: getattr(receipt, name) for name in Receipt.__slots__}
    return RequestReceived(**fields, body=received.body).encode()


def decode_request(value: bytes) -> Received:
    """Decode from `delivery.requests`. Raises UnreadableMessageError."""
    event = RequestReceived.decode(value)
    return Received(receipt=_as(Receipt, event, leave_out=frozenset({"body"})), body=event.body)


def encode_order_event(event: OrderEvent) -> bytes:
    """Encode for `delivery.order-events`."""
    return OrderProgressed.model_validate(event).encode()


def decode_order_event(value: bytes) -> OrderEvent:
    """Decode from `delivery.order-events`. Raises UnreadableMessageError."""
    return _as(OrderEvent, OrderProgressed.decode(value))


def encode_cancel(cancel: Cancel) -> bytes:
    """Encode for `delivery.cancels`."""
    return CancelRequested.model_validate(cancel).encode()


def decode_cancel(value: bytes) -> Cancel:
    """Decode from `delivery.cancels`. Raises UnreadableMessageError."""
    return _as(Cancel, CancelRequested.decode(value))


def arrival_of(value: bytes) -> UUID | None:
    """Return the id of the arrival that an event was made of; None if it has none."""
    try:
        event = json.loads(value)
        return UUID(event.get("ingressId") or event["eventId"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def encode_progress(progress: Progress) -> bytes:
    """Encode for `delivery.progress`."""
    return TransferProgressed.model_validate(progress).encode()


def decode_progress(value: bytes) -> Progress:
    """Decode from `delivery.progress`. Raises UnreadableMessageError."""
    return _as(Progress, TransferProgressed.decode(value))
