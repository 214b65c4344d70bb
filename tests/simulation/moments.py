"""What must hold at each step: at a commit, a publication, an acknowledgement.

What comes of a mistake is often mended later (a repeat is recognised, a sweep removes what was
left); here the mistake itself is seen. What is asked of the object store is looked at in `fences`.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID
from weakref import WeakKeyDictionary

from app.delivery.ingress import ArrivalKind, Ingress, event_key
from app.delivery.model import Delivery
from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.delivery.ports import Allowed
from app.delivery.states import State
from app.errors import ErrorType
from app.store.memory import MemoryCheckpoints, MemoryLeases, MemoryStore
from app.store.memory.rows import DeliveryRow, InboxRow, OutboxRow
from app.store.memory.session import Session
from app.store.memory.transaction import MemoryUnitOfWork
from app.usecases.settle import Settlement
from streams.amqp import names
from streams.amqp.messages import _digest
from streams.channels import Channel
from streams.events import ingress_id_of
from streams.kafka import agents
from tests.simulation import worker
from tests.simulation.copies import Copies
from tests.simulation.kafka import Record
from tests.simulation.owed import Owed, called, subjects
from tests.simulation.postgres import Change
from tests.simulation.processes import PROCESS, Process
from tests.simulation.rabbitmq import Stored
from tests.simulation.rs_order import Order
from tests.simulation.worker import Parties

# As which delivery's worker something is done: as it was claimed.
_ACTING: ContextVar[Delivery | None] = ContextVar("_ACTING", default=None)
# Of which delivery it is decided what an error means for it.
_SETTLED: ContextVar[Delivery | None] = ContextVar("_SETTLED", default=None)
_DEFEATED = "was taken over while its archive was completed"
_ARRIVED = ("requests", "order-events", "cancels")  # topics of what came over RabbitMQ
_AS_CLAIMED = (
    (MemoryLeases, "renew"),
    (MemoryLeases, "record_completion"),
    (MemoryLeases, "discard_completion"),
    (MemoryLeases, "release"),
    (MemoryLeases, "record_upload"),
    (MemoryCheckpoints, "save"),
)


@dataclass
class Moments:
    """Looks on, and tells what is wrong."""

    parties: Parties
    wrong: Callable[[str], None]
    patience: timedelta  # see `Owed`
    _published: set[str] = field(default_factory=set)  # message ids
    _saved: defaultdict[str, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    _appended: set[bytes] = field(default_factory=set)  # events
    _keys: dict[bytes, bytes] = field(default_factory=dict)  # by event
    # Of which events are being handled: by an agent of a process.
    _in_hand: set[tuple[Process | None, Channel, bytes]] = field(default_factory=set)
    _postponed: set[UUID] = field(default_factory=set)  # events, by their ingress id
    _buried: set[bytes] = field(default_factory=set)  # events
    _noting: set[tuple[Process | None, UUID, int]] = field(default_factory=set)  # attempts
    _known_since: dict[UUID, float] = field(default_factory=dict)  # arrivals, by ingress id

    # Until when each lease (by a worker, of a delivery, at an attempt) was good.
    _good_until: dict[tuple[str, UUID, int], datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parties = self.parties
        self.owed = Owed(parties.database, self.patience, self.wrong)
        self.copies = Copies(parties.database)
        parties.broker.forgotten = self.copies.forgotten
        parties.database.on_commit = self._look_at_commit
        parties.broker.on_publish = self._publishing
        parties.broker.acknowledged = self._acknowledged
        parties.log.on_append = self._append
        parties.log.on_commit = self._passed
        parties.rs_order.on_cancel = self._cancelling

    # PostgreSQL.

    def _look_at_commit(self, session: Session, changes: Sequence[Change]) -> None:
        """Look at a commit, which goes on whatever is seen: a check that breaks is told as such."""
        try:
            self._committing(session, changes)
        except Exception as error:  # noqa: BLE001 - a worker would take it for PostgreSQL's
            self.wrong(f"a check of a commit broke: {error!r}")

    def _committing(self, session: Session, changes: Sequence[Change]) -> None:
        self.owed.committing(session, changes)
        self.copies.committing(changes)
        if self.parties.webhooks is not None:
            self.parties.webhooks.committing(session, changes)
        if self.parties.quota is not None:
            self._quota_holds(changes)
        for change in changes:
            before, after = change.before, change.after
            match change.table:
                case "delivery" if before is not None and after is not None:
                    self._delivery_changes(session, before, after)
                    if before.order_awaited and not after.order_awaited:
                        self._is_answered(session, after.delivery, changes)
                case "arrival" if before is None and after is not None:
                    event = after.arrival.value
                    self._saved[json.loads(event)["digest"]].add(event)
                    self._known_since[after.arrival.ingress_id] = asyncio.get_running_loop().time()
                case "outbox" if before is not None and after is None:
                    self._forgotten(before)
                case "inbox" if after is not None and after.kind is ArrivalKind.CANCEL:
                    self._cancels(after, changes)

    def _quota_holds(self, changes: Sequence[Change]) -> None:
        """No more is let in than there are places for: of a user, and of a tenant."""
        let_in = {
            change.after.delivery.tenant
            for change in changes
            if change.table == "delivery"
            and change.after is not None
            and _is_let_in(change.after)
            and not _is_let_in(change.before)
        }
        if not let_in or self.parties.quota is None:
            return
        changed = {
            row.delivery.id: row for c in changes if c.table == "delivery" and (row := c.after)
        }
        gone = {c.before.delivery.id for c in changes if c.table == "delivery" and c.after is None}
        rows = dict(self.parties.database.deliveries.items()) | changed
        active = [row.delivery for key, row in rows.items() if key not in gone and _is_let_in(row)]
        for tenant in let_in:
            users = Counter(each.user for each in active if each.tenant == tenant)
            for whose, most, has in (
                *((user, self.parties.quota["user"]["active"], has) for user, has in users.items()),
                (tenant, self.parties.quota["tenant"]["active"], users.total()),
            ):
                if most and has > most:
                    self.wrong(
                        f"{whose} of {tenant} has {has} active deliveries, and may have {most}"
                    )

    def _delivery_changes(self, session: Session, before: DeliveryRow, after: DeliveryRow) -> None:
        delivery, owner = before.delivery, before.lease_owner
        process = PROCESS.get()
        name = process.name if process is not None else None
        acting = _ACTING.get()
        if before.state.ended and after.state is not before.state:
            self.wrong(f"{delivery} goes from {before.state} to {after.state}")
        if after.state is State.ERROR and delivery.completing and not after.delivery.completing:
            self.wrong(f"{delivery} ends, and it is forgotten what it may have completed")
        if after.error is not None and before.error is None and after.error[0] == ErrorType.EXPIRED:
            self._expires(session, before)
        if after.lease_owner is not None and after.lease_until is not None:
            lease = after.lease_owner, delivery.id, after.delivery.attempt
            self._good_until[lease] = after.lease_until
        if acting is not None and (acting.id, acting.attempt) != (delivery.id, delivery.attempt):
            self.wrong(f"attempt {acting.attempt} of {acting} changes attempt {delivery.attempt}")
        claimed = after.lease_owner is not None and (
            after.lease_owner != owner or after.delivery.attempt != delivery.attempt
        )
        if claimed and before.is_leased(session.now):
            self.wrong(f"{delivery} is claimed by {name}, and {owner} has it")
        if claimed or after.state is not before.state or name == owner:
            return
        if _is_held(before, after):
            self.wrong(f"{delivery} is changed by {name}, and {owner} has it")

    def _expires(self, session: Session, row: DeliveryRow) -> None:
        delivery = row.delivery
        if delivery.ending is None and delivery.expires_at > session.now:
            self.wrong(f"{delivery} expires before its time")

    def _is_answered(self, session: Session, delivery: Delivery, changes: Sequence[Change]) -> None:
        """An answer of rs-order is taken for the order of a delivery that has ended."""
        database = self.parties.database
        began = asyncio.get_running_loop().time() + database.seconds_until(session.now)
        for receipt in (change.after for change in changes if change.table == "inbox"):
            if receipt is None or receipt.kind is not ArrivalKind.ORDER_EVENT:
                continue
            for _, waiting in list(database.arrivals.items()):
                if (
                    waiting.arrival.kind is ArrivalKind.ORDER_EVENT
                    and waiting.arrival.key == event_key(delivery.tenant, delivery.correlation_id)
                    and waiting.received_at < receipt.arrived_at
                    and self._known_since[waiting.arrival.ingress_id] < began
                ):
                    self.wrong(f"an answer about {delivery} is taken before an earlier one")

    def _cancels(self, receipt: InboxRow, changes: Sequence[Change]) -> None:
        for change in changes:
            row = change.before
            if change.table == "delivery" and row.delivery.requested_at > receipt.arrived_at:
                self.wrong(f"{row.delivery} is ended by a cancel that arrived before it")

    def told_done(self, event: Mapping[str, Any]) -> None:
        """A worker logs that it has brought a delivery to its end."""
        delivery = self.parties.shelf.fences.asker().delivery
        assert delivery is not None
        row = self.parties.database.deliveries.get(delivery.id)
        if row is None or (row.state, row.delivery.attempt) != (State.DONE, event["attempt"]):
            self.wrong(f"attempt {event['attempt']} of {delivery} says it is done, and is not")

    def told_lost(self, event: Mapping[str, Any]) -> None:
        """A worker logs that another one has brought its delivery to its end."""
        settled = _SETTLED.get()
        if settled is None or _DEFEATED not in event["cause"]:
            return
        row = self.parties.database.deliveries.get(settled.id)
        if row is None or row.delivery.attempt != settled.attempt:
            return
        if row.state is State.DONE:
            self.wrong(f"attempt {settled.attempt} of {settled} is done, and says it lost")

    def _notes_completion(self, delivery: Delivery) -> None:
        """An attempt is about to let its object appear: the first time it must know its lease.

        (Later it may have waited for PostgreSQL.)
        """
        process, database = PROCESS.get(), self.parties.database
        attempt = process, delivery.id, delivery.attempt
        if attempt in self._noting or process is None:
            return
        self._noting.add(attempt)
        until = self._good_until[process.name, delivery.id, delivery.attempt]
        left = database.seconds_until(until) + database.ahead.total_seconds()
        if left < 0:
            self.wrong(f"{process} completes {delivery} {-left:.0f} s after its lease ran out")

    def _forgotten(self, row: OutboxRow) -> None:
        message = row.message
        if message.lane is Lane.EVENTS or str(message.message_id) in self._published:
            return
        withdrawn = row.not_sent or self._may_be_withdrawn(message)
        if message.kind is not Kind.ORDER or not withdrawn:
            self.wrong(f"{called(message)} is forgotten before it is sent")

    def _may_be_withdrawn(self, message: OutgoingMessage) -> bool:
        row = self.parties.database.deliveries.get(message.delivery_id)
        return message.kind is Kind.ORDER and (
            row is None or row.state is State.ERROR or row.delivery.order_id is not None
        )

    # RabbitMQ.

    def _publishing(self, stored: Stored) -> None:
        if stored.exchange == names.DEAD_LETTER_EXCHANGE or stored.message_id in self._published:
            return
        for lane in (Lane.RESPONSES, Lane.ORDERS):
            for _, row in self.parties.database.outbox.of(lane):
                if str(row.message.message_id) == stored.message_id:
                    self._published.add(str(row.message.message_id))
                    self._sent(lane, row)
                    return

    def _sent(self, lane: Lane, row: OutboxRow) -> None:
        """A message is sent for the first time."""
        if row.not_sent:
            self.wrong(f"{called(row.message)} is sent before it is noted that it may be out")
        for _, other in self.parties.database.outbox.of(lane):
            if (
                other.id < row.id
                and subjects(other.message) & subjects(row.message)
                and str(other.message.message_id) not in self._published
                and not self._may_be_withdrawn(other.message)
            ):
                self.wrong(f"{called(row.message)} is sent before {called(other.message)}")

    def _acknowledged(self, stored: Stored) -> None:
        if any(
            (buried.body, buried.message_id) == (stored.body, stored.message_id)
            for buried in self.parties.broker.dead_letters()
        ):
            return
        message: Any = stored.message
        tenant = str(message.headers.get(names.HEADER_TENANT))
        digest = base64.urlsafe_b64encode(_digest(tenant, message)).decode()
        saved = self._saved.get(digest)
        if saved is None:
            self.wrong(f"{_message(message)} is acknowledged before it is saved")
        elif saved.isdisjoint(self._appended):
            self.wrong(f"{_message(message)} is acknowledged before Kafka has it")

    # Kafka.

    def _append(self, topic: str, record: Record) -> None:
        self._appended.add(record.value)
        self._keys[record.value] = record.key
        if topic.endswith("dead-letters"):
            self._buried.add(record.value)

    def _passed(self, topic: str, records: Sequence[Record]) -> None:
        if not topic.endswith(_ARRIVED):
            return
        inbox = self.parties.database.inbox
        for record in records:
            ingress_id = ingress_id_of(record.value)
            assert ingress_id is not None
            if (
                inbox.get(ingress_id) is None
                and ingress_id not in self._postponed
                and record.value not in self._buried
            ):
                self.wrong(f"an event of {record.key.decode()} is passed over in {topic}")

    # rs-order.

    def _cancelling(self, order: Order) -> None:
        for _, row in list(self.parties.database.deliveries.items()):
            if row.delivery.order_id == order.number and row.state is not State.ERROR:
                self.wrong(f"order {order.number} of {row.delivery} ({row.state}) is cancelled")

    # What is patched for a night.

    def patches(self) -> Iterator[Any]:
        """Iterate over the patches by which it is known who does something."""
        yield from self._watched_transactions()
        yield patch.object(MemoryLeases, "record_completion", self._watched_completion())
        yield patch.object(MemoryStore, "swept", self._watched_sweep())
        yield patch.object(MemoryCheckpoints, "forget_tails", self._watched_tails())
        yield patch.object(worker, "handler_of", self._watched_handlers())
        yield patch.object(Settlement, "settle", _settled(Settlement.settle))
        yield from self._watched_events()
        yield from self.owed.patches()
        for of, name in _AS_CLAIMED:
            yield patch.object(of, name, _as_claimed(getattr(of, name)))

    def _watched_events(self) -> Iterator[Any]:
        """Iterate over the patches by which it is known which events are postponed."""
        record_receipts = MemoryUnitOfWork.record_receipts
        answers_before = MemoryUnitOfWork.answers_before
        in_hand: WeakKeyDictionary[MemoryUnitOfWork, list[UUID]] = WeakKeyDictionary()

        async def recorded(tx: MemoryUnitOfWork, arrived: Sequence[Ingress]) -> Any:
            in_hand[tx] = [ingress.id for ingress in arrived]
            return await record_receipts(tx, arrived)

        async def looked(tx: MemoryUnitOfWork, *args: Any) -> bool:
            there_are = await answers_before(tx, *args)
            if there_are:
                self._postponed.update(in_hand[tx])
            return there_are

        yield patch.object(MemoryUnitOfWork, "record_receipts", recorded)
        yield patch.object(MemoryUnitOfWork, "answers_before", looked)

    def _watched_handlers(self) -> Any:
        """Return `handler_of`, whose handlers are looked at: one event of a key at a time."""
        handler_of = agents.handler_of

        def watched(channel: Channel, dependencies: Any) -> Any:
            handle = handler_of(channel, dependencies)

            async def handled(values: Sequence[bytes]) -> None:
                keys = {(PROCESS.get(), channel, self._keys[value]) for value in values}
                for _, _, key in keys & self._in_hand:
                    self.wrong(f"two events of {key.decode()} are handled at once")
                self._in_hand |= keys
                try:
                    await handle(values)
                finally:
                    self._in_hand -= keys

            return handled

        return watched

    def _watched_sweep(self) -> Any:
        """Return `swept`, at which it is looked whether its delivery's object may still come."""
        swept = MemoryStore.swept

        async def watched(store: MemoryStore, delivery: Delivery, *, took: timedelta) -> bool:
            self._took(delivery, took)
            known = self._may_come(delivery)
            is_swept = await swept(store, delivery, took=took)
            if is_swept and (late := known & self._may_come(delivery)):
                names = sorted(f"{row_id}" for row_id, _ in late)
                self.wrong(f"{delivery} is swept, and {', '.join(names)} may still complete it")
            return is_swept

        return watched

    def _watched_tails(self) -> Any:
        """Return `forget_tails`, at which it is looked how long the removal took."""
        forget_tails = MemoryCheckpoints.forget_tails

        async def watched(
            checkpoints: MemoryCheckpoints,
            delivery: Delivery,
            keys: Sequence[str],
            *,
            took: timedelta,
        ) -> None:
            self._took(delivery, took)
            await forget_tails(checkpoints, delivery, keys, took=took)

        return watched

    def _took(self, delivery: Delivery, took: timedelta) -> None:
        """Have it be wrong if a time was taken by another clock than the night's."""
        if not 0 <= took.total_seconds() <= asyncio.get_running_loop().time():
            self.wrong(f"to remove what {delivery} left took {took}")

    def _may_come(self, delivery: Delivery) -> set[tuple[UUID, datetime]]:
        """Return whose completions may let an object of a delivery's name appear, until when."""
        database = self.parties.database
        own = database.deliveries.get(delivery.id)
        if own is None or own.delivery.completing is None:
            return set()
        url = own.delivery.completing.url
        return {
            (row.delivery.id, row.completing_until)
            for _, row in database.deliveries.items()
            if row.completing_until is not None
            and database.seconds_until(row.completing_until) > 0
            and row.delivery.completing is not None
            and row.delivery.completing.url == url
        }

    def _watched_completion(self) -> Any:
        """Return `record_completion`, at which it is looked whether its lease holds."""
        record_completion = MemoryLeases.record_completion

        async def watched(
            leases: MemoryLeases, delivery: Delivery, *args: Any, **kwargs: Any
        ) -> Allowed | None:
            self._notes_completion(delivery)
            return await record_completion(leases, delivery, *args, **kwargs)

        return watched

    def _watched_transactions(self) -> Iterator[Any]:
        """Iterate over the patches by which it is looked whether the right one moves it on.

        Who can't, as it has moved on meanwhile, tells nothing of it.
        """
        advance, enqueue = MemoryUnitOfWork.advance, MemoryUnitOfWork.enqueue
        moved_on: WeakKeyDictionary[MemoryUnitOfWork, set[UUID]] = WeakKeyDictionary()

        async def tells(tx: MemoryUnitOfWork, *messages: OutgoingMessage) -> None:
            for message in messages:
                if message.delivery_id in moved_on.get(tx, ()):
                    self.wrong(f"{called(message)} is owed, and its delivery had moved on")
            await enqueue(tx, *messages)

        async def moves(
            tx: MemoryUnitOfWork, delivery: Delivery, state: State, **changes: Any
        ) -> bool:
            advanced = await advance(tx, delivery, state, **changes)
            # What is committed is what it was: this transaction's own change is not, yet.
            row = self.parties.database.deliveries.get(delivery.id)
            if advanced and row is not None and row.delivery.attempt != delivery.attempt:
                self.wrong(
                    f"attempt {delivery.attempt} of {delivery} moves it on in a later attempt"
                )
            if not advanced:
                moved_on.setdefault(tx, set()).add(delivery.id)
            return advanced

        yield patch.object(MemoryUnitOfWork, "advance", moves)
        yield patch.object(MemoryUnitOfWork, "enqueue", tells)


def _settled(settle: Any) -> Any:
    """Return `settle`, of which it is known of which delivery it decides."""

    async def settling(settlement: Settlement, delivery: Delivery, error: Any) -> None:
        _SETTLED.set(delivery)  # in the context of this slot's task
        await settle(settlement, delivery, error)

    return settling


def _as_claimed(method: Any) -> Any:
    """Return a method, of which it is known for which delivery it is called."""

    async def acting(self: Any, delivery: Delivery, *args: Any, **kwargs: Any) -> Any:
        before = _ACTING.get()
        _ACTING.set(delivery)
        try:
            return await method(self, delivery, *args, **kwargs)
        finally:
            _ACTING.set(before)  # no token: what is left when the night is over ends elsewhere

    return acting


def _is_held(before: DeliveryRow, after: DeliveryRow) -> bool:
    """Whether what changes is what the holder of the lease alone may change.

    An end that is noted takes the lease of an attempt that does not complete.
    """
    if after.delivery.ending is not None and before.delivery.ending is None:
        return False
    return before.lease_owner is not None and (
        after.lease_owner is None
        or after.lease_until != before.lease_until
        or after.delivery.upload != before.delivery.upload
        or after.delivery.completing != before.delivery.completing
    )


def _message(message: Any) -> str:
    return f"message {message.message_id}"


def _is_let_in(row: DeliveryRow | None) -> bool:
    if row is None or row.state.ended:
        return False
    return not row.delivery.held or row.state is not State.RECEIVED
