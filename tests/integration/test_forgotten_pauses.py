"""Pauses that are over are forgotten; processes are told only if there was one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg

from app.store.janitor import PostgresJanitor

CHANNEL = "delivery_configuration"
DAY = timedelta(days=1)


async def test_who_forgets_no_pause_has_no_process_read_its_configuration(
    pool: asyncpg.Pool,
) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    janitor = PostgresJanitor(pool)

    def tell(*given: object) -> None:
        told.put_nowait(str(given[-1]))

    async with asyncio.timeout(30), pool.acquire() as connection:
        await connection.add_listener(CHANNEL, tell)
        await janitor.forget(finished=DAY, audited=DAY)
        await pool.execute("SELECT pg_notify($1, 'none before')", CHANNEL)
        assert await told.get() == "none before"
        await pool.execute(
            "INSERT INTO pause (scope, tenant, name, reason, running, paused_by, until)"
            " VALUES ('tenant', 'sentinel', '', 'r', 'finish', 'ada', now() - interval '1 s')"
        )
        assert await told.get() == ""  # it was begun
        await janitor.forget(finished=DAY, audited=DAY)
        await pool.execute("SELECT pg_notify($1, 'none yet')", CHANNEL)
        assert await told.get() == "none yet"  # what has waited for it is worked off
        await pool.execute("UPDATE pause SET until = now() - interval '61 min'")
        assert await told.get() == ""  # for the test
        await janitor.forget(finished=DAY, audited=DAY)
        assert await told.get() == ""  # and is over
        assert await pool.fetchval("SELECT count(*) FROM pause") == 0
        await connection.remove_listener(CHANNEL, tell)
