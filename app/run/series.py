"""The series that alerts ask for, made before anything of the kind happens.

`increase()` needs a figure from before: of a series that appears with its first count, none sees
that count.
"""

from __future__ import annotations

from collections.abc import Iterable

from app.delivery.states import State, Work
from app.errors import ErrorType
from app.settings import Settings
from app.telemetry import metrics
from streams.channels import INCOMING
from streams.kafka.topics import Topics

_OUTCOMES = ("granted", "denied", "ignored", "repeated")
_RELOADS = ("done", "failed")
_EVENT_OUTCOMES = ("taken", "failed", "dead")


def make_series(settings: Settings) -> None:
    """Make them at zero."""
    for channel in INCOMING:
        metrics.MESSAGES_DEAD_LETTERED.labels(channel.queue.name)
    for topic in Topics(prefix=settings.kafka_topic_prefix).consumed:
        metrics.EVENTS_DEAD_LETTERED.labels(topic)
    for work in Work:
        metrics.TAKEOVERS.labels(work.value)
        metrics.LEASES_LOST.labels(work.value)
    for outcome in _RELOADS:
        metrics.RELOADS.labels(outcome)
    metrics.COUNTED_LABELS.update(settings.metric_labels)
    if settings.oidc_issuer:
        for outcome in ("good", "failed"):
            metrics.IDENTITY_READS.labels(outcome)
    for tenant in settings.tenants:
        make_series_of(tenant, settings.metric_labels)


def make_series_of(tenant: str, counted_labels: Iterable[str]) -> None:
    """Make those of a tenant at zero."""
    for label in counted_labels:
        for state in State:
            if state.ended:
                metrics.FINISHED_LABELLED.labels(tenant, label, state.value)
    metrics.CONTENTS_REMOVED.labels(tenant)
    metrics.CONTENT_WARNINGS.labels(tenant)
    for outcome in _OUTCOMES:
        metrics.REQUESTS.labels(tenant, outcome)
    for outcome in _EVENT_OUTCOMES:
        metrics.WEBHOOK_EVENTS.labels(tenant, outcome)
    metrics.FINISHED.labels(tenant, State.DONE.value, "")
    for error_type in ErrorType:
        metrics.FINISHED.labels(tenant, State.ERROR.value, error_type.value)
