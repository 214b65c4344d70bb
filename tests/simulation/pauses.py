"""Pauses of a night: who pauses what and when, and that nothing of it begins meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from app.delivery.model import Delivery
from app.delivery.pauses import Pause, PauseScope, PauseSubject, Running
from app.delivery.states import Work
from app.delivery.targets import DEFAULT_TARGET
from app.errors import StoreUnavailableError
from app.store.memory import MemoryConfiguration, MemoryLeases
from tests.simulation.draws import Draws
from tests.simulation.postgres import SimulatedDatabase

_FIRST, _LAST = 1.0, 110.0  # seconds after the beginning, of a night's pauses
_LASTS = (3.0, 15.0, 40.0, 70.0)  # seconds


@dataclass(frozen=True, kw_only=True)
class PauseStep:
    """A pause that a person begins; it ends by itself, or the person ends it."""

    at: float  # seconds after the beginning
    lasts: float  # seconds
    scope: PauseScope
    tenant: str
    whom: int  # which worker
    running: Running
    by_itself: bool

    def __str__(self) -> str:
        how = "" if self.by_itself else ", until it is ended"
        return f"{self.at:8.3f}  pause {self.scope} ({self.running}) for {self.lasts:.0f} s{how}"


def drawn(seed: int, tenants: Sequence[str]) -> tuple[PauseStep, ...]:
    """Draw a night's pauses, by lots of their own."""
    draws = Draws(seed).of("pauses")
    return tuple(
        PauseStep(
            at=draws.uniform(_FIRST, _LAST),
            lasts=draws.choice(_LASTS),
            scope=draws.choice(tuple(PauseScope)),
            tenant=draws.choice(tenants),
            whom=draws.randrange(3),
            running=draws.choice(tuple(Running)),
            by_itself=draws.random() < 0.5,
        )
        for _ in range(draws.choice((0, 2, 5, 9)))
    )


def subject_of(step: PauseStep, worker: str) -> PauseSubject:
    """Return what is paused; `worker` is the name of the one that works in its place now."""
    match step.scope:
        case PauseScope.INSTANCE:
            return PauseSubject(scope=step.scope)
        case PauseScope.TENANT:
            return PauseSubject(scope=step.scope, tenant=step.tenant)
        case PauseScope.TARGET:
            return PauseSubject(scope=step.scope, tenant=step.tenant, name=DEFAULT_TARGET)
        case PauseScope.WORKER:
            return PauseSubject(scope=step.scope, name=worker)


async def begin(database: SimulatedDatabase, subject: PauseSubject, step: PauseStep) -> None:
    """Pause it; a person whose store does not answer leaves it."""
    with suppress(StoreUnavailableError):
        async with MemoryConfiguration(database).change(subject.tenant) as change:
            await change.pause(
                subject,
                reason="of the night",
                running=step.running,
                paused_by="operator",
                lasts=timedelta(seconds=step.lasts) if step.by_itself else None,
            )


def end(database: SimulatedDatabase, subject: PauseSubject) -> None:
    """End it, whatever befalls the store: else the night would not end."""
    database.pauses.remove(subject)


class HeedingLeases(MemoryLeases):
    """Those of a worker, which see that none begins what was paused before it asked."""

    def __init__(
        self, database: SimulatedDatabase, *, wrong: Callable[[str], None], **given: Any
    ) -> None:
        super().__init__(database, **given)
        self._wrong = wrong

    async def claim(self, work: Work) -> Delivery | None:
        before = dict(self._database.pauses.items())
        claimed = await super().claim(work)
        if claimed is None or not before:
            return claimed
        # Its time of claiming is between the two looks: what was over by now may have been then.
        now = self._database.clock()
        for subject, pause in before.items():
            stays = self._database.pauses.get(subject) == pause
            if stays and _lasts(pause, now) and self._concerns(subject, work, claimed):
                self._wrong(f"{claimed} was claimed for {work} while {pause.cause}")
        return claimed

    def _concerns(self, subject: PauseSubject, work: Work, claimed: Delivery) -> bool:
        if subject.scope is PauseScope.WORKER:
            return subject.name == self._owner
        return (
            work is Work.TRANSFER
            and subject.tenant in ("", claimed.tenant)
            and subject.name in ("", claimed.target)
        )


def _lasts(pause: Pause, now: Any) -> bool:
    return pause.until is None or pause.until > now
