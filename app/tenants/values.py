"""What is configured by tenants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from app.delivery.formats import DEFAULT_FORMAT, DEFAULT_THRESHOLD
from app.delivery.maintenance import Maintenance
from app.delivery.pauses import Pause
from app.delivery.quotas import NO_QUOTA, Quota
from app.delivery.targets import DEFAULT_TARGET, Target
from app.delivery.webhooks import Webhook
from app.errors import TargetUnavailableError


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredValue:
    """A value that a tenant has set."""

    value: Any = field(repr=False)  # it may hold a secret
    version: int  # grows with each change; never used twice
    # Whether the key in it is a copy of the deployment's: that one holds, whatever it is by now.
    deployment_key: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """A setting as it may be shown: secrets are masked."""

    name: str
    description: str
    value: Any
    default: Any
    version: int  # 0 while it has its default

    @property
    def is_set(self) -> bool:
        """Whether the tenant has set it."""
        return self.version > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """Everything that tenants have configured, at one moment."""

    settings: Mapping[str, Mapping[str, StoredValue]] = field(
        default_factory=dict
    )  # by tenant, name
    paused: Mapping[str, Maintenance] = field(default_factory=dict)  # tenants in maintenance
    unreadable: Mapping[str, str] = field(default_factory=dict)  # tenants, and why
    pauses: Sequence[Pause] = ()  # in effect


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantSettings:
    """What holds for a tenant: what the values of its settings mean (`definitions.resolve`)."""

    request_ttl: timedelta
    order_size_limit_bytes: int
    target: Target  # the default
    delivery_format: str = DEFAULT_FORMAT  # of requests that choose none
    archive_name: str = ""  # a template, of requests that have none; empty: as REGARDS calls it
    prefix: str = ""  # likewise; empty: none
    max_suborders: int = 0  # that an order may have; 0: any number
    manifest: bool = False  # whether there is one beside each archive
    report: bool = False  # whether there is one of each delivery that fails
    sha256: bool = False  # whether it is told beside each MD5
    compression_threshold: float = DEFAULT_THRESHOLD  # what a ZIP's file must shrink below
    progress_events: bool = False  # whether clients hear over AMQP how far deliveries are
    delivered_ttl: timedelta = timedelta()  # that what was delivered stays; 0: for ever
    link_ttl: timedelta = timedelta()  # for which links hold; none: no links are made
    quota: Quota = NO_QUOTA  # what it may have, and each of its users
    targets: Mapping[str, Target] = field(default_factory=dict)  # further ones, by name
    # Why others of them can't be used by this version, by name.
    not_understood: Mapping[str, str] = field(default_factory=dict)
    webhooks: Mapping[str, Webhook] = field(default_factory=dict)  # by name

    def knows(self, name: str) -> bool:
        """Whether a request may choose a target of this name by `targetDelivery`.

        As long as no targets are configured, any name means the default.
        """
        return name in self.names or not (self.targets or self.not_understood)

    @property
    def names(self) -> frozenset[str]:
        """The names of all targets."""
        return frozenset([DEFAULT_TARGET, *self.targets, *self.not_understood])

    def own_name(self, name: str) -> str:
        """Return the name that a target has which a request may choose by this one."""
        return name if name in self.names else DEFAULT_TARGET

    def target_named(self, name: str) -> Target | None:
        """Return the target that a request has chosen; None if unknown.

        Raises TargetUnavailableError for one that only another version can use.
        """
        if name in self.not_understood:
            raise TargetUnavailableError(f"target {name}: {self.not_understood[name]}")
        if name != DEFAULT_TARGET and name in self.targets:
            return self.targets[name]
        return self.target if self.knows(name) else None
