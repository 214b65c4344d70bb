"""Names on the wire, exactly as REGARDS uses them (contract, section 1): all but channels'."""

from __future__ import annotations

from typing import Literal

from aiormq.abc import FieldTable

from streams.channels import AMQP, MISSPELT_RESPONSES, OUTGOING

# Those that are declared when something is sent there.
OPTIONAL_EXCHANGES = tuple(channel.exchange.name for channel in OUTGOING if channel.optional)
# Those that are there while a worker runs.
EXCHANGES = (
    *(each.exchange.name for each in AMQP if each.exchange.name not in OPTIONAL_EXCHANGES),
    MISSPELT_RESPONSES,
)

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
HEADER_WITHOUT_ID = "x-death-without-id"

MAX_PRIORITY = 255
_UNLIMITED = 2**31 - 1  # times that a message may be given back

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
            "x-delivery-limit": _UNLIMITED,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return dead_letters | {"x-max-priority": MAX_PRIORITY}


def dead_letter_arguments(kind: QueueType = "classic") -> FieldTable:
    """Return the arguments of a dead-letter queue."""
    return {"x-queue-type": "quorum"} if kind == "quorum" else {"x-max-priority": MAX_PRIORITY}
