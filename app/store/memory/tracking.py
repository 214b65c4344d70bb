"""Looking deliveries up in memory."""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from app.delivery.attempts import Attempt
from app.delivery.manifest import ManifestFile
from app.delivery.missing import MissingFile
from app.delivery.states import State, Work
from app.store.memory.database import MemoryDatabase
from app.store.memory.outbox import owed_since
from app.store.memory.rows import DeliveryRow, StepRow, WorkerRow
from app.store.memory.session import Session
from app.views.deliveries import (
    Activity,
    Change,
    Depth,
    Filter,
    Outcome,
    OverdueContents,
    Owed,
    PlacesHeld,
    Step,
    Tracked,
    WorkerSeen,
)
from app.views.progress import Underway
from app.views.segments import SegmentSeen

# What a transaction that began earlier, and ended later, may have numbered before.
_NUMBERS_BEFORE = 1000
_TIME_BEFORE = timedelta(seconds=5)
_WORKER_KEPT = timedelta(days=1)


def _tracked_of(row: DeliveryRow, session: Session, database: MemoryDatabase) -> Tracked:
    kept = session.get(database.kept_contents, row.delivery.id)
    return Tracked(
        delivery=row.delivery,
        updated_at=row.updated_at,
        state_since=row.state_since,
        not_before=row.not_before,
        finished_at=row.finished_at,
        worker=None if row.finished_at is not None else row.lease_owner,
        result=replace(row.result, files=None, sha256=None) if row.result else None,
        told=row.told,
        error=row.error,
        error_code=row.error_code,
        listed=row.listed,
        content=None if kept is None else kept.seen(session.now),
    )


def _listed_of(row: DeliveryRow, session: Session, database: MemoryDatabase) -> Tracked:
    """Show what lists show of a delivery."""
    hidden = row.having(
        order={},
        failures=0,
        trace=None,
        archive_template="",
        prefix_template="",
        upload=None,
        completing=None,
    )
    return _tracked_of(hidden, session, database)


def _step_of(row: StepRow) -> Step:
    return Step(
        id=row.id,
        state=row.state,
        attempt=row.attempt,
        at=row.at,
        cause=row.cause,
        code=row.code,
        news=row.news,
    )


class MemoryTracking:
    """See `app.views.deliveries`: Tracking, Changes and Overview."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def browse(
        self,
        tenants: Sequence[str],
        wanted: Filter,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Tracked]:
        """Return their deliveries, the newest first, without what they ordered."""
        async with self._database.session() as session:

            def is_wanted(row: DeliveryRow) -> bool:
                delivery = row.delivery
                return (
                    delivery.tenant in tenants
                    and (before is None or (delivery.requested_at, delivery.id) < before)
                    and wanted.fits(_tracked_of(row, session, self._database))
                )

            newest = self._newest(session, is_wanted)[:limit]
            return [_listed_of(row, session, self._database) for row in newest]

    async def of(self, tenant: str, correlation_id: str) -> list[Tracked]:
        """Return every delivery of a correlation id, the newest first."""
        key = tenant, correlation_id
        async with self._database.session() as session:
            found = self._newest(
                session, lambda row: (row.delivery.tenant, row.delivery.correlation_id) == key
            )
            return [_tracked_of(row, session, self._database) for row in found]

    def _newest(self, session: Session, fits: Callable[[DeliveryRow], bool]) -> list[DeliveryRow]:
        found = [row for _, row in session.where(self._database.deliveries, fits)]
        found.sort(key=lambda row: (row.delivery.requested_at, row.delivery.id), reverse=True)
        return found

    async def one(self, tenant: str, delivery: UUID) -> Tracked | None:
        """Return a delivery by its id."""
        async with self._database.session() as session:
            row = session.get(self._database.deliveries, delivery)
            if row is None or row.delivery.tenant != tenant:
                return None
            return _tracked_of(row, session, self._database)

    async def some(self, tenant: str, deliveries: Sequence[UUID]) -> list[Tracked]:
        """Return those of a tenant's deliveries that there are, as `browse` shows them."""
        async with self._database.session() as session:
            rows = [session.get(self._database.deliveries, each) for each in set(deliveries)]
            return [
                _listed_of(row, session, self._database)
                for row in rows
                if row is not None and row.delivery.tenant == tenant
            ]

    async def newest(self, tenant: str, correlation_ids: Collection[str]) -> set[UUID]:
        """Return of each correlation id the delivery that was requested last."""
        found = [await self.of(tenant, each) for each in set(correlation_ids)]
        return {tracked[0].delivery.id for tracked in found if tracked}

    async def steps(self, delivery: UUID) -> list[Step]:
        """Return how a delivery got where it is."""
        async with self._database.session() as session:
            found = sorted(session.rows(self._database.history, delivery))
        return [_step_of(row) for _, row in found]

    async def attempts(self, delivery: UUID) -> list[Attempt]:
        """Return the attempts of a delivery's transfer, the newest first."""
        async with self._database.session() as session:
            found = sorted(session.rows(self._database.attempts, delivery), reverse=True)
        return [row.attempt for _, row in found]

    async def manifest(self, delivery: UUID, *, after: int, limit: int) -> list[ManifestFile]:
        """Return files of a delivery after a position."""
        async with self._database.session() as session:
            files = [row.file for _, row in session.rows(self._database.files, delivery)]
        files.sort(key=lambda file: file.position)
        return [file for file in files if file.position > after][:limit]

    async def file(self, delivery: UUID, member: str) -> ManifestFile | None:
        """Return a file of a delivery by its name."""
        files = await self.manifest(delivery, after=-1, limit=sys.maxsize)
        return next((file for file in files if file.member == member), None)

    async def missing(self, delivery: UUID, *, limit: int) -> list[MissingFile]:
        """Return files that a delivery is without, the first of them."""
        async with self._database.session() as session:
            rows = [row for _, row in session.rows(self._database.missing, delivery)]
        rows.sort(key=lambda row: row.number)
        return [row.missing for row in rows[:limit]]

    async def missing_count(self, delivery: UUID) -> int:
        """Return how many files a delivery is without."""
        async with self._database.session() as session:
            rows = session.rows(self._database.missing, delivery)
            return sum(row.missing.files for _, row in rows)

    async def segments(self, delivery: UUID) -> list[SegmentSeen]:
        """Return the suborders of a delivery that were announced."""
        async with self._database.session() as session:
            found = sorted(session.rows(self._database.segments, delivery))
        return [
            SegmentSeen(
                number=row.segment.number,
                suborder=row.segment.suborder,
                announced_at=row.announced_at,
                listed_at=row.listed_at,
                file_count=row.segment.file_count,
            )
            for _, row in found
        ]

    async def underway(self, attempts: Mapping[UUID, int]) -> list[Underway]:
        """Return of these deliveries the ones that have not ended, and are at this attempt."""
        database = self._database
        async with database.session() as session:
            rows = [session.get(database.deliveries, delivery) for delivery in sorted(attempts)]
            return [
                Underway(
                    delivery=_listed_of(row, session, database).delivery,
                    told=row.delivery.plan is None or row.delivery.plan.told,
                    segments=tuple(
                        (each.segment.suborder, each.segment.file_count)
                        for _, each in sorted(session.rows(database.segments, row.delivery.id))
                        if each.listed_at is not None
                    ),
                )
                for row in rows
                if row is not None
                and not row.state.ended
                and row.delivery.attempt == attempts[row.delivery.id]
            ]

    async def last(self) -> int:
        """Return the number of the newest step."""
        async with self._database.session() as session:
            return max((number for number, _ in session.rows(self._database.history)), default=0)

    async def last_of(self, tenant: str, user: str, *, until: int) -> int:
        """Return the number of the newest step of a user's deliveries."""
        async with self._database.session() as session:

            def is_theirs(row: StepRow) -> bool:
                of = session.get(self._database.deliveries, row.delivery_id)
                return (
                    of is not None
                    and (of.delivery.tenant, of.delivery.user) == (tenant, user)
                    and row.id <= until
                )

            steps = session.where(self._database.history, is_theirs)
            return max((number for number, _ in steps), default=0)

    async def since(self, last: int, *, missing: Sequence[int], limit: int) -> list[Change]:
        """Return steps after `last`, and missing ones that are there now."""
        async with self._database.session() as session:
            return self._changes(session, lambda row: row.id > last or row.id in missing, limit)

    async def replay(
        self, tenant: str, last: int, *, limit: int, user: str | None = None
    ) -> list[Change]:
        """Return a tenant's steps after `last`, and some of the moments before it."""
        async with self._database.session() as session:
            known = session.get(self._database.history, last)

            def is_later(row: StepRow) -> bool:
                delivery = session.get(self._database.deliveries, row.delivery_id)
                if delivery is None or delivery.delivery.tenant != tenant:
                    return False
                if user is not None and delivery.delivery.user != user:
                    return False
                return row.id > last or (
                    known is not None
                    and row.id != last
                    and row.id > last - _NUMBERS_BEFORE
                    and row.at > known.at - _TIME_BEFORE
                )

            return self._changes(session, is_later, limit)

    def _changes(
        self, session: Session, fits: Callable[[StepRow], bool], limit: int
    ) -> list[Change]:
        found = sorted(session.where(self._database.history, fits))[:limit]
        changes = []
        for _, step in found:
            row = session.get(self._database.deliveries, step.delivery_id)
            if row is not None:
                tracked = _listed_of(row, session, self._database)
                changes.append(Change(step=_step_of(step), tracked=tracked))
        return changes

    async def workers(self) -> list[WorkerSeen]:
        """Return the workers that there are."""
        async with self._database.session() as session:
            transfers = [
                row.lease_owner
                for _, row in session.rows(self._database.deliveries)
                if row.work is Work.TRANSFER and row.is_leased(session.now)
            ]
            return [
                WorkerSeen(
                    id=row.id,
                    version=row.version,
                    started_at=row.started_at,
                    seen_at=row.seen_at,
                    silent_for=(session.now - row.seen_at).total_seconds(),
                    slots=row.slots,
                    running=transfers.count(row.id),
                )
                for _, row in sorted(session.rows(self._database.workers))
            ]

    async def depths(self) -> list[Depth]:
        """Count deliveries before their end."""
        alike: dict[tuple[str, State], list[DeliveryRow]] = {}
        goes_on: Counter[tuple[str, State, Activity | None]] = Counter()
        wanted = set()  # which a person lets wait
        async with self._database.session() as session:
            pauses = self._database.pauses_worked_off(session)
            for _, row in session.rows(self._database.deliveries):
                if not row.state.ended:
                    alike.setdefault((row.delivery.tenant, row.state), []).append(row)
                    activity = _tracked_of(row, session, self._database).activity
                    goes_on[row.delivery.tenant, row.state, activity] += 1
                if row.waits_for(pauses) or self._database.awaits_maintenance(session, row):
                    wanted.add(row.delivery.id)

        def longest(times: list[datetime]) -> float:
            return max(0.0, (session.now - min(times)).total_seconds()) if times else 0.0

        depths = []
        for (tenant, state), rows in alike.items():
            parked = [row.updated_at for row in rows if row.delivery.parked]
            depths.append(
                Depth(
                    tenant=tenant,
                    state=state,
                    deliveries=len(rows),
                    oldest=longest(
                        [
                            row.state_since
                            for row in rows
                            if not row.delivery.held and row.delivery.id not in wanted
                        ]
                    ),
                    parked=len(parked),
                    oldest_parked=longest(parked),
                    held=sum(row.delivery.held for row in rows),
                    held_late=sum(row.waits_late(session.now) for row in rows),
                    moving=goes_on[tenant, state, Activity.MOVING],
                    retrying=goes_on[tenant, state, Activity.RETRYING],
                    paused=goes_on[tenant, state, Activity.PAUSED],
                )
            )
        return depths

    async def places_held(self) -> list[PlacesHeld]:
        """Count orders that may keep a place."""
        since: dict[str, list[datetime]] = {}
        async with self._database.session() as session:
            for delivery_id, place in session.rows(self._database.places):
                if place.answered:
                    continue
                row = session.get(self._database.deliveries, delivery_id)
                assert row is not None  # noqa: S101 - its place goes with it
                since.setdefault(row.delivery.tenant, []).append(place.since)
        return [
            PlacesHeld(
                tenant=tenant,
                places=len(times),
                oldest=max(0.0, (session.now - min(times)).total_seconds()),
            )
            for tenant, times in since.items()
        ]

    async def contents_overdue(self) -> list[OverdueContents]:
        """Count contents that are to be removed by now."""
        overdue: dict[str, list[tuple[datetime, str | None]]] = {}
        async with self._database.session() as session:
            for _, row in session.rows(self._database.kept_contents):
                ended = row.ends_at()
                if row.due_at is not None and row.is_over(session.now) and ended is not None:
                    of_tenant = overdue.setdefault(row.content.tenant, [])
                    of_tenant.append((ended, row.last_cause))
        found = []
        for tenant, rows in sorted(overdue.items()):
            first, cause = min(rows, key=lambda row: row[0])
            seconds = max(0.0, (session.now - first).total_seconds())
            found.append(
                OverdueContents(tenant=tenant, contents=len(rows), oldest=seconds, cause=cause)
            )
        return found

    async def owed(self) -> list[Owed]:
        """Count messages that wait."""
        due: dict[str, list[datetime]] = {}
        async with self._database.session() as session:
            for _, row in session.rows(self._database.outbox):
                since = owed_since(self._database, session, row)
                due.setdefault(row.lane.value, []).append(since)
        return [
            Owed(
                lane=lane,
                messages=len(times),
                oldest=max(0.0, (session.now - min(times)).total_seconds()),
            )
            for lane, times in due.items()
        ]

    async def outcomes(self, tenants: Sequence[str], *, since: datetime) -> list[Outcome]:
        """Count deliveries that ended."""
        alike: dict[tuple[State, str | None], list[DeliveryRow]] = {}
        async with self._database.session() as session:
            for _, row in session.rows(self._database.deliveries):
                ended = row.finished_at is not None and row.finished_at > since
                if ended and row.state.ended and row.delivery.tenant in tenants:
                    kind = row.state, row.error[0] if row.error else None
                    alike.setdefault(kind, []).append(row)
        return [
            Outcome(
                state=state,
                error_type=error_type,
                deliveries=len(rows),
                bytes=sum(row.delivery.total_bytes for row in rows),
                median_seconds=statistics.median(map(_seconds, rows)),
            )
            for (state, error_type), rows in sorted(
                alike.items(),
                key=lambda group: (group[0][0], group[0][1] is None, group[0][1] or ""),
            )
        ]


def _seconds(row: DeliveryRow) -> float:
    """Return how long a delivery took that has ended."""
    end = row.finished_at or row.updated_at
    return (end - row.delivery.requested_at).total_seconds()


class MemoryWorkers:
    """Where workers record that they are alive."""

    def __init__(self, database: MemoryDatabase, *, worker: str, version: str, slots: int) -> None:
        self._database = database
        self._worker = worker
        self._version = version
        self._slots = slots

    async def heartbeat(self) -> None:
        """Record that this worker is alive; forget those that died long ago."""
        workers = self._database.workers
        async with self._database.session() as session:
            known = session.get(workers, self._worker)
            goes_on = known is not None and known.version == self._version
            row = WorkerRow(
                id=self._worker,
                version=self._version,
                slots=self._slots,
                started_at=known.started_at if known and goes_on else session.now,
                seen_at=session.now,
            )
            session.put(workers, self._worker, row)
            for name, _ in session.where(
                workers, lambda worker: worker.seen_at < session.now - _WORKER_KEPT
            ):
                session.remove(workers, name)

    async def deregister(self) -> None:
        """Record that this worker stops."""
        async with self._database.session() as session:
            await session.delete(self._database.workers, self._worker)
