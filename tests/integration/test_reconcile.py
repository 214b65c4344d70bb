"""What should have happened and has not: it is made to happen."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from app.delivery.ingress import Arrival, ArrivalKind
from app.delivery.orders import OrderStatus
from app.errors import BrokerUnavailableError, ErrorType, StoreUnavailableError
from app.store import Leader, PostgresArrivals, alone, open_pool
from app.usecases.fail import fail
from app.usecases.order_progress import order_progressed
from app.usecases.reconcile import append_again
from tests.builders import make_arrival, make_message, make_order_event
from tests.integration.conftest import Deliveries, short_limit


async def test_an_unhandled_event_is_appended_again_each_time_later(
    pool: asyncpg.Pool,
) -> None:
    arrivals = PostgresArrivals(pool, allowance=timedelta(hours=1))
    late = make_arrival(value=b"late")
    await arrivals.save(late)
    await pool.execute("UPDATE arrival SET due_at = now()")
    await arrivals.save(make_arrival())
    appended: list[Arrival] = []

    async def append(arrival: Arrival) -> None:
        appended.append(arrival)

    assert await append_again(arrivals=arrivals, append=append, limit=9) == 1
    assert await append_again(arrivals=arrivals, append=append, limit=9) == 0
    assert appended == [late]
    waits = "SELECT round(extract(epoch FROM due_at - now()) / 3600) FROM arrival WHERE id = $1"
    assert await pool.fetchval(waits, late.ingress_id) == 2


async def test_an_event_that_kafka_does_not_take_is_tried_at_the_next_look(
    pool: asyncpg.Pool,
) -> None:
    """Nothing was repeated: after an outage, no arrival waits longer for each look during it."""
    arrivals = PostgresArrivals(pool, allowance=timedelta(hours=1))
    for arrival in (make_arrival(value=b"taken"), make_arrival(value=b"refused")):
        await arrivals.save(arrival)
    await arrivals.all_lost()
    tried: list[bytes] = []

    async def append(arrival: Arrival) -> None:
        tried.append(arrival.value)
        if arrival.value == b"refused":
            raise BrokerUnavailableError("away")

    assert await append_again(arrivals=arrivals, append=append, limit=9) == 1
    assert await append_again(arrivals=arrivals, append=append, limit=9) == 0
    assert sorted(tried) == [b"refused", b"refused", b"taken"]


async def test_every_lost_arrival_is_appended_in_one_look(
    arrivals: PostgresArrivals, pool: asyncpg.Pool
) -> None:
    for _ in range(7):
        await arrivals.save(make_arrival())
    patient = PostgresArrivals(pool, allowance=timedelta(hours=1))
    appended: list[Arrival] = []

    async def append(arrival: Arrival) -> None:
        appended.append(arrival)

    assert await append_again(arrivals=patient, append=append, limit=3) == 7
    assert len({arrival.ingress_id for arrival in appended}) == 7


async def test_arrivals_of_one_moment_are_saved_together_and_once(
    arrivals: PostgresArrivals, pool: asyncpg.Pool
) -> None:
    many = [make_arrival(value=b"x" * 100_000) for _ in range(60)]  # more than one batch
    await asyncio.gather(*(arrivals.save(arrival) for arrival in [*many, *many]))
    assert {arrival.ingress_id for arrival in await arrivals.overdue(999)} == {
        arrival.ingress_id for arrival in many
    }
    await arrivals.forget([arrival.ingress_id for arrival in many])
    assert await pool.fetchval("SELECT count(*) FROM arrival") == 0


async def test_every_waiter_hears_that_an_arrival_was_not_saved(
    arrivals: PostgresArrivals, pool: asyncpg.Pool
) -> None:
    await pool.execute("ALTER TABLE arrival RENAME TO elsewhere")
    outcomes = await asyncio.gather(
        *(arrivals.save(make_arrival()) for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [asyncpg.UndefinedTableError] * 3
    await pool.execute("ALTER TABLE elsewhere RENAME TO arrival")
    await arrivals.save(make_arrival())
    assert len(await arrivals.overdue(9)) == 1


async def test_a_request_that_is_handled_is_not_kept(
    arrivals: PostgresArrivals, deliveries: Deliveries
) -> None:
    message = make_message("c")
    await arrivals.save(make_arrival(message.ingress))
    await deliveries.grant(message)
    assert await arrivals.overdue(9) == []


async def test_an_order_event_that_is_handled_is_not_kept(
    arrivals: PostgresArrivals, deliveries: Deliveries
) -> None:
    kept = make_arrival(kind=ArrivalKind.ORDER_EVENT)
    await arrivals.save(kept)
    event = make_order_event(correlation_id="none", id=kept.ingress_id)
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
    leader, other_process = Leader(pool), Leader(pool)
    async with (
        leader.leading("a") as first,
        other_process.leading("a") as second,
        leader.leading("a") as again,
        other_process.leading("b") as other,
    ):
        assert (first, second, again, other) == (True, False, False, True)
    async with other_process.leading("a") as now:
        assert now


async def test_a_leader_of_many_jobs_leaves_connections_for_them(database: str) -> None:
    async with open_pool(database, size=2, start_timeout=30) as pool, asyncio.timeout(30):
        leader = Leader(pool)
        async with leader.leading("a"), leader.leading("b"), leader.leading("c"):
            assert await pool.fetchval("SELECT 1") == 1
        async with pool.acquire(), pool.acquire():
            pass  # it has given its own back


async def test_a_lock_that_is_in_doubt_ends_its_connection(database: str) -> None:
    """It may have been granted as the wait for it ended: in the pool, it would be kept for ever."""
    async with (
        open_pool(database, size=1, start_timeout=30) as impatient,
        open_pool(database, size=2, start_timeout=30) as pool,
    ):
        before = await impatient.fetchval("SELECT pg_backend_pid()")
        async with alone(pool, "a"):
            with short_limit("pg_advisory"), pytest.raises(StoreUnavailableError):
                async with alone(impatient, "a"):
                    raise AssertionError("it is another's")
        assert await impatient.fetchval("SELECT pg_backend_pid()") != before
        async with alone(pool, "a"), Leader(impatient).leading("a") as leads:
            assert not leads
