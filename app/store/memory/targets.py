"""How it goes with targets, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from app.delivery.attempts import Attempt, AttemptOutcome
from app.delivery.states import Work
from app.store.memory.database import MemoryDatabase
from app.views.attention import WAITING
from app.views.targets import LATELY, TargetSeen

_FAILED = (AttemptOutcome.POSTPONED, AttemptOutcome.ERROR)
Ended = list[tuple[datetime, Attempt]]


class MemoryTargets:
    """See `app.views.targets.TargetsSeen`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def targets(self, tenants: Sequence[str]) -> list[TargetSeen]:
        """Return each target of some tenants that is known of."""
        attempts: dict[tuple[str, str], Ended] = {}
        leased: dict[tuple[str, str], list[bool]] = {}
        async with self._database.session() as session:
            for _, tried in session.rows(self._database.attempts):
                if tried.tenant in tenants:
                    ended = attempts.setdefault((tried.tenant, tried.attempt.target), [])
                    if tried.attempt.ended is not None:
                        ended.append((tried.attempt.ended, tried.attempt))
            for _, row in session.rows(self._database.deliveries):
                delivery = row.delivery
                if row.work is Work.TRANSFER and not delivery.parked and delivery.tenant in tenants:
                    found = leased.setdefault((delivery.tenant, delivery.target), [])
                    found.append(row.is_leased(session.now))
            now = session.now
        return [
            _seen(*key, attempts.get(key, []), leased.get(key, []), now)
            for key in sorted({*attempts, *leased})
        ]


def _seen(tenant: str, name: str, ended: Ended, leased: list[bool], now: datetime) -> TargetSeen:
    good = [at for at, attempt in ended if attempt.outcome == AttemptOutcome.DONE]
    bad = [(at, attempt) for at, attempt in ended if _has_failed(attempt)]
    last_good = max(good, default=None)
    last_bad, last = max(bad, key=lambda one: (one[0], one[1].attempt), default=(None, None))
    failing = [at for at, _ in bad if last_good is None or at > last_good]
    return TargetSeen(
        tenant=tenant,
        name=name,
        running=sum(leased),
        waiting=len(leased) - sum(leased),
        last_good=last_good,
        last_bad=last_bad,
        code=None if last is None else last.code,
        cause=None if last is None else last.cause,
        failing_since=min(failing, default=None),
        failures=len(failing),
        good=sum(at > now - LATELY for at in good),
        bad=sum(at > now - LATELY for at, _ in bad),
    )


def _has_failed(attempt: Attempt) -> bool:
    cancelled = (attempt.cause or "").startswith("cancelled by ")
    return attempt.outcome in _FAILED and not cancelled and attempt.code not in WAITING
