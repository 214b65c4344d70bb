"""Leases in memory: who works on what, by the database's clock."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from app.codes import Code
from app.delivery.attempts import unknown
from app.delivery.missing import MissingFile
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.pauses import Pauses
from app.delivery.ports import Allowed
from app.delivery.states import State, Work
from app.delivery.targets import Blocked
from app.errors import EndingError, ObjectBusyError
from app.store.memory import deliveries
from app.store.memory.database import MemoryDatabase
from app.store.memory.rows import DeliveryRow, MissingRow
from app.store.memory.session import Session
from app.telemetry.metrics import TAKEOVERS

_BEGUN = timedelta(hours=6)  # that what has begun counts as older


class MemoryLeases:
    """See `app.delivery.ports.Leases`: those of one worker, the `owner`."""

    def __init__(
        self,
        database: MemoryDatabase,
        *,
        owner: str,
        ttl: timedelta,
        transfers_per_tenant: int | None = None,
        blocked: Callable[[], Blocked] = Blocked,
        archived: Callable[[Delivery], int | None] = unknown,
    ) -> None:
        self._database = database
        self._owner = owner
        self._ttl = ttl
        self._limits = {Work.TRANSFER: transfers_per_tenant}
        self._blocked = blocked  # transfers, as this process sees their targets
        self._more: dict[Work, bool] = {}
        self._archived = archived  # bytes, by an attempt of this worker

    async def claim(self, work: Work) -> Delivery | None:
        """Lease the next delivery that this work is due for."""
        limit = self._limits.get(work)
        blocked = self._blocked() if work is Work.TRANSFER else Blocked()
        self._more[work] = True
        async with self._database.session() as session:
            if limit is not None:
                # One after the other, so that a limit is not passed by two at once.
                await session.lock(("claim", work))
                await self._database.trip()
            due = self._next(session, work, limit, blocked)
            if due is None:
                return None
            more = self._is_more_due(session, work, due)
            tenant = due.delivery.tenant
            session.put(self._database.turns, (work, tenant), self._database.clock())
            until = session.now + self._ttl

            def leased(row: DeliveryRow) -> DeliveryRow:
                if work is Work.TRANSFER:
                    row = row.having(state=State.TRANSFERRING, attempt=row.delivery.attempt + 1)
                return replace(
                    row, lease_owner=self._owner, lease_until=until, updated_at=session.now
                )

            taken = await deliveries.update(self._database, session, due.delivery.id, leased)
        self._more[work] = more
        if due.lease_owner is not None:
            TAKEOVERS.labels(work.value).inc()
        return None if taken is None else taken.delivery

    def sees_more(self, work: Work) -> bool:
        """Whether more may have been due when this work was last claimed."""
        return self._more.get(work, True)

    def _is_more_due(self, session: Session, work: Work, claimed: DeliveryRow) -> bool:
        """Whether more is due, be it blocked, paused, over a limit, or locked by another."""
        return any(
            row.work is work
            and row.delivery.id != claimed.delivery.id
            and row.not_before <= session.now
            and not row.is_leased(session.now)
            for _, row in session.rows(self._database.deliveries)
        )

    def _next(
        self, session: Session, work: Work, limit: int | None, blocked: Blocked
    ) -> DeliveryRow | None:
        """Return what is due: tenants with less under way first, then who waited longest.

        Within a tenant by rank. What others have locked is left out.
        """
        now = session.now
        running: Counter[str] = Counter()
        first: dict[str, DeliveryRow] = {}
        for delivery_id, row in session.rows(self._database.deliveries):
            tenant = row.delivery.tenant
            if row.work is not work:
                continue
            if row.is_leased(now):
                running[tenant] += 1
                continue
            spared = (tenant, row.delivery.target) in blocked.spared
            if row.not_before > now or (tenant in blocked.tenants and not spared):
                continue
            if tenant in first and first[tenant].rank <= row.rank:
                continue
            if not session.skips(self._database.deliveries, delivery_id):
                first[tenant] = row

        def turn(tenant: str) -> tuple[bool, datetime]:
            at = session.get(self._database.turns, (work, tenant))
            return at is not None, at or now

        pauses = Pauses()
        pauses.apply(self._database.pauses_in_effect(session))
        drained = pauses.of_worker(self._owner) is not None

        def is_paused(row: DeliveryRow) -> bool:
            transfers = pauses.of_target(row.delivery.tenant, row.delivery.target)
            return drained or (work is Work.TRANSFER and transfers is not None)

        fair = [
            (running[tenant], turn(tenant), row.rank, row)
            for tenant, row in first.items()
            if (limit is None or running[tenant] < limit)
            # While a tenant is in maintenance, its requests wait; what has begun goes on.
            and not (work is Work.CHECK and self._database.is_paused(session, tenant))
            and not is_paused(row)
        ]
        return min(fair, key=lambda claim: claim[:3])[3] if fair else None

    async def renew(self, delivery: Delivery) -> bool:
        """Hold on to a lease."""
        async with self._database.session() as session:
            until = session.now + self._ttl
            renewed = await self._change(
                session, delivery, lambda row: replace(row, lease_until=until)
            )
            if renewed:
                self._note_archived(session, delivery)
            return renewed

    async def holds(self, delivery: Delivery) -> bool:
        """Whether a lease is still this worker's."""
        async with self._database.session() as session:
            row = session.get(self._database.deliveries, delivery.id)
        return row is not None and self._has(delivery, row) and row.work is not None

    async def record_completion(
        self,
        delivery: Delivery,
        result: StoredObject,
        *,
        namespace: str,
        until: timedelta,
        beside: str | None = None,
    ) -> Allowed | None:
        """Hold on to a lease, and note what is about to appear."""
        async with self._database.session() as session:
            await session.lock(("object", result.url, namespace))
            await self._database.trip()
            if beside is not None:
                await session.lock(("object", beside, namespace))
                await self._database.trip()
            appeared = beside is not None
            own = session.get(self._database.deliveries, delivery.id)
            holds = own is not None and self._has(delivery, own) and own.work is not None
            if own is not None and holds and own.delivery.ending and not appeared:
                raise EndingError(f"{delivery} is to end: its archive is not asked for again")
            busy = own is not None and session.where(
                self._database.deliveries,
                lambda other: (
                    other.is_completing(result.url, namespace, session.now)
                    and (other.delivery.tenant, other.delivery.user)
                    != (own.delivery.tenant, own.delivery.user)
                ),
            )
            if busy:
                raise ObjectBusyError(
                    f"a delivery of another tenant or user is just completing {result.url}"
                )
            replaced = own is not None and session.where(
                self._database.deliveries, partial(_is_replaced_archive, own, result.url)
            )
            noted = await self._change(
                session,
                delivery,
                lambda row: replace(
                    row.having(completing=result),
                    completing_namespace=namespace,
                    completing_until=session.now + until,
                    completing_attempt=row.delivery.attempt,
                    lease_until=session.now + self._ttl,
                ),
                lambda row: row.work is not None and (appeared or row.delivery.ending is None),
            )
            reported = own is not None and session.where(
                self._database.deliveries,
                lambda row: row.report is not None,
                group=(own.delivery.tenant, own.delivery.correlation_id),
            )
            if not noted:
                return None
            return Allowed(replaces_archive=bool(replaced), replaces_report=bool(reported))

    async def discard_completion(self, delivery: Delivery) -> None:
        """Note that what was noted last can't appear any more."""
        async with self._database.session() as session:
            await self._change(
                session,
                delivery,
                lambda row: replace(
                    row.having(completing=None), completing_namespace=None, completing_until=None
                ),
                fits=lambda _row: True,
            )

    async def release(
        self,
        delivery: Delivery,
        *,
        after: timedelta,
        failed: bool,
        cause: str,
        code: str | None = None,
        tried: bool = True,
        retried: tuple[int, int] | None = None,
    ) -> None:
        """Let go of a lease."""

        def released(row: DeliveryRow) -> DeliveryRow:
            # What it waited for may have come since it was claimed.
            went_on = (row.delivery.announced, row.delivery.order_done) != (
                delivery.announced,
                delivery.order_done,
            )
            changed = row.having(
                failures=row.delivery.failures + failed,
                tries=row.delivery.tries + tried,
                last_cause=cause,
                last_code=code,
            )
            if retried is not None:
                changed = changed.having(retries=retried[0], retried_for=retried[1])
            return replace(
                changed,
                lease_owner=None,
                lease_until=None,
                not_before=session.now if went_on else session.now + after,
                updated_at=session.now,
            )

        async with self._database.session() as session:
            if await self._change(session, delivery, released, fits=lambda _row: True):
                self._note_archived(session, delivery)

    async def park(self, delivery: Delivery, *, cause: str) -> None:
        """Let go of a half-made archive until its order goes on."""

        def parked(row: DeliveryRow) -> DeliveryRow:
            old = row.delivery
            waits = old.announced == row.listed and not old.order_done
            age = timedelta(minutes=old.priority) + _BEGUN
            return replace(
                row.having(
                    parked=waits, tries=0, last_cause=cause, last_code=Code.SUBORDER_AWAITED
                ),
                kept_places=0,
                lease_owner=None,
                lease_until=None,
                not_before=session.now,
                rank=min(row.rank, old.requested_at - age),
                updated_at=session.now,
            )

        async with self._database.session() as session:
            if not await self._change(
                session, delivery, parked, fits=lambda row: row.state is State.TRANSFERRING
            ):
                return
            self._note_archived(session, delivery)
            await deliveries.update(
                self._database,
                session,
                delivery.id,
                lambda row: row.having(last_cause=None),  # which its history has, all the same
                lambda row: not row.delivery.parked,
            )

    async def leave_out(self, delivery: Delivery, position: int, cause: str) -> bool:
        """Note that a file of the manifest is missing."""
        key = delivery.id, position
        async with self._database.session() as session:
            held = await session.lock_row(
                self._database.deliveries, delivery.id, partial(self._transfers, delivery)
            )
            if held is None:
                return False
            if (gone := await session.delete(self._database.files, key)) is not None:
                missing = MissingFile.of(gone.file, cause)
                row = MissingRow(delivery_id=delivery.id, number=position, missing=missing)
                session.put(self._database.missing, key, row)
        return True

    async def failures_of(self, delivery: Delivery, position: int) -> int | None:
        """Return how often a file was refused, or wrong."""
        async with self._database.session() as session:
            row = session.get(self._database.files, (delivery.id, position))
        return None if row is None else row.wrong

    async def record_failures(self, delivery: Delivery, position: int, times: int) -> bool:
        """Note how often a file was refused, or wrong."""
        async with self._database.session() as session:
            held = await session.lock_row(
                self._database.deliveries, delivery.id, partial(self._transfers, delivery)
            )
            if held is not None:
                await session.update(
                    self._database.files,
                    (delivery.id, position),
                    lambda row: replace(row, wrong=times),
                )
        return held is not None

    def _transfers(self, delivery: Delivery, row: DeliveryRow) -> bool:
        return self._has(delivery, row) and row.state is State.TRANSFERRING

    async def record_upload(self, delivery: Delivery, upload: Upload) -> bool:
        """Note the upload of this attempt."""
        async with self._database.session() as session:
            return await self._change(
                session,
                delivery,
                lambda row: replace(row.having(upload=upload), completing_attempt=None),
                lambda row: row.state is State.TRANSFERRING,
            )

    def _note_archived(self, session: Session, delivery: Delivery) -> None:
        deliveries.note_archived(self._database, session, delivery, self._archived(delivery))

    def _has(self, delivery: Delivery, row: DeliveryRow) -> bool:
        """Whether a delivery, as it was claimed, is leased to this worker."""
        return (row.delivery.attempt, row.lease_owner) == (delivery.attempt, self._owner)

    async def _change(
        self,
        session: Session,
        delivery: Delivery,
        change: Callable[[DeliveryRow], DeliveryRow],
        fits: Callable[[DeliveryRow], bool] = lambda row: row.work is not None,
    ) -> bool:
        """Change what is leased to this worker; False when it is not, any more."""
        changed = await deliveries.update(
            self._database,
            session,
            delivery.id,
            change,
            lambda row: self._has(delivery, row) and fits(row),
        )
        return changed is not None


def _is_replaced_archive(own: DeliveryRow, url: str, other: DeliveryRow) -> bool:
    """Whether another delivery's client was told of this object, and not as a list of files."""
    return (
        other.result is not None
        and other.result.url == url
        and other.state is State.DONE
        and other.delivery.tenant == own.delivery.tenant
        and other.delivery.id != own.delivery.id
        and other.told.manifest_url != url
    )
