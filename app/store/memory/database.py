"""The database in memory: its tables, its clock, and its transactions."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from app.audit import AuditEntry
from app.delivery.maintenance import Maintenance
from app.delivery.pauses import WORKED_OFF, Pause, Pauses, PauseSubject
from app.delivery.states import State, Work
from app.store.memory.locks import Locks
from app.store.memory.rows import (
    ArrivalRow,
    AskedRow,
    AttemptRow,
    CheckpointRow,
    ContentRow,
    ContentsRow,
    DeadLetterRow,
    DeliveryRow,
    FileCheckpointRow,
    FileRow,
    InboxRow,
    MissingRow,
    OutboxRow,
    PlaceRow,
    SegmentRow,
    StepRow,
    TailRow,
    ToldCrc32Row,
    WebhookEventRow,
    WebhookRow,
    WorkerRow,
)
from app.store.memory.session import Session
from app.store.memory.tables import Table
from app.tenants.values import StoredValue

_TICK = timedelta(microseconds=1)


async def _next_turn() -> None:
    """Let others run, as they do while a statement is on its way."""
    await asyncio.sleep(0)


async def _at_once() -> None:
    """Take no time."""


def utc_now() -> datetime:
    """Return the time of this machine."""
    return datetime.now(UTC)


def as_json(value: Any) -> Any:
    """Return what comes back of a value that was stored as JSON."""
    return json.loads(json.dumps(value))


def seconds_left(pause: Pause, now: datetime) -> float | None:
    """Return the seconds until the end of a pause; None where it has none."""
    return None if pause.until is None else (pause.until - now).total_seconds()


class ListeningLine(Hashable, Protocol):
    """A connection that listens."""

    def tell(self, word: str) -> None:
        """Have a notification come by it."""

    def cut(self) -> None:
        """End it: who waits hears of that."""


class _Transaction:
    """A transaction as a block: a class, since simulations begin thousands of them."""

    __slots__ = ("_database", "_session")

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def __aenter__(self) -> Session:
        await self._database.trip()
        self._session = self._database.begin()
        return self._session

    async def __aexit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                if self._session.has_changes:  # else it was a look, which was answered
                    await self._database.trip()
                self._session.commit()
                self._database.tell(self._session.told)
                await self._database.answered()
        finally:
            self._session.roll_back()


class MemoryDatabase:
    """What all adapters of one store share.

    `now` is the store's clock (any time zone, as long as it is one); `trip` is awaited before each
    statement and each commit: it may let others run, take time, or raise StoreUnavailableError, as
    a connection would. So may `answered`, after each commit: then it is not known to be committed.
    Who waits longer than `lock_timeout` seconds for a lock gives up with StoreUnavailableError.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = utc_now,
        trip: Callable[[], Awaitable[None]] = _next_turn,
        answered: Callable[[], Awaitable[None]] = _at_once,
        lock_timeout: float | None = None,
    ) -> None:
        self.trip = trip
        self.answered = answered
        self._now = now
        self._last: datetime | None = None
        self._locks = Locks(timeout=lock_timeout)
        self._open: dict[Session, None] = {}
        self._versions = itertools.count(1)
        self.lines: dict[ListeningLine, None] = {}

        def of_client(row: DeliveryRow) -> tuple[str, str]:
            return row.delivery.tenant, row.delivery.correlation_id

        self.deliveries = Table[UUID, DeliveryRow]("delivery", group=of_client)
        self.files = Table[tuple[UUID, int], FileRow](
            "delivery_file", group=lambda row: row.delivery_id
        )
        self.missing = Table[tuple[UUID, int], MissingRow](
            "missing_file", group=lambda row: row.delivery_id
        )
        self.told_crc32s = Table[tuple[UUID, int], ToldCrc32Row](
            "told_crc32", group=lambda row: row.delivery_id
        )
        self.segments = Table[tuple[UUID, int], SegmentRow](
            "segment", group=lambda row: row.delivery_id
        )
        self.checkpoints = Table[tuple[UUID, int, int], CheckpointRow](
            "checkpoint", group=lambda row: row.delivery_id
        )
        self.file_checkpoints = Table[tuple[UUID, int, int], FileCheckpointRow](
            "file_checkpoint", group=lambda row: row.delivery_id
        )
        self.contents = Table[tuple[UUID, str, int], ContentsRow](
            "file_contents", group=lambda row: row.delivery_id
        )
        self.tails = Table[tuple[UUID, str], TailRow]("tail", group=lambda row: row.delivery_id)
        self.kept_contents = Table[UUID, ContentRow]("content")
        self.places = Table[UUID, PlaceRow]("place")
        self.history = Table[int, StepRow]("delivery_history", group=lambda row: row.delivery_id)
        self.attempts = Table[tuple[UUID, int], AttemptRow](
            "delivery_attempt", group=lambda row: row.delivery_id
        )
        self.inbox = Table[UUID, InboxRow]("inbox", group=lambda row: (row.kind, row.digest))
        self.arrivals = Table[UUID, ArrivalRow]("arrival")
        self.asked = Table[int, AskedRow]("asked")
        self.outbox = Table[int, OutboxRow]("outbox", group=lambda row: row.lane)
        self.webhook_events = Table[int, WebhookEventRow]("webhook_event", group=lambda row: row.of)
        self.webhooks = Table[tuple[str, str], WebhookRow]("webhook")
        self.dead_letters = Table[str, DeadLetterRow]("dead_letter")
        self.dead_letter_looks = Table[str, int]("dead_letter_look")
        self.turns = Table[tuple[Work, str], datetime]("turn")
        self.settings = Table[tuple[str, str], StoredValue]("tenant_setting")
        self.maintenance = Table[str, Maintenance]("tenant_maintenance")
        self.pauses = Table[PauseSubject, Pause]("pause")
        self.audit = Table[int, AuditEntry]("audit")
        self.workers = Table[str, WorkerRow]("worker")

    def clock(self) -> datetime:
        """Return the time: later each time it is asked, as if each statement took a moment.

        What happens one after the other has times in this order, also by a clock that stands still.
        """
        now = self._now()
        if self._last is not None and now <= self._last:
            now = self._last + _TICK
        self._last = now
        return now

    def version(self) -> int:
        """Return the next version of a setting; those of transactions that fail are lost."""
        return next(self._versions)

    def is_paused(self, session: Session, tenant: str) -> bool:
        """Whether a tenant is in maintenance, as a transaction sees it."""
        found = session.get(self.maintenance, tenant)
        return found is not None and found.active

    def awaits_maintenance(self, session: Session, row: DeliveryRow) -> bool:
        """Whether it waits for the end of its tenant's maintenance, or did until a while ago."""
        found = session.get(self.maintenance, row.delivery.tenant)
        return (
            row.state is State.RECEIVED
            and found is not None
            and (found.active or found.updated_at > session.now - WORKED_OFF)
        )

    def pauses_in_effect(self, session: Session) -> list[Pause]:
        """Return the pauses in effect, as a transaction sees them, with what is left of each."""
        return [
            replace(pause, left=left)
            for _, pause in session.rows(self.pauses)
            for left in [seconds_left(pause, session.now)]
            if left is None or left > 0
        ]

    def pauses_worked_off(self, session: Session) -> Pauses:
        """Return the pauses in effect, and those for which some may still wait."""
        pauses = Pauses()
        pauses.apply(
            [
                replace(pause, left=None)
                for _, pause in session.rows(self.pauses)
                if pause.until is None or pause.until > session.now - WORKED_OFF
            ]
        )
        return pauses

    @contextlib.contextmanager
    def listened_by(self, line: ListeningLine) -> Iterator[None]:
        """Tell a line what commits tell."""
        self.lines[line] = None
        try:
            yield
        finally:
            self.lines.pop(line, None)

    def tell(self, words: Iterable[str]) -> None:
        """Tell those that listen."""
        for word in words:
            for line in list(self.lines):
                line.tell(word)

    def session(self) -> AbstractAsyncContextManager[Session]:
        """Begin a transaction; leaving the block commits, an exception rolls back."""
        return _Transaction(self)

    def begin(self) -> Session:
        """Begin a transaction, which has locked nothing."""
        return Session(self._locks, self._open, self.clock())
