"""What arrived is kept until it is handled, and comes again in time if no worker handles it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

from app.delivery.model import Delivery
from app.delivery.states import State
from compose.embedded.stack import TENANT
from tests.builders import make_arrival, make_ingress, make_order_event
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
    await arrivals.save(make_arrival(ingress_id=made.ingress_id, value=b"second"))
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
    assert {arrival.ingress_id for arrival in first} == {arrival.ingress_id for arrival in made[:2]}
    assert await arrivals.overdue(2) == made[2:]


async def test_arrivals_that_are_due_together_are_given_as_they_came(
    deliveries: Deliveries,
) -> None:
    """One that PostgreSQL was away for is saved, and so due, after what came later."""
    arrivals = deliveries.arrivals(HOUR)
    later, earlier = make_arrival(), make_arrival()
    await arrivals.save(later)
    await arrivals.save(earlier, since=time.monotonic() - 60)
    await deliveries.elapse(HOUR + timedelta(minutes=1))
    assert await arrivals.overdue(9) == [earlier, later]


async def test_an_arrival_that_was_not_appended_is_due_as_if_never_looked_at(
    deliveries: Deliveries,
) -> None:
    arrivals = deliveries.arrivals(HOUR)
    made = make_arrival()
    await arrivals.save(made)
    await deliveries.elapse(HOUR)
    for _ in range(3):
        assert await arrivals.overdue(9) == [made]
        await arrivals.not_appended([made.ingress_id])
    assert await arrivals.overdue(9) == [made]
    await deliveries.elapse(2 * HOUR)  # not longer, for what was in vain
    assert await arrivals.overdue(9) == [made]


async def test_all_arrivals_are_due_once_kafka_has_lost_them(deliveries: Deliveries) -> None:
    arrivals = deliveries.arrivals(HOUR)
    made = [make_arrival() for _ in range(3)]
    for arrival in made:
        await arrivals.save(arrival)
    await arrivals.forget([made[0].ingress_id])
    await arrivals.all_lost()
    assert {arrival.ingress_id for arrival in await arrivals.overdue(9)} == {
        arrival.ingress_id for arrival in made[1:]
    }


async def test_an_arrival_that_is_handled_is_kept_no_longer(deliveries: Deliveries) -> None:
    arrivals = deliveries.arrivals()
    message = deliveries.message()
    event = make_order_event(correlation_id="none")
    assert event.ingress is not None
    await arrivals.save(make_arrival(message.ingress))
    await arrivals.save(make_arrival(event.ingress))
    await deliveries.grant(message)
    assert [arrival.ingress_id for arrival in await deliveries.arrivals(HOUR).overdue(9)] == [
        event.ingress.id
    ]
    async with deliveries.store.transaction() as tx:
        assert list(await tx.record_receipts([event.ingress])) == [event.ingress.id]
        assert await tx.record_receipts([event.ingress]) == {}
    assert await deliveries.waiting() == 0


async def test_an_arrival_that_a_failed_transaction_handled_is_still_there(
    deliveries: Deliveries,
) -> None:
    made, arrivals = deliveries.message(), deliveries.arrivals()
    await arrivals.save(make_arrival(made.ingress))
    try:
        async with deliveries.store.transaction() as tx:
            assert await tx.record_receipts([made.ingress])
            raise KeyError
    except KeyError:
        pass
    assert await deliveries.waiting() == 1
    async with deliveries.store.transaction() as tx:
        assert await tx.record_receipts([made.ingress])


async def test_of_two_copies_that_are_handled_at_once_the_second_waits_and_does_not_count(
    deliveries: Deliveries,
) -> None:
    original = deliveries.message()
    copy = deliveries.message(digest=original.ingress.digest, redelivered=True)

    async def counts() -> bool:
        async with deliveries.store.transaction() as tx:
            return bool(await tx.record_receipts([copy.ingress]))

    async with deliveries.store.transaction() as tx:
        assert await tx.record_receipts([original.ingress])
        waiting = asyncio.create_task(counts())
        await deliveries.until_blocked()
        assert not waiting.done()
    assert not await waiting


async def test_an_event_that_counts_locks_the_active_delivery_that_it_is_about(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    event = make_ingress()

    async def renewed() -> bool:
        async with deliveries.store.transaction() as tx:
            return await tx.lock(TENANT, delivery.correlation_id) is not None

    async with deliveries.store.transaction() as tx:
        received = await tx.record_receipt_and_lock(event, TENANT, delivery.correlation_id)
        assert received is not None
        assert received[1] == delivery
        waiting = asyncio.create_task(renewed())
        await deliveries.until_blocked()
        assert not waiting.done()
    assert await waiting
    async with deliveries.store.transaction() as tx:
        again = await tx.record_receipt_and_lock(event, TENANT, delivery.correlation_id)
        assert again is None
        async with asyncio.timeout(30):  # it is not locked
            assert await renewed()


async def test_an_event_counts_though_there_is_no_active_delivery(deliveries: Deliveries) -> None:
    async with deliveries.store.transaction() as tx:
        received = await tx.record_receipt_and_lock(make_ingress(), TENANT, "none")
    assert received is not None
    assert received[1] is None


async def test_an_event_that_waited_for_its_delivery_finds_it_as_it_is_then(
    deliveries: Deliveries,
) -> None:
    """And finds none that ended meanwhile."""
    delivery = await deliveries.granted()

    async def received() -> Delivery | None:
        async with deliveries.store.transaction() as tx:
            found = await tx.record_receipt_and_lock(
                make_ingress(), TENANT, delivery.correlation_id
            )
            assert found is not None
            return found[1]

    async with deliveries.store.transaction() as tx:
        assert await tx.advance(delivery, State.ORDERED, order_id=7)
        waiting = asyncio.create_task(received())
        await deliveries.until_blocked()
        assert not waiting.done()
    ordered = await waiting
    assert ordered is not None
    assert (ordered.state, ordered.order_id) == (State.ORDERED, 7)
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(ordered, State.ERROR)
        waiting = asyncio.create_task(received())
        await deliveries.until_blocked()
        assert not waiting.done()
    assert await waiting is None


async def test_a_copy_waits_for_a_transaction_that_began_with_its_digest(
    deliveries: Deliveries,
) -> None:
    """And sees then what that has noted: the lock comes before any look."""
    first = make_ingress()
    copy = replace(first, id=uuid4(), redelivered=True)

    async def counts() -> bool:
        async with deliveries.store.transaction(locking=[copy.digest]) as tx:
            return bool(await tx.record_receipts([copy]))

    async with deliveries.store.transaction(locking=[first.digest]) as tx:
        waiting = asyncio.create_task(counts())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert await tx.record_receipts([first])
    assert not await waiting


async def test_a_transaction_locks_what_it_did_not_begin_with(deliveries: Deliveries) -> None:
    first, other = make_ingress(), make_ingress()
    copy = replace(other, id=uuid4(), redelivered=True)

    async def counts() -> bool:
        async with deliveries.store.transaction() as tx:
            return bool(await tx.record_receipts([copy]))

    async with deliveries.store.transaction(locking=[first.digest]) as tx:
        assert len(await tx.record_receipts([first, other])) == 2
        waiting = asyncio.create_task(counts())
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert not await waiting
