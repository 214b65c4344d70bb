"""Numbered migrations, applied once, in order, whichever process starts first.

A page of code rather than a tool: the steps are plain SQL files, they run in one transaction under
an advisory lock, and nothing else of a migration framework is wanted.
"""

from __future__ import annotations

import asyncio

import asyncpg

from app.errors import ConfigurationError
from app.store.pool import translate_errors
from app.store.rights import grant
from app.store.schema import look, steps
from app.telemetry.logs import get_logger
from app.views.schema import Schema

log = get_logger(__name__)

# Any number will do, as long as every instance takes the same one.
_LOCK_ID = 0x72732D64
_NO_TIMEOUT = 7 * 86400.0  # seconds; for the driver, None means the pool's limit
_LOCK_TIMEOUT = 3.0  # seconds: a step that waits for a table longer holds up all that come after
_RETRY_INTERVAL = 3.0  # seconds in which they get on


async def migrate(
    pool: asyncpg.Pool,
    *,
    grant_to: str | None = None,
    lock_timeout: float = _LOCK_TIMEOUT,
    retry_interval: float = _RETRY_INTERVAL,
) -> list[str]:
    """Bring the schema up to date; return the names of the steps that were applied.

    Then give the role `grant_to` what the service needs, in the same transaction: there is no table
    that it may not use yet. Where nothing is to be done, no right is needed but to read.

    Safe to call from any number of processes at once, beside workers of the version before: they
    wait for each other, and a step takes as long as it needs; but one that waits for a table (a
    backup reads it) for `lock_timeout` steps back, and is tried again after `retry_interval`, until
    it gets it. Raises ConfigurationError when
    the database is newer than this program, or its role may not change the schema.
    """
    with translate_errors():
        async with pool.acquire() as connection:
            schema = await look(connection, steps())
        _check_not_newer(schema)
        if not schema.missing and grant_to is None:
            return []
        while True:
            try:
                return await _migrate(pool, grant_to, lock_timeout=lock_timeout)
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                log.warning(
                    "migration_waits",
                    cause=str(error),
                    consequence="it is tried again; a backup or a long transaction uses the table",
                )
            except asyncpg.InsufficientPrivilegeError as error:
                raise ConfigurationError(
                    f"the role of DELIVERY_DATABASE_URL may not do that ({error}). "
                    + (schema.behind() if schema.missing else "Only the owner of the tables may")
                ) from None
            except asyncpg.UndefinedObjectError as error:
                raise ConfigurationError(f"nothing was granted: {error}; make it first") from None
            await asyncio.sleep(retry_interval)


def _check_not_newer(schema: Schema) -> None:
    if schema.is_newer:
        raise ConfigurationError(f"{schema.sentence}: start the newer version that migrated it")


async def _migrate(pool: asyncpg.Pool, grant_to: str | None, *, lock_timeout: float) -> list[str]:
    known = steps()
    async with pool.acquire() as connection, connection.transaction():
        # Neither the pool's limit nor a role's holds: an index of a large table takes minutes,
        # and ended by the clock, it would begin again with each start.
        await connection.execute("SET LOCAL statement_timeout = 0")
        await connection.execute("SET LOCAL lock_timeout = 0")
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK_ID, timeout=_NO_TIMEOUT)
        await connection.execute(f"SET LOCAL lock_timeout = {lock_timeout * 1000:.0f}")
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS schema_migration ("
            "number integer PRIMARY KEY, name text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now())"
        )
        schema = await look(connection, known)
        _check_not_newer(schema)  # another version may have come first
        applied = []
        for number, name, sql in known:
            if number in schema.missing:
                await connection.execute(sql, timeout=_NO_TIMEOUT)
                await connection.execute(
                    "INSERT INTO schema_migration (number, name) VALUES ($1, $2)", number, name
                )
                applied.append(name)
        if grant_to is not None:
            await grant(connection, grant_to)
    return applied
