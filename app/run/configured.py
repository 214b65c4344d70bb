"""The tenants' settings: read from the database, with what opens their secrets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import asyncpg

from app.errors import ConfigurationError
from app.settings import Settings
from app.store import PostgresConfiguration
from app.telemetry.logs import get_logger
from app.tenants.configure import Configure
from app.tenants.places import shared
from app.tenants.registry import ConfiguredTenants
from app.tenants.vault import Vault, make_key

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class ConfigurationParts:
    """What a tenant's settings are kept, shown and changed with."""

    store: PostgresConfiguration
    tenants: ConfiguredTenants
    configure: Configure
    vault: Vault

    def over(self, pool: asyncpg.Pool) -> ConfigurationParts:
        """Return the same tenants, looked up and changed over another pool."""
        store = PostgresConfiguration(pool, self.vault)
        return replace(self, store=store, configure=Configure(store, self.tenants))

    def warn_of_places(self, names: Iterable[str]) -> None:
        """Tell the operator of places that tenants share, and of keys that they borrow."""
        known = [(name, self.tenants.settings(name)) for name in names]
        for place, whose in shared(known).items():
            log.warning(
                "place_shared",
                place=place,
                tenants=whose,
                consequence="with the same correlation id, one tenant can't deliver while "
                "another's archive is there",
                advice="give each a bucket or a prefix of its own: {tenant} in "
                "DELIVERY_DELIVERY_BUCKET or DELIVERY_DELIVERY_PREFIX, or its settings",
            )
        for tenant, (endpoint, bucket) in self.tenants.borrowing().items():
            log.warning(
                "deployment_key_borrowed",
                tenant=tenant,
                endpoint=endpoint,
                bucket=bucket,
                advice="`delivery doctor` says what to do",
            )


def open_vault(settings: Settings) -> Vault:
    """Return what seals secrets. Raises ConfigurationError when no key is configured."""
    keys = [key.get_secret_value() for key in settings.secret_keys]
    if not keys:
        if not settings.development:
            raise ConfigurationError(
                "DELIVERY_SECRET_KEYS is not set: the secrets of tenants are sealed with it. Make "
                "a key with `delivery make-key`, keep it safe, and give every process the same"
            )
        log.warning(
            "secret_key_made",
            cause="DELIVERY_SECRET_KEYS is not set; secrets that are set now can't be read after "
            "a restart, nor by other processes",
        )
        keys = [make_key()]
    return Vault(keys)


async def open_configuration(settings: Settings, pool: asyncpg.Pool) -> ConfigurationParts:
    """Read the tenants' settings. Raises ConfigurationError, StoreUnavailableError."""
    vault = open_vault(settings)
    store = PostgresConfiguration(pool, vault)
    tenants = ConfiguredTenants(settings)
    configure = Configure(store, tenants)
    await configure.refresh()
    return ConfigurationParts(store=store, tenants=tenants, configure=configure, vault=vault)
