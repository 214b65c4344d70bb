"""What arrived is kept until it is handled, and comes again in time if no worker handles it."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from app.delivery.ingress import ArrivalKind
from tests.builders import make_arrival, make_order_event
from tests.deliveries import Deliveries

HOUR = timedelta(hours=1)


async def test_an_arrival_is_lost_after_its_time_and_later_each_time(
    deliveries: Deliveries,
) -> None:
    arrivals = deliveries.arrivals(HOUR)
    made = make_arrival()
    await arrivals.save(made)
    assert await arrivals.overdue(9) == []
    for hours in (1, 2, 4, 8, 16, 16, 16):
        await deliveries.elapse(hours * HOUR - timedelta(minutes=1))
        assert await arrivals.overdue(9) == []
        await deliveries.elapse(timedelta(minutes=1))
        assert await arrivals.overdue(9) == [made]


async def test_an_arrival_is_saved_once_whatever_is_noted_again(deliveries: Deliveries) -> None:
    arrivals = deliveries.arrivals()
    made = make_arrival(value=b"first")
    await asyncio.gather(*(arrivals.save(made) for _ in range(5)))
    await arrivals.save(make_arrival(id=made.id, value=b"second"))
    assert await deliveries.arrivals(HOUR).overdue(9) == [made]


async def test_arrivals_are_given_from_the_longest_overdue_on_and_not_more_than_asked(
    deliveries: Deliveries,
) -> None:
    arrivals = deliveries.arrivals(HOUR)
    made = [make_arrival() for _ in range(3)]
    for arrival in made:
        await arrivals.save(arrival)
        await deliveries.elapse(timedelta(seconds=1))
    await deliveries.elapse(HOUR)
    first = await arrivals.overdue(2)
    assert {arrival.id for arrival in first} == {arrival.id for arrival in made[:2]}
    assert await arrivals.overdue(2) == made[2:]


async def test_an_arrival_that_was_not_appended_is_due_as_if_never_looked_at(
    deliveries: Deliveries,
) -> None:
    arrivals = deliveries.arrivals(HOUR)
    made = make_arrival()
    await arrivals.save(made)
    await deliveries.elapse(HOUR)
    for _ in range(3):
        assert await arrivals.overdue(9) == [made]
        await arrivals.not_appended([made.id])
    assert await arrivals.overdue(9) == [made]
    await deliveries.elapse(2 * HOUR)  # not longer, for what was in vain
    assert await arrivals.overdue(9) == [made]


async def test_all_arrivals_are_due_once_kafka_has_lost_them(deliveries: Deliveries) -> None:
    arrivals = deliveries.arrivals(HOUR)
    made = [make_arrival() for _ in range(3)]
    for arrival in made:
        await arrivals.save(arrival)
    await arrivals.forget([made[0].id])
    await arrivals.all_lost()
    assert {arrival.id for arrival in await arrivals.overdue(9)} == {
        arrival.id for arrival in made[1:]
    }


async def test_an_arrival_that_is_handled_is_kept_no_longer(deliveries: Deliveries) -> None:
    arrivals = deliveries.arrivals()
    receipt = deliveries.receipt()
    event = make_order_event(correlation_id="none")
    assert event.event_id is not None
    await arrivals.save(make_arrival(id=receipt.ingress_id))
    await arrivals.save(make_arrival(id=event.event_id, kind=ArrivalKind.ORDER_EVENT))
    await deliveries.grant(receipt)
    assert [arrival.id for arrival in await deliveries.arrivals(HOUR).overdue(9)] == [
        event.event_id
    ]
    async with deliveries.store.transaction() as tx:
        assert event.identity is not None
        assert list(await tx.record_receipts([event.identity])) == [event.event_id]
        assert await tx.record_receipts([event.identity]) == {}
    assert await deliveries.waiting() == 0


async def test_an_arrival_that_a_failed_transaction_handled_is_still_there(
    deliveries: Deliveries,
) -> None:
    made, arrivals = deliveries.receipt(), deliveries.arrivals()
    await arrivals.save(make_arrival(id=made.ingress_id))
    try:
        async with deliveries.store.transaction() as tx:
            assert await tx.record_receipts([made.identity])
            raise KeyError
    except KeyError:
        pass
    assert await deliveries.waiting() == 1
    async with deliveries.store.transaction() as tx:
        assert await tx.record_receipts([made.identity])


async def test_of_two_copies_that_are_handled_at_once_the_second_waits_and_does_not_count(
    deliveries: Deliveries,
) -> None:
    original = deliveries.receipt()
    copy = deliveries.receipt(digest=original.digest, redelivered=True)

    async def counts() -> bool:
        async with deliveries.store.transaction() as tx:
            return bool(await tx.record_receipts([copy.identity]))

    async with deliveries.store.transaction() as tx:
        assert await tx.record_receipts([original.identity])
        waiting = asyncio.create_task(counts())
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert not await waiting
