"""Transactions beside each other: both stores let wait, skip, refuse and answer the same.

Two transactions are open at once, and a worker asks beside them, a statement at a time in an order
that is drawn. After each, what waits in one store waits in the other, and what was answered is the
same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from app.delivery import outgoing
from app.delivery.ingress import ArrivalKind, Asked, Ingress, Opening
from app.delivery.model import Delivery
from app.delivery.outgoing import Lane, OutgoingMessage
from app.delivery.ports import UnitOfWork
from app.delivery.states import State, Work
from app.errors import LeaseLostError, ObjectBusyError, StoreUnavailableError
from compose.embedded.stack import TENANT
from tests.builders import make_file, make_request, make_stored, make_upload
from tests.deliveries import Deliveries, DeliveriesInMemory, DeliveriesInPostgres, blocked_sessions

pytestmark = pytest.mark.stack

IDS = UUID(int=0)
FIRST, SECOND, WORKER = range(3)
HOUR = timedelta(hours=1)
MADE = make_stored(make_upload(container="b", key="k"), etag="e")


class RolledBackError(Exception):
    """A transaction is left by this."""


Act = Callable[[UnitOfWork], Awaitable[object]]


class Desk:
    """Two transactions and a worker on one store; each does one thing at a time."""

    def __init__(self, deliveries: Deliveries) -> None:
        self.deliveries = deliveries
        self.known: dict[str, Delivery] = {}
        self.answers: list[tuple[int, object]] = []
        self.running: dict[int, asyncio.Task[None]] = {}
        self.asked: dict[int, asyncio.Queue[Act | None]] = {}
        self.busy: set[int] = set()
        self.opened = 0

    async def lay_out(self) -> None:
        """Put a delivery into each state that something is done in."""
        await self.deliveries.clear()
        self.known["ready"] = await self.deliveries.ready("ready", priority=1)
        self.known["moving"] = await self.deliveries.ready("moving", priority=200)
        claimed = await self.deliveries.leases("w", seconds=7200).claim(Work.TRANSFER)
        assert claimed is not None
        self.known["moving"] = claimed
        self.known["available"] = await self.deliveries.available("available")
        await self.deliveries.order()
        self.known["granted"] = await self.deliveries.granted("granted")

    # A transaction.

    async def _transact(self, who: int) -> None:
        try:
            async with self.deliveries.store.transaction() as tx:
                while (act := await self.asked[who].get()) is not None:
                    self._answered(who, await act(tx))
            self._answered(who, "committed")
        except (RolledBackError, StoreUnavailableError, LeaseLostError) as error:
            self._answered(who, type(error).__name__)
        finally:
            del self.running[who]

    def _answered(self, who: int, answer: object) -> None:
        self.answers.append((who, answer))
        self.busy.discard(who)

    def let(self, who: int, act: Act | None) -> None:
        """Let a transaction do something, or commit; begin it, if there is none."""
        if who in self.busy:
            return
        if who not in self.running:
            if act is None:
                return
            self.asked[who] = asyncio.Queue()
            self.running[who] = asyncio.create_task(self._transact(who))
        self.busy.add(who)
        self.asked[who].put_nowait(act)

    def work(self, act: Coroutine[Any, Any, object]) -> None:
        """Let the worker ask something of its own."""
        if WORKER in self.busy:
            act.close()
            return

        async def ask() -> None:
            try:
                answer: object = await act
            except ObjectBusyError:
                answer = "busy"
            self._answered(WORKER, answer)
            del self.running[WORKER]

        self.busy.add(WORKER)
        self.running[WORKER] = asyncio.create_task(ask())

    # What is compared.

    async def settle(self) -> None:
        """Return when all that goes on waits for others."""
        store = self.deliveries
        while self.busy:
            before = len(self.answers)
            for _ in range(30):
                await asyncio.sleep(0)
            if isinstance(store, DeliveriesInPostgres):
                blocked = await blocked_sessions(store.pool)
                if blocked < len(self.busy):
                    continue
            if len(self.answers) == before:
                return

    def seen(self) -> object:
        """Return who waits, and what was answered since the last time."""
        answers, self.answers = sorted(self.answers, key=lambda answer: answer[0]), []
        return sorted(self.busy), answers

    async def kept(self) -> object:
        """Return what is there in the end."""
        rows = await self.deliveries.rows()
        rows.sort(key=lambda row: (row.correlation_id, row.requested_at))
        return (
            [
                (
                    *(row.correlation_id, row.state, row.attempt, row.tries, row.lease_owner),
                    *(row.order_id, row.order_awaited, await self.deliveries.history(row.id)),
                )
                for row in rows
            ],
            [
                (message.correlation_id, message.kind)
                for message in await self.deliveries.outgoing()
            ],
        )

    async def leave(self) -> None:
        """Roll back whatever is open."""
        for task in list(self.running.values()):
            task.cancel()
        await asyncio.gather(*self.running.values(), return_exceptions=True)
        self.running, self.busy, self.answers = {}, set(), []


# What can be done in a transaction: a name, and what it is about.


def act_of(desk: Desk, name: str, about: str) -> Act | None:
    """Return what a transaction does; None commits it."""
    if name == "commit":
        return None
    delivery = desk.known[about]

    async def act(tx: UnitOfWork) -> object:
        return await ACTS[name](desk, tx, delivery)

    return act


async def roll_back(_desk: Desk, _tx: UnitOfWork, _delivery: Delivery) -> object:
    raise RolledBackError


async def lock(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    found = await tx.lock(TENANT, delivery.correlation_id)
    return found and (found.state, found.attempt)


async def end(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    return await tx.advance(delivery, State.ERROR)


async def move(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    if delivery.state is State.TRANSFERRING:
        return await tx.advance(delivery, State.DONE, result=MADE)
    if delivery.state is State.GRANTED:
        return await tx.advance(delivery, State.ORDERED, order_id=1)
    return None


async def open_again(desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    desk.opened += 1
    request = make_request(delivery.correlation_id, id=uuid5(IDS, f"{id(desk)} {desk.opened}"))
    asked = Opening(request=request, state=State.GRANTED, requested_at=None, ttl=HOUR)
    return len(await tx.open_deliveries([asked]))


async def withdraw_order(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    return await tx.withdraw_order(delivery)


async def await_order(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    await tx.await_order(delivery)
    return [order.correlation_id for order in await tx.awaited_orders(TENANT, "granted", None)]


async def write_files(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    await tx.add_files(delivery, [make_file(position=7)])
    return None


async def retry_now(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    return await tx.retry_now(delivery)


async def ask(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    asked = Asked(request=delivery.correlation_id.encode().ljust(32), key=None)
    before = await tx.asked_before(asked, active=True)
    if before is None:
        await tx.record_request(asked, delivery.id)
    return before is not None


async def record_receipts(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    ingress = Ingress(
        id=uuid5(IDS, delivery.correlation_id),
        kind=ArrivalKind.CANCEL,
        digest=delivery.correlation_id.encode().ljust(32),
        redelivered=False,
        received_at=None,
    )
    return len(await tx.record_receipts([ingress]))


async def lock_object(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    await tx.lock_object(MADE.url, "s3")
    return await tx.relied_on(delivery, MADE.url, "e", namespace="s3")


async def enqueue(_desk: Desk, tx: UnitOfWork, delivery: Delivery) -> object:
    await tx.enqueue(outgoing.granted(delivery))
    return None


ACTS = {
    act.__name__: act
    for act in (
        *(roll_back, lock, end, move, open_again, withdraw_order, await_order),
        *(write_files, retry_now, ask, record_receipts, lock_object, enqueue),
    )
}


# What the worker asks beside them.


async def claim(desk: Desk) -> object:
    found = await desk.deliveries.leases("v").claim(Work.TRANSFER)
    return found and found.correlation_id


async def plan(desk: Desk) -> object:
    found = await desk.deliveries.leases("v").claim(Work.PLAN)
    return found and found.correlation_id


async def renew(desk: Desk) -> object:
    return await desk.deliveries.leases("w", seconds=7200).renew(desk.known["moving"])


async def release(desk: Desk) -> object:
    await desk.deliveries.leases("w").release(
        desk.known["moving"], after=HOUR, failed=False, cause="away"
    )
    return None


async def complete(desk: Desk) -> object:
    return await desk.deliveries.leases("w", seconds=7200).record_completion(
        desk.known["moving"], MADE, namespace="s3", until=HOUR
    )


async def tell(desk: Desk) -> object:
    return await desk.deliveries.store.record_wait(TENANT, None, "away", limit=9)


async def relay(desk: Desk) -> object:
    sent: list[tuple[str, str]] = []

    async def publish(message: OutgoingMessage) -> None:
        sent.append((message.correlation_id, message.kind))

    return await desk.deliveries.outbox().relay(Lane.ORDERS, publish), sent


WORK = (claim, plan, renew, release, complete, tell, relay)

names = st.sampled_from(["granted", "available", "ready", "moving"])
in_transaction = st.tuples(
    st.sampled_from([FIRST, SECOND]), st.sampled_from([*ACTS, "commit", "commit"]), names
)
steps = st.lists(
    st.one_of(in_transaction, in_transaction, in_transaction, st.sampled_from(WORK)), max_size=20
)


@pytest.fixture
def desks(request: pytest.FixtureRequest) -> tuple[Desk, Desk]:
    """A desk before each store."""
    shared = request.getfixturevalue("settings")
    pool = request.getfixturevalue("pool")
    return Desk(DeliveriesInMemory(shared)), Desk(DeliveriesInPostgres(pool, shared))


@given(steps=steps)
@example(steps=[(FIRST, "lock", "granted"), (SECOND, "end", "granted"), (FIRST, "end", "granted")])
@example(steps=[(FIRST, "write_files", "ready"), tell, claim])
@example(steps=[(FIRST, "open_again", "moving"), (FIRST, "end", "moving"), renew, complete])
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_transactions_beside_each_other_wait_and_answer_alike(
    desks: tuple[Desk, Desk], steps: list[Any]
) -> None:
    for desk in desks:
        await desk.lay_out()
    try:
        for step in [*steps, *[(who, "commit", "ready") for who in (FIRST, SECOND, FIRST)]]:
            saw, waited = [], len(desks[0].busy)
            for desk in desks:
                if isinstance(step, tuple):
                    who, name, about = step
                    desk.let(who, act_of(desk, name, about))
                else:
                    desk.work(step(desk))
                await desk.settle()
                saw.append(desk.seen())
                if "StoreUnavailableError" in str(saw[0]):
                    return  # they waited for each other: which of them goes on is not told
            in_memory, in_postgres = saw
            # Two that wait for a row look at its new version at the same time in PostgreSQL: which
            # of them locks that first, and so whether the other waits on, is not told.
            if waited > 1 and in_memory != in_postgres:
                return
            assert in_memory == in_postgres, step
        in_memory, in_postgres = [await desk.kept() for desk in desks]
        assert in_memory == in_postgres
    finally:
        for desk in desks:
            await desk.leave()
