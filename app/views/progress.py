"""How far transfers are, as all readers get it: rates and the time that is left."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, WithJsonSchema

from app.delivery.progress import Phase, Progress
from app.views.view import View


def rate(progress: Progress) -> float | None:
    """Return bytes a second of this attempt; None before there is anything to tell."""
    read = progress.bytes_done - progress.bytes_kept
    return read / progress.elapsed if progress.elapsed > 0 else None


def seconds_left(progress: Progress) -> float | None:
    """Return how long the rest takes at that rate; None where it is not known."""
    speed = rate(progress)
    if progress.phase is not Phase.TRANSFERRING or not speed:
        return None
    return max(0.0, (progress.bytes_total - progress.bytes_done) / speed)


class ProgressView(View):
    """How far a transfer is."""

    phase: str
    attempt: int
    bytes_done: int
    bytes_total: int
    files_done: int
    files_total: int
    bytes_per_second: Annotated[int, WithJsonSchema({"type": "number"})] | None = None
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
            seconds_left=None if left is None else round(left, 1),
            **more,
        )
