"""Operators pause transfers of a tenant, to a target, of all; they drain workers; and resume."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from app.audit import INSTANCE, Actor, AuditRecord
from app.delivery.pauses import MAX_PAUSE, Pause, PauseScope, PauseSubject, Running
from app.encoding import is_plain
from app.errors import InvalidRequestError, UnknownPauseError
from app.tenants.configure import Configure
from app.tenants.ports import ConfigurationStore
from app.tenants.registry import ConfiguredTenants
from app.views.deliveries import WorkerSeen

MAX_REASON = 500  # characters


@dataclass(frozen=True, kw_only=True)
class Pausing:
    """What can be done about pauses. It asks for no role: those are looked at before."""

    store: ConfigurationStore
    configure: Configure
    tenants: ConfiguredTenants
    workers: Callable[[], Awaitable[Sequence[WorkerSeen]]]  # that there are

    def all(self, *tenants: str) -> list[Pause]:
        """Return the pauses in effect that concern some tenants; of all where none is given."""
        return [
            pause
            for pause in self.tenants.pauses.all()
            if not tenants or pause.subject.tenant in ("", *tenants)
        ]

    async def pause(
        self,
        actor: Actor,
        subject: PauseSubject,
        *,
        reason: str,
        running: Running | None = None,
        until: datetime | None = None,
        lasts: timedelta | None = None,
    ) -> Pause:
        """Begin a pause, or change the one that there is. Without an end it is until resumed.

        What runs goes on to its end, unless `running` says otherwise; that of a worker is handed
        over. Raises UnknownPauseError where there is no such target or worker, and
        InvalidRequestError.
        """
        reason = reason.strip()
        flaws = list(_flaws(reason, until, lasts))
        if flaws:
            raise InvalidRequestError(flaws)
        await self._check_known(subject)
        drains = subject.scope is PauseScope.WORKER
        running = running or (Running.STOP if drains else Running.FINISH)
        actor = _of_subject(actor, subject)
        async with self.store.change(actor.tenant) as change:
            pause = await change.pause(
                subject,
                reason=reason,
                running=running,
                paused_by=actor.name,
                until=until,
                lasts=lasts,
            )
            if pause.left is not None and pause.left <= 0:
                raise InvalidRequestError([f"until: {pause.until} is over by now"])
            after = {
                "reason": reason,
                "running": running.value,
                "until": None if pause.until is None else pause.until.isoformat(),
            }
            done = AuditRecord(
                actor=actor, action="pause", subject=str(subject), before=None, after=after
            )
            await change.audit(done)
        await self.configure.take_effect(done)
        return pause

    async def resume(self, actor: Actor, subject: PauseSubject) -> Pause:
        """End a pause. Raises UnknownPauseError where there is none in effect."""
        actor = _of_subject(actor, subject)
        async with self.store.change(actor.tenant) as change:
            pause = await change.resume(subject)
            if pause is None:
                verb = "is not drained" if subject.scope is PauseScope.WORKER else "are not paused"
                raise UnknownPauseError(f"{subject} {verb}")
            before = {"reason": pause.reason, "by": pause.paused_by}
            done = AuditRecord(
                actor=actor, action="resume", subject=str(subject), before=before, after=None
            )
            await change.audit(done)
        await self.configure.take_effect(done)
        return pause

    async def running_on(self, worker: str) -> int:
        """Return how many transfers a worker has under way."""
        return sum(seen.running for seen in await self.workers() if seen.id == worker)

    async def _check_known(self, subject: PauseSubject) -> None:
        if subject.scope is PauseScope.TARGET:
            names = self.tenants.settings(subject.tenant).names
            if subject.name not in names:
                raise UnknownPauseError(
                    f"tenant {subject.tenant} has no target {subject.name}; its targets are "
                    f"{', '.join(sorted(names))}"
                )
        if subject.scope is PauseScope.WORKER:
            ids = [seen.id for seen in await self.workers()]
            if subject.name not in ids:
                raise UnknownPauseError(
                    f"there is no worker {subject.name}; those that there are: "
                    f"{', '.join(sorted(ids)) or 'none'}"
                )


def _of_subject(actor: Actor, subject: PauseSubject) -> Actor:
    """Return the actor with the tenant in whose audit trail it is noted."""
    return replace(actor, tenant=subject.tenant or INSTANCE)


def _flaws(reason: str, until: datetime | None, lasts: timedelta | None) -> Sequence[str]:
    flaws = []
    if not reason or len(reason) > MAX_REASON or not is_plain(reason):
        flaws.append(
            f"reason: it must be given, without control characters, of at most {MAX_REASON}"
            " characters"
        )
    if until is not None and lasts is not None:
        flaws.append("an end is a time, or so long from now: not both")
    if until is not None and until > datetime.now(UTC) + MAX_PAUSE:
        flaws.append(f"until: {until} is more than ten years away")
    if lasts is not None and not timedelta() < lasts <= MAX_PAUSE:
        flaws.append("a pause lasts more than a moment, and ten years at most")
    return flaws
