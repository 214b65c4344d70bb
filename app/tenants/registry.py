"""The tenants and what each has configured: read from the store when it changes, kept at hand.

Nothing here asks the store while a request or a file is handled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

from app.delivery.targets import Target, TargetKinds
from app.delivery.webhooks import Webhook
from app.errors import SecretUnreadableError
from app.settings import Settings
from app.settings.tenants import TENANT
from app.telemetry.logs import get_logger
from app.tenants import definitions
from app.tenants.definitions import Definitions
from app.tenants.masks import masked
from app.tenants.values import Configuration, Setting, StoredValue, TenantSettings

log = get_logger(__name__)


class ConfiguredTenants:
    """Who may ask for deliveries, and how theirs are made.

    The tenants of the static settings, with settings of their own.
    """

    def __init__(self, settings: Settings, kinds: TargetKinds) -> None:
        self._looks = count(1)
        self._applied = 0  # the number of the look that is in effect
        self.static = settings  # the process's
        self.kinds = kinds
        self.definitions = Definitions(kinds)
        self._names = frozenset(settings.tenants)
        self._configuration = Configuration()
        self._resolved: dict[str, TenantSettings] = {}

    def known(self, tenant: str) -> bool:
        """Whether the tenant exists."""
        return tenant in self._names

    def settings(self, tenant: str) -> TenantSettings:
        """Return what holds for the tenant now."""
        if tenant not in self._resolved:
            self._resolved[tenant] = self.resolved(tenant, self._own(tenant))
        return self._resolved[tenant]

    def resolved(self, tenant: str, own: Mapping[str, Any]) -> TenantSettings:
        """Return what would hold for the tenant if it had set these values."""
        default = self.defaults(tenant)
        values = default | dict(own)
        prefix = self.static.delivery_prefix.replace(TENANT, tenant)
        shared = definitions.shares_credentials(values, default)
        return definitions.resolve(
            values, self.kinds, tenant=tenant, prefix=prefix if shared else ""
        )

    def targets(self) -> Iterator[Target]:
        """Iterate over all targets of all tenants that are served."""
        for tenant in self._names:
            settings = self.settings(tenant)
            yield settings.target
            yield from settings.targets.values()

    def webhooks(self) -> Iterator[Webhook]:
        """Iterate over all webhooks of all tenants that are served."""
        for tenant in self._names:
            yield from self.settings(tenant).webhooks.values()

    def check_secrets(self, tenant: str) -> None:
        """Raise SecretUnreadableError unless the tenant's secrets can be read.

        Asked before a target is used: all else must not wait for an operator to find a key.
        """
        if tenant in self._configuration.unreadable:
            raise SecretUnreadableError(
                f"a secret in the settings of tenant {tenant} can't be read: "
                f"{self._configuration.unreadable[tenant]}"
            )

    def check_all_secrets(self) -> None:
        """Raise SecretUnreadableError unless the secrets of all tenants can be read.

        It names none: this is for operators of any tenant.
        """
        unreadable = len(self._configuration.unreadable)
        if unreadable:
            raise SecretUnreadableError(
                f"secrets of {unreadable} tenants can't be read with DELIVERY_SECRET_KEYS; the log "
                "(settings_unreadable) and `delivery doctor` name them"
            )

    def paused(self, tenant: str) -> bool:
        """Whether the tenant is in maintenance: its requests wait."""
        return tenant in self._configuration.paused

    def max_suborders(self, tenant: str) -> int:
        """Return how many suborders an order may have; 0: any number, or no tenant of ours."""
        return self.settings(tenant).max_suborders if self.known(tenant) else 0

    def look(self) -> int:
        """Return the number of a look at the store that begins now: see `apply`."""
        return next(self._looks)

    def apply(self, configuration: Configuration, *, look: int | None = None) -> None:
        """Take in what a look at the store found; without its number, what it holds now.

        A look that began before the one in effect is passed over: what it found may be older.
        (Looks are not made one after the other: one that waits for a connection would hold up all.)
        """
        look = self.look() if look is None else look
        if look < self._applied:
            return
        self._applied = look
        self._configuration = configuration
        self._resolved = {
            tenant: self.resolved(tenant, self._own(tenant)) for tenant in configuration.settings
        }
        for tenant, why in configuration.unreadable.items():
            log.error("settings_unreadable", tenant=tenant, cause=why)

    def unreadable(self) -> Mapping[str, str]:
        """Return the tenants with secrets that can't be read, and why."""
        return self._configuration.unreadable

    def _own(self, tenant: str) -> dict[str, Any]:
        own = self._configuration.settings.get(tenant, {})
        return {name: stored.value for name, stored in own.items()}

    def defaults(self, tenant: str) -> dict[str, Any]:
        """Return the default of every setting."""
        return self.definitions.defaults(self.static, tenant)

    def borrowed(self, tenant: str, own: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return endpoint and bucket of a tenant's choice that the deployment's S3 key is used for.

        With these values of its settings; None where there is none, or the operator allows it.
        """
        default = self.defaults(tenant)
        values = default | dict(own)
        if self.static.tenants_choose_buckets or not definitions.leads_elsewhere(values, default):
            return None
        return definitions.place_of(values)

    def borrowing(self) -> dict[str, tuple[str, str]]:
        """Return the tenants that use the deployment's S3 key where nothing allows it, and where.

        What was set before that rule came goes on working; the operator is warned.
        """
        found = {name: self.borrowed(name, self._own(name)) for name in sorted(self._names)}
        return {name: place for name, place in found.items() if place is not None}

    def listing(self, tenant: str) -> list[Setting]:
        """Return every setting of the tenant, as it may be shown."""
        own = self._configuration.settings.get(tenant, {})
        return [self.shown(tenant, name, own.get(name)) for name in self.definitions.names]

    def shown(self, tenant: str, name: str, stored: StoredValue | None) -> Setting:
        """Return a setting as it may be shown."""
        default = self.defaults(tenant)[name]
        return Setting(
            name=name,
            description=self.definitions.of(name).description,
            value=masked(default if stored is None else stored.value),
            default=masked(default),
            version=0 if stored is None else stored.version,
        )
