"""What rs-order says of an order."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.delivery.ingress import Ingress


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
    ingress: Ingress | None = None  # None: it did not arrive as a message
