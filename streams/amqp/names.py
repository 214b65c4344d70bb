"""Names on the wire, exactly as REGARDS uses them (contract, section 1)."""

from __future__ import annotations

from typing import Literal

from aiormq.abc import FieldTable

_DELIVERY = "fr.cnes.regards.modules.delivery.amqp"
_ORDER = "fr.cnes.regards.modules.order.amqp"

# Java classes of the bodies, as consumers in Java look for them in the headers.
DELIVERY_REQUEST_TYPE = f"{_DELIVERY}.input.DeliveryRequestDtoEvent"
# Not of REGARDS: named like its neighbours.
DELIVERY_CANCEL_TYPE = f"{_DELIVERY}.input.DeliveryCancelRequestDtoEvent"
DELIVERY_RESPONSE_TYPE = f"{_DELIVERY}.output.DeliveryResponseDtoEvent"
ORDER_REQUEST_TYPE = f"{_ORDER}.input.OrderRequestDtoEvent"
ORDER_CANCEL_TYPE = f"{_ORDER}.input.OrderCancelRequestDtoEvent"
ORDER_RESPONSE_TYPE = f"{_ORDER}.output.OrderResponseDtoEvent"

_BROADCAST = "regards.broadcast"
DELIVERY_REQUESTS = f"{_BROADCAST}.{DELIVERY_REQUEST_TYPE}"
DELIVERY_CANCELS = f"{_BROADCAST}.{DELIVERY_CANCEL_TYPE}"
DELIVERY_RESPONSES = f"{_BROADCAST}.{DELIVERY_RESPONSE_TYPE}"
ORDER_REQUESTS = f"{_BROADCAST}.{ORDER_REQUEST_TYPE}"
ORDER_CANCELS = f"{_BROADCAST}.{ORDER_CANCEL_TYPE}"
ORDER_RESPONSES = f"{_BROADCAST}.{ORDER_RESPONSE_TYPE}"

# The public page about responses says `ltamanager` for `delivery`; who followed it listens here.
MISSPELT_DELIVERY_RESPONSES = DELIVERY_RESPONSES.replace(
    ".modules.delivery.", ".modules.ltamanager."
)

EXCHANGES = (
    DELIVERY_REQUESTS,
    DELIVERY_CANCELS,
    DELIVERY_RESPONSES,
    ORDER_REQUESTS,
    ORDER_CANCELS,
    ORDER_RESPONSES,
    MISSPELT_DELIVERY_RESPONSES,
)

_QUEUE = f"{_BROADCAST}.rs-delivery.fr.cnes.regards.modules"
DELIVERY_REQUEST_QUEUE = (
    f"{_QUEUE}.delivery.service.submission.create.amqp.DeliveryRequestEventHandler"
)
DELIVERY_CANCEL_QUEUE = (
    f"{_QUEUE}.delivery.service.submission.cancel.amqp.DeliveryCancelRequestEventHandler"
)
ORDER_RESPONSE_QUEUE = f"{_QUEUE}.order.client.amqp.AutoOrderResponseHandler"

DEAD_LETTER_EXCHANGE = "regards.DLX"
DEAD_LETTER_QUEUE = "regards.DLQ"
DEAD_LETTER_SUFFIX = ".DLQ"

HEADER_TENANT = "regards.tenant"
HEADER_TYPE = "regards.type"
HEADER_JAVA_TYPE = "__TypeId__"
HEADER_CONVERTER = "regards.converter"
HEADER_REASON = "x-exception-message"
# Where a dead letter comes from; RabbitMQ's own x-death can't be written by a client.
HEADER_ORIGIN_QUEUE = "x-death-queue"
HEADER_ORIGIN_EXCHANGE = "x-death-exchange"

MAX_PRIORITY = 255
_NEVER = 2**31 - 1  # times that a message may be given back

QueueType = Literal["classic", "quorum"]


def dead_letters_of(queue: str) -> str:
    """Return the dead-letter queue of a queue; it is its routing key, too."""
    return queue + DEAD_LETTER_SUFFIX


def queue_arguments(queue: str, kind: QueueType = "classic") -> FieldTable:
    """Return the arguments of a queue. Those of a classic one are REGARDS': others are refused.

    A quorum queue has no priorities (they count from the claim on). It would drop a message that
    was given back too often, and what its dead-letter queue can't take: neither happens here.
    """
    dead_letters: FieldTable = {
        "x-dead-letter-exchange": DEAD_LETTER_EXCHANGE,
        "x-dead-letter-routing-key": dead_letters_of(queue),
    }
    if kind == "quorum":
        return dead_letters | {
            "x-queue-type": "quorum",
            "x-delivery-limit": _NEVER,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return dead_letters | {"x-max-priority": MAX_PRIORITY}


def dead_letter_arguments(kind: QueueType = "classic") -> FieldTable:
    """Return the arguments of a dead-letter queue."""
    return {"x-queue-type": "quorum"} if kind == "quorum" else {"x-max-priority": MAX_PRIORITY}
