"""The tenants and what each has configured: read from the store when it changes, kept at hand.

Nothing here asks the store while a request or a file is handled.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

from app.delivery.maintenance import Maintenance
from app.delivery.pauses import Pauses
from app.delivery.targets import Target, TargetKinds
from app.delivery.webhooks import Webhook
from app.errors import SecretUnreadableError
from app.settings import Settings
from app.settings.tenants import TENANT
from app.telemetry.logs import get_logger
from app.tenants import deployment_key
from app.tenants.definitions import Definitions, resolve
from app.tenants.masks import masked
from app.tenants.values import Configuration, Setting, StoredValue, TenantSettings

log = get_logger(__name__)


class ConfiguredTenants:
    """Who may ask for deliveries, and how theirs are made.

    The tenants of the static settings, with settings of their own. One that is served no more
    since these were read again asks for nothing, but what it had asked for is finished.
    """

    def __init__(self, settings: Settings, kinds: TargetKinds) -> None:
        self._looks = count(1)
        self._applied = 0  # the number of the look that is in effect
        self.static = settings  # the process's
        self.kinds = kinds
        self.definitions = Definitions(kinds)
        self._names = tuple(settings.tenants)
        self._left: tuple[str, ...] = ()  # served no more, in the order in which they left
        self._configuration = Configuration()
        self.pauses = Pauses()  # those that are known here
        self._resolved: dict[str, TenantSettings] = {}

    @property
    def names(self) -> Sequence[str]:
        """The tenants that are served."""
        return self._names

    @property
    def worked_for(self) -> Sequence[str]:
        """Those, and the ones whose deliveries are finished though they are served no more."""
        return (*self._names, *self._left)

    def known(self, tenant: str) -> bool:
        """Whether the tenant is served: what it asks for is taken in."""
        return tenant in self._names

    def works_for(self, tenant: str) -> bool:
        """Whether what the tenant has asked for is worked on."""
        return tenant in self._names or tenant in self._left

    def serve(self, settings: Settings) -> None:
        """Serve the tenants of these settings from now on, and let their defaults hold."""
        left = (name for name in self.worked_for if name not in settings.tenants)
        self._names, self._left = tuple(settings.tenants), tuple(left)
        self.static = settings
        self._resolve()

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
        shared = deployment_key.shares_credentials(values, default)
        return resolve(values, self.kinds, tenant=tenant, prefix=prefix if shared else "")

    def targets(self) -> Iterator[Target]:
        """Iterate over all targets of all tenants that are worked for."""
        for tenant in self.worked_for:
            settings = self.settings(tenant)
            yield settings.target
            yield from settings.targets.values()

    def webhooks(self) -> Iterator[Webhook]:
        """Iterate over all webhooks of all tenants that are worked for."""
        for tenant in self.worked_for:
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

    def maintenance_of(self, tenant: str) -> Maintenance | None:
        """Return the maintenance that the tenant is in; None: it is in none."""
        return self._configuration.paused.get(tenant)

    def max_suborders(self, tenant: str) -> int:
        """Return how many suborders an order may have; 0: any number, or no tenant of ours."""
        return self.settings(tenant).max_suborders if self.works_for(tenant) else 0

    def reports(self, tenant: str) -> bool:
        """Whether what fails is reported; not where it is no tenant of ours."""
        return self.works_for(tenant) and self.settings(tenant).report

    def progress_events(self, tenant: str) -> bool:
        """Whether a tenant that is worked for has clients hear over AMQP how far theirs are."""
        return self.works_for(tenant) and self.settings(tenant).progress_events

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
        self.pauses.apply(configuration.pauses)
        self._resolve()
        for tenant, why in configuration.unreadable.items():
            log.error("settings_unreadable", tenant=tenant, cause=why)

    def _resolve(self) -> None:
        # All at once: where one can't be, what held before goes on for all.
        self._resolved = {
            tenant: self.resolved(tenant, self._own(tenant))
            for tenant in self._configuration.settings
        }

    def unreadable(self) -> Mapping[str, str]:
        """Return the tenants with secrets that can't be read, and why."""
        return self._configuration.unreadable

    def _own(self, tenant: str) -> dict[str, Any]:
        return self.values_of(tenant, self._configuration.settings.get(tenant, {}))

    def values_of(self, tenant: str, stored: Mapping[str, StoredValue]) -> dict[str, Any]:
        """Return what a tenant has set, as it holds now; also what only another version knows."""
        default = self.defaults(tenant)
        return {name: _in_effect(each, default.get(name)) for name, each in stored.items()}

    def value_of(self, tenant: str, name: str, stored: StoredValue | None) -> Any:
        """Return a setting's value: what the tenant has set, as it holds now, or its default."""
        default = self.defaults(tenant)[name]
        return default if stored is None else _in_effect(stored, default)

    def copies_key(self, tenant: str, name: str, value: Any) -> bool:
        """Whether a value has the deployment's own S3 key, for the deployment's own server."""
        return name == deployment_key.S3_SERVER and deployment_key.copies_key(
            value, self.defaults(tenant)[name]
        )

    def copying(self) -> list[str]:
        """Return the tenants with such a value of which nothing says yet that it is one."""
        name = deployment_key.S3_SERVER
        return [
            tenant
            for tenant, own in self._configuration.settings.items()
            if name in own
            and not own[name].deployment_key
            and self.copies_key(tenant, name, own[name].value)
        ]

    def defaults(self, tenant: str) -> dict[str, Any]:
        """Return the default of every setting."""
        return self.definitions.defaults(self.static, tenant)

    def borrowed(self, tenant: str, own: Mapping[str, Any]) -> tuple[str, str] | None:
        """Return endpoint and bucket of a tenant's choice that the deployment's S3 key is used for.

        With these values of its settings; None where there is none, or the operator allows it.
        """
        default = self.defaults(tenant)
        values = default | dict(own)
        if self.static.tenants_choose_buckets:
            return None
        elsewhere = deployment_key.leads_elsewhere(values, default)
        return deployment_key.place_of(values) if elsewhere else None

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
        return Setting(
            name=name,
            description=self.definitions.of(name).description,
            value=masked(self.value_of(tenant, name, stored)),
            default=masked(self.defaults(tenant)[name]),
            version=0 if stored is None else stored.version,
        )


def _in_effect(stored: StoredValue, default: Any) -> Any:
    """Return a value with the deployment's S3 key as it is now, where it is one with that."""
    if not stored.deployment_key or not deployment_key.is_same_server(stored.value, default):
        return stored.value
    return stored.value | {name: default[name] for name in deployment_key.S3_KEY}
