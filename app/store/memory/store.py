"""The store of deliveries in memory."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from uuid import UUID

from app.delivery.manifest import Extent, Manifest, ManifestFile
from app.delivery.missing import MissingFile, MissingSoFar
from app.delivery.model import Delivery, HeldPlace
from app.delivery.object_store import StoredObject
from app.delivery.outgoing import OutgoingMessage
from app.delivery.reports import StoredReport
from app.delivery.segments import OrderSoFar
from app.delivery.states import State, Work
from app.delivery.told import Told
from app.errors import LeaseLostError
from app.store.memory.database import MemoryDatabase
from app.store.memory.deliveries import update
from app.store.memory.rows import DeliveryRow, MissingRow
from app.store.memory.session import Session
from app.store.memory.transaction import MemoryUnitOfWork
from app.store.woken import unheard, unpublished
from app.waiting.patience import until_answered
from app.waiting.wakeup import Wakeup

_FILES_A_BATCH = 1000
_FIRST_PAUSE = timedelta(minutes=1)  # until a place is asked about again


class MemoryStore:
    """See `app.delivery.ports.Store`. `owed` is notified after a commit that left messages.

    `hinted` publishes what workers were woken for, after the commit; `woken` is told what work that
    is, for this process alone.
    """

    def __init__(
        self,
        database: MemoryDatabase,
        owed: Wakeup,
        *,
        hinted: Callable[[Sequence[OutgoingMessage]], object] = unpublished,
        woken: Callable[[frozenset[Work]], object] = unheard,
    ) -> None:
        self._database = database
        self._owed = owed
        self._hinted = hinted
        self._woken = woken

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, locking: Collection[bytes] = ()
    ) -> AsyncIterator[MemoryUnitOfWork]:
        """Begin a transaction; leaving the block commits, an exception rolls back."""
        async with self._database.session() as session:
            transaction = MemoryUnitOfWork(self._database, session)
            if locking:
                await transaction.lock_digests(locking)
            yield transaction
        if transaction.owes:
            self._owed.notify(transaction.owes)
        if transaction.hints:
            self._hinted(transaction.hints)
        if transaction.works:
            self._woken(frozenset(transaction.works))
        for act in transaction.afterwards:
            act()

    async def finish(
        self,
        delivery: Delivery,
        result: StoredObject,
        told: Told,
        answer: OutgoingMessage,
        *,
        left_open: bool = False,
    ) -> bool | None:
        """End a delivery as done, and enqueue its answer."""
        async with self.transaction() as tx:
            if tx.has_webhooks(delivery.tenant):
                return None
            if not await tx.advance(
                delivery, State.DONE, result=result, told=told, left_open=left_open
            ):
                return False
            await tx.enqueue(answer)
            return True

    async def plan(
        self,
        delivery: Delivery,
        manifest: Manifest,
        files: Sequence[ManifestFile],
        hint: OutgoingMessage,
    ) -> bool:
        """Make a delivery READY with all of its files, and wake workers."""
        async with self.transaction() as tx:
            if not await tx.advance(delivery, State.READY, manifest=manifest):
                return False
            await tx.add_files(delivery, files)
            await tx.hint(hint)
            return True

    async def _found(self, fits: Callable[[Session, DeliveryRow], bool]) -> list[DeliveryRow]:
        async with self._database.session() as session:
            return [row for _, row in session.rows(self._database.deliveries) if fits(session, row)]

    async def postpone_arrival(self, ingress_id: UUID, pause: timedelta) -> None:
        """Let an event that is not handled yet be appended again after the pause."""
        async with self._database.session() as session:
            due_at = session.now + pause
            await session.update(
                self._database.arrivals,
                ingress_id,
                lambda row: replace(row, appends=0, due_at=due_at),
            )

    async def expired(self, limit: int) -> list[Delivery]:
        """Return active deliveries whose time is over, the longest overdue first."""

        def is_over(session: Session, row: DeliveryRow) -> bool:
            if row.state.ended:
                return False
            if row.delivery.ending is not None:
                return row.completing_until is None or row.completing_until <= session.now
            if row.delivery.expires_at > session.now:
                return False
            # What waits for the end of a maintenance has not begun yet; no deadline waits.
            if row.delivery.deadline is not None and row.delivery.deadline <= session.now:
                return True
            return row.state is not State.RECEIVED or not self._database.is_paused(
                session, row.delivery.tenant
            )

        found = await self._found(is_over)
        found.sort(key=lambda row: row.delivery.expires_at)
        return [row.delivery for row in found[:limit]]

    async def quiet_orders(self, after: timedelta, *, limit: int) -> list[Delivery]:
        """Return deliveries that wait for rs-order and have heard nothing for so long."""
        async with self._database.session() as session:
            quiet = [
                row
                for delivery_id, row in session.rows(self._database.deliveries)
                if row.delivery.order_id is not None
                and row.not_before < session.now - after
                and (
                    row.state is State.ORDERED
                    or row.delivery.parked
                    or self._waits_with_lease(session, row, after)
                )
                and not session.skips(self._database.deliveries, delivery_id)
            ]
            quiet.sort(key=lambda row: row.not_before)
            found = []
            for row in quiet[:limit]:
                changed = await update(
                    self._database,
                    session,
                    row.delivery.id,
                    lambda row: replace(row, not_before=session.now),
                )
                if changed is not None:
                    found.append(changed.delivery)
        return found

    def _waits_with_lease(self, session: Session, row: DeliveryRow, after: timedelta) -> bool:
        """Whether an archive that may not be able to pause had nothing new for so long."""
        delivery = row.delivery
        return (
            row.state is State.TRANSFERRING
            and delivery.plan is not None
            and not delivery.order_done
            and delivery.announced == row.listed
            and all(
                segment.listed_at is None or segment.listed_at < session.now - after
                for _, segment in session.rows(self._database.segments, delivery.id)
            )
        )

    async def holds_place(self, delivery: Delivery) -> bool:
        """Whether a delivery's order may keep its user's place."""
        async with self._database.session() as session:
            place = session.get(self._database.places, delivery.id)
        return place is not None and not place.answered

    async def due_place(self, *, longest: timedelta) -> HeldPlace | None:
        """Return the place that is due for longest."""
        async with self._database.session() as session:
            due = session.where(
                self._database.places, lambda row: row.due_at <= session.now and not row.answered
            )
            free = [row for key, row in due if not session.skips(self._database.places, key)]
            if not free:
                return None
            first = min(free, key=lambda row: (row.due_at, row.delivery_id))
            pause = min(_FIRST_PAUSE * 2 ** min(first.tries, 20), longest)
            await session.update(
                self._database.places,
                first.delivery_id,
                lambda row: replace(row, tries=row.tries + 1, due_at=session.now + pause),
            )
            held = session.get(self._database.deliveries, first.delivery_id)
        assert held is not None  # noqa: S101 - its place goes with it
        return HeldPlace(delivery=held.delivery, age=session.now - first.since)

    async def unswept(self, after: timedelta, *, limit: int) -> list[Delivery]:
        """Return deliveries that ended so long ago and may have left an upload open."""

        def may_be_open(session: Session, row: DeliveryRow) -> bool:
            delivery = row.delivery
            return (
                row.state.ended
                and not row.swept
                and delivery.attempt > (0 if row.state is State.ERROR or row.left_open else 1)
                and row.not_before < session.now - after
                # Not while the same key may be in use again.
                and not session.where(
                    self._database.deliveries,
                    lambda other: not other.state.ended,
                    group=(delivery.tenant, delivery.correlation_id),
                )
            )

        found = await self._found(may_be_open)
        found.sort(key=lambda row: row.not_before)
        return [row.delivery for row in found[:limit]]

    async def swept(self, delivery: Delivery, *, took: timedelta) -> bool:
        """Note that nothing of the delivery is open any more; False: look again later."""

        def no_longer(row: DeliveryRow) -> DeliveryRow:
            upload = row.delivery.upload
            forgotten = replace(upload, target=None) if upload else None
            return replace(row.having(upload=forgotten), swept=True)

        async with self._database.session() as session:
            then = session.now - took

            def has_come(row: DeliveryRow) -> bool:
                return row.completing_until is None or row.completing_until < then

            def is_made_by_another(row: DeliveryRow) -> bool:
                url = row.delivery.completing and row.delivery.completing.url
                return url is not None and bool(
                    session.where(
                        self._database.deliveries,
                        lambda other: (
                            other.delivery.id != row.delivery.id
                            and other.completing_until is not None
                            and other.completing_until > then
                            and other.delivery.completing is not None
                            and other.delivery.completing.url == url
                        ),
                    )
                )

            swept = await update(
                self._database,
                session,
                delivery.id,
                no_longer,
                lambda row: (
                    has_come(row)
                    and row.not_before <= then
                    and not is_made_by_another(row)
                    and not list(session.rows(self._database.tails, delivery.id))
                ),
            )
        return swept is not None

    async def sweep_again(self, delivery: Delivery) -> None:
        """Let `unswept` return a delivery again that is swept, or looked at for that."""
        async with self._database.session() as session:
            await update(
                self._database,
                session,
                delivery.id,
                lambda row: replace(row, swept=False, not_before=session.now),
                lambda row: row.state.ended,
            )

    async def postpone_sweeps(
        self, deliveries: Sequence[Delivery], *, after: timedelta, pause: timedelta
    ) -> None:
        """Let `unswept` return these again after the pause."""
        async with self._database.session() as session:
            at = session.now - after + pause
            for delivery in deliveries:
                await update(
                    self._database,
                    session,
                    delivery.id,
                    lambda row: replace(row, not_before=at),
                    lambda row: row.state.ended,
                )

    async def uploads_of_others(
        self, delivery: Delivery, *, container: str, key: str
    ) -> frozenset[str] | None:
        """Return what others have recorded of a key; None when more of it may be open."""
        archive_name = key.rpartition("/")[2]
        known = await self._found(
            lambda _session, row: not row.state.ended or row.delivery.id == delivery.id
        )
        others = [row for row in known if row.delivery.id != delivery.id]
        own = [row for row in known if row.delivery.id == delivery.id]
        if any(row.delivery.attempt > delivery.attempt for row in own):
            return None
        client = delivery.tenant, delivery.correlation_id
        for other in others:
            if (other.delivery.tenant, other.delivery.correlation_id) == client:
                return None
            if (
                other.work is Work.TRANSFER
                and other.lease_until is not None
                and other.delivery.archive_name == archive_name
                and f"/{key}".endswith(f"/{other.delivery.key}")
            ):
                return None
        recorded = [other.delivery.upload for other in others if other.delivery.upload is not None]
        return frozenset(
            upload.upload_id
            for upload in recorded
            if (upload.container, upload.key) == (container, key)
        )

    async def record_wait(
        self, tenant: str, target: str | None, cause: str, *, limit: int, code: str | None = None
    ) -> int:
        """Note why transfers wait."""

        def waits(session: Session, row: DeliveryRow) -> bool:
            return (
                row.work is Work.TRANSFER
                and row.delivery.tenant == tenant
                and target in (row.delivery.target, None)
                and not row.is_leased(session.now)
                and row.delivery.last_cause != cause
            )

        return await self._set_cause(waits, cause, limit, code)

    async def clear_wait(self, tenant: str, cause: str, *, limit: int) -> int:
        """Take that cause away."""

        def has_cause(_session: Session, row: DeliveryRow) -> bool:
            return (
                row.work is Work.TRANSFER
                and row.delivery.tenant == tenant
                and row.delivery.last_cause == cause
            )

        return await self._set_cause(has_cause, None, limit)

    async def _set_cause(
        self,
        fits: Callable[[Session, DeliveryRow], bool],
        cause: str | None,
        limit: int,
        code: str | None = None,
    ) -> int:
        async with self._database.session() as session:
            found = [
                delivery_id
                for delivery_id, row in session.rows(self._database.deliveries)
                if fits(session, row) and not session.skips(self._database.deliveries, delivery_id)
            ]
            for delivery_id in found[:limit]:
                await update(
                    self._database,
                    session,
                    delivery_id,
                    lambda row: row.having(last_cause=cause, last_code=code),
                )
        return len(found[:limit])

    async def delivered_before(self, delivery: Delivery, url: str) -> Delivery | None:
        """Return the last delivery before this one that told the same client of an object."""

        def told(_session: Session, row: DeliveryRow) -> bool:
            return (
                row.state is State.DONE
                and row.result is not None
                and row.result.url == url
                and (row.delivery.tenant, row.delivery.user) == (delivery.tenant, delivery.user)
                and row.delivery.id != delivery.id
                and row.delivery.requested_at < delivery.requested_at
            )

        found = await self._found(told)
        last = max(found, key=lambda row: row.finished_at or row.updated_at, default=None)
        return None if last is None else last.delivery

    async def others_put_files_beside(
        self, delivery: Delivery, noted: str, *, url: str, namespace: str
    ) -> bool:
        """Whether another delivery under way may be putting files beside a manifest."""

        def may_put(session: Session, row: DeliveryRow) -> bool:
            if row.delivery.id == delivery.id:
                return row.delivery.attempt > delivery.attempt
            return not row.state.ended and any(
                tail.place == (url, namespace)
                or (tail.place is None and tail.tail.key.startswith(noted))
                for _, tail in session.rows(self._database.tails, row.delivery.id)
            )

        return bool(await self._found(may_put))

    async def failed_before(
        self, delivery: Delivery, noted: str, *, after: timedelta
    ) -> list[tuple[Delivery, bool]]:
        """Return deliveries of the same id that failed and may have left files there."""

        def failed(session: Session, row: DeliveryRow) -> bool:
            other = row.delivery
            tails = session.rows(self._database.tails, other.id)
            return (
                row.state is State.ERROR
                and not row.swept
                and (other.tenant, other.correlation_id)
                == (delivery.tenant, delivery.correlation_id)
                and other.id != delivery.id
                and other.requested_at < delivery.requested_at
                and any(tail.tail.key.startswith(noted) for _, tail in tails)
            )

        found = await self._found(failed)
        found.sort(key=lambda row: row.delivery.requested_at)
        async with self._database.session() as session:
            before = session.now - after
        return [
            (row.delivery, row.finished_at is None or row.finished_at < before) for row in found
        ]

    async def note_report(
        self, delivery: Delivery, report: StoredReport, *, until: timedelta
    ) -> StoredReport | None:
        """Note where a report of a delivery may come."""
        async with self._database.session() as session:
            noted = await update(
                self._database,
                session,
                delivery.id,
                lambda row: replace(
                    row,
                    report=report if row.report_until is None else row.report,
                    report_until=session.now + until,
                ),
                lambda row: (
                    not row.state.ended
                    and (row.state, row.delivery.attempt) == (delivery.state, delivery.attempt)
                ),
            )
        return None if noted is None else noted.report

    async def untold_reports(self, *, limit: int) -> list[tuple[Delivery, StoredReport]]:
        """Return deliveries that have ended, and reports that no client was told of."""
        async with self._database.session() as session:
            untold = [
                (row.report_until, row.delivery, row.report)
                for _, row in session.rows(self._database.deliveries)
                if row.state.ended
                and row.report is not None
                and row.report_until is not None
                and row.report_until < session.now
            ]
        untold.sort(key=lambda each: each[0])
        return [(delivery, report) for _, delivery, report in untold[:limit]]

    async def postpone_report(
        self, delivery: Delivery, pause: timedelta, *, kept: timedelta
    ) -> bool:
        """Let an untold report be looked at again after the pause; False: it is forgotten."""
        async with self._database.session() as session:
            at, oldest = session.now + pause, session.now - kept

            content = session.get(self._database.kept_contents, delivery.id)
            removed_at = None if content is None else content.removed_at

            def later(row: DeliveryRow) -> DeliveryRow:
                since = [when for when in (row.finished_at, removed_at) if when is not None]
                if since and max(since) < oldest:
                    return replace(row, report=None, report_until=None)
                return replace(row, report_until=at)

            row = await update(
                self._database,
                session,
                delivery.id,
                later,
                lambda row: row.report_until is not None,
            )
        return row is None or row.report_until is not None

    async def forget_report(self, delivery: Delivery) -> None:
        """Note that an untold report is not there."""
        async with self._database.session() as session:
            await update(
                self._database,
                session,
                delivery.id,
                lambda row: replace(row, report=None, report_until=None),
                lambda row: row.report_until is not None,
            )

    async def done_by(self, delivery: Delivery) -> bool:
        """Whether the delivery was brought to its end by this attempt."""
        async with self._database.session() as session:
            row = session.get(self._database.deliveries, delivery.id)
        return (
            row is not None and row.state is State.DONE and row.delivery.attempt == delivery.attempt
        )

    async def files(self, delivery: Delivery, *, after: int = -1) -> AsyncIterator[ManifestFile]:
        """Iterate over the manifest, a batch at a time; it waits while the store is away."""
        position = after
        while True:
            batch = await until_answered(partial(self._batch, delivery, position))
            for file in batch:
                yield file
            if len(batch) < _FILES_A_BATCH:
                return
            position = batch[-1].position

    async def _batch(self, delivery: Delivery, position: int) -> list[ManifestFile]:
        async with self._database.session() as session:
            files = [row.file for _, row in session.rows(self._database.files, delivery.id)]
        files.sort(key=lambda file: file.position)
        return [file for file in files if file.position > position][:_FILES_A_BATCH]

    async def extent(self, delivery: Delivery) -> Extent:
        """Measure the delivery's manifest."""
        async with self._database.session() as session:
            files = [row.file for _, row in session.rows(self._database.files, delivery.id)]
        return Extent.of(files)

    async def measured(self, delivery: Delivery) -> tuple[Extent, AsyncIterator[ManifestFile]]:
        """Measure the delivery's manifest, and iterate over it."""
        return await self.extent(delivery), self.files(delivery)

    async def missing(self, delivery: Delivery) -> AsyncIterator[MissingFile]:
        """Iterate over the files that it is without; it waits while the store is away."""
        last = -1
        while True:
            rows = await until_answered(partial(self._missing_batch, delivery, last))
            for row in rows:
                last = row.number
                yield row.missing
            if len(rows) < _FILES_A_BATCH:
                return

    async def _missing_batch(self, delivery: Delivery, last: int) -> list[MissingRow]:
        async with self._database.session() as session:
            rows = [row for _, row in session.rows(self._database.missing, delivery.id)]
        rows.sort(key=lambda row: row.number)
        return [row for row in rows if row.number > last][:_FILES_A_BATCH]

    async def missing_so_far(self, delivery: Delivery) -> MissingSoFar:
        """Tell how many files it is without, and why most of them."""
        async with self._database.session() as session:
            rows = [row for _, row in session.rows(self._database.missing, delivery.id)]
            left = len(list(session.rows(self._database.files, delivery.id)))
        rows.sort(key=lambda row: row.number)
        causes: Counter[str] = Counter()  # of equal counts, what came first is the most common
        for row in rows:
            causes[row.missing.cause] += row.missing.files
        if not causes:
            return MissingSoFar(left=left)
        return MissingSoFar(files=causes.total(), cause=causes.most_common(1)[0][0], left=left)

    async def order_so_far(self, delivery: Delivery) -> OrderSoFar:
        """Return what is known of the delivery's order."""
        async with self._database.session() as session:
            row = session.get(self._database.deliveries, delivery.id)
            rows = list(session.rows(self._database.segments, delivery.id))
        if row is None:
            raise LeaseLostError(f"{delivery} is gone")
        return OrderSoFar(
            segments=sorted(
                (replace(row.segment, age=session.now - row.announced_at) for _, row in rows),
                key=lambda each: each.number,
            ),
            done=row.delivery.order_done,
            with_errors=row.delivery.order_error is not None,
            said=row.delivery.order_error.message if row.delivery.order_error else None,
            in_error=row.delivery.order_error.files if row.delivery.order_error else 0,
            total_suborders=row.delivery.total_suborders,
            age=session.now - min((row.announced_at for _, row in rows), default=session.now),
        )
