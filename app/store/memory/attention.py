"""What is wrong now, in memory."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from app.delivery.attempts import Attempt, AttemptOutcome
from app.delivery.states import State
from app.store.memory.database import MemoryDatabase
from app.store.memory.outbox import owed_since
from app.store.memory.rows import WebhookEventRow
from app.store.memory.session import Session
from app.store.memory.webhooks import webhooks_named
from app.views import attention
from app.views.attention import Need, Trouble, by_weight

K = TypeVar("K", bound=Hashable)
# When each of them began, and why, of what is alike.
Rows = list[tuple[datetime, str | None]]
OfTenant = tuple[str, datetime, str | None]
_FAILED = (AttemptOutcome.POSTPONED, AttemptOutcome.ERROR)


class MemoryAttention:
    """See `app.views.attention.Troubles`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def troubles(self, tenants: Sequence[str] | None) -> list[Trouble]:
        """Return what is wrong now."""
        async with self._database.session() as session:
            found = [
                *self._workers(session),
                *self._targets(session),
                *self._deliveries(session),
                *self._beside(session),
                *self._webhooks(session),
                *self._wanted(session),
            ]
        shown = [t for t in found if tenants is None or t.tenant is None or t.tenant in tenants]
        return by_weight(replace(trouble, tenant=trouble.tenant or None) for trouble in shown)

    def _workers(self, session: Session) -> Iterator[Trouble]:
        workers = [row for _, row in session.rows(self._database.workers)]
        silent = [w for w in workers if w.seen_at < session.now - attention.WORKER_SILENT]
        if len(silent) == len(workers):
            last = max((worker.seen_at for worker in workers), default=None)
            yield _trouble(Need.NO_WORKER, since=last, count=len(workers))
        pauses = self._database.pauses_worked_off(session)
        for worker in silent:
            count = sum(
                row.lease_owner == worker.id and row.work is not None and not row.waits_for(pauses)
                for _, row in session.rows(self._database.deliveries)
            )
            if count:
                yield _trouble(
                    Need.WORKER_SILENT, subject=worker.id, since=worker.seen_at, count=count
                )

    def _targets(self, session: Session) -> Iterator[Trouble]:
        attempts: dict[tuple[str, str], list[tuple[datetime, Attempt]]] = {}
        for _, row in session.rows(self._database.attempts):
            if row.attempt.ended is not None:
                at_target = attempts.setdefault((row.tenant, row.attempt.target), [])
                at_target.append((row.attempt.ended, row.attempt))
        for (tenant, target), ended in attempts.items():
            good = max((at for at, a in ended if a.outcome == AttemptOutcome.DONE), default=None)
            failed = [
                (at, attempt.cause)
                for at, attempt in ended
                if attempt.outcome in _FAILED
                and (good is None or at > good)
                and not (attempt.cause or "").startswith("cancelled by ")
                and attempt.code not in attention.WAITING
            ]
            if len(failed) < attention.FAILED_TIMES:
                continue
            last, cause = max(failed, key=lambda one: one[0])
            if last > session.now - attention.FAILED_WITHIN:
                yield _trouble(
                    Need.TRANSFERS_FAIL,
                    tenant=tenant,
                    subject=target,
                    since=min(at for at, _ in failed),
                    count=len(failed),
                    cause=cause,
                )

    def _deliveries(self, session: Session) -> Iterator[Trouble]:
        stuck: dict[tuple[str, State], Rows] = {}
        parked: dict[str, Rows] = {}
        late: dict[tuple[str, State], Rows] = {}
        pauses = self._database.pauses_worked_off(session)
        for _, row in session.rows(self._database.deliveries):
            tenant, most = row.delivery.tenant, attention.STUCK.get(row.state)
            if most is None or row.state.ended:
                continue
            if row.delivery.parked and row.updated_at < session.now - attention.PARKED:
                parked.setdefault(tenant, []).append((row.updated_at, None))
            if row.waits_late(session.now):
                why = row.delivery.last_cause
                late.setdefault((tenant, row.state), []).append((row.state_since, why))
            waits = (
                row.delivery.held
                or row.waits_for(pauses)
                or self._database.awaits_maintenance(session, row)
            )
            if row.state_since < session.now - most and not waits:
                stuck.setdefault((tenant, row.state), []).append((row.state_since, None))
        for (tenant, state), rows in stuck.items():
            yield _of(Need.STATE_STUCK, rows, tenant=tenant, subject=state.value)
        for (tenant, state), rows in late.items():
            yield _of(
                Need.QUOTA_AWAITED, rows, tenant=tenant, subject=state.value, cause=_first(rows)
            )
        for tenant, rows in parked.items():
            yield _of(Need.SUBORDER_AWAITED, rows, tenant=tenant)

    def _beside(self, session: Session) -> Iterator[Trouble]:
        now = session.now
        for tenant, rows in _older(self._places(session), now - attention.PLACE_HELD).items():
            yield _of(Need.PLACE_HELD, rows, tenant=tenant)
        contents = self._contents(session)
        for tenant, rows in _older(contents, now - attention.CONTENT_OVERDUE).items():
            yield _of(Need.CONTENT_OVERDUE, rows, tenant=tenant, cause=_first(rows))
        for tenant, rows in _older(self._letters(session), now).items():
            yield _of(Need.DEAD_LETTER, rows, tenant=tenant, cause=rows[-1][1])
        owed = (
            (
                (row.message.tenant, row.lane.value),
                owed_since(self._database, session, row),
                row.last_error,
            )
            for _, row in session.rows(self._database.outbox)
        )
        for (tenant, lane), rows in _older(owed, now - attention.OWED).items():
            yield _of(Need.MESSAGE_OWED, rows, tenant=tenant, subject=lane, cause=_first(rows))

    def _places(self, session: Session) -> Iterator[OfTenant]:
        for delivery_id, place in session.rows(self._database.places):
            row = session.get(self._database.deliveries, delivery_id)
            if row is not None and not place.answered:
                yield row.delivery.tenant, place.since, None

    def _contents(self, session: Session) -> Iterator[OfTenant]:
        for _, row in session.rows(self._database.kept_contents):
            if row.due_at is not None and (ends := row.ends_at()) is not None:
                yield row.content.tenant, ends, row.last_cause

    def _letters(self, session: Session) -> Iterator[OfTenant]:
        rows = [row for _, row in session.rows(self._database.dead_letters) if not row.handled]
        for row in sorted(rows, key=lambda row: row.kept.number):
            letter = row.kept.letter
            if letter.ours:
                yield letter.tenant or "", row.kept.buried_at, letter.reason

    def _webhooks(self, session: Session) -> Iterator[Trouble]:
        events: dict[tuple[str, str], list[WebhookEventRow]] = {}
        for _, row in session.rows(self._database.webhook_events):
            events.setdefault(row.of, []).append(row)
        for of in {*events, *(of for of, _ in session.rows(self._database.webhooks))}:
            asked = webhooks_named(self._database, session, of[0]).get(of[1])
            if asked is None or asked.get("enabled") is False:
                continue
            tenant, name = of
            dead = [row for row in events.get(of, ()) if row.dead_at is not None]
            webhook = session.get(self._database.webhooks, of)
            if webhook is not None and webhook.url == asked.get("url"):
                since = webhook.failing_since
                long = since is not None and since < session.now - attention.WEBHOOK_FAILS
                if long or webhook.gone_url == webhook.url:
                    yield _trouble(
                        Need.WEBHOOK_FAILS,
                        tenant=tenant,
                        subject=name,
                        since=since or webhook.last_success_at,
                        count=len(events.get(of, ())) - len(dead),
                        cause=webhook.last_error,
                    )
            if dead:
                rows = [(row.dead_at, row.last_error) for row in dead if row.dead_at]
                last = max(dead, key=lambda row: row.owed.id).last_error
                yield _of(Need.EVENT_GIVEN_UP, rows, tenant=tenant, subject=name, cause=last)

    def _wanted(self, session: Session) -> Iterator[Trouble]:
        for tenant, maintenance in session.rows(self._database.maintenance):
            if maintenance.active:
                waiting = sum(
                    row.delivery.tenant == tenant and row.state is State.RECEIVED
                    for _, row in session.rows(self._database.deliveries)
                )
                began = maintenance.updated_at
                due = maintenance.until or began + attention.MAINTENANCE_FORGOTTEN
                lasts = due > session.now
                yield _trouble(
                    Need.MAINTENANCE if lasts else Need.MAINTENANCE_FORGOTTEN,
                    tenant=tenant,
                    since=began if lasts else due,
                    count=waiting,
                    cause=maintenance.said,
                )
        for pause in self._database.pauses_in_effect(session):
            subject = pause.subject
            yield _trouble(
                Need.PAUSED,
                tenant=subject.tenant or None,
                subject=" ".join(filter(None, (subject.scope.value, subject.name))),
                since=pause.since,
                count=1,
                cause=f"{pause.reason} ({pause.paused_by})",
            )


def _older(found: Iterable[tuple[K, datetime, str | None]], than: datetime) -> dict[K, Rows]:
    rows: dict[K, Rows] = {}
    for key, at, cause in found:
        if at < than:
            rows.setdefault(key, []).append((at, cause))
    return rows


def _first(rows: Rows) -> str | None:
    return min(rows, key=lambda one: one[0])[1]


def _of(
    code: Need,
    rows: Rows,
    *,
    tenant: str,
    subject: str | None = None,
    cause: str | None = None,
) -> Trouble:
    since = min(at for at, _ in rows)
    return _trouble(code, tenant=tenant, subject=subject, since=since, count=len(rows), cause=cause)


def _trouble(
    code: Need,
    *,
    since: datetime | None,
    count: int,
    tenant: str | None = None,
    subject: str | None = None,
    cause: str | None = None,
) -> Trouble:
    return Trouble(code=code, tenant=tenant, subject=subject, since=since, count=count, cause=cause)
