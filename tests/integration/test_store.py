"""PostgreSQL keeps the invariants: once, in order, and only by the one who holds the lease."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.errors import BrokerUnavailableError, ConfigurationError
from app.model import OrderStatus, State, StoredObject, Upload
from app.outgoing import Kind, Lane, Outgoing
from app.store import Outbox, migrate, open_pool
from tests.integration.conftest import Deliveries, receipt_for


async def test_workers_that_start_at_once_migrate_once(database: str) -> None:
    async with open_pool(database, size=10, start_timeout=5) as pool:
        applied = await asyncio.gather(*(migrate(pool) for _ in range(8)))
        assert sorted(len(names) for names in applied) == [0] * 7 + [1]
        assert await migrate(pool) == []


async def test_a_database_that_is_newer_is_not_touched(pool: asyncpg.Pool) -> None:
    await pool.execute("INSERT INTO schema_migration (number, name) VALUES (9999, 'later')")
    with pytest.raises(ConfigurationError, match="start the newer version"):
        await migrate(pool)


async def test_no_database_is_told_in_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="no PostgreSQL answers at DELIVERY_DATABASE_URL"):
        async with open_pool("postgresql://u:p@127.0.0.1:1/d", size=3, start_timeout=0.3):
            pass


async def test_an_event_that_kafka_gives_again_changes_nothing(deliveries: Deliveries) -> None:
    receipt = receipt_for("c")
    for _ in range(3):
        await deliveries.grant(receipt)
    assert await deliveries.states() == ["GRANTED"]
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "order"]


async def test_a_message_that_rabbitmq_gives_again_changes_nothing_even_after_the_end(
    deliveries: Deliveries,
) -> None:
    first = receipt_for("c")
    await deliveries.grant(first)
    await deliveries.tell(OrderStatus.FAILED, order_id=1)
    again = receipt_for("c", digest=first.digest, redelivered=True)
    await deliveries.grant(again)
    assert await deliveries.states() == ["ERROR"]
    # The same request sent anew by the client is another matter.
    anew = receipt_for("c", digest=first.digest)
    await deliveries.grant(anew)
    assert await deliveries.states() == ["ERROR", "GRANTED"]


async def test_a_request_granted_by_two_workers_at_once_is_one_delivery(
    deliveries: Deliveries,
) -> None:
    receipt = receipt_for("c")
    await asyncio.gather(
        *(
            deliveries.grant(receipt_for("c", digest=receipt.digest, redelivered=True))
            for _ in range(6)
        )
    )
    assert await deliveries.states() == ["GRANTED"]
    assert len(await deliveries.owed()) == 2


async def test_a_value_that_fits_no_column_is_not_taken_for_an_outage(
    deliveries: Deliveries,
) -> None:
    """An outage is waited for, for ever; an event that can't be stored would hold up all others."""
    await deliveries.granted()
    with pytest.raises(asyncpg.DataError):
        await deliveries.tell(OrderStatus.GRANTED, order_id=2**70)
    await deliveries.tell(OrderStatus.GRANTED, order_id=2**63 - 1, total_suborders=2**40)
    assert await deliveries.states() == ["ORDERED"]


async def test_what_a_failed_transaction_owed_is_not_owed(deliveries: Deliveries) -> None:
    delivery = await deliveries.granted()
    before = await deliveries.owed()
    with pytest.raises(RuntimeError):
        async with deliveries.store.transaction() as tx:
            await tx.advance(delivery, State.ORDERED, order_id=1)
            await tx.owe(*[_owed(delivery.id, 5)])
            raise RuntimeError
    assert await deliveries.owed() == before
    assert await deliveries.states() == ["GRANTED"]


@pytest.mark.parametrize(
    "events",
    [
        (OrderStatus.GRANTED, OrderStatus.SUBORDER_DONE, OrderStatus.DONE),
        (OrderStatus.DONE, OrderStatus.SUBORDER_DONE, OrderStatus.GRANTED),
        (OrderStatus.GRANTED, OrderStatus.GRANTED, OrderStatus.DONE, OrderStatus.DONE),
        (OrderStatus.DONE, OrderStatus.FAILED, OrderStatus.DENIED),
    ],
)
async def test_an_order_is_available_once_it_is_done(
    deliveries: Deliveries, events: tuple[OrderStatus, ...]
) -> None:
    await deliveries.granted()
    for status in events:
        await deliveries.tell(status, order_id=5, total_suborders=1)
    assert await deliveries.states() == ["AVAILABLE"]
    assert [kind for kind, _ in await deliveries.owed()] == ["response", "order", "order-ready"]
    assert (await deliveries.active("c")).order_id == 5


async def test_more_than_one_suborder_ends_in_error_and_cancels(deliveries: Deliveries) -> None:
    await deliveries.granted()
    await deliveries.tell(OrderStatus.GRANTED, order_id=5, total_suborders=2)
    await deliveries.tell(OrderStatus.SUBORDER_DONE, order_id=5)
    owed = await deliveries.owed()
    assert owed[-2][1]["errorType"] == "TOO_MANY_SUBORDERS"
    assert owed[-1] == ("cancel", {"orderId": 5, "correlationId": "c"})


async def test_an_event_of_another_order_or_delivery_changes_nothing(
    deliveries: Deliveries,
) -> None:
    await deliveries.granted()
    await deliveries.tell(OrderStatus.GRANTED, order_id=5)
    await deliveries.tell(OrderStatus.FAILED, order_id=4)
    await deliveries.tell(OrderStatus.FAILED, "unknown")
    assert await deliveries.states() == ["ORDERED"]


async def test_a_delivery_goes_through_its_states(deliveries: Deliveries) -> None:
    await deliveries.ready()
    claimed = await deliveries.leases("w").claim_transfer()
    assert claimed is not None
    assert (claimed.attempt, claimed.file_count, claimed.total_bytes) == (1, 3, 3)
    assert [f.member async for f in deliveries.store.files(claimed)] == ["f0", "f1", "f2"]
    result = StoredObject(url="s3://b/k", md5="0" * 32, size=9)
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(claimed, State.DONE, result=result)
    assert await deliveries.history(claimed.id) == [
        "GRANTED",
        "AVAILABLE",
        "READY",
        "TRANSFERRING",
        "DONE",
    ]


async def test_a_transfer_is_claimed_by_one_worker_only(deliveries: Deliveries) -> None:
    await deliveries.ready()
    claims = await asyncio.gather(
        *(deliveries.leases(f"w{number}").claim_transfer() for number in range(8))
    )
    assert len([claim for claim in claims if claim]) == 1


async def test_a_lease_that_ran_out_goes_to_another_and_fences_the_first(
    deliveries: Deliveries,
) -> None:
    await deliveries.ready()
    dead, alive = deliveries.leases("dead", seconds=0), deliveries.leases("alive")
    first = await dead.claim_transfer()
    assert first is not None
    upload = Upload(bucket="b", key="k", upload_id="u1")
    assert await dead.record_upload(first, upload)
    second = await alive.claim_transfer()
    assert second is not None
    assert (second.attempt, second.upload) == (2, upload)
    assert not await dead.renew(first)
    assert not await dead.record_upload(first, upload)
    async with deliveries.store.transaction() as tx:
        assert not await tx.advance(
            first, State.DONE, result=StoredObject(url="s3://b/k", md5="0" * 32, size=9)
        )
    assert await alive.renew(second)


async def test_claims_go_by_priority_and_then_by_age(deliveries: Deliveries) -> None:
    for name, priority in (("old", 1), ("young", 1), ("urgent", 200)):
        await deliveries.ready(name, priority=priority)
    leases = deliveries.leases("w")
    claimed = [await leases.claim_transfer() for _ in range(4)]
    assert [c and c.correlation_id for c in claimed] == ["urgent", "old", "young", None]


async def test_a_tenant_with_fewer_running_transfers_comes_first(deliveries: Deliveries) -> None:
    for number in range(3):
        await deliveries.ready(f"a{number}", tenant="a")
    await deliveries.ready("b0", tenant="b")
    leases = deliveries.leases("w")
    claimed = [await leases.claim_transfer() for _ in range(2)]
    assert [c and c.tenant for c in claimed] == ["a", "b"]


async def test_a_released_delivery_waits_and_counts_its_failures(deliveries: Deliveries) -> None:
    await deliveries.ready()
    leases = deliveries.leases("w")
    claimed = await leases.claim_transfer()
    assert claimed is not None
    await leases.release(claimed, after=timedelta(seconds=60), failed=True)
    assert await leases.claim_transfer() is None
    await deliveries.pool.execute("UPDATE delivery SET not_before = now()")
    again = await leases.claim_transfer()
    assert again is not None
    assert (again.attempt, again.failures) == (2, 1)


def _owed(delivery_id: UUID, number: int) -> Outgoing:
    return Outgoing(
        delivery_id=delivery_id,
        kind=Kind.RESPONSE,
        message_id=uuid4(),
        tenant="t",
        correlation_id="c",
        priority=1,
        origin_app=None,
        body={"number": number},
    )


async def test_messages_of_a_delivery_leave_in_order_however_many_relays_there_are(
    deliveries: Deliveries,
) -> None:
    ids = [uuid4() for _ in range(5)]
    async with deliveries.store.transaction() as tx:
        for number in range(6):
            await tx.owe(*(_owed(delivery_id, number) for delivery_id in ids))
    sent: dict[UUID, list[int]] = {delivery_id: [] for delivery_id in ids}

    async def publish(message: Outgoing) -> None:
        await asyncio.sleep(0)
        sent[message.delivery_id].append(message.body["number"])

    async def relay() -> None:
        outbox = Outbox(deliveries.pool, batch=3)
        while await deliveries.owed():
            await outbox.relay([Lane.RESPONSES], publish)

    await asyncio.gather(*(relay() for _ in range(4)))
    assert all(numbers == list(range(6)) for numbers in sent.values())


async def test_a_message_that_is_not_confirmed_stays_owed_and_holds_back_those_behind_it(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.granted()
    async with deliveries.store.transaction() as tx:
        await tx.owe(_owed(delivery.id, 2))

    async def refuse(_message: Outgoing) -> None:
        raise BrokerUnavailableError("no")

    outbox = Outbox(deliveries.pool, batch=10)
    before = await deliveries.owed()
    assert await outbox.relay([Lane.RESPONSES], refuse) == (0, 1)
    assert await outbox.relay([Lane.RESPONSES], refuse) == (0, 0)  # not before its time
    assert await deliveries.owed() == before
    row = await deliveries.pool.fetchrow("SELECT tries, last_error FROM outbox ORDER BY id")
    assert row is not None
    assert dict(row) == {"tries": 1, "last_error": "no"}
