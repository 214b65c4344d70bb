"""What is configured by tenants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredValue:
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
class Maintenance:
    """Whether a tenant is in maintenance, and since when."""

    active: bool
    updated_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """Everything that tenants have configured, at one moment."""

    settings: Mapping[str, Mapping[str, StoredValue]] = field(
        default_factory=dict
    )  # by tenant, name
    paused: frozenset[str] = frozenset()  # tenants in maintenance
    unreadable: Mapping[str, str] = field(default_factory=dict)  # tenants, and why
