"""Pauses that are over are forgotten; processes are told only if there was one."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg

from app.store.janitor import PostgresJanitor
from app.store.workers import PostgresWorkers

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


async def drained(pool: asyncpg.Pool, *workers: str) -> None:
    """Drain workers eight days ago, of which each is there since."""
    for worker in workers:
        await PostgresWorkers(pool, worker=worker, version="1", slots=1).heartbeat()
    await pool.executemany(
        "INSERT INTO pause (scope, tenant, name, reason, running, paused_by, since)"
        " VALUES ('worker', '', $1, 'r', 'stop', 'ada', now() - interval '8 days')",
        [(worker,) for worker in workers],
    )


async def forgotten(pool: asyncpg.Pool) -> set[str]:
    """Forget what is old; return the workers that are drained no more."""
    before = {row["name"] for row in await pool.fetch("SELECT name FROM pause")}
    await PostgresJanitor(pool).forget(finished=DAY, audited=DAY)
    return before - {row["name"] for row in await pool.fetch("SELECT name FROM pause")}


async def test_a_worker_that_was_drained_long_ago_and_just_stopped_is_still_drained(
    pool: asyncpg.Pool,
) -> None:
    """Its machine starts again, some minutes later."""
    await drained(pool, "w", "other")
    stopping = PostgresWorkers(pool, worker="w", version="1", slots=1)
    await stopping.deregister()
    assert await forgotten(pool) == set()
    await pool.execute("UPDATE pause SET last_seen = last_seen - interval '8 days'")
    assert await forgotten(pool) == {"w"}


async def test_a_worker_that_was_drained_and_died_is_drained_for_a_week_from_then(
    pool: asyncpg.Pool,
) -> None:
    await drained(pool, "dead", "gone", "w")
    await pool.execute(
        "UPDATE worker SET seen_at = now() - $1::interval WHERE id = 'dead'", 2 * DAY
    )
    await pool.execute(
        "UPDATE worker SET seen_at = now() - $1::interval WHERE id = 'gone'", 8 * DAY
    )
    await PostgresWorkers(pool, worker="w", version="1", slots=1).heartbeat()
    assert await pool.fetchval("SELECT count(*) FROM worker") == 1
    assert await forgotten(pool) == {"gone"}


async def test_a_drained_worker_that_stops_has_no_process_read_its_configuration(
    pool: asyncpg.Pool,
) -> None:
    told: asyncio.Queue[str] = asyncio.Queue()
    await drained(pool, "w")
    async with asyncio.timeout(30), pool.acquire() as connection:
        await connection.add_listener(CHANNEL, lambda *given: told.put_nowait(str(given[-1])))
        worker = PostgresWorkers(pool, worker="w", version="1", slots=1)
        await worker.deregister()
        await worker.heartbeat()
        await pool.execute("SELECT pg_notify($1, 'none before')", CHANNEL)
        assert await told.get() == "none before"
        await connection.reset()
