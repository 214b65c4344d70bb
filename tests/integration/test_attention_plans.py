"""What is wrong now is found without reading what was wrong long ago."""

from __future__ import annotations

from typing import Any

import pytest

from app.store import attention
from tests.integration.conftest import Deliveries
from tests.integration.plans import most_read

_KEPT = 5000


@pytest.fixture
async def failed(deliveries: Deliveries) -> Deliveries:
    """Thousands of attempts that failed, one of them just now; another succeeded before it."""
    await deliveries.pool.execute(
        "WITH kept AS (INSERT INTO delivery (id, tenant, correlation_id, state, user_email, "
        "target, order_request, priority, requested_at, expires_at, rank, finished_at) "
        "SELECT gen_random_uuid(), 't', 'd' || n, 'ERROR', 'u', 'there', '{}', 1, at, at, at, at "
        "FROM generate_series(0, $1) AS n, "
        "LATERAL (SELECT now() - n * interval '10 minutes') AS minutes (at) RETURNING *) "
        "INSERT INTO delivery_attempt "
        "(delivery_id, attempt, tenant, target, worker, began, ended, outcome) "
        "SELECT id, 1, tenant, target, 'w', finished_at, finished_at, "
        "CASE WHEN correlation_id = 'd1' THEN 'done' ELSE 'error' END FROM kept",
        _KEPT,
    )
    await deliveries.pool.execute("VACUUM ANALYZE")
    return deliveries


async def test_failures_from_before_the_last_success_are_not_read(
    failed: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    statement = attention.SQL["troubles"]

    def noted(**arguments: Any) -> Any:
        asked.append(arguments)
        return statement(**arguments)

    monkeypatch.setattr(attention, "SQL", {"troubles": noted})
    assert not [
        trouble
        for trouble in await failed.attention.troubles(["t"])
        if trouble.code == "TRANSFERS_FAIL"
    ]
    text, *arguments = statement(**asked[0])
    rows = await failed.pool.fetch(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *arguments)
    plan = "\n".join(row[0] for row in rows)
    assert most_read(plan) <= 20, plan
