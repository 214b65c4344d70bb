"""What is owed is sent: once each, in order, fair between tenants."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from app.delivery import outgoing
from app.delivery.outgoing import Kind, Lane, OutgoingMessage
from app.errors import BrokerUnavailableError
from app.waiting.backoff import Backoff
from tests.builders import make_outgoing
from tests.deliveries import Deliveries


def _owed(delivery_id: UUID, number: int, tenant: str = "t") -> OutgoingMessage:
    return make_outgoing(delivery_id=delivery_id, tenant=tenant, body={"number": number})


async def test_messages_of_a_delivery_leave_in_order_however_many_relays_there_are(
    deliveries: Deliveries,
) -> None:
    ids = [uuid4() for _ in range(5)]
    async with deliveries.store.transaction() as tx:
        for number in range(6):
            await tx.enqueue(*(_owed(delivery_id, number) for delivery_id in ids))
    sent: dict[UUID, list[int]] = {delivery_id: [] for delivery_id in ids}

    async def publish(message: OutgoingMessage) -> None:
        await asyncio.sleep(0)
        sent[message.delivery_id].append(message.body["number"])

    async def relay() -> None:
        outbox = deliveries.outbox(batch=3)
        while await deliveries.owed():
            await outbox.relay(Lane.RESPONSES, publish)

    await asyncio.gather(*(relay() for _ in range(4)))
    assert all(numbers == list(range(6)) for numbers in sent.values())


async def test_what_a_worker_of_an_older_version_owes_to_the_agents_is_relayed(
    deliveries: Deliveries,
) -> None:
    """It put hints into the outbox; a rolling upgrade leaves some to the new one."""
    delivery = await deliveries.granted()
    hints = [outgoing.wake(delivery, kind) for kind in (Kind.ORDER_READY, Kind.TRANSFER)]
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(*hints)
    published: list[OutgoingMessage] = []

    async def publish(message: OutgoingMessage) -> None:
        published.append(message)

    outbox = deliveries.outbox()
    while (await outbox.relay(Lane.EVENTS, publish))[0]:
        pass
    assert published == hints
    assert {kind for kind, _ in await deliveries.owed()} == {"response", "order"}


async def test_a_message_that_is_not_confirmed_stays_owed_and_holds_back_those_behind_it(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Looked at from where a pause is longer than a machine stands still: that of 64 s.
    monkeypatch.setattr("app.store.outbox._MAX_WAIT", timedelta(hours=1))
    monkeypatch.setattr("app.store.memory.outbox._BACKOFF", Backoff(first=1, longest=3600))
    delivery = await deliveries.granted()
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(_owed(delivery.id, 2))

    async def refuse(_message: OutgoingMessage) -> None:
        raise BrokerUnavailableError("no")

    outbox = deliveries.outbox(batch=10)
    before = await deliveries.owed()
    for seconds in (1, 2, 4, 8, 16, 32):
        assert (await outbox.relay(Lane.RESPONSES, refuse))[:2] == (0, 1)
        await deliveries.elapse(timedelta(seconds=seconds))
    assert (await outbox.relay(Lane.RESPONSES, refuse))[:2] == (0, 1)
    assert (await outbox.relay(Lane.RESPONSES, refuse))[:2] == (0, 0)  # not before its time
    assert await deliveries.owed() == before
    await deliveries.elapse(timedelta(seconds=32))
    assert (await outbox.relay(Lane.RESPONSES, refuse))[:2] == (0, 0)  # each time for longer
    await deliveries.elapse(timedelta(seconds=32))
    assert (await outbox.relay(Lane.RESPONSES, refuse))[:2] == (0, 1)


async def test_a_burst_of_one_tenant_does_not_hold_up_the_message_of_another(
    deliveries: Deliveries,
) -> None:
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(*(_owed(uuid4(), number, tenant="busy") for number in range(50)))
        await tx.enqueue(_owed(uuid4(), 0, tenant="quiet"))
    sent: list[str] = []

    async def publish(message: OutgoingMessage) -> None:
        sent.append(message.tenant)

    passed = await deliveries.outbox(batch=10).relay(Lane.RESPONSES, publish)
    assert passed == (6, 0, True)  # the busy one has more
    assert sorted(sent) == ["busy"] * 5 + ["quiet"]


async def _taken(_message: OutgoingMessage) -> None:
    """Confirm a message."""


async def test_a_pass_tells_whether_a_message_waits_that_those_sent_held_up(
    deliveries: Deliveries,
) -> None:
    delivery_id = uuid4()
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(_owed(delivery_id, 0), _owed(delivery_id, 1))
        await tx.enqueue(make_outgoing(delivery_id=delivery_id, kind=Kind.TRANSFER))
    outbox = deliveries.outbox(batch=10)
    assert await outbox.relay(Lane.RESPONSES, _taken) == (1, 0, True)
    # Nothing follows in this lane; what waits in another one has a relay of its own.
    assert await outbox.relay(Lane.RESPONSES, _taken) == (1, 0, False)
    assert await outbox.relay(Lane.EVENTS, _taken) == (1, 0, False)
    assert await outbox.relay(Lane.EVENTS, _taken) == (0, 0, False)


async def test_a_message_that_is_added_while_the_one_before_it_is_sent_is_told_of(
    deliveries: Deliveries,
) -> None:
    delivery_id = uuid4()
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(_owed(delivery_id, 0))

    async def meanwhile(_message: OutgoingMessage) -> None:
        async with deliveries.store.transaction() as tx:
            await tx.enqueue(_owed(delivery_id, 1))
        # Another relay, that is woken by this, finds nothing: the first is not gone yet.
        other = deliveries.outbox(batch=10)
        assert await other.relay(Lane.RESPONSES, _taken) == (0, 0, False)

    outbox = deliveries.outbox(batch=10)
    assert await outbox.relay(Lane.RESPONSES, meanwhile) == (1, 0, True)
    assert await outbox.relay(Lane.RESPONSES, _taken) == (1, 0, False)


async def test_an_order_request_that_was_begun_is_sent_at_once_and_tells_of_the_next_of_its_id(
    deliveries: Deliveries,
) -> None:
    async with deliveries.store.transaction() as tx:
        for delivery_id in (uuid4(), uuid4()):
            await tx.enqueue(
                make_outgoing(delivery_id=delivery_id, kind=Kind.ORDER, correlation_id="again")
            )
    outbox = deliveries.outbox(batch=10)
    assert await outbox.relay(Lane.ORDERS, _taken) == (1, 0, True)  # begun
    assert await outbox.relay(Lane.ORDERS, _taken) == (1, 0, True)  # sent: the other one follows
    assert await outbox.relay(Lane.ORDERS, _taken) == (1, 0, True)  # begun
    assert await outbox.relay(Lane.ORDERS, _taken) == (1, 0, False)


async def test_one_tenant_with_no_more_than_its_share_has_nothing_more(
    deliveries: Deliveries,
) -> None:
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(*(_owed(uuid4(), number) for number in range(6)))
    outbox = deliveries.outbox(batch=4)
    assert await outbox.relay(Lane.RESPONSES, _taken) == (4, 0, True)
    assert await outbox.relay(Lane.RESPONSES, _taken) == (2, 0, False)
