"""What is configured by tenants, and who changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

# REGARDS' tenant of those who administer all of them; it has no deliveries. What is changed for all
# tenants, or for none that is known, is in its trail.
INSTANCE = "instance"


@dataclass(frozen=True, kw_only=True, slots=True)
class Actor:
    """Who does something, as their token, the command line or a message says."""

    name: str  # the name alone, whichever way they come
    role: str  # of REGARDS; COMMAND_LINE; AMQP
    tenant: str
    expires: int | None = field(default=None, compare=False)  # seconds since 1970, of a token


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """A value that a tenant has set."""

    value: Any = field(repr=False)  # it may hold a secret
    version: int  # grows with each change; never used twice


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
class Done:
    """A change that an actor makes; secrets are masked."""

    actor: Actor
    action: str
    subject: str  # such as the name of a setting, or "delivery d-001"
    before: Any
    after: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Maintenance:
    """Whether a tenant is in maintenance, and since when."""

    active: bool
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """Everything that tenants have configured, at one moment."""

    settings: Mapping[str, Mapping[str, Stored]] = field(default_factory=dict)  # by tenant, name
    paused: frozenset[str] = frozenset()  # tenants in maintenance
    unreadable: Mapping[str, str] = field(default_factory=dict)  # tenants, and why


@dataclass(frozen=True, kw_only=True, slots=True)
class AuditEntry:
    """A change as the audit trail has it."""

    id: int
    at: datetime
    tenant: str
    actor: str
    role: str
    action: str
    subject: str
    before: Any
    after: Any
