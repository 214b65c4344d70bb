"""What rs-order says of an order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from app.delivery.ingress import Ingress

# For so long after the end of a delivery whose order is not answered, or after its request went
# out, no other order is asked for under its correlation id: an answer does not tell which request
# it is for. It is longer than an answer waits in a worker's bridge.
ANSWER_PATIENCE = timedelta(minutes=15)
# An answer that has not come by then (rs-order may lose one) is not reckoned with any more: the
# next one is another's.
ANSWER_LIMIT = timedelta(days=1)


def waits_for_answer(earlier: UUID, until: datetime) -> str:
    """Return why an order request is not sent: the cause, as it is shown."""
    return (
        f"its order request waits for rs-order's answer to that of delivery {earlier}, which has "
        "ended and asked for something else with the same correlationId: an answer does not tell "
        f"which of them it is for; it is sent at {until.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC at "
        "the latest"
    )


class OrderStatus(StrEnum):
    """What rs-order says of an order."""

    GRANTED = "GRANTED"  # it is accepted; its orderId is told
    DENIED = "DENIED"  # it is refused: there is no order
    SUBORDER_DONE = "SUBORDER_DONE"  # one of its suborders can be downloaded
    DONE = "DONE"  # all of its files can be downloaded, except those in error
    FAILED = "FAILED"  # it ended without files


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderEvent:
    """One message of rs-order about an order."""

    tenant: str
    correlation_id: str  # that of the order request
    status: OrderStatus
    order_id: int | None = None  # None: rs-order names none, as of what it refused
    message: str | None = None  # rs-order's sentence, of what went wrong
    error_type: str | None = None  # rs-order's word; not all of them are an `ErrorType`
    errors: int = 0  # files in error
    total_suborders: int | None = None  # that the order is cut into; None: not told
    suborder_id: int | None = None  # that can be downloaded; None: not told
    ingress: Ingress | None = None  # None: it did not arrive as a message
