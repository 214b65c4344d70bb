"""How far transfers are, as everybody is told: rates and the time that is left."""

from __future__ import annotations

from typing import Any

from app.delivery.progress import Phase, Progress


def rate(progress: Progress) -> float | None:
    """Return bytes a second; None before there is anything to tell."""
    return progress.bytes_done / progress.elapsed if progress.elapsed > 0 else None


def seconds_left(progress: Progress) -> float | None:
    """Return how long the rest takes at that rate; None where nobody can tell."""
    speed = rate(progress)
    if progress.phase is not Phase.TRANSFERRING or not speed:
        return None
    return max(0.0, (progress.bytes_total - progress.bytes_done) / speed)


def in_json(progress: Progress) -> dict[str, Any]:
    """Return it as it is shown over HTTP."""
    speed, left = rate(progress), seconds_left(progress)
    shown = {
        "phase": progress.phase.value,
        "attempt": progress.attempt,
        "bytesDone": progress.bytes_done,
        "bytesTotal": progress.bytes_total,
        "filesDone": progress.files_done,
        "filesTotal": progress.files_total,
        "bytesPerSecond": None if speed is None else round(speed),
        "secondsLeft": None if left is None else round(left, 1),
    }
    return {name: value for name, value in shown.items() if value is not None}
