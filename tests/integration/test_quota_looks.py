"""What a look at quotas costs PostgreSQL."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from app.delivery.states import State
from tests.integration.conftest import Deliveries
from tests.statements import STATEMENTS

WAITING = 6000


@pytest.fixture
async def crowded(deliveries: Deliveries) -> Deliveries:
    """Thousands that wait, of thirty users, and ten that were let in."""
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, held) "
        "SELECT gen_random_uuid(), 't', 'd' || n, 'RECEIVED', 'u' || n % 30, 'there', '{}', 1, "
        "now(), now() + $2, now() + n * interval '1 ms', n <= $1 "
        "FROM generate_series(1, $1 + 10) AS n",
        WAITING,
        timedelta(hours=1),
    )
    await deliveries.pool.execute("VACUUM ANALYZE delivery")
    return deliveries


async def explained(deliveries: Deliveries, name: str, **arguments: object) -> str:
    """Return how a statement was run."""
    text, *given = STATEMENTS[name](**arguments)
    rows = await deliveries.pool.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *given)
    return "\n".join(row[0] for row in rows)


async def test_what_waits_is_not_read_to_find_that_there_is_no_place(crowded: Deliveries) -> None:
    plan = await explained(
        crowded,
        "admit",
        tenant="t",
        state=State.RECEIVED.value,
        active=12,
        requests=0,
        user_active=0,
        user_requests=0,
        limit=500,
    )
    assert "using delivery_let_in on delivery" in plan
    assert "Seq Scan on delivery" not in plan
    read = [int(found) for found in re.findall(r"on delivery.*actual rows=(\d+)", plan)]
    assert read, plan
    assert max(read) <= 60, plan  # of each user as many as there are places


async def test_what_is_used_is_told_by_indexes(crowded: Deliveries) -> None:
    plan = await explained(crowded, "usage", tenant="t", users=["u1"], of_tenant=0, of_user=0)
    assert "using delivery_let_in on delivery" in plan
    assert "using delivery_held on delivery" in plan
    assert "Seq Scan on delivery" not in plan


async def test_of_what_waits_for_bytes_few_are_read(deliveries: Deliveries) -> None:
    """One user has laid out thousands, on three days; the head does not fit."""
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, held, order_done, total_bytes, "
        "state_since) "
        "SELECT gen_random_uuid(), 't', 'd' || n, 'READY', 'u', 'there', '{}', 1, "
        "now(), now() + $2, now() - n * interval '1 ms', true, true, 1000, "
        "now() - (n % 3) * interval '1 day' FROM generate_series(1, $1) AS n",
        WAITING,
        timedelta(hours=1),
    )
    await deliveries.pool.execute("VACUUM ANALYZE delivery")
    most = 20
    asked = {
        "tenant": "t",
        "bytes": 2000,
        "user_bytes": 0,
        "limit": most,
    }
    plan = await explained(deliveries, "chargeable", **asked)
    assert "Seq Scan on delivery" not in plan
    assert "Rows Removed by Filter" not in plan
    read = [int(found) for found in re.findall(r"on delivery.*actual rows=(\d+)", plan)]
    assert read, plan
    assert max(read) <= most, plan  # of each day
    text, *given = STATEMENTS["chargeable"](**asked)
    rows = await deliveries.pool.fetch(text, *given)
    oldest = await deliveries.pool.fetch(
        "SELECT id FROM delivery WHERE state_since < date_trunc('day', now() AT TIME ZONE 'UTC') "
        "AT TIME ZONE 'UTC' ORDER BY rank LIMIT 2"
    )
    assert [row["id"] for row in rows] == [row["id"] for row in oldest]
