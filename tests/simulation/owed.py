"""What is owed to clients and to rs-order, and what rs-order answers: looked at at each commit.

- An order is owed when its delivery is granted, an end when it ends, by the same commit; and never
  two ends that differ.
- A message goes out when those before it, about the same, are dealt with.
- No order request goes out while the answer to another one of its id, which asked for something
  else, may come, for as long as that is waited for. What may be either's is taken for neither's.
- An event that arrived before a delivery was requested moves it nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch
from uuid import UUID

from app.delivery.ingress import ArrivalKind
from app.delivery.outgoing import Kind, OutgoingMessage
from app.delivery.states import State
from app.store.memory import MemoryOutbox
from app.store.memory.rows import DeliveryRow, InboxRow, OutboxRow
from app.store.memory.session import Session
from tests.simulation.postgres import Change, SimulatedDatabase

_WAITING = (State.GRANTED, State.ORDERED)
_REFUSALS = ("DENIED", "FAILED")  # which name no order, or one that there is not
_ENDS = {"DONE": State.DONE, "ERROR": State.ERROR, "DENIED": None}  # None: it is forgotten


@dataclass
class Owed:
    """Looks on, and tells what is wrong."""

    database: SimulatedDatabase
    patience: timedelta  # with which an order request waits for the answer to another one
    wrong: Callable[[str], None]
    _ends: dict[UUID, object] = field(default_factory=dict)  # what is told, by message id
    _out: dict[UUID, float] = field(default_factory=dict)  # since when an order request may be out

    def committing(self, session: Session, changes: Sequence[Change]) -> None:
        """A transaction is about to be committed."""
        for change in changes:
            before, after = change.before, change.after
            if change.table == "outbox" and after is not None:
                if before is None:
                    self._enqueued(after, changes)
                elif after.message.kind is Kind.ORDER and before.not_sent and not after.not_sent:
                    self._begins(session, after)
                elif after.not_sent:  # RabbitMQ surely never had it
                    self._out.pop(after.message.delivery_id, None)
            elif (
                change.table == "inbox" and before is None and after.kind is ArrivalKind.ORDER_EVENT
            ):
                self._answers(session, after, changes)

    def _enqueued(self, row: OutboxRow, changes: Sequence[Change]) -> None:
        message = row.message
        change = _of(changes, message.delivery_id)
        if message.kind is Kind.ORDER:
            before = None if change is None or change.before is None else change.before.state
            after = None if change is None or change.after is None else change.after.state
            if before not in (None, State.RECEIVED) or after is not State.GRANTED:
                self.wrong(f"{called(message)} is owed, and its delivery is not granted with it")
            return
        status = message.body.get("status", "")
        if message.kind is not Kind.RESPONSE or status not in _ENDS:
            return
        if self._ends.setdefault(message.message_id, message.body) != message.body:
            self.wrong(f"{called(message)} is owed, and another end was before")
        known = self.database.deliveries.get(message.delivery_id)
        row_after = known if change is None else change.after
        if (row_after and row_after.state) is not _ENDS[status]:
            state = row_after and row_after.state
            self.wrong(f"{called(message)} is owed, and its delivery is {state}")

    def _begins(self, session: Session, row: OutboxRow) -> None:
        """It is noted that an order request may be out."""
        own = self.database.deliveries.get(row.message.delivery_id)
        self._out.setdefault(row.message.delivery_id, asyncio.get_running_loop().time())
        if own is None:
            return
        since = session.now - self.patience
        client = own.delivery.tenant, own.delivery.correlation_id
        for _, other in self.database.deliveries.of(client):
            out_at = other.order_out_at or other.finished_at
            if (
                other.delivery.id != own.delivery.id
                and other.finished_at is not None
                and other.awaits(session.now)
                and other.delivery.order != own.delivery.order
                and out_at is not None
                and max(out_at, other.finished_at) > since
            ):
                self.wrong(f"{called(row.message)} goes out before the answer to an earlier one")

    def _answers(self, session: Session, receipt: InboxRow, changes: Sequence[Change]) -> None:
        """An event of rs-order is handled."""
        answered: DeliveryRow | None = None
        for change in changes:
            before, after = change.before, change.after
            if change.table != "delivery" or before is None or after is None:
                continue
            if before.order_awaited and not after.order_awaited:
                answered = after
            moves = (before.state, before.delivery.order_id) != (
                after.state,
                after.delivery.order_id,
            )
            if (
                moves
                and not before.state.ended
                and (before.delivery.requested_at > receipt.arrived_at)
            ):
                self.wrong(f"{before.delivery} is moved on by an event that arrived before it")
        if answered is not None:
            self._leaves_no_doubt(session, answered, receipt, changes)
            self._is_the_oldest(session, answered, changes)

    def _leaves_no_doubt(
        self,
        session: Session,
        answered: DeliveryRow,
        receipt: InboxRow,
        changes: Sequence[Change],
    ) -> None:
        """An answer was taken for the order of a delivery that has ended."""
        began = asyncio.get_running_loop().time() + self.database.seconds_until(session.now)
        client = answered.delivery.tenant, answered.delivery.correlation_id
        for delivery_id, row in self.database.deliveries.of(client):
            change = _of(changes, delivery_id)
            now = row if change is None else change.after
            out = self._out.get(delivery_id)
            if (
                now is not None
                and now.state in _WAITING
                and now.delivery.order_id is None
                and now.delivery.requested_at <= receipt.arrived_at
                and out is not None
                and out < began
            ):
                self.wrong(f"{now.delivery} waits on, and what was answered may be its own order")

    def _is_the_oldest(
        self, session: Session, answered: DeliveryRow, changes: Sequence[Change]
    ) -> None:
        """Have it be wrong if an earlier delivery waits for its answer: answers come in order."""
        delivery = answered.delivery
        for _, other in self.database.deliveries.of((delivery.tenant, delivery.correlation_id)):
            if (
                other.delivery.requested_at < delivery.requested_at
                and other.order_awaited
                and other.awaits(session.now)
                and _of(changes, other.delivery.id) is None
            ):
                self.wrong(f"an answer is taken for {delivery}, and {other.delivery} comes first")

    def ignored(self, event: Mapping[str, Any]) -> None:
        """A worker logs that an event of rs-order is about none of the deliveries."""
        client = event["tenant"], event["correlation_id"]
        rows = [row for _, row in self.database.deliveries.of(client)]
        order = event["order_id"]
        answers = event["status"] in _REFUSALS if order is None else True
        if not answers or any(not row.state.ended for row in rows):
            return
        if any(order in (row.delivery.order_id, *row.repeated_orders) for row in rows if order):
            return
        waiting = [row.delivery for row in rows if row.awaits(self.database.time())]
        if waiting:
            self.wrong(f"an answer of rs-order is taken for none, and {waiting[0]} waits for one")

    def patches(self) -> Iterator[Any]:
        """Iterate over the patches by which it is known what a relay is about to send."""
        publish = MemoryOutbox._publish  # noqa: SLF001 - what it does behind it is its own matter

        async def watched(
            outbox: MemoryOutbox, session: Session, rows: Sequence[OutboxRow], send: Any
        ) -> list[OutboxRow]:
            for row in rows:
                self._has_its_turn(row)
            return await publish(outbox, session, rows, send)

        yield patch.object(MemoryOutbox, "_publish", watched)

    def _has_its_turn(self, row: OutboxRow) -> None:
        for _, other in self.database.outbox.of(row.lane):
            if other.id < row.id and subjects(other.message) & subjects(row.message):
                self.wrong(f"{called(row.message)} has its turn before {called(other.message)}")


def _of(changes: Sequence[Change], delivery_id: UUID) -> Change | None:
    """Return what a commit does to a delivery."""
    for change in changes:
        row = change.after or change.before
        if isinstance(row, DeliveryRow) and row.delivery.id == delivery_id:
            return change
    return None


def subjects(message: OutgoingMessage) -> set[Any]:
    """Return what a message is about: others about the same go out before or after it."""
    about: set[Any] = {message.delivery_id}
    if message.kind is Kind.ORDER:
        about.add((message.tenant, message.correlation_id))
    return about


def called(message: OutgoingMessage) -> str:
    """Return what a message is called."""
    status = message.body.get("status", "")
    return f"{message.kind.value} {status} of {message.tenant}/{message.correlation_id}"
