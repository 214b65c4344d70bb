"""What rs-order says of an order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from app.delivery.ingress import ArrivalKind, Identity


class OrderStatus(StrEnum):
    """What rs-order says of an order."""

    GRANTED = "GRANTED"
    DENIED = "DENIED"
    SUBORDER_DONE = "SUBORDER_DONE"
    DONE = "DONE"
    FAILED = "FAILED"


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
