"""What the operators of REGARDS are told: what they must act on, and nothing that passes.

What is told is told beside the log, and lost where RabbitMQ is away: nothing waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.delivery.model import Delivery
from app.errors import (
    DeliveryError,
    NoLinkError,
    ObjectGoneError,
    SourceCredentialsError,
    TargetRefusedError,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Notice:
    """Something that operators of a tenant must act on."""

    tenant: str
    about: str  # what is at fault: told once in a while, however often it is met
    title: str
    message: str


Tell = Callable[[Notice], None]  # returns at once, and raises nothing


def silent(_notice: Notice) -> None:
    """Tell nothing: what holds where no roles are set."""


def of_error(delivery: Delivery, error: DeliveryError) -> Notice | None:
    """Return what operators are told of an error; None where they need not act, or it may pass."""
    match error:
        case NoLinkError() | ObjectGoneError():
            return None
        case TargetRefusedError():
            return Notice(
                tenant=delivery.tenant,
                about=f"target {delivery.target}",
                title=f"Target {delivery.target} refuses deliveries",
                message=f"Delivery {delivery.correlation_id} could not be put there: {error}",
            )
        case SourceCredentialsError():
            return Notice(
                tenant=delivery.tenant,
                about="rs-order",
                title="rs-order refuses the credentials of rs-delivery",
                message=f"Delivery {delivery.correlation_id} waits, as all others do: {error}",
            )
    return None


def of_dead_letters(tenant: str, waiting: Mapping[str, int]) -> Notice | None:
    """Return what operators are told of dead letters, by their queue; None where there are none.

    A dead letter may be of no tenant that is known, so those of each are told.
    """
    found = {queue: count for queue, count in waiting.items() if count}
    if not found:
        return None
    queues = ", ".join(f"{count} in {queue}" for queue, count in sorted(found.items()))
    return Notice(
        tenant=tenant,
        about="dead letters",
        title="Messages to rs-delivery could not be handled",
        message=f"Dead letters wait: {queues}. `delivery dlq` and the console tell why: "
        "mend the cause, then put them back.",
    )
