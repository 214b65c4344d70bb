"""How far transfers are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Phase(StrEnum):
    """What a transfer is doing."""

    TRANSFERRING = "transferring"  # bytes flow
    COMPLETING = "completing"  # all parts are sent; the store assembles the object
    DONE = "done"  # the object is there, and verified
    FAILED = "failed"  # the attempt has ended without it; another may follow
    PAUSED = "paused"  # the attempt has ended: all that came is archived, and more is to come

    @property
    def ended(self) -> bool:
        """Whether the attempt reports nothing more."""
        return self in (Phase.DONE, Phase.FAILED, Phase.PAUSED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a transfer is."""

    tenant: str
    correlation_id: str
    attempt: int  # of the delivery, from 1
    phase: Phase
    bytes_done: int  # of the source files
    bytes_total: int  # of those whose size is known
    files_done: int
    files_total: int
    elapsed: float  # seconds that bytes have flowed for
    bytes_kept: int = 0  # of those done: an earlier attempt has archived them
    # Bytes a second of late, which show a stall; None: a worker of a version before reported it.
    recent: float | None = None
    silent: float = 0.0  # seconds since a byte came
    delivery: UUID | None = None  # its id; None: a worker of a version before reported it


# Hears how far transfers are. Must not block: it is called in the midst of them.
Report = Callable[[Progress], None]


def to_all(*reports: Report) -> Report:
    """Return what tells each of them."""

    def report(progress: Progress) -> None:
        for each in reports:
            each(progress)

    return report
