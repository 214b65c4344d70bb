"""A list reads what it shows, however many deliveries a tenant has."""

from __future__ import annotations

import re
from typing import Any

import pytest

from app.delivery.states import State
from app.views.deliveries import Filter
from tests.integration.conftest import Deliveries
from tests.statements import STATEMENTS

_KEPT = 5000
_PAGE = 20


@pytest.fixture
async def crowded(deliveries: Deliveries) -> Deliveries:
    """Thousands that ended, of a hundred users; one in fifty failed."""
    await deliveries.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, finished_at) "
        "SELECT gen_random_uuid(), 't', 'd' || n, "
        "CASE WHEN n % 50 = 7 THEN 'ERROR' ELSE 'DONE' END, 'u' || n % 100, 'there', '{}', 1, "
        "at, at, at, at FROM generate_series(1, $1) AS n, "
        "LATERAL (SELECT now() - n * interval '1 minute') AS minute (at)",
        _KEPT,
    )
    await deliveries.pool.execute("VACUUM ANALYZE")
    return deliveries


def most_read(plan: str) -> int:
    """Return the most rows that a step read, or passed over."""
    counts = re.findall(r"actual rows=(\d+)|Rows Removed by .*: (\d+)", plan)
    return max(int(read or passed_over) for read, passed_over in counts)


async def explained(deliveries: Deliveries, **wanted: Any) -> str:
    """Return how a page in the middle of a list was read."""
    middle = await deliveries.pool.fetchrow(
        "SELECT requested_at, id FROM delivery ORDER BY requested_at DESC OFFSET $1 LIMIT 1",
        _KEPT // 4,
    )
    assert middle is not None
    text, *arguments = STATEMENTS["browse"](
        tenants=["t"],
        before_at=middle["requested_at"],
        before_id=middle["id"],
        limit=_PAGE,
        **Filter.model_validate(wanted).arguments(),
    )
    rows = await deliveries.pool.fetch(
        f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {text}", *arguments
    )
    return "\n".join(row[0] for row in rows)


@pytest.mark.parametrize(
    "wanted",
    [{}, {"user": "u7"}, {"user": "x"}, {"states": [State.ERROR]}],
    ids=["any", "a user's", "an unknown user's", "failed"],
)
async def test_a_page_of_a_list_reads_what_it_shows(
    crowded: Deliveries, wanted: dict[str, Any]
) -> None:
    plan = await explained(crowded, **wanted)
    assert most_read(plan) <= _PAGE, plan


@pytest.mark.parametrize("mode", ["force_custom_plan", "force_generic_plan"])
@pytest.mark.parametrize(
    ("name", "arguments", "most"),
    [
        ("changes", "{last}, 20, ARRAY[7]", 11),
        ("changes_of_tenant", "'t', {last}, 20", 1009),  # those of the moments before, too
        # Of one user: their own alone, however long they were away.
        ("changes_of_user", "'t', 'u7', {last}, 20", _KEPT // 100),
        ("changes_of_user", "'t', 'u7', 1, 20", _KEPT // 100),
        ("last_change_of_user", "'t', 'u7', {last}", _KEPT // 100),
    ],
)
async def test_a_reader_that_follows_the_steps_reads_the_new_ones(
    crowded: Deliveries, *, name: str, arguments: str, most: int, mode: str
) -> None:
    """Also by the plan that PostgreSQL makes for any arguments, after five times."""
    last = await crowded.changes.last() - 10
    async with crowded.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE looked AS {STATEMENTS[name].text}")
        rows = await connection.fetch(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "
            f"EXECUTE looked ({arguments.format(last=last)})"
        )
        await connection.execute("DEALLOCATE looked")
    plan = "\n".join(row[0] for row in rows)
    assert most_read(plan) <= most, plan
