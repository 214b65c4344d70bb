"""How far transfers are, as all readers get it: rates and the time that is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Protocol, Self
from uuid import UUID

from pydantic import Field, WithJsonSchema

from app.delivery.content import in_words
from app.delivery.messages import DeliveryProgressDtoEvent
from app.delivery.model import Delivery
from app.delivery.progress import Phase, Progress
from app.views.segments import are_archived
from app.views.view import View


def rate(progress: Progress) -> float | None:
    """Return bytes a second: of late, or of the attempt once no more bytes come.

    None before there is anything to tell. (A worker of the version before tells none of late.)
    """
    if progress.recent is not None:
        return progress.recent if progress.elapsed > 0 else None
    read = progress.bytes_done - progress.bytes_kept
    return read / progress.elapsed if progress.elapsed > 0 else None


def seconds_left(progress: Progress) -> float | None:
    """Return how long the rest takes at that rate; None where it is not known."""
    speed = rate(progress)
    if progress.phase is not Phase.TRANSFERRING or not speed:
        return None
    return max(0.0, (progress.bytes_total - progress.bytes_done) / speed)


STALLED_AFTER = 45.0  # seconds without a byte


def stalled_for(progress: Progress) -> float | None:
    """Return for how long no byte has come, where that is no pause any more; None: bytes come."""
    stalled = progress.phase is Phase.TRANSFERRING and progress.silent >= STALLED_AFTER
    return progress.silent if stalled else None


class ProgressView(View):
    """How far a transfer is."""

    phase: str
    attempt: int
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    bytes_per_second: Annotated[int, WithJsonSchema({"type": "number"})] | None = Field(
        None, description="Of the last 15 seconds; once no more come, of the attempt."
    )
    stalled_for: float | None = Field(
        None, description="Seconds for which no byte has come, once they are 45."
    )
    seconds_left: float | None = Field(None, description="Estimated, at that rate.")

    @classmethod
    def of(cls, progress: Progress, **more: Any) -> Self:
        """Show it, without a rate before there is one; with `more` fields than are known here."""
        speed, left = rate(progress), seconds_left(progress)
        return cls(
            phase=progress.phase.value,
            attempt=progress.attempt,
            bytes_done=progress.bytes_done,
            bytes_total=progress.bytes_total,
            files_done=progress.files_done,
            files_total=progress.files_total,
            bytes_per_second=None if speed is None else round(speed),
            stalled_for=stalled_for(progress),
            seconds_left=None if left is None else round(left, 1),
            **more,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Underway:
    """A delivery that is being transferred, or waits for its next suborder in the midst of that."""

    delivery: Delivery  # without what it ordered
    told: bool  # whether all files of its order are known
    # Each segment that is in the manifest, in order: rs-order's suborder (None: what its whole
    # order has that is in no other), and how many files came with it.
    segments: Sequence[tuple[int | None, int]] = ()

    @property
    def is_whole(self) -> bool:
        """Whether no further file comes."""
        delivery = self.delivery
        return self.told or (delivery.order_done and len(self.segments) >= delivery.announced)


class UnderwayReader(Protocol):
    """Tells which transfers still are what their workers take them for."""

    async def underway(self, attempts: Mapping[UUID, int]) -> list[Underway]:
        """Return of these deliveries the ones that have not ended, and are at this attempt."""


_ACTIVITIES: Final[Mapping[Phase, Literal["TRANSFERRING", "COMPLETING", "PAUSED"]]] = {
    Phase.TRANSFERRING: "TRANSFERRING",
    Phase.COMPLETING: "COMPLETING",
    Phase.PAUSED: "PAUSED",
}


def progress_told(
    progress: Progress, underway: Underway, *, at: datetime
) -> DeliveryProgressDtoEvent | None:
    """Return what a client is told of a report at a time; None: nothing of its phase."""
    activity, delivery = _ACTIVITIES.get(progress.phase), underway.delivery
    if activity is None:
        return None
    # Suborders that were listed since this attempt began are in the delivery alone. The rate over
    # AMQP is of the attempt, as it was published.
    progress = replace(
        progress,
        recent=None,
        bytes_total=max(progress.bytes_total, delivery.total_bytes),
        files_total=max(progress.files_total, delivery.file_count),
    )
    speed, end = rate(progress), _end(progress, at) if underway.is_whole else None
    archived = are_archived(
        delivery, [count for _, count in underway.segments], progress.files_done
    )
    done = [
        whole
        for (suborder, _), whole in zip(underway.segments, archived, strict=True)
        if suborder is not None
    ]
    return DeliveryProgressDtoEvent(
        correlation_id=delivery.correlation_id,
        delivery_id=str(delivery.id),
        activity=activity,
        attempt=progress.attempt,
        bytes_done=progress.bytes_done,
        bytes_total=progress.bytes_total,
        files_done=progress.files_done,
        files_total=progress.files_total,
        segments_done=sum(done) if done else None,
        segments_total=max(delivery.announced, delivery.total_suborders or 0) if done else None,
        bytes_per_second=None if speed is None else round(speed),
        estimated_end=None if end is None else in_words(end.replace(microsecond=0)),
        time=in_words(at.replace(microsecond=0)),
    )


def _end(progress: Progress, at: datetime) -> datetime | None:
    """Return when all files are read; None where sizes of those that are left are not known."""
    left = seconds_left(progress)
    unknown = progress.bytes_done >= progress.bytes_total and (
        progress.files_done < progress.files_total
    )
    if left is None or unknown:
        return None
    try:
        return at + timedelta(seconds=left)
    except OverflowError:  # at that rate, never
        return None
