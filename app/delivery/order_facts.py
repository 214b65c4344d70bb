"""An order as rs-order answers for it when it is asked, and each of its files."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from app.delivery.manifest import ListedFile


class OrderState(StrEnum):
    """Where an order stands at rs-order."""

    PENDING = "PENDING"  # it is being made
    RUNNING = "RUNNING"  # some of its files are not restored yet
    PAUSED = "PAUSED"  # its user has halted it
    DONE = "DONE"  # each of its files was restored
    DONE_WITH_WARNING = "DONE_WITH_WARNING"  # some are in error
    FAILED = "FAILED"  # all are
    EXPIRED = "EXPIRED"  # its time is over; its files are gone
    DELETED = "DELETED"  # it was cancelled; likewise
    ERROR = "ERROR"  # rs-order failed to delete it; so some of its files may be gone


class FileState(StrEnum):
    """Where a file of an order stands at rs-order."""

    PENDING = "PENDING"  # it is not restored yet
    AVAILABLE = "AVAILABLE"  # it waits to be downloaded: only so it is in a listing
    DOWNLOADED = "DOWNLOADED"  # it was read to its end
    DOWNLOAD_ERROR = "DOWNLOAD_ERROR"  # a download was refused or broke off: it can be read again
    PROCESSING_ERROR = "PROCESSING_ERROR"  # it could not be made
    ERROR = "ERROR"  # it could not be restored


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetFacts:
    """A dataset's part of an order."""

    dataset_id: int  # of the part: two orders of one dataset have two
    files: int | None  # that were ordered of it; None: not told
    size: int | None  # bytes that they have together, where that is told


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderFacts:
    """An order as a whole. What is None was not told."""

    status: str  # an `OrderState`, or a word of a later rs-order
    expires_at: datetime | None = None  # aware; then its files are gone, without an event
    percent: int | None = None  # of its bytes that were restored
    waiting_for_user: bool | None = None  # whether a suborder is to be downloaded
    available: int | None = None  # files that are listed
    in_error: int | None = None  # files; some versions count downloads that broke off
    datasets: tuple[DatasetFacts, ...] = ()

    @property
    def files(self) -> int | None:
        """How many files were ordered."""
        return _sum([dataset.files for dataset in self.datasets])

    @property
    def size(self) -> int | None:
        """How many bytes they have together."""
        return _sum([dataset.size for dataset in self.datasets])

    @property
    def gone(self) -> bool:
        """Whether its files are gone for good, or may be."""
        return self.status in {OrderState.EXPIRED, OrderState.DELETED, OrderState.ERROR}

    @property
    def complete(self) -> bool:
        """Whether no further suborder comes of itself."""
        return self.gone or self.may_be_retried or self.status == OrderState.DONE

    @property
    def may_be_retried(self) -> bool:
        """Whether files that are in error can be made available again."""
        return self.status in {OrderState.DONE_WITH_WARNING, OrderState.FAILED}


def _sum(told: list[int | None]) -> int | None:
    known = [number for number in told if number is not None]
    return sum(known) if known and len(known) == len(told) else None


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderFile:
    """A file of an order, whether it is there already or not."""

    file: ListedFile  # as a listing has it; `listed` is how many files were ordered
    state: str  # a `FileState`, or a word of a later rs-order
    suborder_id: int | None  # that it is part of now: a retry puts it into a new one

    @property
    def can_be_read(self) -> bool:
        """Whether rs-order serves it by its id, be it in a list or not."""
        return self.state in {
            FileState.AVAILABLE,
            FileState.DOWNLOADED,
            FileState.DOWNLOAD_ERROR,
        }

    @property
    def in_error(self) -> bool:
        """Whether it comes only if its order is retried."""
        return self.state in {FileState.ERROR, FileState.PROCESSING_ERROR}
