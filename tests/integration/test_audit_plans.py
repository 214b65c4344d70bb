"""The audit trail reads what it shows, however much of it a tenant has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.store import PostgresAudit
from tests.integration.conftest import Deliveries
from tests.integration.plans import MODES, Explaining, most_read

_KEPT = 20_000  # entries, one a minute
_RARE = 29  # entries
_PAGE = 20
_FIRST = 2**62  # id under which entries are looked for
_NEWEST = datetime(2026, 11, 20, tzinfo=UTC)
_MARGIN = 60  # minutes by which clocks may differ
_LATELY = _NEWEST - timedelta(minutes=9)
_LONG_AGO = _NEWEST - timedelta(minutes=_KEPT - 9)


@pytest.fixture
async def crowded(deliveries: Deliveries) -> Deliveries:
    """Thousands of changes; of one actor, action and subject each there were few, long ago.

    Others did much, and much was set; they set little.
    """
    await deliveries.pool.execute(
        "INSERT INTO audit (tenant, actor, role, action, subject, at) "
        "SELECT 't', "
        "CASE WHEN n <= $2 THEN 'rare' WHEN n <= 2 * $2 THEN 'u0' ELSE 'u' || n % 2 END, 'ADMIN', "
        "CASE WHEN n <= $2 THEN 'rare' WHEN n <= 2 * $2 THEN 'a1' ELSE 'a' || n % 2 END, "
        "CASE WHEN n <= $2 THEN 'rare' ELSE 's' || n % 9 END, "
        "$3::timestamptz - ($1 - n) * interval '1 minute' FROM generate_series(1, $1) AS n",
        _KEPT,
        _RARE,
        _NEWEST,
    )
    await deliveries.pool.execute("VACUUM ANALYZE audit")
    return deliveries


async def explained(deliveries: Deliveries, *, mode: str, tenant: str | None, **by: Any) -> str:
    """Return how a page of the trail was read."""
    pool = Explaining(deliveries.pool, mode)
    await PostgresAudit(pool.as_pool()).entries(tenant, before=_FIRST, limit=_PAGE, **by)
    return pool.plan


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "by",
    [
        *({name: what} for name in ("actor", "action", "subject") for what in ("rare", "of none")),
        {"actor": "u0", "action": "a1"},
        {"actor": "u1", "action": "a0"},
        {"actor": "u0", "action": "a1", "subject": "rare"},
    ],
    ids=str,
)
async def test_what_is_rare_is_found_without_reading_the_rest(
    crowded: Deliveries, by: dict[str, str], mode: str
) -> None:
    """Also by the plan that PostgreSQL makes for any arguments, after five times."""
    plan = await explained(crowded, mode=mode, tenant="t", **by)
    assert most_read(plan) <= _RARE, plan


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("tenant", ["t", None])
@pytest.mark.parametrize(
    "by",
    [
        {"since": _LATELY},
        {"until": _LONG_AGO},
        {"since": _LATELY, "actor": "u0"},
        {"until": _LONG_AGO, "action": "a0"},
        {"since": _LATELY, "subject": "s1"},
        {"since": _LATELY, "actor": "u0", "action": "a0"},
    ],
    ids=str,
)
async def test_what_is_between_times_is_found_without_reading_the_rest(
    crowded: Deliveries, by: dict[str, Any], tenant: str | None, mode: str
) -> None:
    plan = await explained(crowded, mode=mode, tenant=tenant, **by)
    assert most_read(plan) <= _MARGIN + _PAGE, plan
