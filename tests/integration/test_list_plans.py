"""A list reads what it shows, however many deliveries a tenant has."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from app.store import PostgresTracking
from app.views.deliveries import Filter
from tests.integration.conftest import Deliveries
from tests.integration.plans import MODES, Explaining, most_read
from tests.statements import STATEMENTS

_KEPT = 5000
_OPEN = 400
_BEGUN = 16  # of those
_FAILED = _KEPT // 50
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


@pytest.fixture
async def of_one(crowded: Deliveries) -> Deliveries:
    """Nearly all are of one user."""
    await crowded.pool.execute("UPDATE delivery SET user_email = 'one' WHERE user_email <> 'u7'")
    await crowded.pool.execute(
        "UPDATE delivery_history h SET user_email = d.user_email FROM delivery d "
        "WHERE d.id = h.delivery_id"
    )
    await crowded.pool.execute("VACUUM ANALYZE")
    return crowded


@pytest.fixture
async def underway(crowded: Deliveries) -> Deliveries:
    """Some more that have not ended: half of the begun are in hand, and half were given up."""
    await crowded.pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank, lease_owner, lease_until, "
        "tries) SELECT gen_random_uuid(), 't', 'open' || n, 'READY', 'u' || n % 100, 'there', "
        "'{}', 1, at, at + interval '1 year', at, "
        "CASE WHEN n <= $2 / 2 THEN 'w' END, CASE WHEN n <= $2 / 2 THEN now() END, "
        "CASE WHEN n > $2 / 2 AND n <= $2 THEN 1 ELSE 0 END FROM generate_series(1, $1) AS n, "
        "LATERAL (SELECT now() - n * interval '10 minutes') AS minute (at)",
        _OPEN,
        _BEGUN,
    )
    await crowded.pool.execute("VACUUM ANALYZE")
    return crowded


async def explained(
    deliveries: Deliveries, *, mode: str, in_the_middle: bool = False, **wanted: Any
) -> str:
    """Return how a page of a list was read."""
    before: tuple[datetime, UUID] | None = None
    if in_the_middle:
        row = await deliveries.pool.fetchrow(
            "SELECT requested_at, id FROM delivery ORDER BY requested_at DESC OFFSET $1 LIMIT 1",
            _KEPT // 4,
        )
        assert row is not None
        before = row["requested_at"], row["id"]
    pool = Explaining(deliveries.pool, mode)
    tracking = PostgresTracking(pool.as_pool())
    asked = Filter.model_validate(wanted)
    await tracking.browse(["t"], asked, before=before, limit=_PAGE)
    return pool.plan


@pytest.mark.parametrize(
    "wanted",
    [{}, {"user": "u7"}, {"user": "x"}, {"state": ["ERROR"]}],
    ids=["any", "a user's", "an unknown user's", "failed"],
)
async def test_a_page_of_a_list_reads_what_it_shows(
    crowded: Deliveries, wanted: dict[str, Any]
) -> None:
    plan = await explained(crowded, mode="force_custom_plan", in_the_middle=True, **wanted)
    assert most_read(plan) <= _PAGE, plan


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("wanted", "most"),
    [
        ({"activity": ["retrying"]}, _BEGUN),
        ({"activity": ["moving", "stalled"]}, _BEGUN),
        ({"worker": "w"}, _BEGUN),
        ({"worker": "gone"}, _BEGUN),
        ({"activity": ["waiting"]}, _BEGUN + _PAGE),
        ({"activity": ["paused", "retrying"]}, _OPEN),
        ({"state": ["ORDERED", "GRANTED"]}, _OPEN),
        ({"code": ["NO_SUCH_CODE"]}, _OPEN + _FAILED),
    ],
    ids=str,
)
async def test_what_has_not_ended_is_found_without_reading_what_has(
    underway: Deliveries, wanted: dict[str, Any], most: int, mode: str
) -> None:
    """Also by the plan that PostgreSQL makes for any arguments, after five times."""
    plan = await explained(underway, mode=mode, **wanted)
    assert most_read(plan) <= most, plan


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "arguments", "most"),
    [
        ("changes", "{last}, 20, ARRAY[7]", 11),
        ("changes_of_tenant", "'t', {last}, 20", 1009),  # those of the moments before, too
        # Of one user: what is new of their own alone, however long they were away.
        ("changes_of_user", "'t', 'u7', {last}, 20", 11),
        ("changes_of_user", "'t', 'u7', 1, 20", _KEPT // 100),
        ("changes_of_user", "'t', 'x', 1, 20", 1),
        ("last_change_of_user", "'t', 'u7', {last}", 1),
        ("last_change_of_user", "'t', 'x', {last}", 1),
    ],
)
async def test_a_reader_that_follows_the_steps_reads_the_new_ones(
    crowded: Deliveries, *, name: str, arguments: str, most: int, mode: str
) -> None:
    """Also by the plan that PostgreSQL makes for any arguments, after five times."""
    plan = await followed(crowded, name, arguments, mode=mode)
    assert most_read(plan) <= most, plan


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "arguments", "most"),
    [
        ("changes_of_user", "'t', 'one', {last}, 20", 1009),  # those of the moments before, too
        ("changes_of_user", "'t', 'one', 1, 20", 20),
        ("last_change_of_user", "'t', 'one', {last}", 1),
    ],
)
async def test_who_has_kept_nearly_all_that_there_is_reads_the_new_steps(
    of_one: Deliveries, *, name: str, arguments: str, most: int, mode: str
) -> None:
    plan = await followed(of_one, name, arguments, mode=mode)
    assert most_read(plan) <= most, plan


@pytest.mark.parametrize("mode", MODES)
async def test_transfers_of_who_has_kept_thousands_are_found_among_what_has_not_ended(
    of_one: Deliveries, mode: str
) -> None:
    """It is what a stream of their own deliveries begins with."""
    plan = await explained(of_one, mode=mode, user="one", state=["TRANSFERRING"])
    assert most_read(plan) <= 1, plan


async def followed(deliveries: Deliveries, name: str, arguments: str, *, mode: str) -> str:
    """Return how steps were read of which ten are new."""
    last = await deliveries.changes.last() - 10
    async with deliveries.pool.acquire() as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
        await connection.execute(f"PREPARE looked AS {STATEMENTS[name].text}")
        rows = await connection.fetch(
            "EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) "
            f"EXECUTE looked ({arguments.format(last=last)})"
        )
        await connection.execute("DEALLOCATE looked")
    return "\n".join(row[0] for row in rows)
