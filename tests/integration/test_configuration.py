"""Settings take effect: on every process at once, on what begins after it, never on what runs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from app.delivery.states import State, Work
from app.errors import ConfigurationError, SecretUnreadableError
from app.run.website import make_watcher
from app.run.wiring.tenants import ConfigurationParts, open_configuration
from app.settings import Settings
from app.store import PostgresConfiguration
from app.tenants.vault import Vault, make_key
from compose.embedded.stack import TENANT
from tests.builders import make_actor, make_message, make_s3_server
from tests.integration.conftest import Deliveries, with_keys
from tests.targets import s3_of

ACTOR = make_actor(name="admin")
SERVER = make_s3_server()


@contextlib.asynccontextmanager
async def process(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> AsyncIterator[ConfigurationParts]:
    """Run what a process has of the configuration, and hears of it."""
    parts = await open_configuration(with_keys(settings, keys), pool)
    watcher = make_watcher(parts)
    await watcher.start()
    try:
        yield parts
    finally:
        await watcher.stop()


async def until(parts: ConfigurationParts, hours: int) -> None:
    """Return once this process knows of a time to live."""
    async with asyncio.timeout(30):
        while parts.tenants.settings(TENANT).request_ttl != timedelta(hours=hours):
            await asyncio.sleep(0.01)


async def test_every_process_hears_of_a_change(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> None:
    async with (
        process(settings, pool, keys) as one,
        process(settings, pool, keys) as other,
    ):
        await one.configure.put(ACTOR, "request_ttl", 77)
        await until(other, 77)
        await other.configure.reset(ACTOR, "request_ttl")
        await until(one, 12)


async def test_a_change_is_heard_of_after_the_line_was_cut(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> None:
    async with process(settings, pool, keys) as one, process(settings, pool, keys) as other:
        await one.configure.put(ACTOR, "request_ttl", 5)
        await until(other, 5)
        cut = await pool.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND query LIKE 'LISTEN%'"
        )
        assert cut
        await one.configure.put(ACTOR, "request_ttl", 6)
        await until(other, 6)


async def test_secrets_are_read_with_any_key_and_sealed_with_the_first(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> None:
    old = await open_configuration(with_keys(settings, keys), pool)
    await old.configure.put(ACTOR, "s3_server", SERVER)
    new_key = make_key()
    both = await open_configuration(with_keys(settings, [new_key, *keys]), pool)
    assert s3_of(both.tenants.settings(TENANT).target).secret == SERVER["secret"]
    store = PostgresConfiguration(pool, Vault([new_key, *keys]))
    assert await store.reseal(ACTOR) == 1
    new = await open_configuration(with_keys(settings, [new_key]), pool)
    assert s3_of(new.tenants.settings(TENANT).target).secret == SERVER["secret"]
    assert new.configure.setting(TENANT, "s3_server").version == 1


async def test_a_secret_that_no_key_opens_stops_its_tenant_only_until_it_is_set_again(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> None:
    before = await open_configuration(with_keys(settings, keys), pool)
    await before.configure.put(ACTOR, "s3_server", SERVER)
    after = await open_configuration(with_keys(settings, [make_key()]), pool)
    with pytest.raises(SecretUnreadableError, match=r"tenant sentinel.*DELIVERY_SECRET_KEYS"):
        after.tenants.check_secrets(TENANT)
    after.tenants.check_secrets("swot")
    assert after.tenants.settings(TENANT).request_ttl == timedelta(hours=12)
    with pytest.raises(SecretUnreadableError, match="s3_server of tenant sentinel"):
        await after.store.reseal(ACTOR)
    await after.configure.put(ACTOR, "s3_server", SERVER)
    after.tenants.check_secrets(TENANT)
    assert s3_of(after.tenants.settings(TENANT).target).secret == SERVER["secret"]


async def test_requests_are_answered_while_a_secret_cannot_be_read(
    deliveries: Deliveries, settings: Settings, keys: list[str]
) -> None:
    """They share their batch with those of other tenants, which must not wait for an operator."""
    before = await open_configuration(with_keys(settings, keys), deliveries.pool)
    await before.configure.put(ACTOR, "s3_server", SERVER)
    after = await open_configuration(with_keys(settings, [make_key()]), deliveries.pool)
    await deliveries.receive(make_message("c"), tenants=after.tenants)
    assert (await deliveries.active("c")).state is State.GRANTED


async def test_a_process_without_a_key_starts_only_in_development(
    settings: Settings, pool: asyncpg.Pool
) -> None:
    work = settings.model_copy(update={"development": False})
    with pytest.raises(ConfigurationError, match="delivery make-key"):
        await open_configuration(with_keys(work, []), pool)
    with pytest.raises(ConfigurationError, match="key 1 is not one") as raised:
        await open_configuration(with_keys(settings, ["hunter2"]), pool)
    assert "hunter2" not in str(raised.value)
    development = settings.model_copy(update={"secret_keys": (), "development": True})
    assert (await open_configuration(development, pool)).vault


async def test_requests_of_a_tenant_in_maintenance_wait_and_then_begin(
    deliveries: Deliveries, configuration: ConfigurationParts
) -> None:
    tenants = configuration.tenants
    await configuration.configure.enable_maintenance(ACTOR)
    for tenant, correlation_id in ((TENANT, "waits"), ("swot", "goes-on")):
        await deliveries.receive(make_message(correlation_id, tenant=tenant), tenants=tenants)
    leases = deliveries.leases("w")
    assert (await deliveries.active("goes-on", "swot")).state is State.GRANTED
    assert (await deliveries.active("waits")).state is State.RECEIVED
    assert await leases.claim(Work.CHECK) is None
    await deliveries.pool.execute(
        "UPDATE delivery SET requested_at = requested_at - interval '1 day', "
        "expires_at = expires_at - interval '1 day' WHERE correlation_id = 'waits'"
    )
    assert await deliveries.store.expired(10) == []
    await configuration.configure.disable_maintenance(ACTOR)
    claimed = await leases.claim(Work.CHECK)
    assert claimed is not None
    assert claimed.correlation_id == "waits"
    assert await deliveries.store.expired(10) == []  # its time began with the end of maintenance
    # Out of maintenance already: no delivery gets more time.
    await deliveries.pool.execute("UPDATE delivery SET expires_at = now() - interval '1 hour'")
    await configuration.configure.disable_maintenance(ACTOR)
    assert len(await deliveries.store.expired(10)) == 2


async def test_a_key_that_the_version_before_sets_is_not_taken_for_the_deployments(
    settings: Settings, pool: asyncpg.Pool, keys: list[str]
) -> None:
    """While versions are mixed: it changes the value, and knows nothing of what stands beside."""
    parts = await open_configuration(with_keys(settings, keys), pool)
    own = parts.configure.setting(TENANT, "s3_server").value | {"region": "elsewhere"}
    await parts.configure.put(ACTOR, "s3_server", own)
    assert (await parts.store.read()).settings[TENANT]["s3_server"].deployment_key
    await pool.execute(
        "UPDATE tenant_setting SET value = value, version = nextval('setting_version')"
    )
    assert not (await parts.store.read()).settings[TENANT]["s3_server"].deployment_key
