"""The store of deliveries on PostgreSQL."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any
from uuid import UUID

import asyncpg

from app.audit import AuditRecord
from app.delivery.ingress import (
    Asked,
    AskedBefore,
    IncomingMessage,
    Ingress,
    Opening,
    event_key,
)
from app.delivery.manifest import Extent, Manifest, ManifestFile
from app.delivery.missing import NEVER_LISTED, MissingFile, MissingSoFar
from app.delivery.model import Delivery, Denied, Ended, HeldPlace, KeptPlaces
from app.delivery.naming import object_key
from app.delivery.object_store import StoredObject
from app.delivery.orders import ANSWER_LIMIT
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.reports import StoredReport
from app.delivery.segments import OrderPlan, OrderSoFar, Segment
from app.delivery.states import ADVANCES, State, Work
from app.delivery.told import Told
from app.delivery.webhooks import WEBHOOKS, DeliveryEvent, event_of
from app.errors import ErrorType, LeaseLostError
from app.store.audit import record
from app.store.contents import ContentsInTransaction
from app.store.manifest import extent, files_after, missing_after, missing_so_far
from app.store.objects import lock_object, lock_object_within
from app.store.pool import begun_with, end_with, translate_errors
from app.store.quotas import QuotasInTransaction
from app.store.rows import delivery_of, ended_of, segment_of
from app.store.sql import in_full, load
from app.store.webhooks import tell
from app.store.woken import unheard, unpublished
from app.waiting.patience import until_answered
from app.waiting.wakeup import Wakeup

SQL = load(__name__)

_BATCH_SIZE = 1000


_FILE_COLUMNS = tuple(each.name for each in fields(ManifestFile))
_file = attrgetter(*_FILE_COLUMNS)


class PostgresUnitOfWork(ContentsInTransaction, QuotasInTransaction):
    """One transaction on one connection; see `app.delivery.ports.UnitOfWork`."""

    def __init__(
        self, connection: asyncpg.pool.PoolConnectionProxy, locked: Collection[bytes] = ()
    ) -> None:
        self._connection = connection
        self._locked = frozenset(locked)  # digests, since it began
        self.owes: set[str] = set()  # the lanes that something was put into
        self.hints: list[OutgoingMessage] = []  # what workers were woken for
        self.works: set[Work] = set()  # that PostgreSQL tells them of with the commit
        self.afterwards: list[Callable[[], object]] = []

    async def record_receipts(self, arrived: Sequence[Ingress]) -> dict[UUID, datetime]:
        """Note events in the inbox; return those that count, and when each arrived."""
        # Two copies of a message may be handled at once: the second waits for the first.
        await self._lock([ingress.digest for ingress in arrived])
        recorded = SQL["record_receipts"](
            ids=[ingress.id for ingress in arrived],
            kinds=[ingress.kind.value for ingress in arrived],
            digests=[ingress.digest for ingress in arrived],
            flagged=[ingress.redelivered for ingress in arrived],
            received_at=[ingress.received_at for ingress in arrived],
        )
        rows = await self._connection.fetch(*recorded)
        return {row["ingress_id"]: row["arrived_at"] for row in rows if row["counted"]}

    async def record_receipt_and_lock(
        self, ingress: Ingress, tenant: str, correlation_id: str
    ) -> tuple[datetime, Delivery | None] | None:
        """Note an event in the inbox, and lock the active delivery that it is about."""
        await self._lock([ingress.digest])
        recorded = SQL["record_receipt_and_lock"](
            ids=[ingress.id],
            kinds=[ingress.kind.value],
            digests=[ingress.digest],
            flagged=[ingress.redelivered],
            received_at=[ingress.received_at],
            tenant=tenant,
            correlation_id=correlation_id,
        )
        row = await self._connection.fetchrow(*recorded)
        if row is None:
            return None
        return row["arrived_at"], delivery_of(row) if row["id"] is not None else None

    async def note_denial(self, denied: Denied) -> None:
        """Keep why a request is denied."""
        error_type, reason = denied.error
        await self._connection.execute(
            *SQL["note_denial"](id=denied.request, error_type=error_type, reason=reason)
        )

    async def answered_before(
        self, refused: Sequence[IncomingMessage]
    ) -> dict[UUID, Ended | Denied]:
        """Return how requests were answered of which messages were refused as copies."""
        answered: dict[UUID, Ended | Denied] = {}
        for row in await self._connection.fetch(
            *SQL["answered_before"](
                ids=[message.ingress.id for message in refused],
                tenants=[message.tenant for message in refused],
                correlation_ids=[message.correlation_id for message in refused],
            )
        ):
            if row["id"] is not None:
                answered[row["copy"]] = ended_of(row)
            elif row["denied_as"] is not None:
                error = row["denied_as"], row["denied_because"]
                answered[row["copy"]] = Denied(request=row["request"], error=error)
        return answered

    async def open_deliveries(self, openings: Sequence[Opening]) -> list[Delivery]:
        """Save new deliveries, unless their correlation id is in use."""
        openings = sorted(openings, key=lambda o: (o.request.tenant, o.request.correlation_id))
        requests = [opening.request for opening in openings]
        opened = await self._connection.fetch(
            *SQL["open_deliveries"](
                ids=[request.id for request in requests],
                tenants=[request.tenant for request in requests],
                correlation_ids=[request.correlation_id for request in requests],
                states=[opening.state.value for opening in openings],
                users=[request.user for request in requests],
                targets=[request.target for request in requests],
                orders=[request.order for request in requests],
                origin_apps=[request.origin_app for request in requests],
                priorities=[request.priority for request in requests],
                requested_at=[opening.requested_at for opening in openings],
                ttls=[opening.ttl for opening in openings],
                traces=[request.trace for request in requests],
                formats=[opening.format for opening in openings],
                labels=[json.dumps(request.labels) for request in requests],
                deadlines=[request.deadline for request in requests],
                archive_templates=[opening.archive_template for opening in openings],
                prefix_templates=[opening.prefix_template for opening in openings],
                partial=[request.partial for request in requests],
                held=[opening.held for opening in openings],
            )
        )
        return [delivery_of(row) for row in opened]

    async def asked_before(self, asked: Asked, *, active: bool) -> AskedBefore | None:
        """Return what was asked for already; who asks the same at once waits for this one."""
        digests = [asked.request, *([] if asked.key is None else [asked.key])]
        await self._lock(digests)
        row = await self._connection.fetchrow(
            *SQL["asked_before"](request=asked.request, key=asked.key, active=active)
        )
        return AskedBefore(**row) if row else None

    async def record_request(self, asked: Asked, delivery_id: UUID) -> None:
        """Note which delivery is the answer."""
        await self._connection.execute(
            *SQL["record_request"](request=asked.request, key=asked.key, delivery=delivery_id)
        )

    async def _lock(self, digests: Sequence[bytes]) -> None:
        """Lock digests, unless all are since the transaction began."""
        if not self._locked.issuperset(digests):
            await self._connection.execute(*SQL["lock_digests"](digests=_locks(digests)))

    async def delete_ungranted(self, delivery: Delivery) -> bool:
        """Forget a delivery that was never granted."""
        return await self._connection.fetchval(*SQL["delete_ungranted"](id=delivery.id)) is not None

    async def lock(self, tenant: str, correlation_id: str) -> Delivery | None:
        """Return and lock the active delivery with this correlation id."""
        row = await self._connection.fetchrow(
            *SQL["lock_active"](tenant=tenant, correlation_id=correlation_id)
        )
        return delivery_of(row) if row else None

    async def withdraw_order(self, delivery: Delivery) -> bool:
        """Take back an order request that no relay has begun to send."""
        return (
            await self._connection.fetchval(*SQL["withdraw_order"](delivery=delivery.id))
            is not None
        )

    async def order_is_unsent(self, delivery: Delivery) -> bool:
        """Whether a delivery's order request is owed, and surely was not sent until now."""
        return bool(await self._connection.fetchval(*SQL["order_is_unsent"](delivery=delivery.id)))

    async def await_order(self, delivery: Delivery, patience: timedelta = ANSWER_LIMIT) -> None:
        """Note that a delivery has ended, and that its order may still be answered."""
        await self._connection.execute(*SQL["await_order"](id=delivery.id, patience=patience))

    async def awaited_orders(
        self, tenant: str, correlation_id: str, arrived_at: datetime | None
    ) -> list[Delivery]:
        """Return and lock deliveries to which an answer may come, the oldest first."""
        rows = await self._connection.fetch(
            *SQL["awaited_orders"](
                tenant=tenant, correlation_id=correlation_id, arrived_at=arrived_at
            )
        )
        return [delivery_of(row) for row in rows]

    async def awaited_unless_had(
        self, tenant: str, correlation_id: str, arrived_at: datetime | None, order_id: int
    ) -> list[Delivery] | None:
        """Return None for an order that belonged to an earlier delivery, or `awaited_orders`."""
        asked = SQL["awaited_unless_had"](
            tenant=tenant, correlation_id=correlation_id, arrived_at=arrived_at, order_id=order_id
        )
        rows = await self._connection.fetch(*asked)
        if rows[0]["had"]:
            return None
        return [delivery_of(row) for row in rows if row["id"] is not None]

    async def answers_before(self, tenant: str, correlation_id: str, arrived_at: datetime) -> bool:
        """Whether an earlier event of rs-order about this id waits to be handled."""
        key = event_key(tenant, correlation_id)
        found = await self._connection.fetchval(
            *SQL["answers_before"](key=key, arrived_at=arrived_at)
        )
        return bool(found)

    async def record_answer(self, delivery: Delivery, order_id: int | None) -> None:
        """Note what rs-order answered to the request of a delivery that has ended."""
        await self._connection.execute(*SQL["record_answer"](id=delivery.id, order_id=order_id))
        await self._connection.execute(
            *SQL["look_again"](tenant=delivery.tenant, correlation_id=delivery.correlation_id)
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
        arguments = advanced(
            delivery,
            state,
            manifest=manifest,
            result=result,
            error=error,
            code=code,
            told=told,
            order_id=order_id,
            total_suborders=total_suborders,
            order_done=order_done,
            plan=plan,
            begins_by=begins_by,
            left_open=left_open,
        )
        row = await self._connection.fetchrow(*SQL["advance"](**arguments, unheard=False))
        return row is not None

    async def announce(
        self,
        delivery: Delivery,
        suborder: int | None,
        *,
        total_suborders: int | None = None,
        after: timedelta = timedelta(),
    ) -> bool:
        """Add a segment of the archive."""
        announced = SQL["announce"](
            id=delivery.id, suborder=suborder, total_suborders=total_suborders, after=after
        )
        return await self._connection.fetchval(*announced) is not None

    async def end_order(
        self,
        delivery: Delivery,
        total_suborders: int | None,
        *,
        error: tuple[ErrorType, str] | None = None,
        in_error: int = 0,
    ) -> None:
        """Note that no further suborder comes."""
        ended = SQL["end_order"](
            id=delivery.id,
            total_suborders=total_suborders,
            error_type=error[0].value if error else None,
            error_message=error[1] if error else None,
            error_files=in_error,
        )
        await self._connection.execute(*ended)

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
        listed = SQL["list_segment"](
            id=delivery.id,
            attempt=delivery.attempt,
            number=segment.number,
            files=segment.file_count,
            more_files=more_files,
            more_bytes=more_bytes,
            plan=asdict(plan),
            extends=extends,
        )
        return await self._connection.fetchval(*listed) is not None

    async def note_ending(
        self,
        delivery: Delivery,
        error: tuple[ErrorType, str],
        *,
        code: str | None = None,
        lets_go: bool,
    ) -> bool:
        """Note how a delivery ends, if its archive may be appearing."""
        noted = await self._connection.fetchval(
            *SQL["note_ending"](
                id=delivery.id,
                seen=delivery.state.value,
                attempt=delivery.attempt,
                error_type=error[0].value,
                error_message=error[1],
                code=code,
                lets_go=lets_go,
            )
        )
        return noted is not None

    async def add_files(self, delivery: Delivery, files: Sequence[ManifestFile]) -> None:
        """Write files of a manifest."""
        records = [(delivery.id, *_file(each)) for each in files]
        await self._copy(delivery, "delivery_file", _FILE_COLUMNS, records)

    async def add_missing(self, delivery: Delivery, files: Sequence[MissingFile]) -> None:
        """Note files that never were in the manifest."""
        await self._connection.execute(
            *SQL["add_missing"](
                id=delivery.id,
                least=NEVER_LISTED,
                file_ids=[file.file_id for file in files],
                members=[file.member for file in files],
                sizes=[file.size for file in files],
                product_ids=[file.product_id for file in files],
                product_versions=[file.product_version for file in files],
                files=[file.files for file in files],
                causes=[file.cause for file in files],
            )
        )

    async def forget_never_listed(self, delivery: Delivery) -> None:
        """Forget files that never were in the manifest."""
        await self._connection.execute(
            *SQL["forget_never_listed"](id=delivery.id, least=NEVER_LISTED)
        )

    async def keep_crc32s(self, delivery: Delivery, crc32s: Mapping[int, int]) -> None:
        """Keep what is told of files that come into the manifest later."""
        records = [(delivery.id, *each) for each in crc32s.items()]
        await self._copy(delivery, "told_crc32", ("file_id", "crc32"), records)

    async def take_crc32s(self, delivery: Delivery, file_ids: Sequence[int]) -> Mapping[int, int]:
        """Return what was kept of files; it is kept no longer."""
        rows = await self._connection.fetch(*SQL["take_crc32s"](id=delivery.id, file_ids=file_ids))
        return {row["file_id"]: row["crc32"] for row in rows}

    async def forget_crc32s(self, delivery: Delivery) -> bool:
        """Forget the CRC-32s of files that have an MD5, and of those that are not listed yet."""
        return bool(
            await self._connection.fetchval(*SQL["forget_crc32s_beside_md5s"](id=delivery.id))
        )

    async def _copy(
        self, delivery: Delivery, table: str, columns: Sequence[str], records: Sequence[Any]
    ) -> None:
        """Write rows that only one worker writes."""
        try:
            await self._connection.copy_records_to_table(
                table, columns=("delivery_id", *columns), records=records
            )
        except asyncpg.UniqueViolationError:
            raise LeaseLostError(f"{delivery} was planned by another worker meanwhile") from None
        except asyncpg.ForeignKeyViolationError:
            raise LeaseLostError(f"{delivery} is gone") from None

    async def enqueue(self, *messages: OutgoingMessage) -> None:
        """Put messages into the outbox."""
        if not messages:
            return
        enqueued = SQL["enqueue"](
            lanes=[message.lane.value for message in messages],
            deliveries=[message.delivery_id for message in messages],
            kinds=[message.kind.value for message in messages],
            message_ids=[message.message_id for message in messages],
            tenants=[message.tenant for message in messages],
            correlation_ids=[message.correlation_id for message in messages],
            priorities=[message.priority for message in messages],
            origin_apps=[message.origin_app for message in messages],
            bodies=[message.body for message in messages],
            traces=[message.trace for message in messages],
        )
        has_webhooks = await self._connection.fetchval(*enqueued)
        self.owes.update(message.lane for message in messages)
        events = [event for event in map(event_of, messages) if event is not None]
        if events and has_webhooks:
            await self.tell(*events)

    async def hint(self, *hints: OutgoingMessage, due: bool = True) -> None:
        """Wake workers with the commit."""
        self.works |= {work for hint in hints if due and (work := hint.kind.work)}
        self.hints.extend(hints)

    async def tell(self, *events: DeliveryEvent) -> None:
        """Owe events to the webhooks that ask for them."""
        if await tell(self._connection, events):
            self.owes.add(WEBHOOKS)

    async def record_place(self, delivery: Delivery, *, unseen: int, after: timedelta) -> None:
        """Note that a delivery's order may keep its user's place."""
        recorded = SQL["record_place"](
            id=delivery.id, several=delivery.plan is not None, unseen=unseen, after=after
        )
        await self._connection.execute(*recorded)

    async def record_places_of(self, user: Delivery, *, within: timedelta, limit: int) -> int:
        """Note that orders of a delivery's user which are done may keep places."""
        recorded = SQL["record_places_of"](
            tenant=user.tenant, user=user.user, within=within, limit=limit
        )
        return len(await self._connection.fetch(*recorded))

    async def forget_place(self, delivery: Delivery) -> bool:
        """Note that a delivery's order keeps no place."""
        return await self._connection.fetchval(*SQL["forget_place"](id=delivery.id)) is not None

    async def record_kept_places(self, delivery: Delivery, places: int) -> list[KeptPlaces]:
        """Note how many places a parked delivery's order keeps; return its user's that do."""
        await self._connection.execute(*SQL["record_kept_places"](id=delivery.id, places=places))
        rows = await self._connection.fetch(
            *SQL["kept_places_of"](tenant=delivery.tenant, user=delivery.user)
        )
        return [KeptPlaces(delivery=delivery_of(row), places=row["kept_places"]) for row in rows]

    def wake(self, *works: Work) -> None:
        """Wake workers with the commit, by nothing but that."""
        self.works.update(works)

    def on_commit(self, act: Callable[[], object]) -> None:
        """Do something small once all of it is committed."""
        self.afterwards.append(act)

    async def retry_now(self, delivery: Delivery) -> bool:
        """Let what waits for a later attempt be claimed now."""
        return await self._connection.fetchval(*SQL["retry_now"](id=delivery.id)) is not None

    async def lock_object(self, url: str, namespace: str) -> None:
        """Let no other transaction complete or remove this object until the end."""
        await lock_object(self._connection, url, namespace)

    async def lock_object_within(self, url: str, namespace: str, longest: timedelta) -> bool:
        """Do as `lock_object`, or return False where others keep the object for so long."""
        return await lock_object_within(self._connection, url, namespace, longest)

    async def relied_on(self, delivery: Delivery, url: str, etag: str, *, namespace: str) -> bool:
        """Whether a client was told this object, or another delivery or attempt is making it."""
        return bool(
            await self._connection.fetchval(
                *SQL["relied_on"](
                    id=delivery.id,
                    attempt=delivery.attempt,
                    url=url,
                    etag=etag,
                    namespace=namespace,
                )
            )
        )

    async def record_report(self, delivery: Delivery, report: StoredReport) -> None:
        """Note that the report of a delivery is there, and told."""
        recorded = SQL["record_report"](id=delivery.id, report=report.noted())
        await self._connection.execute(*recorded)

    async def audit(self, done: AuditRecord) -> None:
        """Put what an actor did into the audit trail."""
        await record(self._connection, done)


def advanced(
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
) -> dict[str, Any]:
    """Return the arguments of what compares state and attempt, and sets the next state."""
    if state not in ADVANCES[delivery.state]:
        raise ValueError(f"{delivery} can't go from {delivery.state} to {state}")
    return {
        "id": delivery.id,
        "seen": delivery.state.value,
        "attempt": delivery.attempt,
        "state": state.value,
        "order_id": order_id,
        "total_suborders": total_suborders,
        "archive_name": manifest.archive_name if manifest else None,
        "prefix": manifest.prefix if manifest else None,
        "file_count": manifest.file_count if manifest else None,
        "total_bytes": manifest.total_bytes if manifest else None,
        "url": result.url if result else None,
        "md5": result.md5 if result else None,
        "archive_size": result.size if result else None,
        "etag": result.etag if result else None,
        "error_type": error[0].value if error else None,
        "error_message": error[1] if error else None,
        "error_code": code,
        "told": told.noted() if told else None,
        "order_done": order_done,
        "plan": asdict(plan) if plan else None,
        "begins_by": begins_by,
        "left_open": left_open,
    }


async def _each(files: Sequence[ManifestFile]) -> AsyncIterator[ManifestFile]:
    for file in files:
        yield file


def _locks(digests: Collection[bytes]) -> list[int]:
    """Return what digests are locked by: sorted, so that transactions can't wait for each other."""
    return sorted(int.from_bytes(digest[:8], "big", signed=True) for digest in digests)


class PostgresStore:
    """See `ports.DeliveryStore`. `owed` is notified after a commit that left something to send.

    `hinted` publishes what workers were woken for, after the commit: at once, and without an error.
    `woken` is told what work that is, for this process alone: one whose line is cut hears of no
    `NOTIFY`, not of its own either.
    `batch` is how many files of a manifest are read at once.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        owed: Wakeup,
        *,
        hinted: Callable[[Sequence[OutgoingMessage]], object] = unpublished,
        woken: Callable[[frozenset[Work]], object] = unheard,
        batch: int = _BATCH_SIZE,
    ) -> None:
        self._pool = pool
        self._owed = owed
        self._hinted = hinted
        self._woken = woken
        self._batch_size = batch

    @contextlib.asynccontextmanager
    async def transaction(
        self, *, locking: Collection[bytes] = ()
    ) -> AsyncIterator[PostgresUnitOfWork]:
        """Begin a transaction. Raises StoreUnavailableError; then nothing was committed.

        (Or everything was, and only the answer was lost: callers are idempotent.)
        """
        first = ""
        if locking:
            first = in_full(*SQL["lock_digests"](digests=_locks(locking)))
        with translate_errors():
            async with self._pool.acquire() as connection, begun_with(connection, first):
                transaction = PostgresUnitOfWork(connection, locking)
                yield transaction
                if transaction.works:
                    hint = SQL["hint"](works=sorted(work.value for work in transaction.works))
                    end_with(connection, in_full(*hint))
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
        """End a delivery as done, and enqueue its answer, in one statement."""
        arguments = advanced(delivery, State.DONE, result=result, told=told, left_open=left_open)
        with translate_errors():
            row = await self._pool.fetchrow(
                *SQL["finish"](
                    **arguments,
                    unheard=True,
                    lane=answer.lane.value,
                    kind=answer.kind.value,
                    message_id=answer.message_id,
                    tenant=answer.tenant,
                    correlation_id=answer.correlation_id,
                    priority=answer.priority,
                    origin_app=answer.origin_app,
                    body=answer.body,
                    trace=answer.trace,
                )
            )
        assert row is not None  # noqa: S101 - an aggregate has a row
        if row["done"]:
            self._owed.notify({answer.lane})
        return None if row["heard"] else row["done"]

    async def plan(
        self,
        delivery: Delivery,
        manifest: Manifest,
        files: Sequence[ManifestFile],
        hint: OutgoingMessage,
    ) -> bool:
        """Make a delivery READY with all of its files, and wake workers, in one statement."""
        arguments = advanced(delivery, State.READY, manifest=manifest)
        with translate_errors():
            row = await self._pool.fetchrow(
                *SQL["plan"](
                    **arguments,
                    unheard=False,
                    positions=[file.position for file in files],
                    file_ids=[file.file_id for file in files],
                    members=[file.member for file in files],
                    sizes=[file.size for file in files],
                    md5s=[file.md5 for file in files],
                    crc32s=[file.crc32 for file in files],
                    product_ids=[file.product_id for file in files],
                    product_versions=[file.product_version for file in files],
                    media_types=[file.media_type for file in files],
                    work=Work.TRANSFER.value,
                )
            )
        if row is None:
            return False
        self._hinted([hint])
        self._woken(frozenset({Work.TRANSFER}))
        return True

    async def postpone_arrival(self, ingress_id: UUID, pause: timedelta) -> None:
        """Let an event that is not handled yet be appended again after the pause."""
        with translate_errors():
            await self._pool.execute(*SQL["postpone_arrival"](id=ingress_id, pause=pause))

    async def expired(self, limit: int) -> list[Delivery]:
        """Return active deliveries whose time is over, by the database's clock."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["expired"](limit=limit))
        return [delivery_of(row) for row in rows]

    async def quiet_orders(self, after: timedelta, *, limit: int) -> list[Delivery]:
        """Return deliveries that wait for rs-order and have heard nothing for so long."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["quiet_orders"](after=after, limit=limit))
        return [delivery_of(row) for row in rows]

    async def holds_place(self, delivery: Delivery) -> bool:
        """Whether a delivery's order may keep its user's place."""
        with translate_errors():
            return bool(await self._pool.fetchval(*SQL["holds_place"](id=delivery.id)))

    async def due_place(self, *, longest: timedelta) -> HeldPlace | None:
        """Return the place that is due for longest."""
        with translate_errors():
            row = await self._pool.fetchrow(*SQL["due_place"](longest=longest))
        return HeldPlace(delivery=delivery_of(row), age=row["held_for"]) if row else None

    async def unswept(self, after: timedelta, *, limit: int) -> list[Delivery]:
        """Return deliveries that ended so long ago and may have left an upload open."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["unswept"](after=after, limit=limit))
        return [delivery_of(row) for row in rows]

    async def swept(self, delivery: Delivery, *, took: timedelta) -> bool:
        """Note that nothing of the delivery is open any more; False: look again later."""
        swept = SQL["swept"](id=delivery.id, took=took)
        with translate_errors():
            return await self._pool.fetchval(*swept) is not None

    async def sweep_again(self, delivery: Delivery) -> None:
        """Let `unswept` return a delivery again that is swept, or looked at for that."""
        with translate_errors():
            await self._pool.execute(*SQL["sweep_again"](id=delivery.id))

    async def postpone_sweeps(
        self, deliveries: Sequence[Delivery], *, after: timedelta, pause: timedelta
    ) -> None:
        """Let `unswept` return these again after the pause."""
        ids = [delivery.id for delivery in deliveries]
        with translate_errors():
            await self._pool.execute(*SQL["postpone_sweeps"](ids=ids, after=after, pause=pause))

    async def uploads_of_others(
        self, delivery: Delivery, *, container: str, key: str
    ) -> frozenset[str] | None:
        """Return what others have recorded of a key; None when more of it may be open."""
        archive_name = key.rpartition("/")[2]
        with translate_errors():
            row = await self._pool.fetchrow(
                *SQL["uploads_of_others"](
                    id=delivery.id,
                    attempt=delivery.attempt,
                    tenant=delivery.tenant,
                    correlation_id=delivery.correlation_id,
                    bucket=container,
                    key=key,
                    archive_name=archive_name,
                )
            )
        assert row is not None  # noqa: S101 - an aggregate has a row
        opening = any(
            f"/{key}".endswith(f"/{object_key(near, archive_name, prefix=prefix)}")
            for prefix, near in row["near"]
        )
        unsure = row["again"] or row["superseded"] or opening
        return None if unsure else frozenset(row["uploads"])

    async def record_wait(
        self, tenant: str, target: str | None, cause: str, *, limit: int, code: str | None = None
    ) -> int:
        """Note why transfers wait."""
        waiting = SQL["record_wait"](
            tenant=tenant, target=target, cause=cause, code=code, limit=limit
        )
        with translate_errors():
            return len(await self._pool.fetch(*waiting))

    async def clear_wait(self, tenant: str, cause: str, *, limit: int) -> int:
        """Take that cause away."""
        cleared = SQL["clear_wait"](tenant=tenant, cause=cause, limit=limit)
        with translate_errors():
            return len(await self._pool.fetch(*cleared))

    async def delivered_before(self, delivery: Delivery, url: str) -> Delivery | None:
        """Return the last delivery before this one that told the same client of an object."""
        asked = SQL["delivered_before"](
            url=url,
            tenant=delivery.tenant,
            user=delivery.user,
            id=delivery.id,
            requested_at=delivery.requested_at,
        )
        with translate_errors():
            row = await self._pool.fetchrow(*asked)
        return delivery_of(row) if row else None

    async def failed_before(
        self, delivery: Delivery, noted: str, *, after: timedelta
    ) -> list[tuple[Delivery, bool]]:
        """Return deliveries of the same id that failed and may have left files there."""
        asked = SQL["failed_before"](
            tenant=delivery.tenant,
            correlation_id=delivery.correlation_id,
            id=delivery.id,
            requested_at=delivery.requested_at,
            noted=noted,
            after=after,
        )
        with translate_errors():
            rows = await self._pool.fetch(*asked)
        return [(delivery_of(row), row["settled"]) for row in rows]

    async def others_put_files_beside(
        self, delivery: Delivery, noted: str, *, url: str, namespace: str
    ) -> bool:
        """Whether another delivery under way may be putting files beside a manifest."""
        asked = SQL["others_put_files_beside"](
            id=delivery.id, attempt=delivery.attempt, noted=noted, url=url, namespace=namespace
        )
        with translate_errors():
            return bool(await self._pool.fetchval(*asked))

    async def note_report(
        self, delivery: Delivery, report: StoredReport, *, until: timedelta
    ) -> StoredReport | None:
        """Note where a report of a delivery may come."""
        noted = SQL["note_report"](
            id=delivery.id,
            seen=delivery.state.value,
            attempt=delivery.attempt,
            report=report.noted(),
            within=until,
        )
        with translate_errors():
            found = await self._pool.fetchval(*noted)
        return None if found is None else StoredReport.read(found)

    async def untold_reports(self, *, limit: int) -> list[tuple[Delivery, StoredReport]]:
        """Return deliveries that have ended, and reports that no client was told of."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["untold_reports"](limit=limit))
        return [(delivery_of(row), StoredReport.read(row["report"])) for row in rows]

    async def postpone_report(
        self, delivery: Delivery, pause: timedelta, *, kept: timedelta
    ) -> bool:
        """Let an untold report be looked at again after the pause; False: it is forgotten."""
        postponed = SQL["postpone_report"](id=delivery.id, pause=pause, kept=kept)
        with translate_errors():
            return await self._pool.fetchval(*postponed) is not False

    async def forget_report(self, delivery: Delivery) -> None:
        """Note that an untold report is not there."""
        with translate_errors():
            await self._pool.execute(*SQL["forget_report"](id=delivery.id))

    async def done_by(self, delivery: Delivery) -> bool:
        """Whether the delivery was brought to its end by this attempt."""
        with translate_errors():
            return bool(
                await self._pool.fetchval(*SQL["done_by"](id=delivery.id, attempt=delivery.attempt))
            )

    async def files(self, delivery: Delivery, *, after: int = -1) -> AsyncIterator[ManifestFile]:
        """Iterate over the manifest; a batch at a time is in memory, no connection is held.

        It waits while PostgreSQL is away: for how long is up to who reads, by its lease.
        """
        position = after
        while True:
            files = await until_answered(partial(self._batch, delivery, position))
            for file in files:
                yield file
            if len(files) < self._batch_size:
                return
            position = files[-1].position

    async def _batch(self, delivery: Delivery, position: int) -> list[ManifestFile]:
        with translate_errors():
            return await files_after(self._pool, delivery.id, position, limit=self._batch_size)

    async def measured(self, delivery: Delivery) -> tuple[Extent, AsyncIterator[ManifestFile]]:
        """Measure the delivery's manifest, and iterate over it; a short one is read once."""
        first = await self._batch(delivery, -1)
        if len(first) < self._batch_size:
            return Extent.of(first), _each(first)
        return await self.extent(delivery), self.files(delivery)

    async def extent(self, delivery: Delivery) -> Extent:
        """Measure the delivery's manifest."""
        with translate_errors():
            return await extent(self._pool, delivery.id)

    async def missing(self, delivery: Delivery) -> AsyncIterator[MissingFile]:
        """Iterate over the files that it is without; it waits while PostgreSQL is away."""
        last = -1
        while True:
            rows = await until_answered(partial(self._missing_batch, delivery, last))
            for number, file in rows:
                last = number
                yield file
            if len(rows) < self._batch_size:
                return

    async def _missing_batch(self, delivery: Delivery, last: int) -> list[tuple[int, MissingFile]]:
        with translate_errors():
            return await missing_after(self._pool, delivery.id, last, limit=self._batch_size)

    async def missing_so_far(self, delivery: Delivery) -> MissingSoFar:
        """Tell how many files it is without, and why most of them."""
        with translate_errors():
            return await missing_so_far(self._pool, delivery.id)

    async def order_so_far(self, delivery: Delivery) -> OrderSoFar:
        """Return what is known of the delivery's order."""
        with translate_errors():
            rows = await self._pool.fetch(*SQL["segments"](id=delivery.id))
        if not rows:
            raise LeaseLostError(f"{delivery} is gone")
        return OrderSoFar(
            segments=[segment_of(row) for row in rows if row["number"] is not None],
            done=rows[0]["order_done"],
            with_errors=rows[0]["with_errors"],
            said=rows[0]["order_error_message"],
            in_error=rows[0]["order_error_files"],
            total_suborders=rows[0]["total_suborders"],
            age=rows[0]["age"] or timedelta(),
        )

    async def answers(self) -> None:
        """Raise StoreUnavailableError unless the database answers."""
        with translate_errors():
            await self._pool.fetchval(*SQL["alive"]())
