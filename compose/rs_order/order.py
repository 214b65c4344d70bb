"""What an order is made of: its files, cut into suborders, and grouped into datasets."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from compose.rs_order.catalog import File
from compose.rs_order.states import (
    ORDER_MOVES,
    SUBORDER_MOVES,
    FileState,
    Happening,
    OrderStatus,
    SuborderState,
    file_after,
)

User = tuple[str, str]  # tenant and e-mail


@dataclass(kw_only=True, eq=False)
class OrderedFile:
    """A file of an order."""

    file_id: int
    file: File
    size: int  # bytes, when it was ordered
    dataset: Dataset
    suborder: Suborder
    external: bool = False  # it is referenced, not stored
    state: FileState = FileState.PENDING
    cached_until: float = 0  # by the clock; after that it is gone from the cache
    begun: int = 0  # downloads that were answered 200
    ended: int = 0  # those that were read to their end
    open: int = 0  # those that are under way
    refused: Counter[int] = field(default_factory=Counter)  # other answers, by status

    def happens(self, what: Happening) -> None:
        """Move on; what doesn't fit changes nothing."""
        state = file_after(self.state, what)
        if state is not self.state:
            self.suborder.forget(self)
            self.state = state
            self.suborder.take(self)


@dataclass(kw_only=True, eq=False)
class Suborder:
    """A part of an order that is restored as a whole."""

    suborder_id: int
    order: Order
    state: SuborderState = SuborderState.QUEUED
    files: dict[int, OrderedFile] = field(default_factory=dict)  # by file id
    available: dict[int, OrderedFile] = field(default_factory=dict)  # those of them that are
    counts: Counter[FileState] = field(default_factory=Counter)

    def move(self, to: SuborderState) -> None:
        """Go to another state."""
        if to not in SUBORDER_MOVES[self.state]:
            raise AssertionError(f"suborder {self.suborder_id} can't go from {self.state} to {to}")
        self.state = to

    def take(self, file: OrderedFile) -> None:
        """Count a file among the suborder's, in its state."""
        self.files[file.file_id] = file
        self.counts[file.state] += 1
        if file.state is FileState.AVAILABLE:
            self.available[file.file_id] = file

    def forget(self, file: OrderedFile) -> None:
        """Count it no more."""
        del self.files[file.file_id]
        self.counts[file.state] -= 1
        self.available.pop(file.file_id, None)


@dataclass(kw_only=True, eq=False)
class Dataset:
    """A dataset's part of an order."""

    task_id: int
    files: list[OrderedFile] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(file.size for file in self.files)


@dataclass(kw_only=True, eq=False)
class Order:
    """An order that was granted."""

    order_id: int
    tenant: str
    user: str
    correlation_id: str
    created_at: float  # by the clock
    expires_at: float = 0
    status: OrderStatus = OrderStatus.RUNNING
    fate: Literal["fail", "stuck"] | None = None  # what it was told to come to
    cancelled: bool = False
    owes_granted: bool = False  # its GRANTED is told after its next event
    datasets: list[Dataset] = field(default_factory=list)
    suborders: list[Suborder] = field(default_factory=list)
    files: dict[int, OrderedFile] = field(default_factory=dict)  # by file id

    @property
    def owner(self) -> User:
        """Whose places it takes."""
        return self.tenant, self.user

    @property
    def at_rest(self) -> bool:
        """Whether nothing more is said of it before its user downloads, retries or cancels."""
        return all(suborder.state is not SuborderState.RESTORING for suborder in self.suborders)

    def move(self, to: OrderStatus) -> None:
        """Go to another status."""
        if to not in ORDER_MOVES[self.status]:
            raise AssertionError(f"order {self.order_id} can't go from {self.status} to {to}")
        self.status = to

    def count(self, *states: FileState) -> int:
        """Return how many of its files are in one of these states."""
        return sum(suborder.counts[state] for suborder in self.suborders for state in states)

    def available(self) -> list[OrderedFile]:
        """Return the files that can be downloaded, by their ids."""
        found = [file for suborder in self.suborders for file in suborder.available.values()]
        return sorted(found, key=lambda file: file.file_id)

    @property
    def percent_completed(self) -> int:
        """Percent of its bytes that are not PENDING."""
        total = sum(file.size for file in self.files.values())
        pending = sum(f.size for f in self.files.values() if f.state is FileState.PENDING)
        return 100 * (total - pending) // total if total else 100

    @property
    def waiting_for_user(self) -> bool:
        """Whether a suborder is to be downloaded."""
        return any(suborder.state is SuborderState.WAITING for suborder in self.suborders)
