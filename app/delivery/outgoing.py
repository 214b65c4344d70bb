"""Messages that the service owes to others: made by use-cases, kept in the outbox, then published.

Hints that wake workers are of the same make, and not owed: they are told with the commit, published
after it, and no loss where they get lost.

A message is owed in a *lane*. Within one delivery, messages of one lane go out in the order in
which they were owed; lanes don't wait for each other, so that a client gets its answer while
rs-order is away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from app.delivery.ingress import IncomingMessage
from app.delivery.manifest import told_url
from app.delivery.messages import (
    DeliveryResponseDtoEvent,
    OrderCancelRequestDtoEvent,
    OrderRequestDtoEvent,
    Wire,
)
from app.delivery.model import Delivery, Denied, Ended
from app.delivery.object_store import StoredObject
from app.delivery.states import Status, Work
from app.delivery.told import Told
from app.errors import ErrorType


class Lane(StrEnum):
    """Where a message goes."""

    RESPONSES = "responses"  # to the client, over AMQP
    ORDERS = "orders"  # to rs-order, over AMQP
    EVENTS = "events"  # to our own agents, over Kafka: what workers of an older version owe


class Kind(StrEnum):
    """What a message is. One that is owed of another kind is left to the version that knows it."""

    RESPONSE = "response"  # how a request goes, to its client
    ORDER = "order"  # rs-order is asked for the products
    CANCEL = "cancel"  # rs-order is told that an order is of no use any more
    ORDER_READY = "order-ready"  # workers: there is an archive to lay out
    TRANSFER = "transfer"  # workers: there is an archive to transfer

    @property
    def work(self) -> Work | None:
        """What workers are woken for by it; None: it wakes none."""
        match self:
            case Kind.ORDER_READY:
                return Work.PLAN
            case Kind.TRANSFER:
                return Work.TRANSFER
            case _:
                return None

    @property
    def lane(self) -> Lane:
        """The lane that it waits in; a hint waits in none, but where an older version owed it."""
        match self:
            case Kind.RESPONSE:
                return Lane.RESPONSES
            case Kind.ORDER | Kind.CANCEL:
                return Lane.ORDERS
            case Kind.ORDER_READY | Kind.TRANSFER:
                return Lane.EVENTS


class Relayed(NamedTuple):
    """What one pass over a lane of the outbox came to."""

    dealt_with: int  # messages that were confirmed, withdrawn, or noted as about to be sent
    unsent: int  # those that the broker did not confirm: they wait
    more: bool  # there may be more to do at once


@dataclass(frozen=True, kw_only=True, slots=True)
class OutgoingMessage:
    """A message that is owed."""

    delivery_id: UUID
    kind: Kind
    message_id: UUID  # the same each time this message is sent
    tenant: str
    correlation_id: str
    priority: int  # 1 to 255, of the request
    origin_app: str | None  # who asked for the delivery
    body: dict[str, Any]  # JSON; fields that are null are left out
    trace: str | None = None  # W3C traceparent

    @property
    def lane(self) -> Lane:
        """The lane it waits in."""
        return self.kind.lane


def _owed(
    origin: Delivery | IncomingMessage, kind: Kind, body: Wire | dict[str, Any], *, name: str
) -> OutgoingMessage:
    delivery_id = origin.id if isinstance(origin, Delivery) else origin.ingress.id
    return OutgoingMessage(
        delivery_id=delivery_id,
        kind=kind,
        message_id=uuid5(delivery_id, name),
        tenant=origin.tenant,
        correlation_id=origin.correlation_id,
        priority=origin.priority,
        origin_app=origin.origin_app,
        body=body.body() if isinstance(body, Wire) else body,
        trace=origin.trace,
    )


def _response(
    origin: Delivery | IncomingMessage,
    status: Status,
    *,
    error_type: ErrorType | None = None,
    message: str | None = None,
    result: StoredObject | None = None,
    told: Told | None = None,
) -> OutgoingMessage:
    # Every terminal response of a request has one name, hence one message_id: a consumer that
    # drops repeats can never see two of them.
    name = "granted" if status is Status.GRANTED else "terminal"
    body = DeliveryResponseDtoEvent(
        correlation_id=origin.correlation_id,
        status=status,
        error_type=error_type,
        message=message,
        url=result.url if result else None,
        md5=result.md5 if result else None,
        size=result.size if result else None,
        files=told.files if told else None,
        manifest_url=told.manifest_url if told else None,
        sha256=told.sha256 if told else None,
        expires=told.expires if told else None,
        missing=told.missing if told else None,
        report_url=told.report_url if told else None,
    )
    return _owed(origin, Kind.RESPONSE, body, name=name)


def granted(delivery: Delivery) -> OutgoingMessage:
    """Tell the client that its request is saved."""
    return _response(delivery, Status.GRANTED)


def denied(
    origin: Delivery | IncomingMessage, error_type: ErrorType, message: str
) -> OutgoingMessage:
    """Tell the client that its request is refused, and why."""
    return _response(origin, Status.DENIED, error_type=error_type, message=message)


def done(delivery: Delivery, result: StoredObject, told: Told) -> OutgoingMessage:
    """Tell the client where its archive is, or where its files are."""
    url = told_url(result.url, delivery.archive_name)
    return _response(delivery, Status.DONE, result=replace(result, url=url), told=told)


def error(
    delivery: Delivery, error_type: ErrorType, message: str, told: Told | None = None
) -> OutgoingMessage:
    """Tell the client that its delivery failed, and why."""
    return _response(delivery, Status.ERROR, error_type=error_type, message=message, told=told)


def told_again(ended: Ended) -> OutgoingMessage | None:
    """Tell the client how its delivery has ended, as it was told.

    None where only a later version has the word for that.
    """
    if ended.result is not None:
        return done(ended.delivery, ended.result, ended.told)
    if ended.error is None or ended.error[0] not in [*ErrorType]:
        return None
    return error(ended.delivery, ErrorType(ended.error[0]), ended.error[1], ended.told)


def denied_again(copy: IncomingMessage, before: Denied) -> OutgoingMessage | None:
    """Tell the client why its request was denied, as it was told.

    None where only a later version has the word for that.
    """
    if before.error[0] not in [*ErrorType]:
        return None
    request = replace(copy, ingress=replace(copy.ingress, id=before.request))
    return denied(request, ErrorType(before.error[0]), before.error[1])


def order(delivery: Delivery, *, size_limit: int) -> OutgoingMessage:
    """Ask rs-order for the products."""
    body = OrderRequestDtoEvent.model_validate(
        delivery.order | {"correlationId": delivery.correlation_id, "sizeLimitInBytes": size_limit}
    )
    return _owed(delivery, Kind.ORDER, body, name="order")


def cancel(delivery: Delivery, order_id: int) -> OutgoingMessage:
    """Tell rs-order that an order is of no use any more."""
    body = OrderCancelRequestDtoEvent(order_id=order_id, correlation_id=delivery.correlation_id)
    return _owed(delivery, Kind.CANCEL, body, name=f"cancel-{order_id}")


def wake(delivery: Delivery, kind: Kind) -> OutgoingMessage:
    """Tell the workers that a delivery has something to do for them."""
    body = {
        "tenant": delivery.tenant,
        "correlationId": delivery.correlation_id,
        "deliveryId": str(delivery.id),
        "notified": True,
    }
    return _owed(delivery, kind, body, name=kind.value)
