"""What those who follow deliveries are told: the events of a stream, each by its name."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field

from app.delivery.progress import Progress
from app.views.deliveries import Change, DeliveryView
from app.views.progress import ProgressView
from app.views.view import Milliseconds, View

# What is shown of a delivery with the step that it is in, and with none before.
_OF_THE_PRESENT = (
    *("url", "md5", "archive_bytes", "error_type", "error_message"),
    *("code", "fails_again", "activity", "tries"),
    *("state_since", "finished_at", "parked_since"),
    *("expires", "content", "removed_at", "content_cause"),
)


class StateEvent(DeliveryView):
    """A delivery came into a state, or an attempt in it was given up."""

    event: ClassVar[str] = "state"

    at: Milliseconds
    cause: str | None = Field(None, description="Why the attempt was given up.")

    @classmethod
    def of_change(cls, change: Change) -> Self:
        """Return the event of a step, with the delivery as it is now."""
        step = change.step
        now = cls.of(change.tracked, at=step.at, cause=step.cause)
        then: dict[str, object] = {"state": step.state, "attempt": step.attempt}
        if step.state is not now.state:
            # It went on since: what is shown later belongs to a later event.
            then |= dict.fromkeys(_OF_THE_PRESENT)
        return now.model_copy(update=then)


class ContentEvent(DeliveryView):
    """Something happened to what a delivery has left at its target, long after its end."""

    event: ClassVar[str] = "content"

    at: Milliseconds
    news: str = Field(description="`content.expires-soon`, a day before; `content.removed`.")

    @classmethod
    def of_change(cls, change: Change) -> Self:
        """Return the event of such a step, with the delivery as it is now."""
        return cls.of(change.tracked, at=change.step.at, news=change.step.news or "")


class _OfDelivery(View):
    """What an event begins with that is about one delivery."""

    correlation_id: str


class ProgressEvent(ProgressView, _OfDelivery):
    """How far the transfer of a delivery is."""

    event: ClassVar[str] = "progress"

    id: str | None = Field(None, description="Of the delivery; a worker of before tells none.")

    @classmethod
    def of_transfer(cls, progress: Progress) -> Self:
        """Return the event of a report, with the delivery that it is about."""
        return cls.of(
            progress,
            correlation_id=progress.correlation_id,
            id=None if progress.delivery is None else str(progress.delivery),
        )


class ReloadEvent(View):
    """More has happened than is told here."""

    event: ClassVar[str] = "reload"

    message: str


class ExpiredEvent(View):
    """The token ends the stream."""

    event: ClassVar[str] = "expired"

    message: str


Event = StateEvent | ContentEvent | ProgressEvent | ReloadEvent | ExpiredEvent
EVENTS: dict[str, type[Event]] = {
    kind.event: kind
    for kind in (StateEvent, ContentEvent, ProgressEvent, ReloadEvent, ExpiredEvent)
}
