"""Where the settings of tenants are kept: PostgreSQL (`app.store.configuration`), or memory."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from app.audit import AuditRecord
from app.tenants.values import Configuration, Maintenance, StoredValue


class ConfigurationChange(Protocol):
    """A tenant's settings, locked: all that is done is committed together, or nothing."""

    values: dict[str, StoredValue]  # what is set, by name

    async def set(self, name: str, value: Any) -> StoredValue:
        """Set a value."""

    async def reset(self, name: str) -> None:
        """Forget a value: the default holds."""

    async def maintain(self, *, active: bool) -> Maintenance:
        """Put the tenant into maintenance, or take it out."""

    async def audit(self, done: AuditRecord) -> None:
        """Put it into the audit trail."""


class ConfigurationStore(Protocol):
    """Where settings are kept. Every process hears of a change within moments."""

    async def read(self) -> Configuration:
        """Return what all tenants have set."""

    def change(self, tenant: str) -> AbstractAsyncContextManager[ConfigurationChange]:
        """Lock a tenant's settings; leaving the block commits, an exception rolls back."""

    async def maintenance(self, tenant: str) -> Maintenance | None:
        """Return whether the tenant is in maintenance; None if it never was."""
