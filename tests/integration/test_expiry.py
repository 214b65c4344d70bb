"""What happens by the clock: requests end, and what has ended is forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from app.model import OrderStatus, S3Target, State, Work
from app.usecases.expire import expire
from sinks.s3 import S3Sink
from tests.client import Client
from tests.integration.conftest import Deliveries


async def test_a_delivery_whose_time_is_over_ends_in_any_state(
    deliveries: Deliveries, sink: S3Sink
) -> None:
    hours_ago = datetime.now(UTC) - timedelta(hours=13)
    await deliveries.granted("granted", received_at=hours_ago)
    await deliveries.available("available", received_at=hours_ago)
    await deliveries.ready("transferring", received_at=hours_ago)
    await deliveries.granted("fresh")
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None

    async def look(limit: int) -> int:
        return await expire(store=deliveries.store, uploads=deliveries.uploads(sink), limit=limit)

    assert await look(1) == 1
    assert sum(await asyncio.gather(look(100), look(100))) == 2
    assert await look(100) == 0
    assert await deliveries.states() == ["ERROR", "ERROR", "ERROR", "GRANTED"]
    assert not await leases.renew(claimed)
    errors = [body for _, body in await deliveries.owed() if body.get("status") == "ERROR"]
    assert {body["errorType"] for body in errors} == {"EXPIRED"}
    assert {body["correlationId"]: body["message"] for body in errors} == {
        "granted": "not done within 12 hours; it was GRANTED at the end",
        "available": "not done within 12 hours; it was AVAILABLE at the end",
        "transferring": "not done within 12 hours; it was TRANSFERRING at the end",
    }
    cancelled = [
        body["correlationId"] for kind, body in await deliveries.owed() if kind == "cancel"
    ]
    assert sorted(cancelled) == ["available", "transferring"]


async def test_an_upload_of_a_dead_worker_is_aborted_at_expiry(
    deliveries: Deliveries, sink: S3Sink, target: S3Target, client: Client
) -> None:
    await deliveries.ready(received_at=datetime.now(UTC) - timedelta(hours=13))
    leases = deliveries.leases("dead")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    upload = await sink.begin(target, "expired/a.zip")
    upload = deliveries.uploads(sink).located(upload, target)
    assert await leases.record_upload(claimed, upload)
    await expire(store=deliveries.store, uploads=deliveries.uploads(sink), limit=10)
    assert await client.open_uploads("expired") == []


async def test_an_order_that_becomes_known_after_the_end_is_cancelled_once(
    deliveries: Deliveries, sink: S3Sink
) -> None:
    await deliveries.granted(received_at=datetime.now(UTC) - timedelta(hours=13))
    await expire(store=deliveries.store, uploads=deliveries.uploads(sink), limit=10)
    for status in (OrderStatus.GRANTED, OrderStatus.SUBORDER_DONE, OrderStatus.DONE):
        await deliveries.tell(status, order_id=8)
    cancels = [body for kind, body in await deliveries.owed() if kind == "cancel"]
    assert cancels == [{"orderId": 8, "correlationId": "c"}]
    assert await deliveries.states() == ["ERROR"]


async def test_what_ended_long_ago_is_forgotten_and_nothing_else(deliveries: Deliveries) -> None:
    for name in ("old", "recent"):
        await deliveries.ready(name)
        await deliveries.tell(OrderStatus.FAILED, name)  # too late: changes nothing
        claimed = await deliveries.leases("w").claim(Work.TRANSFER)
        assert claimed is not None
        async with deliveries.store.transaction() as tx:
            await tx.advance(claimed, State.DONE)
    await deliveries.granted("active")
    old = "UPDATE delivery SET finished_at = now() - interval '8 days' WHERE correlation_id = 'old'"
    await deliveries.pool.execute(old)
    await deliveries.pool.execute("UPDATE inbox SET received_at = now() - interval '8 days'")

    retention = timedelta(days=7)
    assert await deliveries.store.forget(retention, limit=100) == 1
    assert await deliveries.store.forget(retention, limit=100) == 0

    rows = await deliveries.pool.fetch("SELECT correlation_id FROM delivery ORDER BY 1")
    assert [row["correlation_id"] for row in rows] == ["active", "recent"]
    assert await deliveries.pool.fetchval("SELECT count(*) FROM delivery_file") == 3
    # What a delivery that is kept came from must still be recognised.
    assert await deliveries.pool.fetchval("SELECT count(*) FROM inbox") == 2
