"""What should have happened and has not: it is made to happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from app.errors import BrokerUnavailableError
from app.model import (
    Arrival,
    ArrivalKind,
    Delivery,
    ErrorType,
    OrderEvent,
    OrderStatus,
    S3Target,
    Work,
)
from app.naming import object_key
from app.store import PostgresArrivals, leading
from app.usecases.fail import fail
from app.usecases.order_progress import order_progressed
from app.usecases.reconcile import append_again, sweep
from compose.embedded.stack import TENANT
from sinks.s3 import S3Sink
from tests.client import Client
from tests.integration.conftest import Deliveries, receipt_for


def arrival(**changes: object) -> Arrival:
    """Return something that arrived."""
    made = Arrival(id=uuid4(), kind=ArrivalKind.REQUEST, key=b"t/c", value=b"event")
    return replace(made, **changes)  # type: ignore[arg-type]


async def test_an_event_that_nobody_handled_is_appended_again_each_time_later(
    pool: asyncpg.Pool,
) -> None:
    arrivals = PostgresArrivals(pool, allowance=timedelta(hours=1))
    late = arrival(value=b"late")
    await arrivals.note(late)
    await pool.execute("UPDATE arrival SET due_at = now()")
    await arrivals.note(arrival())
    appended: list[Arrival] = []

    async def append(one: Arrival) -> None:
        appended.append(one)

    assert await append_again(arrivals=arrivals, append=append, limit=9) == 1
    assert await append_again(arrivals=arrivals, append=append, limit=9) == 0
    assert appended == [late]
    waits = "SELECT round(extract(epoch FROM due_at - now()) / 3600) FROM arrival WHERE id = $1"
    assert await pool.fetchval(waits, late.id) == 2


async def test_an_event_that_kafka_does_not_take_is_tried_at_the_next_look(
    pool: asyncpg.Pool,
) -> None:
    """Nothing was repeated: after an outage, nobody waits longer for each look during it."""
    arrivals = PostgresArrivals(pool, allowance=timedelta(hours=1))
    for one in (arrival(value=b"taken"), arrival(value=b"refused")):
        await arrivals.note(one)
    await arrivals.all_lost()
    tried: list[bytes] = []

    async def append(one: Arrival) -> None:
        tried.append(one.value)
        if one.value == b"refused":
            raise BrokerUnavailableError("away")

    assert await append_again(arrivals=arrivals, append=append, limit=9) == 1
    assert await append_again(arrivals=arrivals, append=append, limit=9) == 0
    assert sorted(tried) == [b"refused", b"refused", b"taken"]


async def test_arrivals_of_one_moment_are_saved_together_and_once(
    arrivals: PostgresArrivals, pool: asyncpg.Pool
) -> None:
    many = [arrival(value=b"x" * 100_000) for _ in range(60)]  # more than one batch
    await asyncio.gather(*(arrivals.note(one) for one in [*many, *many]))
    assert {one.id for one in await arrivals.overdue(999)} == {one.id for one in many}
    await arrivals.forget([one.id for one in many])
    assert await pool.fetchval("SELECT count(*) FROM arrival") == 0


async def test_who_waits_hears_that_an_arrival_was_not_saved(
    arrivals: PostgresArrivals, pool: asyncpg.Pool
) -> None:
    await pool.execute("ALTER TABLE arrival RENAME TO elsewhere")
    outcomes = await asyncio.gather(
        *(arrivals.note(arrival()) for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [asyncpg.UndefinedTableError] * 3
    await pool.execute("ALTER TABLE elsewhere RENAME TO arrival")
    await arrivals.note(arrival())
    assert len(await arrivals.overdue(9)) == 1


async def test_a_request_that_is_handled_is_not_kept(
    arrivals: PostgresArrivals, deliveries: Deliveries
) -> None:
    receipt = receipt_for("c")
    await arrivals.note(arrival(id=receipt.ingress_id))
    await deliveries.grant(receipt)
    assert await arrivals.overdue(9) == []


async def test_an_order_event_that_is_handled_is_not_kept(
    arrivals: PostgresArrivals, deliveries: Deliveries
) -> None:
    kept = arrival(kind=ArrivalKind.ORDER_EVENT)
    await arrivals.note(kept)
    event = OrderEvent(
        tenant=TENANT, correlation_id="none", status=OrderStatus.DONE, event_id=kept.id
    )
    await order_progressed(event, store=deliveries.store)
    assert await arrivals.overdue(9) == []


async def test_a_late_event_of_an_earlier_order_changes_nothing(deliveries: Deliveries) -> None:
    """It comes while the new delivery of that correlation id has no order yet."""
    first = await deliveries.available("c")
    async with deliveries.store.transaction() as tx:
        await fail(tx, first, ErrorType.INTERNAL_ERROR, "for the test")
    second = await deliveries.granted("c")
    await deliveries.tell(OrderStatus.DONE, "c", order_id=1)
    assert (await deliveries.active("c")).state is second.state
    await deliveries.tell(OrderStatus.DONE, "c", order_id=2)
    assert (await deliveries.active("c")).order_id == 2


async def test_one_process_leads(pool: asyncpg.Pool) -> None:
    async with (
        leading(pool, "a") as first,
        leading(pool, "a") as second,
        leading(pool, "b") as other,
    ):
        assert (first, second, other) == (True, False, True)
    async with leading(pool, "a") as again:
        assert again


@pytest.fixture
async def failed(deliveries: Deliveries, sink: S3Sink, target: S3Target) -> AsyncIterator[Delivery]:
    """A delivery that was ended by a process which then died: its upload is open."""
    correlation_id = f"c-{uuid4().hex}"
    await deliveries.ready(correlation_id)
    leases = deliveries.leases("w")
    claimed = await leases.claim(Work.TRANSFER)
    assert claimed is not None
    upload = await sink.begin(target, key_of(claimed, target))
    assert await leases.record_upload(claimed, deliveries.uploads(sink).located(upload, target))
    async with deliveries.store.transaction() as tx:
        await fail(tx, claimed, ErrorType.EXPIRED, "for the test")
    yield claimed
    await sink.abort_orphans(target, key_of(claimed, target))


def key_of(delivery: Delivery, target: S3Target) -> str:
    """Return where the archive goes."""
    assert delivery.archive_name is not None
    return target.prefix + object_key(delivery.correlation_id, delivery.archive_name)


async def swept(deliveries: Deliveries, sink: S3Sink, *, after: float = 0) -> int:
    """Sweep once."""
    return await sweep(
        store=deliveries.store,
        tenants=deliveries.tenants,
        uploads=deliveries.uploads(sink),
        sink=sink,
        after=timedelta(seconds=after),
        limit=9,
    )


async def test_an_upload_that_was_left_open_is_aborted_once(
    deliveries: Deliveries, sink: S3Sink, failed: Delivery, client: Client
) -> None:
    assert len(await client.open_uploads(failed.correlation_id)) == 1
    assert await swept(deliveries, sink, after=3600) == 0  # its worker may still do so itself
    assert await swept(deliveries, sink) == 1
    assert await client.open_uploads(failed.correlation_id) == []
    assert await swept(deliveries, sink) == 0
    assert await deliveries.pool.fetchval("SELECT upload_target FROM delivery") is None


async def test_an_upload_that_nobody_noted_is_aborted(
    deliveries: Deliveries, sink: S3Sink, target: S3Target, failed: Delivery, client: Client
) -> None:
    await sink.begin(target, key_of(failed, target))
    assert len(await client.open_uploads(failed.correlation_id)) == 2
    assert await swept(deliveries, sink) == 1
    assert await client.open_uploads(failed.correlation_id) == []


async def test_the_upload_of_a_new_delivery_with_the_same_key_is_left_alone(
    deliveries: Deliveries, sink: S3Sink, failed: Delivery, client: Client
) -> None:
    await deliveries.granted(failed.correlation_id)
    assert await swept(deliveries, sink) == 0
    assert len(await client.open_uploads(failed.correlation_id)) == 1


async def test_while_the_store_is_away_the_upload_is_looked_at_later(
    deliveries: Deliveries, sink: S3Sink, target: S3Target, failed: Delivery
) -> None:
    gone = replace(target, endpoint="http://127.0.0.1:9")
    upload = deliveries.uploads(sink).located(
        replace(await sink.begin(target, key_of(failed, target))), gone
    )
    await deliveries.pool.execute("UPDATE delivery SET upload_target = $1", upload.target)
    before = await deliveries.pool.fetchval("SELECT not_before FROM delivery")
    assert await swept(deliveries, sink) == 0
    row = await deliveries.pool.fetchrow("SELECT not_before, swept FROM delivery")
    assert row is not None
    assert row["not_before"] > before
    assert not row["swept"]
