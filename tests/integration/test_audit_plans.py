"""The audit trail reads what it shows, however much of it a tenant has."""

from __future__ import annotations

import pytest

from tests.integration.conftest import Deliveries
from tests.integration.test_list_plans import most_read
from tests.statements import STATEMENTS

_KEPT = 20_000
_RARE = 29  # entries
_PAGE = 20
_FIRST = 2**62  # id under which entries are looked for


@pytest.fixture
async def crowded(deliveries: Deliveries) -> Deliveries:
    """Thousands of changes; of one actor, action and subject each there were few, long ago."""
    await deliveries.pool.execute(
        "INSERT INTO audit (tenant, actor, role, action, subject) "
        "SELECT 't', CASE WHEN n <= 29 THEN 'rare' ELSE 'u' || n % 9 END, 'ADMIN', "
        "CASE WHEN n <= 29 THEN 'rare' ELSE 'set' END, "
        "CASE WHEN n <= 29 THEN 'rare' ELSE 's' || n % 9 END FROM generate_series(1, $1) AS n",
        _KEPT,
    )
    await deliveries.pool.execute("VACUUM ANALYZE audit")
    return deliveries


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize("by", ["actor", "action", "subject"])
@pytest.mark.parametrize("what", ["rare", "of none"])
async def test_what_is_rare_is_found_without_reading_the_rest(
    crowded: Deliveries, by: str, what: str, mode: str
) -> None:
    """Also by the plan that PostgreSQL makes for any arguments, after five times."""
    statement = STATEMENTS[f"audit_of_{by}"]
    given = {"tenant": "'t'", by: f"'{what}'", "before": str(_FIRST), "limit": str(_PAGE)}
    arguments = ", ".join(given.get(name, "NULL") for name in statement.parameters)
    async with crowded.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE looked AS {statement.text}")
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE looked ({arguments})"
        )
        await connection.execute("DEALLOCATE looked")
    plan = "\n".join(row[0] for row in rows)
    assert most_read(plan) <= _RARE, plan
