"""PostgreSQL: connected to, its schema looked at, and what is kept there.

Nothing else of the service is needed, nor imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property

import asyncpg

from app import __version__
from app.delivery.model import Delivery
from app.delivery.outgoing import OutgoingMessage
from app.delivery.states import Work
from app.delivery.targets import Blocked
from app.errors import ConfigurationError
from app.settings import Settings
from app.store import (
    Leader,
    PostgresArrivals,
    PostgresAttention,
    PostgresAudit,
    PostgresCheckpoints,
    PostgresConfiguration,
    PostgresContents,
    PostgresDeadLetters,
    PostgresHistory,
    PostgresJanitor,
    PostgresLeases,
    PostgresOutbox,
    PostgresStore,
    PostgresTargets,
    PostgresTracking,
    PostgresWebhooks,
    PostgresWorkers,
    PostgresWorkNews,
    alone,
    migrate,
    open_pool,
    parameters_of,
)
from app.store.pool import translate_errors
from app.store.rights import lacking, missing_rights
from app.store.schema import PostgresSchema, look
from app.store.woken import unpublished
from app.telemetry.logs import get_logger
from app.tenants.vault import vault_of
from app.views.schema import Schema
from app.waiting.own_news import OwnNews
from app.waiting.wakeup import Wakeup

log = get_logger(__name__)

# What a newer version's schema may lack.
_GONE = (asyncpg.UndefinedColumnError, asyncpg.UndefinedTableError, asyncpg.UndefinedFunctionError)


@dataclass(frozen=True, kw_only=True)
class PostgresDatabase:
    """Connections to PostgreSQL, and what is kept there: one object for each table's subject."""

    settings: Settings
    pool: asyncpg.Pool
    owed: Wakeup = field(default_factory=Wakeup)  # notified after a commit that left some to send
    hinted: Callable[[Sequence[OutgoingMessage]], object] = unpublished  # publishes hints
    own: OwnNews[Work] = field(default_factory=OwnNews)  # what commits of this process make due

    def over(self, pool: asyncpg.Pool) -> PostgresDatabase:
        """Return the same, over other connections."""
        return replace(self, pool=pool)

    @cached_property
    def store(self) -> PostgresStore:
        """The deliveries."""
        return PostgresStore(self.pool, self.owed, hinted=self.hinted, woken=self.own.tell)

    @cached_property
    def tracking(self) -> PostgresTracking:
        """The deliveries, looked at."""
        return PostgresTracking(self.pool)

    @cached_property
    def attention(self) -> PostgresAttention:
        """What is wrong now."""
        return PostgresAttention(self.pool)

    @cached_property
    def targets(self) -> PostgresTargets:
        """How it goes with targets."""
        return PostgresTargets(self.pool)

    @cached_property
    def history(self) -> PostgresHistory:
        """What became of deliveries in time."""
        return PostgresHistory(self.pool)

    @cached_property
    def arrivals(self) -> PostgresArrivals:
        """The events that no agent has handled yet."""
        return PostgresArrivals(self.pool, allowance=self.settings.event_duration)

    @cached_property
    def audit(self) -> PostgresAudit:
        """Who changed what."""
        return PostgresAudit(self.pool)

    @cached_property
    def webhooks(self) -> PostgresWebhooks:
        """What is owed to webhooks."""
        return PostgresWebhooks(self.pool)

    @cached_property
    def dead_letters(self) -> PostgresDeadLetters:
        """What could not be handled."""
        return PostgresDeadLetters(self.pool)

    @cached_property
    def schema(self) -> PostgresSchema:
        """How far the schema is."""
        return PostgresSchema(self.pool)

    @cached_property
    def leader(self) -> Leader:
        """What of the jobs that one process does for all is done by this one."""
        return Leader(self.pool)

    def tenant_settings(self) -> PostgresConfiguration:
        """Return where the tenants' settings are; none is read. Raises ConfigurationError."""
        return PostgresConfiguration(self.pool, vault_of(self.settings))

    def outbox(self) -> PostgresOutbox:
        """Return what is to be sent."""
        return PostgresOutbox(self.pool, batch=self.settings.outbox_batch_size)

    def janitor(self) -> PostgresJanitor:
        """Return what removes what is old."""
        return PostgresJanitor(self.pool)

    def contents(self) -> PostgresContents:
        """Return what deliveries that are done have left at their targets."""
        return PostgresContents(self.pool)

    def presence(self) -> PostgresWorkers:
        """Return where this worker records that it is alive."""
        return PostgresWorkers(
            self.pool,
            worker=self.settings.worker_id,
            version=__version__,
            slots=self.settings.max_transfers,
        )

    def work_news(self) -> PostgresWorkNews:
        """Return what tells this worker of work at once."""
        return PostgresWorkNews(self.pool)

    def leases(
        self, *, blocked: Callable[[], Blocked], archived: Callable[[Delivery], int | None]
    ) -> PostgresLeases:
        """Return what claims for this worker; `blocked` says what it must leave.

        `archived` tells how far one of its transfers is, in bytes.
        """
        return PostgresLeases(
            self.pool,
            owner=self.settings.worker_id,
            ttl=self.settings.lease_duration,
            transfers_per_tenant=self.settings.max_transfers_per_tenant or None,
            blocked=blocked,
            archived=archived,
        )

    def checkpoints(self) -> PostgresCheckpoints:
        """Return what this worker saves of half-made archives."""
        return PostgresCheckpoints(self.pool, owner=self.settings.worker_id)

    def alone(self, job: str) -> AbstractAsyncContextManager[None]:
        """Do a job while no other process does; wait for one that does it now."""
        return alone(self.pool, job)


@contextlib.asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[PostgresDatabase]:
    """Connect to PostgreSQL for one command. The schema is looked at, and never changed.

    Raises ConfigurationError when it is older than this program. One that is newer is used: each
    version leaves what the one before it reads. Of one that is too new, the same is raised by the
    first statement that does not find what it needs.
    """
    async with connected(settings) as database:
        found = await _look(database.pool)
        if found.missing:
            raise ConfigurationError(found.behind())
        newer = found.sentence
        if found.is_newer:
            log.warning("database_is_newer", cause=newer, consequence="what is new is not seen")
        try:
            yield database
        except _GONE as error:
            if not found.is_newer:
                raise
            raise ConfigurationError(
                f"{newer}, and reads what is no more there ({error}): use the newer version"
            ) from None


@contextlib.asynccontextmanager
async def open_migrated(settings: Settings, *, lines: int = 0) -> AsyncIterator[PostgresDatabase]:
    """Connect to PostgreSQL for a process that stays, and migrate where that is allowed.

    `lines` are connections beside those of the settings, by which it hears of something always.

    Raises ConfigurationError when the schema is not this program's, or the role has not all rights
    that the service needs.
    """
    async with connected(settings, size=settings.database_pool_size + lines) as database:
        pool = database.pool
        if not settings.migrate_at_start and (found := await _look(pool)).missing:
            raise ConfigurationError(
                f"{found.behind()} (DELIVERY_MIGRATE_AT_START is off, so this process does not)"
            )
        for name in await migrate(pool):
            log.info("migration_applied", name=name)
        with translate_errors():
            async with pool.acquire() as connection:
                missing = await missing_rights(connection)
        if missing:
            raise ConfigurationError(lacking(missing))
        yield database


async def run_migrations(settings: Settings, *, grant_to: str | None = None) -> list[str]:
    """Migrate the database; return the names of the steps that were applied."""
    async with connected(settings) as database:
        return await migrate(database.pool, grant_to=grant_to)


@contextlib.asynccontextmanager
async def open_web_pool(settings: Settings) -> AsyncIterator[asyncpg.Pool]:
    """Connect for the HTTP server: slow or many requests must not take what leases need."""
    async with open_pool(
        parameters_of(settings),
        size=settings.web_database_pool_size,
        start_timeout=settings.start_timeout,
        # Should PostgreSQL itself be gone, it can't end a statement.
        command_timeout=2 * settings.web_statement_timeout,
        statement_timeout=settings.web_statement_timeout,
    ) as pool:
        yield pool


async def _look(pool: asyncpg.Pool) -> Schema:
    with translate_errors():
        async with pool.acquire() as connection:
            return await look(connection)


@contextlib.asynccontextmanager
async def connected(
    settings: Settings, *, size: int | None = None, start_timeout: float | None = None
) -> AsyncIterator[PostgresDatabase]:
    """Connect to PostgreSQL, whatever its schema is.

    With `size` connections at most, within `start_timeout` seconds: those of the settings where
    they are not given.
    """
    async with open_pool(
        parameters_of(settings),
        size=settings.database_pool_size if size is None else size,
        start_timeout=settings.start_timeout if start_timeout is None else start_timeout,
    ) as pool:
        yield PostgresDatabase(settings=settings, pool=pool)
