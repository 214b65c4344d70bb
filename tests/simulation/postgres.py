"""PostgreSQL in memory, as it is met over a network: slow, away, silent after a commit.

The promises are those of `app.store.memory`, which passes the same tests as the real one. Here it
loses answers to commits, is away, also for one process alone, and ends the transactions of
processes that are gone. While it is read-only (a failover, a full disk), what has begun goes on; a
later transaction is refused at once, as `app.store.pool` does where the server says so, or at its
first change (`tests/store/test_read_only.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app.errors import StoreUnavailableError
from app.store.memory.database import ListeningLine, MemoryDatabase
from app.store.memory.rows import DeliveryRow, OutboxRow
from app.store.memory.session import Session
from app.store.memory.tables import Table
from tests.simulation.processes import PROCESS, Process
from tests.simulation.weather import About, Weather, by_no_process

PARTY = "PostgreSQL"
_LOSES_REQUESTS, _LOSES_ANSWERS = f"{PARTY} loses requests", f"{PARTY} loses answers"
_LOCK_TIMEOUT = 60.0  # seconds; asyncpg gives a statement up then


@dataclass(frozen=True, slots=True)
class Change:
    """A row that a commit changes; None where there is none, or no more."""

    table: str
    before: Any
    after: Any

    @property
    def about(self) -> About | None:
        """Which delivery it is about."""
        row = self.after or self.before
        match row:
            case DeliveryRow():
                return row.delivery.tenant, row.delivery.correlation_id
            case OutboxRow():
                return row.message.tenant, row.message.correlation_id
        return None


class _Session(Session):
    """A transaction of a process, whose commit is looked at."""

    process: Process | None
    committing: Callable[[Session, Sequence[Change]], object]

    def commit(self) -> None:
        """Let others see what was changed, and those who look on what that is."""
        if not self.failed:
            changes = [
                Change(table.name, before, row)
                for table, rows in self._changes.items()
                for key, row in rows.items()
                # What came and went within the transaction was never there.
                if (before := table.get(key)) is not None or row is not None
            ]
            self.committing(self, changes)
        super().commit()


class _Deliveries(Table[UUID, DeliveryRow]):
    """The deliveries, and what becomes of their leases."""

    def __init__(self, like: Table[UUID, DeliveryRow]) -> None:
        super().__init__(like.name, group=like._group)
        self.lost: dict[tuple[UUID, str, int], float] = {}
        self.completions: set[tuple[UUID, str, int, str]] = set()

    def put(self, key: UUID, row: DeliveryRow) -> None:
        before = self.get(key)
        if before is not None and before.lease_owner is not None:
            lease = key, before.lease_owner, before.delivery.attempt
            if lease != (key, row.lease_owner, row.delivery.attempt):
                self.lost[lease] = asyncio.get_running_loop().time()
        if row.delivery.completing is not None and row.lease_owner is not None:
            noted = key, row.lease_owner, row.delivery.attempt, row.delivery.completing.url
            self.completions.add(noted)
        super().put(key, row)


class SimulatedDatabase(MemoryDatabase):
    """One server that all processes ask."""

    def __init__(self, weather: Weather, *, now: Callable[[], datetime]) -> None:
        self.ahead = timedelta()
        super().__init__(
            now=lambda: now() + self.ahead,
            trip=self._go,
            answered=self._come_back,
            lock_timeout=_LOCK_TIMEOUT,
        )
        self._listeners: dict[ListeningLine, Process | None] = {}
        self._leased = _Deliveries(self.deliveries)
        self.deliveries = self._leased
        self._weather = weather
        self._read_only = False
        self._steps: list[tuple[str, About | None]] = []  # of the last commit
        # Who looks on: at each commit, before it is seen by others.
        self.on_commit: Callable[[Session, Sequence[Change]], object] = lambda *_: None

    @property
    def lost(self) -> Mapping[tuple[UUID, str, int], float]:
        """When each lease (of a delivery, by a worker, at an attempt) was over."""
        return self._leased.lost

    @property
    def completions(self) -> Collection[tuple[UUID, str, int, str]]:
        """Who has noted that an object is about to appear, and which: a lease and a URL."""
        return self._leased.completions

    @property
    def transactions(self) -> int:
        """How many are under way."""
        return len(self._open)

    async def _go(self) -> None:
        """Take a statement there, or fail."""
        await self._weather.travel(PARTY, longest=0.004)
        self._fail_if_away()
        if self._weather.strikes(_LOSES_REQUESTS):
            raise StoreUnavailableError("the connection broke before the statement")

    async def _come_back(self) -> None:
        """Take the answer to a commit back, or lose it."""
        steps, self._steps = self._steps, []
        if steps:
            process = PROCESS.get()
            lost = False
            for step, about in steps:  # all of them, whichever strikes
                lost |= self._weather.step(f"after commit: {step}", process, about)
            if lost:
                raise StoreUnavailableError("the connection broke; it may have been committed")
            await asyncio.sleep(0)  # a process that was stopped there goes no further
        if self._weather.strikes(_LOSES_ANSWERS):
            self._weather.note(f"{PARTY} commits, and is not heard")
            raise StoreUnavailableError("the connection broke; it may have been committed")
        await self._weather.travel(PARTY, longest=0.004)
        self._fail_if_away()

    def tell(self, words: Iterable[str]) -> None:
        """Tell those that listen; the line of a process that is cut off breaks by it."""
        told = list(words)
        for line, process in list(self._listeners.items()) if told else ():
            if process is not None and PARTY in process.cut_off:
                self._lose(line)
        super().tell(told)

    @contextlib.contextmanager
    def listened_by(self, line: ListeningLine) -> Iterator[None]:
        """Tell a line of the process that runs what commits tell, while that is alive."""
        self._listeners[line] = process = PROCESS.get()
        if process is not None:
            process.while_alive(line, partial(self._lose, line))
        try:
            with super().listened_by(line):
                yield
        finally:
            self._listeners.pop(line, None)
            if process is not None:
                process.forget(line)

    def cut_lines(self) -> None:
        """Cut all that listen, as a server does that goes away."""
        for line in list(self._listeners):
            self._lose(line)

    def _lose(self, line: ListeningLine) -> None:
        self._listeners.pop(line, None)
        self.lines.pop(line, None)
        line.cut()

    def _fail_if_away(self) -> None:
        if (cause := self._weather.why_away(PARTY)) is not None:
            raise StoreUnavailableError(cause)

    def time(self) -> datetime:
        """Return what its clock shows."""
        return self._now()

    def seconds_until(self, moment: datetime) -> float:
        """Return how long it is until its clock shows a time."""
        return (moment - self._now()).total_seconds()

    def jump(self, seconds: float) -> None:
        """Put its clock forward."""
        self._weather.note(f"the clock of {PARTY} jumps by {seconds:.0f} s")
        self.ahead += timedelta(seconds=seconds)

    def become_read_only(self, seconds: float) -> None:
        """Take no changes for a while."""
        self._read_only = True
        by_no_process(seconds, self._become_writable)

    def _become_writable(self) -> None:
        self._read_only = False

    def begin(self) -> Session:
        """Begin a transaction of the process that runs."""
        if self._read_only and self._weather.draws.of("read-only").random() < 0.5:
            raise StoreUnavailableError("the server is read-only")
        session = _Session(self._locks, self._open, self.clock())
        session.read_only = self._read_only
        session.committing = self._committing
        session.process = process = PROCESS.get()
        if process is not None and not process.has(self):
            process.while_alive(self, partial(self._cut, process))
        return session

    def _committing(self, session: Session, changes: Sequence[Change]) -> None:
        self.on_commit(session, changes)
        if self._weather.on_step is not None:
            self._steps = [(step, change.about) for change in changes for step in steps_of(change)]

    def _cut(self, process: Process) -> None:
        """Roll back what a process that is gone had begun."""
        for session in list(self._open):
            if isinstance(session, _Session) and session.process is process:
                session.roll_back()


def steps_of(change: Change) -> Iterator[str]:
    """Iterate over what a change of a row means for a delivery."""
    before, after = change.before, change.after
    match change.table:
        case "delivery" if before is not None and after is not None:
            yield from _steps_of_delivery(before, after)
        case "delivery":
            yield "it is opened" if before is None else "it is forgotten"
        case "inbox" if before is None:
            yield "a receipt"
        case "arrival" if before is None:
            yield "an arrival"
        case "outbox" if after is None:
            yield f"{before.message.kind.value} is dealt with"
        case "outbox" if before is not None and _is_noted(before, after):
            yield "an order is noted"


def _is_noted(before: OutboxRow, after: OutboxRow) -> bool:
    return before.begun_by != after.begun_by and after.begun_by is not None


def _steps_of_delivery(before: DeliveryRow, after: DeliveryRow) -> Iterator[str]:
    if after.delivery.attempt != before.delivery.attempt:
        yield "an attempt"
    elif after.lease_owner is not None and after.lease_owner != before.lease_owner:
        yield "a claim"
    elif after.state is not before.state:
        yield f"{after.state.value}"
    elif after.delivery.upload != before.delivery.upload:
        yield "an upload"
    elif after.completing_until != before.completing_until:
        yield "a completion"
    elif before.lease_owner is not None and after.lease_owner is None:
        yield "a release"
    elif after.lease_until != before.lease_until:
        yield "a renewal"
    elif after.swept:
        yield "a sweep"


class Leadership:
    """Which process does what one does for all: by advisory locks of its connection."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database
        self._leaders: dict[str, object] = {}

    def leads(self, job: str, process: Process) -> bool:
        """Whether a process leads a job now."""
        return self._leaders.get(job) is process

    @contextlib.asynccontextmanager
    async def leading(self, job: str) -> AsyncIterator[bool]:
        """Give whether the process that asks leads the job."""
        await self._database.trip()
        process = PROCESS.get()
        assert process is not None
        leads = job not in self._leaders
        if leads:
            self._leaders[job] = process
            process.while_alive((self, job), lambda: self._leaders.pop(job, None))
        try:
            yield leads
        finally:
            if leads:
                process.forget((self, job))
                self._leaders.pop(job, None)
