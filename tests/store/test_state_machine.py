"""Whatever happens to a delivery, in whatever order: it ends once, and nothing stays behind."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.delivery.ingress import Cancel, IncomingMessage
from app.delivery.orders import OrderEvent, OrderStatus
from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.delivery.states import TRANSITIONS, State, Work
from app.errors import (
    DeliveryError,
    EmptyOrderError,
    SourceNotReadyError,
    SourceRefusedError,
    WrongFileError,
)
from app.usecases.expire import expire
from app.usecases.intervene import apply_cancel
from app.usecases.order_progress import order_progressed
from app.usecases.settle import Settlement
from app.usecases.submit import check
from app.usecases.transfer import Transfers
from app.waiting.backoff import Backoff
from tests.builders import (
    make_cancel,
    make_file,
    make_manifest,
    make_order_event,
    make_stored,
)
from tests.deliveries import Deliveries, Row
from tests.twins.rs_order import MemoryOrders
from tests.twins.users import MemoryUsers

TERMINAL = ("DENIED", "DONE", "ERROR")


@dataclass(frozen=True)
class Event:
    """rs-order says something."""

    status: OrderStatus
    order_id: int | None
    total_suborders: int | None
    errors: int
    error_type: str | None
    how: str = "new"  # or the last event by Kafka again, or its message by RabbitMQ again


@dataclass(frozen=True)
class Cancels:
    """The client cancels: a new message, or the last one by Kafka or by RabbitMQ again."""

    how: str


@dataclass(frozen=True)
class Relays:
    """What is owed to rs-order is sent."""


@dataclass(frozen=True)
class Arrives:
    """A request arrives: a new one, by Kafka again, or by RabbitMQ again."""

    how: str


@dataclass(frozen=True)
class Works:
    """A worker does what is due, and it goes like this."""

    work: Work
    outcome: str


@dataclass(frozen=True)
class TimeIsOver:
    """The time to live of all requests is over."""


events = st.builds(
    Event,
    status=st.sampled_from(OrderStatus),
    order_id=st.sampled_from([None, 1, 2]),
    total_suborders=st.sampled_from([None, 1, 2]),
    errors=st.sampled_from([0, 0, 0, 3]),
    error_type=st.sampled_from([None, "FORBIDDEN", "SOMETHING"]),
    how=st.sampled_from(["new", "new", "new", "kafka", "rabbitmq"]),
)
works = st.builds(
    Works,
    work=st.sampled_from(Work),
    outcome=st.sampled_from(["well", "well", "well", "later", "wrong", "refused", "empty"]),
)
arrivals = st.builds(Arrives, how=st.sampled_from(["new", "kafka", "rabbitmq"]))
cancels = st.builds(Cancels, how=st.sampled_from(["new", "kafka", "rabbitmq"]))
others = st.sampled_from([TimeIsOver(), Relays()])
steps = st.lists(st.one_of(events, events, works, works, arrivals, cancels, others), max_size=14)

GOOD = [
    Works(Work.CHECK, "well"),
    Relays(),
    Event(OrderStatus.GRANTED, 1, 1, 0, None),
    Event(OrderStatus.DONE, 1, 1, 0, None),
    Works(Work.PLAN, "well"),
    Works(Work.TRANSFER, "well"),
]
AGAIN = [replace(step, order_id=2) if isinstance(step, Event) else step for step in GOOD]


class World:
    """One correlation id, and all that can happen to it."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.deliveries = deliveries
        nothing: Any = None  # transfers are played here
        self.correlation_id = f"c-{uuid4().hex}"
        self.messages: list[IncomingMessage] = []
        self.events: list[OrderEvent] = []
        self.cancels: list[Cancel] = []
        self.sent: list[OutgoingMessage] = []
        self.leases = deliveries.leases("w")
        self.transfers = Transfers(
            store=deliveries.store,
            leases=self.leases,
            tenants=deliveries.tenants,
            objects=nothing,
            uploads=deliveries.uploads(nothing),
            checkpoints=deliveries.checkpoints("w"),
            archiver=nothing,
            segments=deliveries.segments(),
        )
        self.settlement = Settlement(
            store=deliveries.store,
            leases=self.leases,
            backoff=Backoff(first=0, longest=0),
            attempts=2,
            source=MemoryOrders(),
        )

    async def arrive(self, how: str) -> None:
        if how == "new" or not self.messages:
            message = self.deliveries.message(self.correlation_id)
        elif how == "kafka":
            message = self.messages[-1]
        else:
            old = self.messages[-1]
            message = self.deliveries.message(
                self.correlation_id, digest=old.ingress.digest, redelivered=True
            )
        self.messages.append(message)
        await self.deliveries.receive(message, users=MemoryUsers())

    async def work(self, step: Works) -> None:
        claimed = await self.leases.claim(step.work)
        if claimed is None:
            return
        errors: dict[str, DeliveryError] = {
            "later": SourceNotReadyError("not yet"),
            "wrong": WrongFileError("wrong"),
            "refused": SourceRefusedError("403"),
            "empty": EmptyOrderError("nothing"),
        }
        if step.outcome in errors:
            await self.settlement.settle(claimed, errors[step.outcome])
            return
        if step.work is Work.CHECK:
            await check(
                claimed,
                store=self.deliveries.store,
                tenants=self.deliveries.tenants,
                users=MemoryUsers(),
            )
        elif step.work is Work.PLAN:
            files = [make_file("f", size=1)]
            async with self.deliveries.store.transaction() as tx:
                if await tx.advance(claimed, State.READY, manifest=make_manifest(files)):
                    await tx.add_files(claimed, files)
        else:
            await self.transfers.finish(claimed, make_stored())

    async def expire(self) -> None:
        await self.deliveries.elapse(timedelta(days=1))
        await expire(store=self.deliveries.store, limit=100)

    async def relay(self) -> None:
        async def publish(message: OutgoingMessage) -> None:
            if message.correlation_id == self.correlation_id:
                self.sent.append(message)

        while (await self.deliveries.outbox().relay(Lane.ORDERS, publish))[0]:
            pass

    async def cancel(self, how: str) -> None:
        made = make_cancel(
            tenant=self.messages[0].tenant,
            correlation_id=self.correlation_id,
            received_at=self.deliveries.now(),
        )
        cancel = _given(self.cancels, made, how)
        async with self.unchanged(if_=cancel is not made):
            await apply_cancel(cancel, store=self.deliveries.store)

    async def tell(self, step: Event) -> None:
        made = make_order_event(
            step.status,
            tenant=self.messages[0].tenant,
            correlation_id=self.correlation_id,
            order_id=step.order_id,
            errors=step.errors,
            error_type=step.error_type,
            total_suborders=step.total_suborders,
            received_at=self.deliveries.now(),
        )
        event = _given(self.events, made, step.how)
        async with self.unchanged(if_=event is not made):
            await order_progressed(event, store=self.deliveries.store)

    @contextlib.asynccontextmanager
    async def unchanged(self, *, if_: bool) -> AsyncIterator[None]:
        """Something happens that must change nothing, if so."""
        before = await self.ended(), await self.owed()
        yield
        assert not if_ or (await self.ended(), await self.owed()) == before

    async def take(self, step: object) -> None:
        match step:
            case Arrives(how):
                await self.arrive(how)
            case Works():
                await self.work(step)
            case TimeIsOver():
                await self.expire()
            case Relays():
                await self.relay()
            case Cancels(how):
                await self.cancel(how)
            case Event():
                await self.tell(step)

    async def owed(self) -> list[OutgoingMessage]:
        found = await self.deliveries.outgoing()
        return [message for message in found if message.correlation_id == self.correlation_id]

    async def moves(self, delivery: UUID) -> list[State]:
        steps = await self.deliveries.moved(delivery)
        return [step.state for step in steps if step.cause is None]

    async def ended(self) -> list[Row]:
        return await self.deliveries.of(self.correlation_id)


_Copied = TypeVar("_Copied", Cancel, OrderEvent)


def _given(before: list[_Copied], made: _Copied, how: str) -> _Copied:
    """Return what an agent is given: something new, or the last again, or a copy of it."""
    if how == "new" or not before:
        before.append(made)
        return made
    if how == "kafka":
        return before[-1]
    assert before[-1].ingress is not None
    ingress = replace(before[-1].ingress, id=uuid4(), redelivered=True)
    return replace(before[-1], ingress=ingress)


@given(steps=steps)
@example(steps=GOOD)
@example(steps=[*GOOD, Arrives("kafka"), Arrives("rabbitmq"), Arrives("new"), *AGAIN])
@example(steps=[*GOOD[:2], TimeIsOver(), *GOOD[2:4]])
@example(steps=[GOOD[0], TimeIsOver(), *GOOD[2:4]])
@example(steps=[*GOOD[:2], GOOD[3], GOOD[2], *GOOD[4:]])
@example(steps=[*GOOD[:2], Cancels("new"), Arrives("new"), Cancels("rabbitmq"), *GOOD, *AGAIN])
@example(steps=[*GOOD[:2], Cancels("new"), TimeIsOver(), Relays()])
@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_each_delivery_ends_once_whatever_happens(
    deliveries: Deliveries, steps: list[object]
) -> None:
    world = World(deliveries)
    await world.arrive("new")
    for step in steps:
        await world.take(step)
    await world.expire()

    by_delivery: dict[UUID, list[OutgoingMessage]] = {}
    for message in [*await world.owed(), *world.sent]:
        by_delivery.setdefault(message.delivery_id, []).append(message)
    rows = await world.ended()
    new = {m.ingress.id for m in world.messages if not m.ingress.redelivered}
    assert {row.id for row in rows} == set(by_delivery) <= new
    for row in rows:
        # (An answer that is told again, to who asks again, has the id that it had.)
        messages = list({m.message_id: m for m in by_delivery[row.id]}.values())
        statuses = [m.body["status"] for m in messages if m.kind is Kind.RESPONSE]
        kinds = [m.kind for m in messages]
        assert row.state.ended
        assert row.lease_owner is None
        assert row.finished_at is not None
        assert [status for status in statuses if status in TERMINAL] == [row.state]
        assert statuses in ([row.state], ["GRANTED", row.state])
        # Sent; or withdrawn, when it ended before.
        assert kinds.count(Kind.ORDER) <= statuses.count("GRANTED")
        assert kinds.count(Kind.CANCEL) <= 1
        if row.state is State.DONE:
            assert Kind.CANCEL not in kinds
        if row.order_awaited:
            assert row.order_id is None
            # One of which it was noted that it may be out is not sent, once no answer is expected.
            assert Kind.ORDER in kinds or TimeIsOver() in steps
        assert len({m.message_id for m in messages}) == len(messages)
        moves = await world.moves(row.id)
        assert moves[0] in (State.RECEIVED, State.GRANTED)
        assert all(after in TRANSITIONS[before] for before, after in pairwise(moves)), moves
    named = [row.order_id for row in rows if row.order_id is not None]
    assert len(set(named)) == len(named)
