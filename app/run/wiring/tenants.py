"""The tenants' settings: read from the database, with what opens their secrets."""

from __future__ import annotations

from dataclasses import dataclass, replace

import asyncpg

from app.run.wiring.kinds import KINDS
from app.settings import Settings
from app.store import PostgresConfiguration
from app.tenants.configure import Configure
from app.tenants.registry import ConfiguredTenants
from app.tenants.vault import Vault, vault_of


@dataclass(frozen=True, kw_only=True)
class ConfigurationParts:
    """What a tenant's settings are kept, shown and changed with.

    It is one of what `Services` have, and by itself for those who need nothing else of them: the
    commands that change settings.
    """

    pool: asyncpg.Pool
    store: PostgresConfiguration
    tenants: ConfiguredTenants
    configure: Configure
    vault: Vault

    def over(self, pool: asyncpg.Pool) -> ConfigurationParts:
        """Return the same tenants, looked up and changed over another pool."""
        store = PostgresConfiguration(pool, self.vault)
        return replace(self, pool=pool, store=store, configure=Configure(store, self.tenants))


async def open_configuration(settings: Settings, pool: asyncpg.Pool) -> ConfigurationParts:
    """Read the tenants' settings. Raises ConfigurationError, StoreUnavailableError."""
    vault = vault_of(settings)
    store = PostgresConfiguration(pool, vault)
    tenants = unread_tenants(settings)
    configure = Configure(store, tenants)
    await configure.refresh()
    return ConfigurationParts(
        pool=pool, store=store, tenants=tenants, configure=configure, vault=vault
    )


def unread_tenants(settings: Settings) -> ConfiguredTenants:
    """Return the tenants as if none had set anything."""
    return ConfiguredTenants(settings, KINDS)
