"""The database: connected to, and its schema looked at. Nothing else of the service is needed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from app.errors import ConfigurationError
from app.settings import Settings
from app.store import line_of, migrate, open_pool
from app.store.pool import wrap_errors
from app.store.rights import lacking, missing_rights
from app.store.schema import Schema, look
from app.telemetry.logs import get_logger

log = get_logger(__name__)

# What a newer version's schema may lack.
_GONE = (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError)


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Connect to PostgreSQL for one command. The schema is looked at, and never changed.

    Raises ConfigurationError when it is older than this program. One that is newer is used: each
    version leaves what the one before it reads. Of one that is too new, the same is raised by the
    first statement that does not find what it needs.
    """
    async with _connected(settings) as pool:
        found = await _look(pool)
        if found.missing:
            raise ConfigurationError(found.behind())
        newer = f"the database is at migration {found.newest}, this program knows {found.known}"
        if found.is_newer:
            log.warning("database_is_newer", cause=newer, consequence="what is new is not seen")
        try:
            yield pool
        except _GONE as error:
            if not found.is_newer:
                raise
            raise ConfigurationError(
                f"{newer}, and reads what is no more there ({error}): use the newer version"
            ) from None


@contextlib.asynccontextmanager
async def open_migrated(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Connect to PostgreSQL for a process that stays, and migrate where that is allowed.

    Raises ConfigurationError when the schema is not this program's, or the role has not all rights
    that the service needs.
    """
    async with _connected(settings) as pool:
        if not settings.migrate_at_start and (found := await _look(pool)).missing:
            raise ConfigurationError(
                f"{found.behind()} (DELIVERY_MIGRATE_AT_START is off, so this process does not)"
            )
        for name in await migrate(pool):
            log.info("migration_applied", name=name)
        with wrap_errors():
            async with pool.acquire() as connection:
                missing = await missing_rights(connection)
        if missing:
            raise ConfigurationError(lacking(missing))
        yield pool


async def run_migrations(settings: Settings, *, grant_to: str | None = None) -> list[str]:
    """Migrate the database; return the names of the steps that were applied."""
    async with _connected(settings) as pool:
        return await migrate(pool, grant_to=grant_to)


@contextlib.asynccontextmanager
async def open_web_pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Connect for the HTTP server: slow or many requests must not take what leases need."""
    async with open_pool(
        line_of(settings),
        size=settings.web_database_pool_size,
        start_timeout=settings.start_timeout,
        # Should PostgreSQL itself be gone, it can't end a statement.
        command_timeout=2 * settings.web_statement_timeout,
        statement_timeout=settings.web_statement_timeout,
    ) as pool:
        yield pool


async def _look(pool: asyncpg.Pool) -> Schema:
    with wrap_errors():
        async with pool.acquire() as connection:
            return await look(connection)


def _connected(settings: Settings) -> contextlib.AbstractAsyncContextManager[asyncpg.Pool]:
    return open_pool(
        line_of(settings),
        size=settings.database_pool_size,
        start_timeout=settings.start_timeout,
    )
