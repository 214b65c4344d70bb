"""AMQP messages: what comes in is read, what goes out is written (contract, section 1)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage, HeadersType

from app.delivery.ingress import ArrivalKind, IncomingMessage, Ingress
from app.delivery.messages import DeliveryProgressDtoEvent, as_property
from app.delivery.model import Delivery
from app.delivery.outgoing import OutgoingMessage
from app.encoding import dumps, flaw_of
from app.errors import UnreadableMessageError
from app.telemetry import tracing
from streams.amqp import names
from streams.channels import PROGRESS_EVENTS, over_amqp

PROGRESS_LIFETIME = 60  # seconds that RabbitMQ keeps what tells how far a delivery is


def read_tenant(message: AbstractIncomingMessage) -> str:
    """Return the tenant that the headers name. Raises UnreadableMessageError."""
    tenant = message.headers.get(names.HEADER_TENANT)
    if isinstance(tenant, bytes):
        tenant = tenant.decode("utf-8", "replace")
    if not isinstance(tenant, str) or not tenant.strip():
        raise UnreadableMessageError(f"the header {names.HEADER_TENANT} is missing")
    return tenant


def read_body(message: AbstractIncomingMessage) -> dict[str, Any]:
    """Return the body. Raises UnreadableMessageError when it is no JSON object that we can keep."""
    try:
        body = json.loads(message.body.decode("utf-8"), parse_constant=_refuse, parse_float=_finite)
        if not isinstance(body, dict):
            raise UnreadableMessageError("the body is no JSON object")
    except UnicodeDecodeError:
        raise UnreadableMessageError("the body is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise UnreadableMessageError(f"the body is no JSON: {error}") from None
    flaw = flaw_of(body)
    if flaw is not None:
        raise UnreadableMessageError(f"the body {flaw}")
    return body


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not in the standard")


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is too large")
    return value


def _correlation_id(body: Mapping[str, Any]) -> str:
    value = body.get("correlationId")
    if not isinstance(value, str) or not value.strip():
        raise UnreadableMessageError("the body has no correlationId")
    return value


def _digest(tenant: str, message: AbstractIncomingMessage) -> bytes:
    stamp = message.timestamp.isoformat() if message.timestamp else ""
    properties = dumps([tenant, message.message_id, stamp, message.app_id])
    return hashlib.sha256(properties + b"\n" + message.body).digest()


def _repeatable(message: AbstractIncomingMessage) -> bool:
    """Whether a message may be a repeat.

    RabbitMQ forgets what it has delivered when it restarts. Who sets a message id means that a
    message with the same one, and the same in all else, is the same message.
    """
    return bool(message.redelivered) or message.message_id is not None


def read(message: AbstractIncomingMessage, kind: ArrivalKind) -> IncomingMessage:
    """Read what is alike in all that comes in. Raises UnreadableMessageError.

    Each call gives a new id: it names this arrival of the message.
    """
    tenant = read_tenant(message)
    body = read_body(message)
    return IncomingMessage(
        ingress=Ingress(
            id=uuid4(),
            kind=kind,
            digest=_digest(tenant, message),
            redelivered=_repeatable(message),
            received_at=datetime.now(UTC),
        ),
        tenant=tenant,
        correlation_id=_correlation_id(body),
        origin_app=message.app_id,
        priority=min(message.priority or 1, names.MAX_PRIORITY),
        trace=tracing.current(),
        body=body,
    )


def headers_of(tenant: str, java_type: str) -> HeadersType:
    """Return the headers that consumers in Java look for."""
    return {
        names.HEADER_TENANT: tenant,
        names.HEADER_CONVERTER: "GSON",
        names.HEADER_JAVA_TYPE: java_type,
        names.HEADER_TYPE: java_type,
    }


def encode_progress(delivery: Delivery, body: DeliveryProgressDtoEvent) -> Message:
    """Make the AMQP message that tells how far a delivery is.

    RabbitMQ keeps it neither over a restart nor for long: by then it is not true any more.
    """
    return Message(
        dumps(body.body()),
        headers=headers_of(delivery.tenant, PROGRESS_EVENTS.exchange.type_id),
        content_type="application/json",
        content_encoding="UTF-8",
        delivery_mode=DeliveryMode.NOT_PERSISTENT,
        expiration=PROGRESS_LIFETIME,
        timestamp=datetime.now(UTC),
        priority=delivery.priority,
        app_id=as_property(delivery.origin_app),
        correlation_id=as_property(delivery.correlation_id),
        message_id=str(uuid4()),
    )


def encode(outgoing: OutgoingMessage) -> Message:
    """Make the AMQP message of a response, an order request or a cancel."""
    traced = {tracing.HEADER: outgoing.trace} if outgoing.trace else {}
    return Message(
        dumps(outgoing.body),
        headers={
            **headers_of(outgoing.tenant, over_amqp(outgoing.kind).exchange.type_id),
            **traced,
        },
        content_type="application/json",
        content_encoding="UTF-8",
        delivery_mode=DeliveryMode.PERSISTENT,
        timestamp=datetime.now(UTC),
        priority=outgoing.priority,
        # One that does not fit would be refused for ever; the body names who it is for.
        app_id=as_property(outgoing.origin_app),
        # It is in the body, too, and there in full.
        correlation_id=as_property(outgoing.correlation_id),
        message_id=str(outgoing.message_id),
    )
