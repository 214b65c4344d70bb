"""Deliveries on either store, PostgreSQL or its twin in memory, and short cuts to their states."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import asyncpg

from app.audit import AuditTrail
from app.delivery.attempts import unknown
from app.delivery.ingress import ArrivalKind, IncomingMessage
from app.delivery.manifest import ListedFile, ManifestFile, Seam
from app.delivery.model import Delivery
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.delivery.ports import (
    Arrivals,
    Checkpoints,
    Contents,
    DeliveryStore,
    Leases,
    OrderSource,
    Users,
    WorkNews,
)
from app.delivery.ports import Outbox as OutboxPort
from app.delivery.states import State, Work
from app.delivery.targets import Blocked
from app.delivery.webhooks import WebhookOutbox
from app.errors import ErrorType, NotSentError
from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.store import (
    PostgresArrivals,
    PostgresAttention,
    PostgresAudit,
    PostgresCheckpoints,
    PostgresConfiguration,
    PostgresContents,
    PostgresDeadLetters,
    PostgresHistory,
    PostgresLeases,
    PostgresOutbox,
    PostgresStore,
    PostgresTargets,
    PostgresTracking,
    PostgresWebhooks,
    PostgresWorkers,
    PostgresWorkNews,
)
from app.store.memory import (
    MemoryArrivals,
    MemoryAttention,
    MemoryAudit,
    MemoryCheckpoints,
    MemoryConfiguration,
    MemoryContents,
    MemoryDatabase,
    MemoryDeadLetters,
    MemoryHistory,
    MemoryLeases,
    MemoryOutbox,
    MemoryStore,
    MemoryTargets,
    MemoryTracking,
    MemoryWebhooks,
    MemoryWorkers,
    MemoryWorkNews,
)
from app.store.memory.rows import DeliveryRow
from app.tenants.ports import ConfigurationStore
from app.tenants.registry import ConfiguredTenants
from app.tenants.vault import Vault, make_key
from app.usecases.fail import fail
from app.usecases.laying_out import Room
from app.usecases.order_progress import order_progressed
from app.usecases.plan import Planning
from app.usecases.segments import Segments
from app.usecases.submit import receive
from app.usecases.uploads import Uploads
from app.views.attention import Troubles
from app.views.dead_letters import DeadLetterTable
from app.views.deliveries import Changes, Overview, Tracking
from app.views.history import Histories
from app.views.targets import TargetsSeen
from app.waiting.wakeup import Wakeup
from compose.embedded.stack import TENANT
from sinks import formats
from sinks.pipeline.budget import Budget
from sinks.stores.s3.store import S3ObjectStore
from streams.regards.users import AnyUser
from tests.builders import (
    GivenTenants,
    make_lease,
    make_listed,
    make_manifest,
    make_message,
    make_stored,
)
from tests.reference import lay_out


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a store holds of a delivery."""

    id: UUID
    tenant: str
    correlation_id: str
    state: State
    attempt: int
    failures: int
    tries: int
    order_id: int | None
    order_awaited: bool
    lease_owner: str | None
    last_cause: str | None
    requested_at: datetime
    expires_at: datetime
    state_since: datetime
    finished_at: datetime | None
    upload_target: str | None
    swept: bool


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A step of a delivery's history."""

    state: State
    attempt: int
    cause: str | None


class Deliveries(ABC):
    """A store of the test's own, with short cuts through the real use-cases."""

    store: DeliveryStore
    configuration: ConfigurationStore
    audit: AuditTrail
    tracking: Tracking
    changes: Changes
    overview: Overview
    attention: Troubles
    targets: TargetsSeen
    histories: Histories
    contents: Contents

    def __init__(self, settings: Settings) -> None:
        self.tenants = GivenTenants(settings)
        self.vault = Vault([make_key()])
        self.owed_signal = Wakeup()
        self.hinted: list[OutgoingMessage] = []  # what workers were woken for, by commits
        self.woken: list[frozenset[Work]] = []  # what a process was told of its own commits

    # What differs.

    @abstractmethod
    def leases(
        self,
        owner: str,
        seconds: float = 30,
        *,
        transfers_per_tenant: int | None = None,
        blocked: Callable[[], Blocked] = Blocked,
        archived: Callable[[Delivery], int | None] = unknown,
    ) -> Leases:
        """Return the leases as a worker sees them."""

    @abstractmethod
    def checkpoints(self, owner: str) -> Checkpoints:
        """Return what a worker saves of half-made archives."""

    @abstractmethod
    def outbox(self, batch: int = 99) -> OutboxPort:
        """Return what is owed."""

    @abstractmethod
    def arrivals(self, allowance: timedelta = timedelta()) -> Arrivals:
        """Return what arrived; it counts as lost after the allowance."""

    @abstractmethod
    def presence(self, worker: str, version: str = "1") -> PostgresWorkers | MemoryWorkers:
        """Return where a worker tells that it is there; it has three slots."""

    @abstractmethod
    def webhooks(self) -> WebhookOutbox:
        """Return what is owed to webhooks."""

    @abstractmethod
    def dead_letters(self) -> DeadLetterTable:
        """Return where dead letters are kept."""

    @abstractmethod
    async def rows(self) -> list[Row]:
        """Return what is held of all deliveries, in the order in which they were requested."""

    @abstractmethod
    async def outgoing(self) -> list[OutgoingMessage]:
        """Return all that is owed, in order."""

    @abstractmethod
    def work_news(self) -> WorkNews:
        """Return what tells of work at once."""

    @abstractmethod
    async def moved(self, delivery_id: UUID) -> list[Moved]:
        """Return a delivery's history."""

    @abstractmethod
    async def waiting(self) -> int:
        """Return how many arrivals no worker has handled."""

    # What a later version writes.

    @abstractmethod
    async def reword_error(self, delivery: Delivery, word: str) -> None:
        """Let a delivery have ended for a reason that has this word."""

    @abstractmethod
    async def reword_arrival(self, arrival: UUID, word: str) -> None:
        """Let an arrival be of the kind that has this word."""

    @abstractmethod
    async def reword_message(self, message: UUID, word: str) -> None:
        """Let what is owed, by its message id, be of the kind that has this word."""

    @abstractmethod
    async def elapse(self, time: timedelta) -> None:
        """Let time go by for the store."""

    @abstractmethod
    def now(self) -> datetime:
        """Return the time, as the store sees it."""

    @abstractmethod
    async def until_blocked(self, sessions: int = 1) -> None:
        """Return once so many sessions wait for a lock that another one holds."""

    @abstractmethod
    async def let_leases_run_out(self) -> None:
        """Let the leases of all transfers run out, and no other time go by."""

    @abstractmethod
    async def put(self, delivery: Delivery, state: State) -> Delivery:
        """Put a delivery into a state, whatever it was in: due now, and under no lease."""

    @abstractmethod
    async def clear(self) -> None:
        """Forget everything."""

    # Short cuts.

    def uploads(self, sink: S3ObjectStore) -> Uploads:
        """Return what remembers where uploads are open."""
        return Uploads(objects=sink, seal=self.vault, store=self.store, kinds=KINDS)

    def message(self, correlation_id: str = "c", **changes: Any) -> IncomingMessage:
        """Return a good request that arrived just now as a message."""
        return make_message(correlation_id, **{"received_at": self.now()} | changes)

    async def receive(
        self,
        *messages: IncomingMessage,
        users: Users | None = None,
        tenants: ConfiguredTenants | None = None,
        checks: Wakeup | None = None,
    ) -> None:
        """Let requests be handled, by default where every user is known."""
        await receive(
            messages,
            store=self.store,
            tenants=tenants or self.tenants,
            users=users or AnyUser(),
            checks=checks or Wakeup(),
        )

    async def grant(self, message: IncomingMessage, target: str | None = None) -> None:
        """Grant a request that arrived, to a target of the tenant's."""
        chosen = {} if target is None else {"targetDelivery": target}
        settings = self.tenants.settings(message.tenant)
        if target is not None and target not in settings.names:
            targets = {**settings.targets, target: settings.target}
            self.tenants.give(message.tenant, targets=targets)
        await self.receive(replace(message, body=message.body | chosen))

    async def granted(
        self, correlation_id: str = "c", *, target: str | None = None, **changes: Any
    ) -> Delivery:
        """Grant a request."""
        message = self.message(correlation_id, **changes)
        await self.grant(message, target)
        return await self.active(correlation_id, message.tenant)

    async def available(self, correlation_id: str = "c", **changes: Any) -> Delivery:
        """Grant a request, and let its order be done."""
        delivery = await self.granted(correlation_id, **changes)
        # An order of its own: what is said of an earlier delivery's order is not about this one.
        order_id = len(await self.of(correlation_id, delivery.tenant))
        await self.tell(OrderStatus.DONE, correlation_id, order_id=order_id, tenant=delivery.tenant)
        available = await self.active(correlation_id, delivery.tenant)
        assert available.state is State.AVAILABLE
        return available

    async def ready(self, correlation_id: str = "c", *, files: int = 3, **changes: Any) -> Delivery:
        """Grant a request, let its order be done, and plan some files."""
        delivery = await self.available(correlation_id, **changes)
        listing = [
            make_listed(f"f{number}", file_id=number, size=number) for number in range(files)
        ]
        await self.plan(delivery, listing)
        return await self.active(correlation_id, delivery.tenant)

    async def plan(
        self,
        delivery: Delivery,
        listing: Sequence[ListedFile],
        *,
        archive_name: str | None = None,
        prefix: str = "",
    ) -> None:
        """Make a delivery ready that is available."""
        suffix = formats.suffix_of(delivery.format)
        archive, members = lay_out(delivery.correlation_id, listing, suffix=suffix)
        archive = archive_name or archive
        async with self.store.transaction() as tx:
            await tx.add_files(delivery, members)
            manifest = replace(make_manifest(members, archive), prefix=prefix)
            assert await tx.advance(delivery, State.READY, manifest=manifest)

    async def claimed(self, correlation_id: str = "c", owner: str = "w") -> Delivery:
        """Let a worker begin a transfer."""
        await self.ready(correlation_id)
        delivery = await self.leases(owner).claim(Work.TRANSFER)
        assert delivery is not None
        return delivery

    async def done(self, correlation_id: str = "c") -> None:
        """Let a delivery go all the way."""
        delivery = await self.claimed(correlation_id)
        async with self.store.transaction() as tx:
            assert await tx.advance(delivery, State.DONE, result=make_stored())

    async def attempt(self, cause: str | None, code: str | None = None) -> None:
        """Let a worker try the transfer that is due: it fails of a cause, or does not."""
        leases = self.leases("w")
        claimed = await leases.claim(Work.TRANSFER)
        assert claimed is not None
        if cause is not None:
            await leases.release(claimed, after=timedelta(), failed=False, cause=cause, code=code)
            return
        async with self.store.transaction() as tx:
            assert await tx.advance(claimed, State.DONE, result=make_stored())

    def segments(self, source: OrderSource | None = None) -> Segments:
        """Return what archives are made from whose order goes on meanwhile."""
        memory = Budget(1 << 30)
        room = Room(
            memory=memory.size, reserve=memory.reserve_at_once, most_files=1_000_000, grows=True
        )
        given: Any = source
        return Segments(source=given, store=self.store, room=room, suffix_of=formats.suffix_of)

    async def plan_ahead(self, delivery: Delivery, source: OrderSource) -> None:
        """Plan the archive of an order of which a part is available."""
        room = self.segments(source).room
        planning = Planning(source=source, store=self.store, room=room, suffix_of=formats.suffix_of)
        await planning.plan(delivery)

    async def archive_listed(self, delivery: Delivery, source: Any) -> None:
        """Download what is announced of an order, segment by segment."""
        async for file in self.segments(source).of(delivery, make_lease()).all():
            if file is Seam.WAIT:
                return
            if isinstance(file, ManifestFile):
                async for _ in source.chunks(delivery, file):
                    pass

    async def order(self) -> None:
        """Let what is owed to rs-order be sent."""

        async def publish(_message: OutgoingMessage) -> None:
            """Confirm it."""

        outbox = self.outbox()
        while (await outbox.relay(Lane.ORDERS, publish))[0]:
            pass

    async def order_in_vain(self) -> None:
        """Try to send what is owed to rs-order: RabbitMQ surely does not have it."""

        async def publish(_message: OutgoingMessage) -> None:
            raise NotSentError("no queue is bound")

        outbox = self.outbox()
        while (await outbox.relay(Lane.ORDERS, publish))[0]:
            pass

    async def fail(self, delivery: Delivery, cause: str) -> None:
        """End a delivery in ERROR."""
        async with self.store.transaction() as tx:
            assert await fail(tx, delivery, ErrorType.INTERNAL_ERROR, cause)

    async def tell(
        self,
        status: OrderStatus,
        correlation_id: str = "c",
        tenant: str = TENANT,
        *,
        max_suborders: int = 0,
        **fields: Any,
    ) -> None:
        """Apply an order event."""
        event = OrderEvent(tenant=tenant, correlation_id=correlation_id, status=status, **fields)
        await order_progressed(event, store=self.store, max_suborders=max_suborders)

    async def active(self, correlation_id: str = "c", tenant: str = TENANT) -> Delivery:
        """Return the active delivery."""
        async with self.store.transaction() as tx:
            delivery = await tx.lock(tenant, correlation_id)
        assert delivery is not None
        return delivery

    async def of(self, correlation_id: str = "c", tenant: str = TENANT) -> list[Row]:
        """Return what is held of all deliveries of a correlation id."""
        rows = await self.rows()
        return [row for row in rows if (row.tenant, row.correlation_id) == (tenant, correlation_id)]

    async def row(self, delivery: Delivery | UUID) -> Row:
        """Return what is held of a delivery."""
        delivery_id = delivery if isinstance(delivery, UUID) else delivery.id
        (found,) = [row for row in await self.rows() if row.id == delivery_id]
        return found

    async def states(self, correlation_id: str | None = None) -> list[str]:
        """Return the states of all deliveries, or of those of a correlation id."""
        rows = await self.rows()
        return [row.state for row in rows if correlation_id in (row.correlation_id, None)]

    async def owed(self) -> list[tuple[str, dict[str, Any]]]:
        """Return kind and body of all that is owed, in order."""
        return [(message.kind.value, message.body) for message in await self.outgoing()]

    async def history(self, delivery_id: UUID) -> list[str]:
        """Return the states that a delivery went through."""
        return [step.state for step in await self.moved(delivery_id)]


class DeliveriesInMemory(Deliveries):
    """In memory, by a clock that a test can put forward."""

    store: MemoryStore

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._ahead = timedelta()
        self._begin()

    def _begin(self) -> None:
        self.database = MemoryDatabase(now=self.now)
        self.store = MemoryStore(
            self.database,
            self.owed_signal,
            hinted=self.hinted.extend,
            woken=self.woken.append,
        )
        self.configuration = MemoryConfiguration(self.database)
        self.contents = MemoryContents(self.database)
        self.attention = MemoryAttention(self.database)
        self.targets = MemoryTargets(self.database)
        self.histories = MemoryHistory(self.database)
        self.audit = MemoryAudit(self.database)
        self.tracking = self.changes = self.overview = MemoryTracking(self.database)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def elapse(self, time: timedelta) -> None:
        self._ahead += time

    async def until_blocked(self, sessions: int = 1) -> None:
        # A step of the loop takes a session as far as it comes.
        for _ in range(30):
            await asyncio.sleep(0)

    async def let_leases_run_out(self) -> None:
        async with self.database.session() as session:
            past = session.now - timedelta(seconds=1)
            for key, row in session.where(
                self.database.deliveries, lambda row: row.work is Work.TRANSFER
            ):
                session.put(self.database.deliveries, key, replace(row, lease_until=past))

    def leases(
        self,
        owner: str,
        seconds: float = 30,
        *,
        transfers_per_tenant: int | None = None,
        blocked: Callable[[], Blocked] = Blocked,
        archived: Callable[[Delivery], int | None] = unknown,
    ) -> MemoryLeases:
        return MemoryLeases(
            self.database,
            owner=owner,
            ttl=timedelta(seconds=seconds),
            transfers_per_tenant=transfers_per_tenant,
            blocked=blocked,
            archived=archived,
        )

    def checkpoints(self, owner: str) -> MemoryCheckpoints:
        return MemoryCheckpoints(self.database, owner=owner)

    async def put(self, delivery: Delivery, state: State) -> Delivery:
        async with self.database.session() as session:
            row = session.get(self.database.deliveries, delivery.id)
            assert row is not None
            changed = replace(row.having(state=state), lease_owner=None, lease_until=None)
            session.put(self.database.deliveries, delivery.id, changed)
        return changed.delivery

    async def clear(self) -> None:
        self._begin()

    def outbox(self, batch: int = 99) -> MemoryOutbox:
        return MemoryOutbox(self.database, batch=batch)

    def work_news(self) -> MemoryWorkNews:
        return MemoryWorkNews(self.database)

    def webhooks(self) -> MemoryWebhooks:
        return MemoryWebhooks(self.database)

    def dead_letters(self) -> MemoryDeadLetters:
        return MemoryDeadLetters(self.database)

    def presence(self, worker: str, version: str = "1") -> MemoryWorkers:
        return MemoryWorkers(self.database, worker=worker, version=version, slots=3)

    def arrivals(self, allowance: timedelta = timedelta()) -> MemoryArrivals:
        return MemoryArrivals(self.database, allowance=allowance)

    async def rows(self) -> list[Row]:
        found = [_row_in_memory(row) for _, row in self.database.deliveries.items()]
        return sorted(found, key=lambda row: row.requested_at)

    async def outgoing(self) -> list[OutgoingMessage]:
        return [row.message for _, row in sorted(self.database.outbox.items())]

    async def moved(self, delivery_id: UUID) -> list[Moved]:
        return [
            Moved(state=step.state, attempt=step.attempt, cause=step.cause)
            for _, step in sorted(self.database.history.of(delivery_id))
        ]

    async def waiting(self) -> int:
        return len(list(self.database.arrivals.items()))

    async def reword_error(self, delivery: Delivery, word: str) -> None:
        table = self.database.deliveries
        async with self.database.session() as session:
            row = session.get(table, delivery.id)
            assert row is not None
            assert row.error is not None
            session.put(table, delivery.id, replace(row, error=(word, row.error[1])))

    async def reword_arrival(self, arrival: UUID, word: str) -> None:
        table = self.database.arrivals
        async with self.database.session() as session:
            row = session.get(table, arrival)
            assert row is not None
            reworded = replace(row.arrival, kind=cast("ArrivalKind", word))
            session.put(table, arrival, replace(row, arrival=reworded))

    async def reword_message(self, message: UUID, word: str) -> None:
        table = self.database.outbox
        async with self.database.session() as session:
            ((key, row),) = session.where(table, lambda row: row.message.message_id == message)
            reworded = replace(row.message, kind=cast("Kind", word))
            session.put(table, key, replace(row, message=reworded))


def _row_in_memory(row: DeliveryRow) -> Row:
    delivery = row.delivery
    return Row(
        id=delivery.id,
        tenant=delivery.tenant,
        correlation_id=delivery.correlation_id,
        state=delivery.state,
        attempt=delivery.attempt,
        failures=delivery.failures,
        tries=delivery.tries,
        order_id=delivery.order_id,
        order_awaited=row.order_awaited,
        lease_owner=row.lease_owner,
        last_cause=delivery.last_cause,
        requested_at=delivery.requested_at,
        expires_at=delivery.expires_at,
        state_since=row.state_since,
        finished_at=row.finished_at,
        upload_target=delivery.upload.target if delivery.upload else None,
        swept=row.swept,
    )


# Columns with a time, and what would come first by them: turned back when time goes by.
_TIMES = {
    "pause": ("since", "until"),
    "tenant_maintenance": ("updated_at", "until"),
    "delivery": (
        *("requested_at", "expires_at", "rank", "not_before", "updated_at", "state_since"),
        *("finished_at", "lease_until", "completing_until", "answers_until"),
        *("order_out_at", "deadline", "report_until", "admitted_at", "charged_at"),
    ),
    "delivery_attempt": ("began", "ended"),
    "delivery_history": ("at",),
    "inbox": ("received_at", "arrived_at", "returned_at"),
    "arrival": ("received_at", "due_at", "returned_at"),
    "outbox": ("due_at",),
    "turn": ("at",),
    "tail": ("until",),
    "place": ("since", "due_at"),
    "content": ("until", "asked_at", "due_at", "removed_at"),
    "asked": ("at",),
    "segment": ("announced_at", "listed_at"),
    "audit": ("at",),
    "dead_letter": ("buried_at", "handled_at"),
    "worker": ("started_at", "seen_at"),
    "webhook_event": ("happened_at", "owed_since", "due_at", "dead_at"),
    "webhook": (*("claimed_until", "served_at", "resume_at", "failing_since", "last_success_at"),),
}


async def blocked_sessions(pool: asyncpg.Pool) -> int:
    """Return how many sessions of a database wait for a lock that another one holds."""
    count = await pool.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    return int(count)


class DeliveriesInPostgres(Deliveries):
    """In a database of the test's own."""

    store: PostgresStore

    def __init__(self, pool: asyncpg.Pool, settings: Settings) -> None:
        super().__init__(settings)
        self.pool = pool
        self.store = PostgresStore(
            pool, self.owed_signal, hinted=self.hinted.extend, woken=self.woken.append
        )
        self.configuration = PostgresConfiguration(pool, self.vault)
        self.contents = PostgresContents(pool)
        self.attention = PostgresAttention(pool)
        self.targets = PostgresTargets(pool)
        self.histories = PostgresHistory(pool)
        self.audit = PostgresAudit(pool)
        self.tracking = self.changes = self.overview = PostgresTracking(pool)

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def elapse(self, time: timedelta) -> None:
        for table, columns in _TIMES.items():
            earlier = ", ".join(f"{column} = {column} - $1::interval" for column in columns)
            await self.pool.execute(f"UPDATE {table} SET {earlier}", time)  # noqa: S608 - own words

    async def until_blocked(self, sessions: int = 1) -> None:
        while await blocked_sessions(self.pool) < sessions:
            await asyncio.sleep(0)

    async def let_leases_run_out(self) -> None:
        await self.pool.execute(
            "UPDATE delivery SET lease_until = now() - interval '1 second' "
            "WHERE work LIKE 'transfer%'"
        )

    def leases(
        self,
        owner: str,
        seconds: float = 30,
        *,
        transfers_per_tenant: int | None = None,
        blocked: Callable[[], Blocked] = Blocked,
        archived: Callable[[Delivery], int | None] = unknown,
    ) -> PostgresLeases:
        return PostgresLeases(
            self.pool,
            owner=owner,
            ttl=timedelta(seconds=seconds),
            transfers_per_tenant=transfers_per_tenant,
            blocked=blocked,
            archived=archived,
        )

    def checkpoints(self, owner: str) -> PostgresCheckpoints:
        return PostgresCheckpoints(self.pool, owner=owner)

    async def put(self, delivery: Delivery, state: State) -> Delivery:
        attempt = await self.pool.fetchval(
            "UPDATE delivery SET state = $2, lease_owner = NULL, lease_until = NULL WHERE id = $1 "
            "RETURNING attempt",
            delivery.id,
            state,
        )
        return replace(delivery, state=state, attempt=attempt)

    async def clear(self) -> None:
        others = "delivery_file, missing_file, told_crc32, checkpoint, figure"
        await self.pool.execute(f"TRUNCATE {', '.join(_TIMES)}, {others} CASCADE")

    def outbox(self, batch: int = 99) -> PostgresOutbox:
        return PostgresOutbox(self.pool, batch=batch)

    def work_news(self) -> PostgresWorkNews:
        return PostgresWorkNews(self.pool)

    def webhooks(self) -> PostgresWebhooks:
        return PostgresWebhooks(self.pool)

    def dead_letters(self) -> PostgresDeadLetters:
        return PostgresDeadLetters(self.pool)

    def presence(self, worker: str, version: str = "1") -> PostgresWorkers:
        return PostgresWorkers(self.pool, worker=worker, version=version, slots=3)

    def arrivals(self, allowance: timedelta = timedelta()) -> PostgresArrivals:
        return PostgresArrivals(self.pool, allowance=allowance)

    async def rows(self) -> list[Row]:
        names = [name for name in Row.__dataclass_fields__ if name != "state"]
        rows = await self.pool.fetch("SELECT * FROM delivery ORDER BY requested_at")
        return [Row(state=State(row["state"]), **{n: row[n] for n in names}) for row in rows]

    async def outgoing(self) -> list[OutgoingMessage]:
        rows = await self.pool.fetch("SELECT * FROM outbox ORDER BY id")
        names = [name for name in OutgoingMessage.__dataclass_fields__ if name != "kind"]
        return [
            OutgoingMessage(kind=Kind(row["kind"]), **{n: row[n] for n in names}) for row in rows
        ]

    async def moved(self, delivery_id: UUID) -> list[Moved]:
        rows = await self.pool.fetch(
            "SELECT state, attempt, cause FROM delivery_history WHERE delivery_id = $1 ORDER BY id",
            delivery_id,
        )
        return [Moved(**{**row, "state": State(row["state"])}) for row in rows]

    async def waiting(self) -> int:
        found: int = await self.pool.fetchval("SELECT count(*) FROM arrival")
        return found

    async def reword_error(self, delivery: Delivery, word: str) -> None:
        await self.pool.execute(
            "UPDATE delivery SET error_type = $2 WHERE id = $1", delivery.id, word
        )

    async def reword_arrival(self, arrival: UUID, word: str) -> None:
        await self.pool.execute("UPDATE arrival SET kind = $2 WHERE id = $1", arrival, word)

    async def reword_message(self, message: UUID, word: str) -> None:
        await self.pool.execute("UPDATE outbox SET kind = $2 WHERE message_id = $1", message, word)
