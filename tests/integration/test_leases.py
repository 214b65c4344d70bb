"""What a claim costs PostgreSQL."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from app.delivery.states import Work
from app.delivery.targets import Blocked
from app.store.leases import words_of
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
        "order_request, priority, requested_at, expires_at, rank, partial) "
        "SELECT gen_random_uuid(), 't' || n % 3, 'd' || n, 'READY', 'u', "
        "CASE WHEN n < 5000 THEN 'away' ELSE 'good' END, '{}', 1, now(), now(), "
        "now() + n * interval '1 ms', n % 2 = 0 FROM generate_series(1, 6000) AS n"
    )
    await deliveries.pool.execute("ANALYZE delivery")
    text, *arguments = STATEMENTS["claim"](
        owner="w",
        ttl=timedelta(seconds=30),
        work=Work.TRANSFER.value,
        words=words_of(Work.TRANSFER),
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


async def test_a_worker_that_knows_no_partial_deliveries_claims_the_others(
    deliveries: Deliveries,
) -> None:
    """It looks for the word that it knows; it would end them without what is missing."""
    insert = (
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, partial) "
        "SELECT gen_random_uuid(), 't', 'd' || n, $1, 'u', 'good', '{}', 1, now(), now(), "
        "now() + n * interval '1 ms', n < 3 FROM generate_series(1, 3) AS n"
    )
    for work, state in ((Work.PLAN, "AVAILABLE"), (Work.TRANSFER, "READY")):
        await deliveries.pool.execute("TRUNCATE delivery CASCADE")
        await deliveries.pool.execute(insert, state)
        claim = STATEMENTS["claim"](
            owner="w",
            ttl=timedelta(seconds=30),
            work=work.value,
            words=[work.value],
            most=None,
            blocked=[],
            spared_tenants=[],
            spared_targets=[],
        )
        claimed = [await deliveries.pool.fetchrow(*claim) for _ in range(2)]
        assert [row and row["correlation_id"] for row in claimed] == ["d3", None]
        leases = deliveries.leases("later")
        later = [await leases.claim(work) for _ in range(3)]
        assert [each and each.correlation_id for each in later] == ["d1", "d2", None]
