"""What is kept costs the janitor nothing, however much there is: it reads what is old."""

from __future__ import annotations

import re

import pytest

from tests.integration.conftest import Deliveries
from tests.statements import STATEMENTS

_KEPT = 5000
_OLD = 10


@pytest.fixture
async def kept(deliveries: Deliveries) -> Deliveries:
    """Thousands that ended yesterday, with what is kept of them; some receipts are of long ago."""
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, finished_at) "
        "SELECT gen_random_uuid(), 't', 'd' || n, 'DONE', 'u', 'there', '{}', 1, at, at, at, at "
        "FROM generate_series(1, $1) AS n, LATERAL (SELECT now() - interval '1 day') AS day (at)",
        _KEPT,
    )
    await deliveries.pool.execute(
        "INSERT INTO content (delivery_id, tenant, correlation_id, user_email, target, "
        "archive_name, attempt, file_count, url, key, size, warned, removed_at) "
        "SELECT id, tenant, correlation_id, user_email, target, 'a.zip', 1, 1, 'u', 'k', 1, true, "
        "now() FROM delivery"
    )
    for old, count in (("finished_at", _KEPT), ("now() - interval '30 days'", _OLD)):
        await deliveries.pool.execute(
            "INSERT INTO inbox (ingress_id, digest, received_at) "  # noqa: S608 - own words
            f"SELECT id, decode(md5(id::text), 'hex'), {old} FROM delivery LIMIT $1 "
            "ON CONFLICT (ingress_id) DO UPDATE SET received_at = excluded.received_at",
            count,
        )
        await deliveries.pool.execute(
            "INSERT INTO asked (request, delivery_id, at) "  # noqa: S608 - own words
            f"SELECT decode(md5(id::text), 'hex'), id, {old} FROM delivery LIMIT $1",
            count,
        )
    await deliveries.pool.execute("VACUUM ANALYZE")
    return deliveries


@pytest.mark.parametrize(
    ("name", "arguments", "most"),
    [
        ("forget_receipts", "'7 days', 5000", _OLD),
        ("forget_asked", "'7 days', 5000", _OLD),
        ("forget_contents", "'00000000-0000-0000-0000-000000000000', 100", 100),
        ("forget_deliveries", f"ARRAY['{'0' * 32}']::uuid[], 90", 1),
    ],
)
@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
async def test_the_janitor_reads_what_is_old_however_much_is_kept(
    kept: Deliveries, *, mode: str, name: str, arguments: str, most: int
) -> None:
    """Also by the plan that PostgreSQL makes for any arguments, after five times."""
    async with kept.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE looked AS {STATEMENTS[name].text}")
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) EXECUTE looked ({arguments})"
        )
        await connection.execute("DEALLOCATE looked")
    plan = "\n".join(row[0] for row in rows)
    counts = re.findall(r"actual rows=(\d+)|Rows Removed by .*: (\d+)", plan)
    assert max(int(read or passed_over) for read, passed_over in counts) <= most, plan
