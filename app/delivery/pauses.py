"""Pauses: whose transfers, or which worker's work, are not to begin; what becomes of what runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

# After a pause, in which what has waited for it is worked off: it is not taken for stuck yet.
WORKED_OFF = timedelta(hours=1)
MAX_PAUSE = timedelta(days=3660)  # and maintenance: none ends later


class PauseScope(StrEnum):
    """What is paused."""

    INSTANCE = "instance"  # transfers of all tenants
    TENANT = "tenant"  # its transfers
    TARGET = "target"  # transfers of a tenant to one of its targets
    WORKER = "worker"  # all its work: it is drained


class Running(StrEnum):
    """What becomes of what runs when a pause begins."""

    FINISH = "finish"  # it goes on to its end
    STOP = "stop"  # it ends where it can be gone on with; of a worker: it is handed over


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseSubject:
    """Whose work is paused; there is one pause of each at a time."""

    scope: PauseScope
    tenant: str = ""  # empty for those of no tenant
    name: str = ""  # of the target, or the worker

    def __str__(self) -> str:
        match self.scope:
            case PauseScope.INSTANCE:
                return "the transfers of all tenants"
            case PauseScope.TENANT:
                return f"the transfers of tenant {self.tenant}"
            case PauseScope.TARGET:
                return f"the transfers of tenant {self.tenant} to target {self.name}"
            case PauseScope.WORKER:
                return f"worker {self.name}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pause:
    """A pause as it was asked for."""

    subject: PauseSubject
    reason: str
    running: Running
    paused_by: str
    since: datetime
    until: datetime | None = None  # None: until it is ended
    # Seconds until its end by the store's clock, when it was read.
    left: float | None = field(default=None, compare=False)

    @property
    def cause(self) -> str:
        """What is told at a delivery that waits: the same in all processes."""
        verb = "is drained" if self.subject.scope is PauseScope.WORKER else "are paused"
        until = "" if self.until is None else f" until {in_words(self.until)}"
        return f"{self.subject} {verb} by {self.paused_by}{until}: {self.reason}"


def in_words(at: datetime) -> str:
    """Return an end as it is told."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


class Pauses:
    """The pauses that this process knows of.

    One ends by the store's clock: what was left when it was read passes by this process's own,
    which is seconds that only grow. So clocks of machines that differ end none too early or late.
    """

    def __init__(self, *, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or time.monotonic  # of this moment: simulations have their own
        self._known: dict[PauseSubject, tuple[Pause, float | None]] = {}

    def apply(self, pauses: Sequence[Pause]) -> None:
        """Take in those that the store has just told."""
        now = self._clock()
        self._known = {
            pause.subject: (pause, None if pause.left is None else now + pause.left)
            for pause in pauses
        }

    def all(self) -> list[Pause]:
        """Return those in effect, the first first."""
        if not self._known:
            return []
        now = self._clock()
        return [pause for pause, end in self._known.values() if end is None or end > now]

    def of(self, *subjects: PauseSubject) -> Pause | None:
        """Return the first of these that is in effect."""
        if not self._known:
            return None
        for subject in subjects:
            pause, end = self._known.get(subject, (None, None))
            if pause is not None and (end is None or end > self._clock()):
                return pause
        return None

    def of_worker(self, worker: str) -> Pause | None:
        """Return why a worker claims nothing."""
        return self.of(PauseSubject(scope=PauseScope.WORKER, name=worker))

    def of_tenant(self, tenant: str) -> Pause | None:
        """Return why no transfer of a tenant begins, to whatever target."""
        return self.of(*_of_tenant(tenant))

    def of_target(self, tenant: str, target: str) -> Pause | None:
        """Return why no transfer of a tenant to a target begins, be it for all of them."""
        own = PauseSubject(scope=PauseScope.TARGET, tenant=tenant, name=target)
        return self.of(*_of_tenant(tenant), own)

    def stopping(self, tenant: str, target: str) -> Pause | None:
        """Return the pause for which transfers of a tenant to a target that run are to stop."""
        if not self._known:
            return None
        own = PauseSubject(scope=PauseScope.TARGET, tenant=tenant, name=target)
        found = (self.of(subject) for subject in (*_of_tenant(tenant), own))
        return next((each for each in found if each and each.running is Running.STOP), None)


def _of_tenant(tenant: str) -> tuple[PauseSubject, PauseSubject]:
    return (
        PauseSubject(scope=PauseScope.INSTANCE),
        PauseSubject(scope=PauseScope.TENANT, tenant=tenant),
    )
