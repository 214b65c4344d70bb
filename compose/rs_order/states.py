"""The states of files, suborders and orders, and how one follows from another: as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class FileState(StrEnum):
    """Where a file of an order stands."""

    PENDING = "PENDING"  # it is not restored yet
    AVAILABLE = "AVAILABLE"  # it is restored: it is listed, and waits to be downloaded
    DOWNLOADED = "DOWNLOADED"  # it was read to its end
    DOWNLOAD_ERROR = "DOWNLOAD_ERROR"  # a download was refused, or left before its end
    ERROR = "ERROR"  # it can't be restored


class Happening(StrEnum):
    """What happens to a file."""

    RESTORED = "it was restored"
    LOST = "it could not be restored"
    READ = "it was read to its end"
    BROKEN_OFF = "a GET was answered by another status than 200, or closed early"
    RETRIED = "the user retries the order"


FILE_MOVES: Mapping[Happening, Mapping[FileState, FileState]] = {
    Happening.RESTORED: {FileState.PENDING: FileState.AVAILABLE},
    Happening.LOST: {FileState.PENDING: FileState.ERROR},
    # DOWNLOAD_ERROR is final but for a retry: a file that is read later on stays there.
    Happening.READ: {FileState.AVAILABLE: FileState.DOWNLOADED},
    Happening.BROKEN_OFF: {
        FileState.PENDING: FileState.DOWNLOAD_ERROR,
        FileState.AVAILABLE: FileState.DOWNLOAD_ERROR,
        FileState.DOWNLOADED: FileState.DOWNLOAD_ERROR,
    },
    Happening.RETRIED: {
        FileState.ERROR: FileState.PENDING,
        FileState.DOWNLOAD_ERROR: FileState.PENDING,
    },
}


def file_after(state: FileState, happening: Happening) -> FileState:
    """Return the state of a file after something happened; what doesn't fit changes nothing."""
    return FILE_MOVES[happening].get(state, state)


class SuborderState(StrEnum):
    """Where a suborder stands."""

    QUEUED = "QUEUED"  # it waits for one of its user's places
    RESTORING = "RESTORING"  # some of its files are PENDING
    WAITING = "WAITING"  # none is PENDING, some are AVAILABLE: it waits for its user
    ENDED = "ENDED"  # none is AVAILABLE any more, or its order has ended


SUBORDER_MOVES: Mapping[SuborderState, frozenset[SuborderState]] = {
    SuborderState.QUEUED: frozenset({SuborderState.RESTORING, SuborderState.ENDED}),
    SuborderState.RESTORING: frozenset({SuborderState.WAITING, SuborderState.ENDED}),
    SuborderState.WAITING: frozenset({SuborderState.ENDED}),
    SuborderState.ENDED: frozenset(),
}


def suborder_of(files: Mapping[FileState, int]) -> SuborderState:
    """Return the state of a suborder that has begun, by how many of its files are in each."""
    if files.get(FileState.PENDING):
        return SuborderState.RESTORING
    return SuborderState.WAITING if files.get(FileState.AVAILABLE) else SuborderState.ENDED


class OrderStatus(StrEnum):
    """Where an order stands."""

    RUNNING = "RUNNING"  # files are PENDING
    DONE = "DONE"  # none is PENDING, none in error
    DONE_WITH_WARNING = "DONE_WITH_WARNING"  # some are in error
    FAILED = "FAILED"  # all are
    EXPIRED = "EXPIRED"  # its time is over; it has no files any more
    DELETED = "DELETED"  # it was cancelled; likewise

    @property
    def gone(self) -> bool:
        """Whether its files are."""
        return self in {OrderStatus.EXPIRED, OrderStatus.DELETED}

    @property
    def may_be_retried(self) -> bool:
        """Whether `PUT …/retry` is allowed."""
        return OrderStatus.RUNNING in ORDER_MOVES[self]


_ENDS = frozenset({OrderStatus.EXPIRED, OrderStatus.DELETED})
ORDER_MOVES: Mapping[OrderStatus, frozenset[OrderStatus]] = {
    OrderStatus.RUNNING: _ENDS
    | {OrderStatus.DONE, OrderStatus.DONE_WITH_WARNING, OrderStatus.FAILED},
    OrderStatus.DONE: _ENDS,
    OrderStatus.DONE_WITH_WARNING: _ENDS | {OrderStatus.RUNNING},
    OrderStatus.FAILED: _ENDS | {OrderStatus.RUNNING},
    OrderStatus.EXPIRED: frozenset(),
    OrderStatus.DELETED: frozenset(),
}


def order_of(files: int, in_error: int) -> OrderStatus:
    """Return the status of an order of which no file is PENDING."""
    if not in_error:
        return OrderStatus.DONE
    return OrderStatus.FAILED if in_error == files else OrderStatus.DONE_WITH_WARNING
