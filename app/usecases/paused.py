"""What pauses mean for a worker: what it claims, what of its work stops, what its log tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from app.delivery.model import Delivery
from app.delivery.pauses import Pause, Pauses, PauseScope, PauseSubject, Running
from app.delivery.states import Work
from app.errors import PausedError, WorkerStoppedError
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Paused:
    """What this worker knows of pauses; `TargetsAway.blocked` says which transfers it leaves."""

    tenants: ConfiguredTenants
    worker: str
    ended: Callable[[], object] = lambda: None  # called when one is over: there may be work
    _told: dict[PauseSubject, Pause] = field(default_factory=dict)

    @property
    def _pauses(self) -> Pauses:
        return self.tenants.pauses

    def may_claim(self) -> bool:
        """Whether this worker begins anything."""
        return self._pauses.of_worker(self.worker) is None

    def stopped_by(self, work: Work, delivery: Delivery) -> WorkerStoppedError | None:
        """Return why a piece of work that runs here is to end where it can be gone on with.

        What is planned or checked is a moment's work, and stops with its worker alone.
        """
        drained = self._pauses.of_worker(self.worker)
        if drained is not None and drained.running is Running.STOP:
            return WorkerStoppedError(drained.cause)
        if work is not Work.TRANSFER:
            return None
        pause = self._pauses.stopping(delivery.tenant, self._target_of(delivery))
        return None if pause is None else PausedError(pause.cause)

    def _target_of(self, delivery: Delivery) -> str:
        """Return the target's own name: while a tenant has set none, any means the default."""
        if not self.tenants.works_for(delivery.tenant):
            return delivery.target
        return self.tenants.settings(delivery.tenant).own_name(delivery.target)

    async def tell(self) -> None:
        """Put into the log what has begun or ended to be paused for this worker."""
        concerns = {
            pause.subject: pause
            for pause in self._pauses.all()
            if pause.subject.scope is not PauseScope.WORKER or pause.subject.name == self.worker
        }
        for subject, pause in concerns.items():
            if self._told.get(subject) != pause:
                log.info("pause_begins", **_told(pause), cause=pause.cause)
        for subject, pause in self._told.items():
            if subject not in concerns:
                log.info("pause_ends", **_told(pause))
        over = self._told.keys() - concerns.keys()
        self._told.clear()
        self._told.update(concerns)
        if over:
            self.ended()


def _told(pause: Pause) -> dict[str, str | None]:
    return {
        "scope": pause.subject.scope.value,
        "tenant": pause.subject.tenant or None,
        "name": pause.subject.name or None,
        "reason": pause.reason,
        "running": pause.running.value,
        "paused_by": pause.paused_by,
    }
