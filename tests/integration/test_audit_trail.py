"""What is noted of a change is there if the change was made; its errors are the change's own."""

from __future__ import annotations

import asyncpg
import pytest

from app.audit import INSTANCE
from app.errors import BrokerUnavailableError, StoreUnavailableError
from app.store import PostgresAudit
from tests.builders import make_actor, make_done

DONE = make_done(make_actor(tenant=INSTANCE))


async def noted(pool: asyncpg.Pool) -> int:
    return len(await PostgresAudit(pool).entries(None, before=2**62, limit=100))


@pytest.mark.parametrize(
    "error",
    [
        BrokerUnavailableError("RabbitMQ does not confirm"),
        ConnectionResetError("by RabbitMQ"),
        TimeoutError("of RabbitMQ"),
    ],
)
async def test_an_error_of_a_noted_change_is_told_as_it_is(
    pool: asyncpg.Pool, error: Exception
) -> None:
    trail = PostgresAudit(pool)
    with pytest.raises(type(error)) as raised:
        async with trail.recording(DONE):
            raise error
    assert raised.value is error
    assert await noted(pool) == 0
    async with trail.recording(DONE):
        pass
    assert await noted(pool) == 1


async def test_an_error_is_told_as_it_is_where_postgresql_goes_away_meanwhile(
    pool: asyncpg.Pool,
) -> None:
    with pytest.raises(TimeoutError, match="of RabbitMQ"):
        async with PostgresAudit(pool).recording(DONE):
            await cut_off(pool)
            raise TimeoutError("of RabbitMQ")
    assert await noted(pool) == 0


async def test_a_note_that_fails_is_told_as_an_error_of_postgresql(pool: asyncpg.Pool) -> None:
    with pytest.raises(StoreUnavailableError):
        async with PostgresAudit(pool).recording(DONE):
            await cut_off(pool)
    assert await noted(pool) == 0


async def cut_off(pool: asyncpg.Pool) -> None:
    """End the connections that are in a transaction."""
    await pool.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND state = 'idle in transaction'"
    )
