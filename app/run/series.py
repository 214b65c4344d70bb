"""The series that alerts ask for, made before anything of the kind happens.

`increase()` needs a figure from before: of a series that appears with its first count, none sees
that count.
"""

from __future__ import annotations

from app.delivery.states import State, Work
from app.errors import ErrorType
from app.settings import Settings
from app.telemetry import metrics
from streams.amqp import names
from streams.kafka.topics import Topics

_OUTCOMES = ("granted", "denied", "ignored", "repeated")


def make_series(settings: Settings) -> None:
    """Make them at zero."""
    for queue in (
        names.DELIVERY_REQUEST_QUEUE,
        names.DELIVERY_CANCEL_QUEUE,
        names.ORDER_RESPONSE_QUEUE,
    ):
        metrics.BURIED.labels(queue)
    for topic in Topics(prefix=settings.kafka_topic_prefix).consumed:
        metrics.DEAD_EVENTS.labels(topic)
    for work in Work:
        metrics.TAKEOVERS.labels(work.value)
        metrics.LEASES_LOST.labels(work.value)
    for tenant in settings.tenants:
        for outcome in _OUTCOMES:
            metrics.REQUESTS.labels(tenant, outcome)
        metrics.FINISHED.labels(tenant, State.DONE.value, "")
        for error_type in ErrorType:
            metrics.FINISHED.labels(tenant, State.ERROR.value, error_type.value)
