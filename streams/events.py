"""The events on our Kafka topics: JSON, read strictly."""

from __future__ import annotations

import base64
import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.errors import UnreadableMessageError
from app.model import OrderEvent, OrderStatus, Phase, Progress, Receipt


def event_key(tenant: str, correlation_id: str) -> bytes:
    """Return the key that keeps the events of one delivery in order."""
    return f"{tenant}/{correlation_id}".encode()


def dumps(value: Any) -> bytes:
    """Encode as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestReceived:
    """A delivery request: how it arrived, and what it says."""

    receipt: Receipt
    body: dict[str, Any]


def encode_request(event: RequestReceived) -> bytes:
    """Encode for `delivery.requests`."""
    receipt = event.receipt
    return dumps(
        {
            "ingressId": str(receipt.ingress_id),
            "digest": base64.b64encode(receipt.digest).decode(),
            "redelivered": receipt.redelivered,
            "tenant": receipt.tenant,
            "correlationId": receipt.correlation_id,
            "originApp": receipt.origin_app,
            "priority": receipt.priority,
            "receivedAt": receipt.received_at.isoformat(),
            "body": event.body,
        }
    )


def _read(value: bytes) -> dict[str, Any]:
    try:
        loaded = json.loads(value)
    except (ValueError, RecursionError) as error:
        raise UnreadableMessageError(f"the event is no JSON: {error}") from None
    if not isinstance(loaded, dict):
        raise UnreadableMessageError("the event is no JSON object")
    return loaded


def decode_request(value: bytes) -> RequestReceived:
    """Decode from `delivery.requests`. Raises UnreadableMessageError."""
    data = _read(value)
    try:
        receipt = Receipt(
            ingress_id=UUID(data["ingressId"]),
            digest=base64.b64decode(data["digest"]),
            redelivered=data["redelivered"],
            tenant=data["tenant"],
            correlation_id=data["correlationId"],
            origin_app=data["originApp"],
            priority=data["priority"],
            received_at=datetime.fromisoformat(data["receivedAt"]),
        )
        return RequestReceived(receipt=receipt, body=data["body"])
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableMessageError(f"the event is no delivery request: {error!r}") from None


def encode_order_event(event: OrderEvent) -> bytes:
    """Encode for `delivery.order-events`."""
    return dumps(dataclasses.asdict(event))


def decode_order_event(value: bytes) -> OrderEvent:
    """Decode from `delivery.order-events`. Raises UnreadableMessageError."""
    data = _read(value)
    try:
        return OrderEvent(**data | {"status": OrderStatus(data["status"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableMessageError(f"the event is no order event: {error!r}") from None


def encode_progress(progress: Progress) -> bytes:
    """Encode for `delivery.progress`."""
    return dumps(dataclasses.asdict(progress))


def decode_progress(value: bytes) -> Progress:
    """Decode from `delivery.progress`. Raises UnreadableMessageError."""
    data = _read(value)
    try:
        return Progress(**data | {"phase": Phase(data["phase"])})
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableMessageError(f"the event is no progress: {error!r}") from None
