"""Numbered migrations, applied once, in order, whoever starts first.

A page of code rather than a tool: the steps are plain SQL files, they run in one transaction under
an advisory lock, and nothing else of a migration framework is wanted.
"""

from __future__ import annotations

import asyncio
from importlib.resources import files

import asyncpg

from app.errors import ConfigurationError
from app.logs import get_logger
from app.store.pool import wrap_errors

log = get_logger(__name__)

# Any number will do, as long as every instance takes the same one.
_LOCK = 0x72732D64
_WITHOUT_END = 7 * 86400.0  # seconds; for the driver, None means the pool's limit
_TABLE_WAIT = 3000  # milliseconds: whoever waits for a table longer holds up all who come after
_PAUSE = 3.0  # seconds in which they get on


def steps() -> list[tuple[int, str, str]]:
    """Return number, name and SQL of every migration, in order."""
    found = [
        (int(path.name.split("_", 1)[0]), path.name, path.read_text(encoding="utf-8"))
        for path in files("app.store").joinpath("migrations").iterdir()
        if path.name.endswith(".sql")
    ]
    return sorted(found)


async def migrate(pool: asyncpg.Pool) -> list[str]:
    """Bring the schema up to date; return the names of the steps that were applied.

    Safe to call from any number of processes at once, beside workers of the version before: they
    wait for each other, and a step takes as long as it needs; but one that waits for a table (a
    backup reads it) steps back, and is tried again until it gets it. Raises ConfigurationError when
    the database is newer than this program.
    """
    with wrap_errors():
        while True:
            try:
                return await _migrate(pool)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                log.warning(
                    "migration_waits",
                    cause=str(error),
                    consequence="it is tried again; a backup or a long transaction uses the table",
                )
            await asyncio.sleep(_PAUSE)


async def _migrate(pool: asyncpg.Pool) -> list[str]:
    known = steps()
    async with pool.acquire() as connection, connection.transaction():
        # Neither the pool's limit nor a role's holds: an index of a large table takes minutes,
        # and ended by the clock, it would begin anew with each start.
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK, timeout=_WITHOUT_END)
        await connection.execute(f"SET LOCAL lock_timeout = {_TABLE_WAIT}")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration ("
            "number integer PRIMARY KEY, name text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        )
        rows = await connection.fetch("SELECT number FROM schema_migration")
        done = {row["number"] for row in rows}
        if done and max(done) > known[-1][0]:
            raise ConfigurationError(
                f"the database is at migration {max(done)}, this program knows "
                f"{known[-1][0]}: start the newer version that migrated it"
            )
        applied = []
        for number, name, sql in known:
            if number not in done:
                await connection.execute(sql, timeout=_WITHOUT_END)
                await connection.execute(
                    "INSERT INTO schema_migration (number, name) VALUES ($1, $2)", number, name
                )
                applied.append(name)
    return applied
