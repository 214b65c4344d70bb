"""PostgreSQL in memory, as it is met over a network: slow, away, silent after a commit.

The promises are those of `app.store.memory`, which passes the same tests as the real one. Here it
loses answers to commits, is away, and ends the transactions of processes that are gone.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from functools import partial

from app.errors import StoreUnavailableError
from app.store.memory.database import MemoryDatabase
from app.store.memory.session import Session
from tests.simulation.processes import PROCESS, Process
from tests.simulation.weather import Weather

PARTY = "PostgreSQL"
_LOSES_REQUESTS, _LOSES_ANSWERS = f"{PARTY} loses requests", f"{PARTY} loses answers"
_LOCK_TIMEOUT = 60.0  # seconds; asyncpg gives a statement up then


class _Session(Session):
    """A transaction of a process."""

    process: Process | None


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
        self._weather = weather

    async def _go(self) -> None:
        """Take a statement there, or fail."""
        await self._weather.travel(PARTY, longest=0.004)
        self._fail_if_away()
        if self._weather.strikes(_LOSES_REQUESTS):
            raise StoreUnavailableError("the connection broke before the statement")

    async def _come_back(self) -> None:
        """Take the answer to a commit back, or lose it."""
        if self._weather.strikes(_LOSES_ANSWERS):
            self._weather.note(f"{PARTY} commits, and is not heard")
            raise StoreUnavailableError("the connection broke; it may have been committed")
        await self._weather.travel(PARTY, longest=0.004)
        self._fail_if_away()

    def _fail_if_away(self) -> None:
        if PARTY in self._weather.down:
            raise StoreUnavailableError(self._weather.down[PARTY])

    def seconds_until(self, moment: datetime) -> float:
        """Return how long it is until its clock shows a time."""
        return (moment - self._now()).total_seconds()

    def jump(self, seconds: float) -> None:
        """Put its clock forward."""
        self._weather.note(f"the clock of {PARTY} jumps by {seconds:.0f} s")
        self.ahead += timedelta(seconds=seconds)

    def begin(self) -> Session:
        """Begin a transaction of the process that runs."""
        session = _Session(self._locks, self._open, self.clock())
        session.process = process = PROCESS.get()
        if process is not None and not process.has(self):
            process.while_alive(self, partial(self._cut, process))
        return session

    def _cut(self, process: Process) -> None:
        """Roll back what a process that is gone had begun."""
        for session in list(self._open):
            if isinstance(session, _Session) and session.process is process:
                session.roll_back()


class Leadership:
    """Which process does what one does for all: by advisory locks of its connection."""

    def __init__(self, database: SimulatedDatabase) -> None:
        self._database = database
        self._leaders: dict[str, object] = {}

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
