"""The unit of work in memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from app.audit import AuditRecord
from app.delivery.ingress import (
    ArrivalKind,
    Asked,
    AskedBefore,
    IncomingMessage,
    Ingress,
    Opening,
    event_key,
)
from app.delivery.manifest import Manifest, ManifestFile
from app.delivery.missing import NEVER_LISTED, MissingFile
from app.delivery.model import Delivery, Denied, Ended, Ending, KeptPlaces, OrderError
from app.delivery.object_store import StoredObject
from app.delivery.orders import ANSWER_LIMIT
from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.delivery.reports import StoredReport
from app.delivery.segments import OrderPlan, Segment
from app.delivery.states import ADVANCES, State, Work
from app.delivery.told import Told
from app.delivery.webhooks import WEBHOOKS, DeliveryEvent, event_of
from app.errors import ErrorType, LeaseLostError
from app.store.memory import deliveries
from app.store.memory.audit import record
from app.store.memory.contents import ContentsInTransaction
from app.store.memory.database import MemoryDatabase, as_json
from app.store.memory.locks import Mode
from app.store.memory.quotas import QuotasInTransaction
from app.store.memory.rows import (
    AskedRow,
    DeliveryRow,
    FileRow,
    InboxRow,
    MissingRow,
    OutboxRow,
    PlaceRow,
    SegmentRow,
    ToldCrc32Row,
)
from app.store.memory.session import Session
from app.store.memory.statements import statement as _statement
from app.store.memory.webhooks import tell

_COPY_AFTER_RETURN = timedelta(hours=1)  # that long after its acknowledgement was lost


class MemoryUnitOfWork(ContentsInTransaction, QuotasInTransaction):
    """See `app.delivery.ports.UnitOfWork`."""

    def __init__(self, database: MemoryDatabase, session: Session) -> None:
        super().__init__(database, session)
        self.owes: set[str] = set()  # the lanes that something was put into
        self._locked: set[bytes] = set()  # digests
        self.hints: list[OutgoingMessage] = []  # what workers were woken for
        self.works: set[Work] = set()  # of which they are told with the commit
        self.afterwards: list[Callable[[], object]] = []

    # What came in.

    @_statement
    async def record_receipts(self, arrived: Sequence[Ingress]) -> dict[UUID, datetime]:
        """Note events in the inbox; return those that count, and when each arrived."""
        await self._lock([ingress.digest for ingress in arrived])
        inbox = self._database.inbox
        judged = [await self._judged(ingress) for ingress in arrived]
        new = [row for row in judged if row is not None]
        for row in new:
            for key, _ in list(self._session.rows(inbox, (row.kind, row.digest))):
                # The copy that was to come is here.
                await self._session.update(
                    inbox,
                    key,
                    lambda known: replace(known, returned_at=None),
                    partial(InboxRow.awaits, copy=row),
                )
        inserted = [row for row in new if await self._session.insert(inbox, row.ingress_id, row)]
        return {row.ingress_id: row.arrived_at for row in inserted if row.counted}

    async def _judged(self, ingress: Ingress) -> InboxRow | None:
        """Return what the inbox will hold of an event; None if it is there already."""
        handled = await self._session.delete(self._database.arrivals, ingress.id)
        if self._session.get(self._database.inbox, ingress.id) is not None:
            return None
        returned_at = handled.returned_at if handled else None
        clock = self._database.clock()
        at = handled.received_at if handled else min(ingress.received_at or clock, clock)

        def is_copied_by(known: InboxRow) -> bool:
            overtook = known.arrived_at >= at
            if known.counted and (ingress.redelivered or (known.flagged and overtook)):
                return True
            if returned_at is not None and overtook:
                return True  # its own copy was handled, be that refused as one of a copy before
            return known.returned_at is not None and known.returned_at > at - _COPY_AFTER_RETURN

        group = ingress.kind, ingress.digest
        copy = self._session.where(self._database.inbox, is_copied_by, group=group)
        # What was given again in place of a copy may be there already.
        overtaken = self._session.where(
            self._database.inbox, lambda known: known.arrived_at >= at, group=group
        )
        return InboxRow(
            ingress_id=ingress.id,
            kind=ingress.kind,
            digest=ingress.digest,
            flagged=ingress.redelivered or returned_at is not None,
            arrived_at=at,
            counted=not copy,
            returned_at=None if copy and overtaken else returned_at,
        )

    @_statement
    async def note_denial(self, denied: Denied) -> None:
        """Keep why a request is denied."""
        await self._session.update(
            self._database.inbox,
            denied.request,
            lambda row: replace(row, denied=denied.error),
        )

    @_statement
    async def answered_before(
        self, refused: Sequence[IncomingMessage]
    ) -> dict[UUID, Ended | Denied]:
        """Return how requests were answered of which messages were refused as copies."""
        answered: dict[UUID, Ended | Denied] = {}
        for message in refused:
            answer = self._answered_before(message)
            if answer is not None:
                answered[message.ingress.id] = answer
        return answered

    def _answered_before(self, message: IncomingMessage) -> Ended | Denied | None:
        copy = self._session.get(self._database.inbox, message.ingress.id)
        client = message.tenant, message.correlation_id
        if copy is None or copy.counted or self._of(*client, lambda row: not row.state.ended):
            return None
        known = max(
            (
                row
                for _, row in self._session.rows(self._database.inbox, (copy.kind, copy.digest))
                if row.counted
            ),
            key=lambda row: row.arrived_at,
            default=None,
        )
        if known is None:
            return None
        since = self._of(
            *client,
            lambda row: known.denied is None or row.delivery.requested_at > known.arrived_at,
        )
        if since:
            _, ended = max(
                since, key=lambda kept: (kept[0] == known.ingress_id, kept[1].delivery.requested_at)
            )
            return Ended(
                delivery=ended.delivery, result=ended.result, error=ended.error, told=ended.told
            )
        if known.denied is not None:
            return Denied(request=known.ingress_id, error=known.denied)
        return None

    @_statement
    async def open_deliveries(self, openings: Sequence[Opening]) -> list[Delivery]:
        """Save new deliveries, unless their correlation id is in use."""
        opened = []
        for opening in sorted(
            openings, key=lambda opening: (opening.request.tenant, opening.request.correlation_id)
        ):
            row = await deliveries.insert(self._database, self._session, self._opened(opening))
            if row is not None:
                opened.append(row.delivery)
        return opened

    def _opened(self, opening: Opening) -> DeliveryRow:
        request = opening.request
        at = opening.requested_at or self._database.clock()
        return DeliveryRow(
            delivery=Delivery(
                id=request.id,
                tenant=request.tenant,
                correlation_id=request.correlation_id,
                state=opening.state,
                user=request.user,
                target=request.target,
                order=as_json(request.order),
                origin_app=request.origin_app,
                priority=request.priority,
                requested_at=at,
                expires_at=min(at + opening.ttl, request.deadline or at + opening.ttl),
                trace=request.trace,
                format=opening.format,
                archive_template=opening.archive_template,
                prefix_template=opening.prefix_template,
                partial=request.partial,
                labels=request.labels,
                deadline=request.deadline,
                held=opening.held,
            ),
            rank=at - request.priority * timedelta(minutes=1),
            not_before=self._session.now,
            updated_at=self._session.now,
            state_since=self._session.now,
        )

    @_statement
    async def asked_before(self, asked: Asked, *, active: bool) -> AskedBefore | None:
        """Return what was asked for already; who asks the same at once waits for this one."""
        await self._lock([asked.request, *([] if asked.key is None else [asked.key])])
        by_key, by_request = [], []
        for _, row in self._session.rows(self._database.asked):
            if asked.key is not None and row.key == asked.key:
                by_key.append(row)
            elif active and row.request == asked.request and self._is_active(row.delivery_id):
                by_request.append(row)
        for row in (*by_key, *by_request):
            return AskedBefore(request=row.request, delivery_id=row.delivery_id)
        return None

    def _is_active(self, delivery_id: UUID) -> bool:
        row = self._session.get(self._database.deliveries, delivery_id)
        return row is not None and not row.state.ended

    @_statement
    async def record_request(self, asked: Asked, delivery_id: UUID) -> None:
        """Note which delivery is the answer."""
        noted = self._session.where(
            self._database.asked,
            lambda row: (
                (row.request, row.delivery_id) == (asked.request, delivery_id)
                and asked.key in (None, row.key)
            ),
        )
        if noted:
            return
        if asked.key is not None and self._session.where(
            self._database.asked, lambda row: row.key == asked.key
        ):
            raise ValueError("a key has one answer")
        row = AskedRow(
            id=self._database.asked.number(),
            request=asked.request,
            key=asked.key,
            delivery_id=delivery_id,
        )
        self._session.put(self._database.asked, row.id, row)

    async def _lock(self, digests: Sequence[bytes]) -> None:
        """Lock digests, unless all are since the transaction began."""
        if not self._locked.issuperset(digests):
            await self.lock_digests(digests)

    @_statement
    async def lock_digests(self, digests: Collection[bytes]) -> None:
        """Lock digests: sorted, so that two transactions can't wait for each other."""
        for digest in sorted(digests):
            await self._session.lock(("digest", digest))
        self._locked |= set(digests)

    # The delivery.

    @_statement
    async def delete_ungranted(self, delivery: Delivery) -> bool:
        """Forget a delivery that was never granted."""
        return await deliveries.delete(
            self._database, self._session, delivery.id, lambda row: row.state is State.RECEIVED
        )

    async def record_receipt_and_lock(
        self, ingress: Ingress, tenant: str, correlation_id: str
    ) -> tuple[datetime, Delivery | None] | None:
        """Note an event, then lock its delivery: two statements, so that more can be in between."""
        arrived_at = (await self.record_receipts([ingress])).get(ingress.id)
        if arrived_at is None:
            return None
        return arrived_at, await self.lock(tenant, correlation_id)

    @_statement
    async def lock(self, tenant: str, correlation_id: str) -> Delivery | None:
        """Return and lock the active delivery with this correlation id."""
        self._session.write()
        for delivery_id, _ in self._of(tenant, correlation_id, lambda row: not row.state.ended):
            found = await self._session.lock_row(
                self._database.deliveries, delivery_id, lambda row: not row.state.ended
            )
            return found.delivery if found else None
        return None

    def _of(
        self, tenant: str, correlation_id: str, fits: Callable[[DeliveryRow], bool]
    ) -> list[tuple[UUID, DeliveryRow]]:
        return self._session.where(self._database.deliveries, fits, group=(tenant, correlation_id))

    @_statement
    async def _had_order(self, tenant: str, correlation_id: str, order_id: int) -> bool:
        """Whether an order belonged to an earlier delivery."""
        return bool(
            self._of(
                tenant,
                correlation_id,
                lambda row: (
                    (row.state.ended and row.delivery.order_id == order_id)
                    or order_id in row.repeated_orders
                ),
            )
        )

    @_statement
    async def withdraw_order(self, delivery: Delivery) -> bool:
        """Take back an order request that is surely not out."""
        withdrawn = False
        for number in self._unsent_orders(delivery):
            if not self._session.skips(self._database.outbox, number):
                await self._session.delete(self._database.outbox, number)
                withdrawn = True
        return withdrawn

    @_statement
    async def order_is_unsent(self, delivery: Delivery) -> bool:
        """Whether a delivery's order request is owed, and surely was not sent until now."""
        return bool(self._unsent_orders(delivery))

    def _unsent_orders(self, delivery: Delivery) -> list[int]:
        found = self._session.where(
            self._database.outbox,
            lambda row: row.message.delivery_id == delivery.id and row.not_sent,
            group=Lane.ORDERS,
        )
        return [number for number, _ in found]

    @_statement
    async def await_order(self, delivery: Delivery, patience: timedelta = ANSWER_LIMIT) -> None:
        """Note that a delivery has ended, and that its order may still be answered."""
        until = self._session.now + patience
        await deliveries.update(
            self._database,
            self._session,
            delivery.id,
            lambda row: replace(row, order_awaited=True, answers_until=until),
        )

    @_statement
    async def awaited_orders(
        self, tenant: str, correlation_id: str, arrived_at: datetime | None
    ) -> list[Delivery]:
        """Return and lock deliveries to which an answer may come, the oldest first."""
        now = self._session.now

        def waits(row: DeliveryRow) -> bool:
            return (
                row.awaits(now)
                and (row.order_awaited or row.state.ended or row.delivery.order_id is not None)
                and (arrived_at is None or row.delivery.requested_at <= arrived_at)
            )

        found = self._of(tenant, correlation_id, waits)
        found.sort(key=lambda row: (row[1].delivery.requested_at, row[0]))
        locked = []
        for delivery_id, _ in found:
            row = await self._session.lock_row(self._database.deliveries, delivery_id, waits)
            if row is not None:
                locked.append(row.delivery)
        return locked

    async def awaited_unless_had(
        self, tenant: str, correlation_id: str, arrived_at: datetime | None, order_id: int
    ) -> list[Delivery] | None:
        """Return None for an order that belonged to an earlier delivery, or `awaited_orders`."""
        if await self._had_order(tenant, correlation_id, order_id):
            return None
        return await self.awaited_orders(tenant, correlation_id, arrived_at)

    @_statement
    async def answers_before(self, tenant: str, correlation_id: str, arrived_at: datetime) -> bool:
        """Whether an earlier event of rs-order about this id waits to be handled."""
        key = event_key(tenant, correlation_id)
        earlier = self._session.where(
            self._database.arrivals,
            lambda row: (
                row.arrival.kind == ArrivalKind.ORDER_EVENT
                and row.arrival.key == key
                and row.received_at < arrived_at
            ),
        )
        return bool(earlier)

    @_statement
    async def record_answer(self, delivery: Delivery, order_id: int | None) -> None:
        """Note what rs-order answered to the request of a delivery that has ended."""
        await deliveries.update(
            self._database,
            self._session,
            delivery.id,
            lambda row: row.answered(order_id),
        )
        now = self._session.now
        waiting = self._session.where(
            self._database.outbox,
            lambda row: (
                row.message.kind is Kind.ORDER
                and row.not_sent
                and row.due_at > now
                and row.message.tenant == delivery.tenant
                and row.message.correlation_id == delivery.correlation_id
            ),
            group=Lane.ORDERS,
        )
        for number, _ in waiting:
            if not self._session.skips(self._database.outbox, number):
                await self._session.update(
                    self._database.outbox, number, lambda row: replace(row, due_at=now)
                )
        self.owes.add(Lane.ORDERS)

    async def advance(
        self,
        delivery: Delivery,
        state: State,
        *,
        manifest: Manifest | None = None,
        result: StoredObject | None = None,
        error: tuple[ErrorType, str] | None = None,
        code: str | None = None,
        told: Told | None = None,
        order_id: int | None = None,
        total_suborders: int | None = None,
        order_done: bool = False,
        plan: OrderPlan | None = None,
        begins_by: datetime | None = None,
        left_open: bool = False,
    ) -> bool:
        """Compare and set, by state and attempt."""
        if state not in ADVANCES[delivery.state]:
            raise ValueError(f"{delivery} can't go from {delivery.state} to {state}")
        changes: dict[str, Any] = {
            "order_id": order_id,
            "total_suborders": total_suborders,
            "order_done": order_done or None,
            "plan": plan,
        }
        if manifest is not None:
            changes |= {
                "archive_name": manifest.archive_name,
                "prefix": manifest.prefix,
                "file_count": manifest.file_count,
                "total_bytes": manifest.total_bytes,
            }
        changed = {name: value for name, value in changes.items() if value is not None}
        return await self._advance(
            delivery, state, changed, result, error, told, begins_by, code=code, left_open=left_open
        )

    @_statement
    async def _advance(
        self,
        delivery: Delivery,
        state: State,
        changes: Mapping[str, Any],
        result: StoredObject | None,
        error: tuple[ErrorType, str] | None,
        told: Told | None,
        begins_by: datetime | None,
        *,
        code: str | None,
        left_open: bool,
    ) -> bool:
        done = state is State.DONE

        def advanced(row: DeliveryRow) -> DeliveryRow:
            old = row.delivery
            upload = replace(old.upload, target=None) if old.upload and done else old.upload
            changed = row.having(
                state=state,
                tries=0,
                last_cause=None,
                parked=False,
                held=False,
                upload=upload,
                # What an attempt that failed has completed all the same is still to be removed.
                completing=None if done else old.completing,
                ending=None,
                **changes,
            )
            return replace(
                changed,
                rank=row.rank if begins_by is None else min(row.rank, begins_by),
                result=result,
                error=(error[0].value, error[1]) if error else None,
                error_code=code,
                told=told or Told(),
                done_in=row.completing_namespace if done else None,
                completing_namespace=None if done else row.completing_namespace,
                completing_until=None if done else row.completing_until,
                left_open=left_open,
                lease_owner=None,
                lease_until=None,
                not_before=self._session.now,
                updated_at=self._session.now,
                finished_at=self._session.now if state.ended else None,
            )

        def is_as_seen(row: DeliveryRow) -> bool:
            deadline = row.delivery.deadline
            if state is State.GRANTED and deadline is not None and deadline <= self._session.now:
                return False  # what comes too late is not ordered
            return (row.state, row.delivery.attempt) == (delivery.state, delivery.attempt)

        return (
            await deliveries.update(
                self._database, self._session, delivery.id, advanced, is_as_seen
            )
            is not None
        )

    @_statement
    async def note_ending(
        self,
        delivery: Delivery,
        error: tuple[ErrorType, str],
        *,
        code: str | None = None,
        lets_go: bool,
    ) -> bool:
        """Note how a delivery ends, if its archive may be appearing."""
        now = self._session.now
        ending = Ending(error_type=error[0], message=error[1], code=code)

        def noted(row: DeliveryRow) -> DeliveryRow:
            completes = row.completing_attempt == row.delivery.attempt
            looks = row.delivery.ending is not None  # what became of the archive
            holds = (completes or looks) and not lets_go
            return replace(
                row.having(
                    ending=row.delivery.ending or ending, last_cause=error[1], last_code=code
                ),
                lease_owner=row.lease_owner if holds else None,
                lease_until=row.lease_until if holds else None,
                not_before=now,
                updated_at=now,
            )

        def may_appear(row: DeliveryRow) -> bool:
            return (
                (row.state, row.delivery.attempt) == (delivery.state, delivery.attempt)
                and row.completing_until is not None
                and row.completing_until > now
            )

        return (
            await deliveries.update(self._database, self._session, delivery.id, noted, may_appear)
            is not None
        )

    @_statement
    async def announce(
        self,
        delivery: Delivery,
        suborder: int | None,
        *,
        total_suborders: int | None = None,
        after: timedelta = timedelta(),
    ) -> bool:
        """Add a segment of the archive."""
        now = self._session.now

        def announced(row: DeliveryRow) -> DeliveryRow:
            old = row.delivery
            due = row.not_before
            told = [each for each in (old.total_suborders, total_suborders) if each is not None]
            if old.order_done and old.total_suborders is None:
                told = []  # what is said late, is the least that there are
            if old.parked:
                due = now
            elif not old.announced:
                due = now + after
            changed = row.having(
                announced=old.announced + 1,
                total_suborders=max(told, default=None),
                parked=False,
                last_cause=None if old.parked else old.last_cause,
            )
            return replace(changed, not_before=due)

        def repeats(segment: Segment) -> bool:
            if segment.suborder is None and suborder is None:
                return segment.at_end or not segment.listed
            return segment.suborder == suborder

        row = await deliveries.update(
            self._database,
            self._session,
            delivery.id,
            announced,
            lambda _: not any(repeats(each) for each in self._segments(delivery)),
        )
        if row is None:
            return False
        segment = Segment(
            number=row.delivery.announced, suborder=suborder, at_end=row.delivery.order_done
        )
        return await self._session.insert(
            self._database.segments,
            (delivery.id, segment.number),
            SegmentRow(
                delivery_id=delivery.id, segment=segment, announced_at=self._database.clock()
            ),
        )

    def _segments(self, delivery: Delivery) -> list[Segment]:
        rows = self._session.rows(self._database.segments, delivery.id)
        return [row.segment for _, row in rows]

    @_statement
    async def end_order(
        self,
        delivery: Delivery,
        total_suborders: int | None,
        *,
        error: tuple[ErrorType, str] | None = None,
        in_error: int = 0,
    ) -> None:
        """Note that no further suborder comes."""

        def ended(row: DeliveryRow) -> DeliveryRow:
            old = row.delivery
            said = old.order_error
            if error is not None:
                most = max(in_error, said.files if said else 0)
                said = OrderError(error_type=error[0], message=error[1], files=most)
            waits = old.parked or row.state is State.AVAILABLE
            changed = row.having(
                order_done=True,
                order_error=said,
                parked=False,
                total_suborders=total_suborders,
                last_cause=None if old.parked else old.last_cause,
            )
            return replace(changed, not_before=self._session.now if waits else row.not_before)

        await deliveries.update(self._database, self._session, delivery.id, ended)

    @_statement
    async def list_segment(
        self,
        delivery: Delivery,
        segment: Segment,
        plan: OrderPlan,
        *,
        more_files: int,
        more_bytes: int,
        extends: bool = False,
    ) -> bool:
        """Note that a segment's files are in the manifest."""

        def listed(row: DeliveryRow) -> DeliveryRow:
            old = row.delivery
            changed = row.having(
                plan=plan,
                file_count=old.file_count + more_files,
                total_bytes=old.total_bytes + more_bytes,
            )
            return replace(changed, listed=segment.number)

        row = await deliveries.update(
            self._database,
            self._session,
            delivery.id,
            listed,
            lambda row: (
                (row.state, row.delivery.attempt) == (State.TRANSFERRING, delivery.attempt)
                and row.listed == (segment.number if extends else segment.number - 1)
            ),
        )
        if row is None:
            return False
        key = delivery.id, segment.number
        known = self._session.get(self._database.segments, key)
        assert known is not None  # noqa: S101 - `listed` counts what was announced
        listed_now = replace(
            known, segment=replace(segment, listed=True), listed_at=self._database.clock()
        )
        self._session.put(self._database.segments, key, listed_now)
        return True

    @_statement
    async def add_files(self, delivery: Delivery, files: Sequence[ManifestFile]) -> None:
        """Write files of a manifest."""
        for file in files:
            row = FileRow(delivery_id=delivery.id, file=file)
            if not await self._session.insert(
                self._database.files, (delivery.id, file.position), row
            ):
                raise LeaseLostError(f"{delivery} was planned by another worker meanwhile")
        found = await self._session.lock_row(
            self._database.deliveries, delivery.id, mode=Mode.KEY_SHARE
        )
        if found is None:
            raise LeaseLostError(f"{delivery} is gone")

    @_statement
    async def add_missing(self, delivery: Delivery, files: Sequence[MissingFile]) -> None:
        """Note files that never were in the manifest."""
        table = self._database.missing
        known = [row.number for _, row in self._session.rows(table, delivery.id)]
        for number, file in enumerate(files, start=max([NEVER_LISTED - 1, *known]) + 1):
            row = MissingRow(delivery_id=delivery.id, number=number, missing=file)
            self._session.put(table, (delivery.id, number), row)

    @_statement
    async def forget_never_listed(self, delivery: Delivery) -> None:
        """Forget files that never were in the manifest."""
        for key, row in list(self._session.rows(self._database.missing, delivery.id)):
            if row.number >= NEVER_LISTED:
                await self._session.delete(self._database.missing, key)

    @_statement
    async def keep_crc32s(self, delivery: Delivery, crc32s: Mapping[int, int]) -> None:
        """Keep what is told of files that come into the manifest later."""
        for file_id, crc32 in crc32s.items():
            row = ToldCrc32Row(delivery_id=delivery.id, crc32=crc32)
            if not await self._session.insert(
                self._database.told_crc32s, (delivery.id, file_id), row
            ):
                raise LeaseLostError(f"{delivery} was planned by another worker meanwhile")
        found = await self._session.lock_row(
            self._database.deliveries, delivery.id, mode=Mode.KEY_SHARE
        )
        if found is None:
            raise LeaseLostError(f"{delivery} is gone")

    @_statement
    async def take_crc32s(self, delivery: Delivery, file_ids: Sequence[int]) -> Mapping[int, int]:
        """Return what was kept of files; it is kept no longer."""
        taken: dict[int, int] = {}
        for file_id in file_ids:
            row = await self._session.delete(self._database.told_crc32s, (delivery.id, file_id))
            if row is not None:
                taken[file_id] = row.crc32
        return taken

    @_statement
    async def forget_crc32s(self, delivery: Delivery) -> bool:
        """Forget the CRC-32s of files that have an MD5, and of those that are not listed yet."""
        for told, _ in list(self._session.rows(self._database.told_crc32s, delivery.id)):
            await self._session.delete(self._database.told_crc32s, told)
        known = [
            key
            for key, row in self._session.rows(self._database.files, delivery.id)
            if row.file.crc32 is not None and row.file.md5 is not None
        ]
        for key in known:
            await self._session.update(
                self._database.files,
                key,
                lambda row: replace(row, file=replace(row.file, crc32=None)),
            )
        return bool(known)

    @_statement
    async def retry_now(self, delivery: Delivery) -> bool:
        """Let what waits for a later attempt be claimed now."""
        now = self._session.now
        return (
            await deliveries.update(
                self._database,
                self._session,
                delivery.id,
                lambda row: replace(row, not_before=now),
                lambda row: row.work is not None and not row.is_leased(now),
            )
            is not None
        )

    # The object.

    @_statement
    async def lock_object(self, url: str, namespace: str) -> None:
        """Let no other transaction complete or remove this object until the end."""
        await self._session.lock(("object", url, namespace))

    @_statement
    async def lock_object_within(self, url: str, namespace: str, longest: timedelta) -> bool:
        """Do as `lock_object`, or return False where others keep the object for so long."""
        return await self._session.lock_within(("object", url, namespace), longest)

    @_statement
    async def relied_on(self, delivery: Delivery, url: str, etag: str, *, namespace: str) -> bool:
        """Whether a client was told this object, or another delivery or attempt is making it."""
        now = self._session.now

        def relies(row: DeliveryRow) -> bool:
            if row.delivery.id == delivery.id:
                if row.delivery.attempt != delivery.attempt and row.state is not State.ERROR:
                    return True
            elif row.is_completing(url, namespace, now):
                return True
            result = row.result
            return (
                row.state is State.DONE
                and result is not None
                and result.url == url
                and result.etag in (etag, None)
            )

        return bool(self._session.where(self._database.deliveries, relies))

    # What is told.

    @_statement
    async def enqueue(self, *messages: OutgoingMessage) -> None:
        """Put messages into the outbox."""
        for message in messages:
            row = OutboxRow(
                id=self._database.outbox.number(),
                lane=message.lane,
                message=replace(message, body=as_json(message.body)),
                due_at=self._session.now,
                not_sent=message.kind is Kind.ORDER,
            )
            self._session.put(self._database.outbox, row.id, row)
        self.owes.update(message.lane for message in messages)
        await self._tell([event for event in map(event_of, messages) if event is not None])

    @_statement
    async def hint(self, *hints: OutgoingMessage, due: bool = True) -> None:
        """Wake workers with the commit."""
        self.wake(*(work for hint in hints if due and (work := hint.kind.work) is not None))
        self.hints.extend(hints)

    @_statement
    async def tell(self, *events: DeliveryEvent) -> None:
        """Owe events to the webhooks that ask for them."""
        await self._tell(events)

    def has_webhooks(self, tenant: str) -> bool:
        """Whether a tenant may have webhooks."""
        return self._session.get(self._database.settings, (tenant, WEBHOOKS)) is not None

    async def _tell(self, events: Sequence[DeliveryEvent]) -> None:
        for event in events:
            if await tell(self._database, self._session, event):
                self.owes.add(WEBHOOKS)

    @_statement
    async def record_place(self, delivery: Delivery, *, unseen: int, after: timedelta) -> None:
        """Note that a delivery's order may keep its user's place."""
        files = self._session.rows(self._database.files, delivery.id)
        if delivery.plan is None and all((row.file.size or 0) < unseen for _, row in files):
            return
        now = self._session.now
        row = PlaceRow(delivery_id=delivery.id, since=now, due_at=now + after)
        await self._session.insert(self._database.places, delivery.id, row)

    @_statement
    async def record_places_of(self, user: Delivery, *, within: timedelta, limit: int) -> int:
        """Note that orders of a delivery's user which are done may keep places."""
        now = self._session.now
        done = [
            (row.finished_at, delivery_id)
            for delivery_id, row in self._session.rows(self._database.deliveries)
            if (row.delivery.tenant, row.delivery.user) == (user.tenant, user.user)
            and row.state is State.DONE
            and row.delivery.order_id is not None
            and row.finished_at is not None
            and row.finished_at > now - within
        ]
        rows = [
            PlaceRow(delivery_id=delivery_id, since=finished_at, due_at=now)
            for finished_at, delivery_id in sorted(done, reverse=True)[:limit]
        ]
        places = self._database.places
        return sum([await self._session.insert(places, row.delivery_id, row) for row in rows])

    @_statement
    async def forget_place(self, delivery: Delivery) -> bool:
        """Note that a delivery's order keeps no place."""
        noted = await self._session.update(
            self._database.places,
            delivery.id,
            lambda row: replace(row, answered=True),
            lambda row: not row.answered,
        )
        return noted is not None

    @_statement
    async def record_kept_places(self, delivery: Delivery, places: int) -> list[KeptPlaces]:
        """Note how many places a parked delivery's order keeps; return its user's that do."""
        await deliveries.update(
            self._database,
            self._session,
            delivery.id,
            lambda row: replace(row, kept_places=places),
            lambda row: row.delivery.parked and row.kept_places != places,
        )
        keeping = [
            row
            for _, row in self._session.rows(self._database.deliveries)
            if (row.delivery.tenant, row.delivery.user) == (delivery.tenant, delivery.user)
            and row.delivery.parked
            and row.kept_places
        ]
        keeping.sort(key=lambda row: (row.delivery.requested_at, row.delivery.id))
        return [KeptPlaces(delivery=row.delivery, places=row.kept_places) for row in keeping]

    @_statement
    async def record_report(self, delivery: Delivery, report: StoredReport) -> None:
        """Note that the report of a delivery is there, and told."""
        await deliveries.update(
            self._database,
            self._session,
            delivery.id,
            lambda row: replace(row, report=report, report_until=None),
        )

    @_statement
    async def audit(self, done: AuditRecord) -> None:
        """Put what an actor did into the audit trail."""
        record(self._database, self._session, done)

    def wake(self, *works: Work) -> None:
        """Wake workers with the commit, by nothing but that."""
        self.works.update(works)
        for work in works:
            self._session.notify(work.value)

    def on_commit(self, act: Callable[[], object]) -> None:
        """Do something small once all of it is committed."""
        self.afterwards.append(act)
