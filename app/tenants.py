"""The tenants and what each has configured: read from the store when it changes, kept at hand.

Nothing here asks the store while a request or a file is handled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import catalogue
from app.configuration import Configuration, Setting, Stored
from app.errors import SecretUnreadableError
from app.logs import get_logger
from app.model import TenantSettings
from app.settings import Settings

log = get_logger(__name__)


class ConfiguredTenants:
    """See `app.ports.Tenants`: the tenants of the static settings, with settings of their own."""

    def __init__(self, settings: Settings) -> None:
        self._names = frozenset(settings.tenants)
        self._defaults = catalogue.defaults(settings)
        self._everyone = catalogue.resolve(self._defaults)
        self._configuration = Configuration()
        self._resolved: dict[str, TenantSettings] = {}

    def known(self, tenant: str) -> bool:
        """Whether the tenant is in the list."""
        return tenant in self._names

    def settings(self, tenant: str) -> TenantSettings:
        """Return what holds for the tenant."""
        return self._resolved.get(tenant, self._everyone)

    def check_secrets(self, tenant: str) -> None:
        """Return if the tenant's secrets can be read. Raises SecretUnreadableError."""
        if tenant in self._configuration.unreadable:
            raise SecretUnreadableError(
                f"a secret in the settings of tenant {tenant} can't be read: "
                f"{self._configuration.unreadable[tenant]}"
            )

    def paused(self, tenant: str) -> bool:
        """Whether the tenant is in maintenance."""
        return tenant in self._configuration.paused

    def apply(self, configuration: Configuration) -> None:
        """Take in what the store holds now."""
        self._resolved = {
            tenant: catalogue.resolve(
                self._defaults | {name: stored.value for name, stored in own.items()}
            )
            for tenant, own in configuration.settings.items()
        }
        for tenant, why in configuration.unreadable.items():
            log.error("settings_unreadable", tenant=tenant, cause=why)
        self._configuration = configuration

    def unreadable(self) -> Mapping[str, str]:
        """Return the tenants with secrets that can't be read, and why."""
        return self._configuration.unreadable

    def default(self, name: str) -> Any:
        """Return the default of a setting."""
        return self._defaults[name]

    def listing(self, tenant: str) -> list[Setting]:
        """Return every setting of the tenant, as it may be shown."""
        own = self._configuration.settings.get(tenant, {})
        return [self.shown(name, own.get(name)) for name in catalogue.DEFINITIONS]

    def shown(self, name: str, stored: Stored | None) -> Setting:
        """Return a setting as it may be shown."""
        default = self._defaults[name]
        return Setting(
            name=name,
            description=catalogue.DEFINITIONS[name].description,
            value=catalogue.masked(default if stored is None else stored.value),
            default=catalogue.masked(default),
            version=0 if stored is None else stored.version,
        )
