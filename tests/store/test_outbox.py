"""What is owed is sent: once each, in order, fair between tenants."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

from app.delivery.outgoing import Lane, OutgoingMessage
from app.errors import BrokerUnavailableError
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


async def test_a_message_that_is_not_confirmed_stays_owed_and_holds_back_those_behind_it(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(_owed(delivery.id, 2))

    async def refuse(_message: OutgoingMessage) -> None:
        raise BrokerUnavailableError("no")

    outbox = deliveries.outbox(batch=10)
    before = await deliveries.owed()
    assert await outbox.relay(Lane.RESPONSES, refuse) == (0, 1)
    assert await outbox.relay(Lane.RESPONSES, refuse) == (0, 0)  # not before its time
    assert await deliveries.owed() == before
    await deliveries.elapse(timedelta(seconds=2))
    assert await outbox.relay(Lane.RESPONSES, refuse) == (0, 1)
    await deliveries.elapse(timedelta(seconds=1))
    assert await outbox.relay(Lane.RESPONSES, refuse) == (0, 0)  # each time it waits for longer


async def test_a_burst_of_one_tenant_does_not_hold_up_the_message_of_another(
    deliveries: Deliveries,
) -> None:
    async with deliveries.store.transaction() as tx:
        await tx.enqueue(*(_owed(uuid4(), number, tenant="busy") for number in range(50)))
        await tx.enqueue(_owed(uuid4(), 0, tenant="quiet"))
    sent: list[str] = []

    async def publish(message: OutgoingMessage) -> None:
        sent.append(message.tenant)

    assert await deliveries.outbox(batch=10).relay(Lane.RESPONSES, publish) == (6, 0)
    assert sorted(sent) == ["busy"] * 5 + ["quiet"]
