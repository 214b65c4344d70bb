"""How long a delivery has been in its state, and what its history tells of attempts."""

from __future__ import annotations

from datetime import datetime, timedelta

import asyncpg
import pytest

from app.delivery.model import Delivery
from app.delivery.states import State, Work
from app.store import PostgresTracking, open_pool
from app.store.schema import steps
from tests.integration.conftest import Deliveries


async def age(pool: asyncpg.Pool, state: State) -> float:
    """Return how long the oldest is said to be in a state."""
    (depth,) = [depth for depth in await PostgresTracking(pool).depths() if depth.state is state]
    return depth.oldest


async def since(pool: asyncpg.Pool) -> datetime:
    (found,) = await pool.fetch("SELECT state_since FROM delivery")
    at: datetime = found["state_since"]
    return at


async def turn_back(pool: asyncpg.Pool, seconds: int) -> None:
    """Let what has happened be longer ago."""
    await pool.execute(
        "UPDATE delivery SET state_since = state_since - $1::interval, "
        "updated_at = updated_at - $1::interval",
        timedelta(seconds=seconds),
    )


async def give_up(deliveries: Deliveries, work: Work, cause: str) -> Delivery:
    leases = deliveries.leases("w")
    claimed = await leases.claim(work)
    assert claimed is not None
    await leases.release(claimed, after=timedelta(), failed=False, cause=cause)
    return claimed


@pytest.mark.parametrize(
    ("work", "state"), [(Work.PLAN, State.AVAILABLE), (Work.TRANSFER, State.TRANSFERRING)]
)
async def test_the_age_of_a_state_grows_over_attempts_that_are_given_up(
    deliveries: Deliveries, work: Work, state: State
) -> None:
    await (deliveries.available() if work is Work.PLAN else deliveries.ready())
    await give_up(deliveries, work, "away")
    began = await since(deliveries.pool)
    await turn_back(deliveries.pool, 3600)
    await give_up(deliveries, work, "away")
    assert await age(deliveries.pool, state) >= 3600
    assert await since(deliveries.pool) == began - timedelta(hours=1)


async def test_the_age_starts_again_with_each_state(deliveries: Deliveries) -> None:
    await deliveries.granted()
    await turn_back(deliveries.pool, 3600)
    await deliveries.ready("other")
    await deliveries.pool.execute("DELETE FROM delivery WHERE correlation_id = 'other'")
    delivery = await deliveries.active("c")
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(delivery, State.ORDERED, order_id=1)
    ordered = await since(deliveries.pool)
    assert ordered >= delivery.requested_at
    # Once more into the same state is no new state.
    async with deliveries.store.transaction() as tx:
        assert await tx.advance(await deliveries.active("c"), State.ORDERED, order_id=1)
    assert await since(deliveries.pool) == ordered


async def test_an_attempt_that_is_given_up_is_a_step_with_its_cause(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.ready()
    tracking = PostgresTracking(deliveries.pool)
    last = await tracking.last()
    await give_up(deliveries, Work.TRANSFER, "S3 is away")
    assert [(s.state, s.attempt, s.cause) for s in (await tracking.steps(delivery.id))[-2:]] == [
        (State.TRANSFERRING, 1, None),
        (State.TRANSFERRING, 1, "S3 is away"),
    ]
    *_, change = await tracking.since(last, missing=(), limit=10)
    assert change.step.cause == "S3 is away"
    assert change.tracked.worker is None


async def test_attempts_each_minute_for_hours_fill_no_history(
    deliveries: Deliveries,
) -> None:
    delivery = await deliveries.available()
    for number in range(5):
        await give_up(deliveries, Work.PLAN, f"away {number}")
    found = await PostgresTracking(deliveries.pool).steps(delivery.id)
    assert [(step.state, step.cause) for step in found] == [
        (State.GRANTED, None),
        (State.AVAILABLE, None),
        (State.AVAILABLE, "away 4"),
    ]


async def test_the_age_of_an_older_delivery_comes_from_its_history(database: str) -> None:
    """Three attempts at a transfer are one stay in its state; an hour ago it came into it."""
    async with open_pool(database, size=2, start_timeout=30) as pool:
        for number, _, sql in steps():
            if number < 9:
                await pool.execute(sql)
        await pool.execute(
            "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
            "order_request, priority, requested_at, expires_at, rank) VALUES "
            "(gen_random_uuid(), 't', 'c', 'TRANSFERRING', 'u', 't', '{}', 1, now(), now(), now())"
        )
        await pool.execute("DELETE FROM delivery_history")
        await pool.execute(
            "INSERT INTO delivery_history (delivery_id, state, attempt, at) "
            "SELECT id, step.state, step.attempt, now() - step.ago FROM delivery, (VALUES "
            "('READY', 0, interval '2 hours'), ('TRANSFERRING', 1, interval '1 hour'), "
            "('TRANSFERRING', 2, interval '1 minute')) AS step (state, attempt, ago)"
        )
        for number, _, sql in steps():
            if number >= 9:
                await pool.execute(sql)
        assert 3600 <= await age(pool, State.TRANSFERRING) < 7200
