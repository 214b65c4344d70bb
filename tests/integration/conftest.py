"""What integration tests build by hand instead of starting the whole service."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from uuid import uuid4

import asyncpg
import pytest

from app.run.wiring.kinds import KINDS
from app.run.wiring.tenants import ConfigurationParts, open_configuration
from app.settings import Settings
from app.store import PostgresArrivals
from app.tenants.registry import ConfiguredTenants
from app.tenants.vault import make_key
from compose.embedded.stack import TENANT
from sinks.stores.s3.managed import open_store
from sinks.stores.s3.store import S3ObjectStore
from sinks.stores.s3.target import S3Target
from tests.deliveries import DeliveriesInPostgres
from tests.integration.s3_proxy import Proxied, running_proxy
from tests.targets import s3_of

# Most tests here are about PostgreSQL; those that both stores pass are in tests/store.
Deliveries = DeliveriesInPostgres


@pytest.fixture
def deliveries(pool: asyncpg.Pool, settings: Settings) -> Deliveries:
    """Deliveries in a database of the test's own."""
    return Deliveries(pool, settings)


@contextlib.contextmanager
def short_limit(*words: str) -> Iterator[None]:
    """Let the limit of a pool be short for statements with these words; any other has its time."""
    execute = asyncpg.Connection.execute

    async def shortly(
        connection: asyncpg.Connection,
        query: str,
        *arguments: object,
        timeout: float | None = None,  # noqa: ASYNC109 - as the driver has it
    ) -> str:
        if timeout is None and any(word in query for word in words):
            timeout = 0.2
        return await execute(connection, query, *arguments, timeout=timeout)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asyncpg.Connection, "execute", shortly)
        yield


@pytest.fixture
def arrivals(pool: asyncpg.Pool) -> PostgresArrivals:
    """What arrived, in a database of the test's own; it counts as lost at once."""
    return PostgresArrivals(pool, allowance=timedelta())


@pytest.fixture
async def sink() -> AsyncIterator[S3ObjectStore]:
    """The real sink."""
    async with open_store() as opened:
        yield opened


async def abort_all(sink: S3ObjectStore, target: S3Target, key: str) -> None:
    """Abort whatever is open under a key."""
    for upload in await sink.open_uploads(target, key):
        await sink.abort(target, upload)


@pytest.fixture
def target(settings: Settings) -> S3Target:
    """The embedded stack's bucket."""
    return s3_of(ConfiguredTenants(settings, KINDS).settings(TENANT).target)


@pytest.fixture
async def proxied(target: S3Target) -> AsyncIterator[Proxied]:
    """The store's proxy, and the target through it: a store of which nothing is known."""
    async with running_proxy(target) as both:
        yield both


@pytest.fixture
def name() -> str:
    """A correlation id of the test's own: the bucket is everybody's."""
    return f"c-{uuid4().hex[:12]}"


@pytest.fixture
def keys() -> list[str]:
    """The keys that every process has."""
    return [make_key()]


def with_keys(settings: Settings, keys: list[str]) -> Settings:
    """Return settings with keys, as the environment would give them."""
    return Settings(**{**settings.model_dump(), "secret_keys": ",".join(keys)})


@pytest.fixture
async def configuration(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> ConfigurationParts:
    """What settings are kept with; a tenant may set its bucket, as the contract has it."""
    chosen = settings.model_copy(update={"tenants_choose_buckets": True})
    return await open_configuration(with_keys(chosen, keys), pool)
