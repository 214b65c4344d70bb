"""Whose delivery a step is of is known of all of them: also of those from before that was noted."""

from __future__ import annotations

import asyncpg

from app.store import PostgresTracking, open_pool
from app.store.schema import steps

_NOTED = 92  # the migration that notes it


async def test_steps_from_before_are_told_to_the_users_whose_they_are(database: str) -> None:
    async with open_pool(database, size=2, start_timeout=30) as pool:
        for number, _, sql in steps():
            if number < _NOTED:
                await pool.execute(sql)
        await _ask_for(pool, "before", user="a@example.org")
        for number, _, sql in steps():
            if number >= _NOTED:
                await pool.execute(sql)
        await _ask_for(pool, "after", user="b@example.org")
        changes = PostgresTracking(pool)
        newest = await changes.last()
        for name, user in (("before", "a@example.org"), ("after", "b@example.org")):
            (change,) = await changes.replay("t", 0, limit=9, user=user)
            assert change.tracked.delivery.correlation_id == name
            assert await changes.last_of("t", user, until=newest) == change.step.id


async def _ask_for(pool: asyncpg.Pool, name: str, *, user: str) -> None:
    await pool.execute(
        "INSERT INTO delivery (id, tenant, correlation_id, state, user_email, target, "
        "order_request, priority, requested_at, expires_at, rank) VALUES "
        "(gen_random_uuid(), 't', $1, 'GRANTED', $2, 't', '{}', 1, now(), now(), now())",
        name,
        user,
    )
