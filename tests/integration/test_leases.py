"""What a claim costs PostgreSQL."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from app.delivery.targets import Blocked
from tests.integration.conftest import Deliveries
from tests.statements import STATEMENTS


@pytest.mark.parametrize(
    "blocked",
    [
        Blocked(),
        Blocked(tenants=("t0", "t1")),
        Blocked(tenants=("t0", "t1"), spared=(("t0", "good"), ("t1", "good"))),
    ],
    ids=["nothing is blocked", "tenants are", "targets are"],
)
async def test_a_claim_looks_at_no_more_than_it_must(
    deliveries: Deliveries, blocked: Blocked
) -> None:
    """By indexes only: a hundred thousand that wait must not be read to find the first."""
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank) "
        "SELECT gen_random_uuid(), 't' || n % 3, 'd' || n, 'READY', 'u', "
        "CASE WHEN n < 5000 THEN 'away' ELSE 'good' END, '{}', 1, now(), now(), "
        "now() + n * interval '1 ms' FROM generate_series(1, 6000) AS n"
    )
    await deliveries.pool.execute("ANALYZE delivery")
    text, *arguments = STATEMENTS["claim"](
        owner="w",
        ttl=timedelta(seconds=30),
        work="transfer",
        most=None,
        blocked=blocked.tenants,
        spared_tenants=[tenant for tenant, _ in blocked.spared],
        spared_targets=[target for _, target in blocked.spared],
    )
    rows = await deliveries.pool.fetch(
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *arguments
    )
    plan = "\n".join(row[0] for row in rows)
    assert "Seq Scan on delivery" not in plan
    read = [int(found) for found in re.findall(r"on delivery.*actual rows=(\d+)", plan)]
    assert read, plan
    assert max(read) <= 3, plan
