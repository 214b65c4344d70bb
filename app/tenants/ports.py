"""Where the settings of tenants are kept: PostgreSQL (`app.store.configuration`), or memory."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime, timedelta
from typing import Any, Protocol

from app.audit import AuditRecord
from app.delivery.maintenance import Maintenance
from app.delivery.pauses import Pause, PauseSubject, Running
from app.tenants.values import Configuration, StoredValue


class ConfigurationChange(Protocol):
    """A tenant's settings, locked: all that is done is committed together, or nothing.

    What is of no tenant is changed as the tenant INSTANCE.
    """

    values: dict[str, StoredValue]  # what is set, by name

    async def set(self, name: str, value: Any, *, deployment_key: bool = False) -> StoredValue:
        """Set a value; whether its key of a store is the deployment's, whatever that will be."""

    async def refer(self, name: str) -> None:
        """Keep of a value that its key is the deployment's; it has no other version by that."""

    async def reset(self, name: str) -> None:
        """Forget a value: the default holds."""

    async def maintain(
        self,
        *,
        active: bool,
        enabled_by: str | None = None,
        reason: str | None = None,
        until: datetime | None = None,
    ) -> Maintenance:
        """Put the tenant into maintenance, or take it out; say something else of one that lasts."""

    async def pause(
        self,
        subject: PauseSubject,
        *,
        reason: str,
        running: Running,
        paused_by: str,
        until: datetime | None = None,
        lasts: timedelta | None = None,
    ) -> Pause:
        """Begin a pause, or change the one that there is; `lasts` counts by the store's clock."""

    async def resume(self, subject: PauseSubject) -> Pause | None:
        """End a pause; return it if it was in effect."""

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
