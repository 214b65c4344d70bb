"""The database: connected to, with its schema up to date. Nothing else of the service is needed."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg

from app.logs import get_logger
from app.settings import Settings
from app.store import migrate, open_pool

log = get_logger(__name__)


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Connect to PostgreSQL and bring its schema up to date."""
    async with _connected(settings) as pool:
        for name in await migrate(pool):
            log.info("migration_applied", name=name)
        yield pool


async def run_migrations(settings: Settings) -> list[str]:
    """Migrate the database; return the names of the steps that were applied."""
    async with _connected(settings) as pool:
        return await migrate(pool)


@contextlib.asynccontextmanager
async def open_web_pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Connect for the HTTP server: slow or many requests must not take what leases need."""
    async with open_pool(
        settings.database_url.get_secret_value(),
        size=settings.web_database_pool_size,
        start_timeout=settings.start_timeout,
        # Should PostgreSQL itself be gone, it can't end a statement.
        command_timeout=2 * settings.web_statement_timeout,
        statement_timeout=settings.web_statement_timeout,
    ) as pool:
        yield pool


def _connected(settings: Settings) -> contextlib.AbstractAsyncContextManager[asyncpg.Pool]:
    return open_pool(
        settings.database_url.get_secret_value(),
        size=settings.database_pool_size,
        start_timeout=settings.start_timeout,
    )
