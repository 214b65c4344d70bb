"""The events on our Kafka topics: JSON, read strictly.

Fields that a later version has added are passed over. A word that it alone knows makes an event
unreadable here: it becomes a dead letter, which an operator puts back once all workers know it.

Some are made of what arrives over AMQP, read as far as it takes to answer it.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from app.delivery.ingress import ArrivalKind, Cancel, IncomingMessage, Ingress, event_key
from app.delivery.messages import (
    DeliveryCancelRequestDtoEvent,
    OrderResponseDtoEvent,
    Wire,
    as_property,
    broken_rules,
)
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.progress import Phase, Progress
from app.errors import UnreadableMessageError
from app.tenants.registry import ConfiguredTenants

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Bytes = Annotated[int, Field(ge=0, description="bytes")]


_Body = TypeVar("_Body", bound=Wire)
_Value = TypeVar("_Value", bound="DataclassInstance")


def _as(kind: type[_Value], event: Event, **given: Any) -> _Value:
    """Return what an event says, beside what is given."""
    names = {field.name for field in fields(kind)} - given.keys()
    return kind(**{name: getattr(event, name) for name in names}, **given)


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

    @property
    def key(self) -> bytes:
        """The key that keeps the events of one delivery in order."""
        return event_key(self.tenant, self.correlation_id)

    def encode(self) -> bytes:
        """Write the event."""
        return self.model_dump_json(by_alias=True).encode()


_DIGEST = "SHA-256 of tenant, properties and body: knows a redelivered message."
_REDELIVERED = "It may be a repeat: RabbitMQ says so, or it has a message id."
_RECEIVED_AT = "By the clock of the worker that took it."


class Arrived(Event, ABC):
    """What the bridge makes of a message, and an agent reads.

    By these fields, and an id given at this arrival, a copy of a message is told from a new one.
    They may be missing where an earlier version made the event.
    """

    kind: ClassVar[ArrivalKind]

    digest: bytes | None = Field(None, description=_DIGEST)
    redelivered: bool = Field(False, description=_REDELIVERED)
    received_at: datetime | None = Field(None, description=_RECEIVED_AT)

    @classmethod
    @abstractmethod
    def read(cls, message: IncomingMessage) -> Self:
        """Make it of a message. Raises UnreadableMessageError."""

    @classmethod
    def _made_of(cls, message: IncomingMessage, /, **said: Any) -> Self:
        """Make it of a message, and of what its kind says."""
        ingress = message.ingress
        return cls(
            tenant=message.tenant,
            digest=ingress.digest,
            redelivered=ingress.redelivered,
            received_at=ingress.received_at,
            ingress_id=ingress.id,
            **said,
        )

    def _ingress(self, ingress_id: UUID) -> Ingress:
        """Return how it arrived. Where no digest was told, it is a copy of nothing but itself."""
        return Ingress(
            id=ingress_id,
            kind=self.kind,
            digest=self.digest or ingress_id.bytes,
            redelivered=self.redelivered,
            received_at=self.received_at,
        )


class RequestReceived(Arrived):
    """A delivery request arrived over AMQP. Topic `delivery.requests`."""

    kind = ArrivalKind.REQUEST

    ingress_id: UUID = Field(description="Given at this arrival; the id of what it may open.")
    # Of a request, every version has told these.
    digest: bytes = Field(description=_DIGEST)
    redelivered: bool = Field(description=f"{_REDELIVERED} Its digest decides.")
    received_at: datetime = Field(description=_RECEIVED_AT)
    origin_app: str | None = Field(description="`app_id` of the message, else the ordering user.")
    priority: int
    trace: str | None = Field(None, description="W3C traceparent, where the request is traced.")
    body: dict[str, Any] = Field(description="As it came; its rules are checked by who reads this.")

    @classmethod
    def read(cls, message: IncomingMessage) -> Self:
        """Read a request far enough to answer it."""
        return cls._made_of(
            message,
            correlation_id=message.correlation_id,
            origin_app=message.origin_app or _ordering_user(message.body),
            priority=message.priority,
            trace=message.trace,
            body=message.body,
        )

    @property
    def message(self) -> IncomingMessage:
        """The message that it was made of."""
        return _as(IncomingMessage, self, ingress=self._ingress(self.ingress_id))


def _ordering_user(body: Mapping[str, Any]) -> str | None:
    order = body.get("order")
    user = order.get("user") if isinstance(order, dict) else None
    return as_property(user) if isinstance(user, str) else None


class OrderProgressed(Arrived):
    """What rs-order said of an order. Topic `delivery.order-events`."""

    kind = ArrivalKind.ORDER_EVENT

    status: OrderStatus
    order_id: int | None = None
    message: str | None = None
    error_type: str | None = None
    errors: int = 0
    total_suborders: int | None = None
    suborder_id: int | None = Field(None, description="With SUBORDER_DONE; may be missing.")
    ingress_id: UUID | None = Field(None, alias="eventId", description="Given at this arrival.")

    @classmethod
    def read(cls, message: IncomingMessage) -> Self:
        """Read what rs-order says. Raises UnreadableMessageError."""
        said = _judged(OrderResponseDtoEvent, message.body)
        return cls._made_of(
            message,
            correlation_id=said.correlation_id,
            status=said.status,
            order_id=said.order_id,
            message=said.message,
            error_type=said.error_type or said.error_code,
            errors=said.errors or 0,
            total_suborders=said.total_sub_orders,
            suborder_id=said.sub_order_id,
        )

    @property
    def order_event(self) -> OrderEvent:
        """What was said."""
        arrived = self.ingress_id and self._ingress(self.ingress_id)
        return _as(OrderEvent, self, ingress=arrived)


class CancelRequested(Arrived):
    """A client asks for a delivery to end. Topic `delivery.cancels`."""

    kind = ArrivalKind.CANCEL

    ingress_id: UUID = Field(alias="eventId", description="Given at this arrival.")
    origin_app: str | None = Field(description="`app_id` of the message.")
    reason: str | None = None

    @classmethod
    def read(cls, message: IncomingMessage) -> Self:
        """Read what a client has no more use for. Raises UnreadableMessageError."""
        asked = _judged(DeliveryCancelRequestDtoEvent, message.body)
        return cls._made_of(
            message,
            correlation_id=asked.correlation_id,
            origin_app=message.origin_app,
            reason=asked.reason,
        )

    @property
    def cancel(self) -> Cancel:
        """What is asked for."""
        return _as(Cancel, self, ingress=self._ingress(self.ingress_id))


def _judged(model: type[_Body], body: Mapping[str, Any]) -> _Body:
    """Read a body by all of its rules. Raises UnreadableMessageError."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise UnreadableMessageError("; ".join(broken_rules(error))) from None


class WorkDue(Event):
    """A delivery can be worked on: listed (`delivery.orders-ready`), transferred (`…transfers`).

    Only a hint to look at once: what is due is in PostgreSQL.
    """

    delivery_id: UUID
    notified: bool = Field(
        False, description="No worker looks for it: PostgreSQL told each, or it is not due yet."
    )


class TransferProgressed(Event):
    """How far a transfer is. Topic `delivery.progress`, compacted."""

    attempt: int
    phase: Phase
    bytes_done: _Bytes
    bytes_total: _Bytes
    files_done: int
    files_total: int
    elapsed: float = Field(description="Seconds that bytes have flowed for.")
    bytes_kept: _Bytes = Field(
        0, description="Of those done: an earlier attempt has archived them, in other seconds."
    )
    recent: float | None = Field(None, description="Bytes a second, of the last 15 seconds.")
    silent: float = Field(0.0, description="Seconds since a byte came.")
    delivery: UUID | None = Field(
        None, description="Id of the delivery: another may have its correlation id later."
    )

    @classmethod
    def of(cls, progress: Progress) -> Self:
        """Tell how far a transfer is."""
        return cls.model_validate(progress)

    @property
    def progress(self) -> Progress:
        """What was told."""
        return _as(Progress, self)


def check_tenant(event: Event, tenants: ConfiguredTenants, *, requeue: str) -> None:
    """Raise UnreadableMessageError unless the event's tenant is served; `requeue` is for later.

    What is no new request is taken in, too, of a tenant whose deliveries are being finished.
    """
    taken = tenants.known if isinstance(event, RequestReceived) else tenants.works_for
    if not taken(event.tenant):
        raise UnreadableMessageError(
            f"unknown tenant {event.tenant[:100]!r}; add it to DELIVERY_TENANTS, and `{requeue}`"
        )


def ingress_id_of(value: bytes) -> UUID | None:
    """Return the id of the arrival that an event was made of; None if it has none."""
    try:
        event = json.loads(value)
        return UUID(event.get("ingressId") or event["eventId"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
