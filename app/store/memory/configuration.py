"""Settings of tenants and maintenance in memory; secrets are as they were given."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from app.audit import AuditRecord
from app.delivery.model import Delivery
from app.delivery.states import State
from app.store.memory.audit import record
from app.store.memory.database import MemoryDatabase, as_json
from app.store.memory.deliveries import update
from app.store.memory.session import Session
from app.tenants.values import Configuration, Maintenance, StoredValue


class _Change:
    """See `app.tenants.ports.ConfigurationChange`."""

    def __init__(
        self,
        database: MemoryDatabase,
        session: Session,
        *,
        tenant: str,
        values: dict[str, StoredValue],
    ) -> None:
        self._database = database
        self._session = session
        self._tenant = tenant
        self.values = values

    async def set(self, name: str, value: Any) -> StoredValue:
        await self._database.trip()
        stored = StoredValue(value=as_json(value), version=self._database.version())
        self._session.put(self._database.settings, (self._tenant, name), stored)
        self.values[name] = StoredValue(value=value, version=stored.version)
        return self.values[name]

    async def reset(self, name: str) -> None:
        await self._database.trip()
        await self._session.delete(self._database.settings, (self._tenant, name))
        self.values.pop(name, None)

    async def maintain(self, *, active: bool) -> Maintenance:
        await self._database.trip()
        was_active = self._database.is_paused(self._session, self._tenant)
        now = Maintenance(active=active, updated_at=self._session.now)
        self._session.put(self._database.maintenance, self._tenant, now)
        if was_active and not active:
            await self._restart_waiting()
        return now

    async def _restart_waiting(self) -> None:
        """Give requests that waited for the end of a maintenance their whole time."""
        now = self._session.now
        for delivery_id, _ in self._session.where(
            self._database.deliveries, lambda row: row.delivery.tenant == self._tenant
        ):
            await update(
                self._database,
                self._session,
                delivery_id,
                lambda row: replace(
                    row.having(expires_at=_with_whole_time(row.delivery, now)), not_before=now
                ),
                lambda row: row.state is State.RECEIVED,
            )

    async def audit(self, done: AuditRecord) -> None:
        await self._database.trip()
        record(self._database, self._session, done)


def _with_whole_time(delivery: Delivery, now: datetime) -> datetime:
    end = now + (delivery.expires_at - delivery.requested_at)
    return min(end, delivery.deadline or end)


class MemoryConfiguration:
    """See `app.tenants.ports.ConfigurationStore`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def read(self) -> Configuration:
        """Return what all tenants have set."""
        settings: defaultdict[str, dict[str, StoredValue]] = defaultdict(dict)
        async with self._database.session() as session:
            for (tenant, name), stored in session.rows(self._database.settings):
                settings[tenant][name] = stored
            paused = session.where(self._database.maintenance, lambda row: row.active)
        return Configuration(
            settings=dict(settings), paused=frozenset(tenant for tenant, _ in paused)
        )

    @contextlib.asynccontextmanager
    async def change(self, tenant: str) -> AsyncIterator[_Change]:
        """Lock a tenant's settings; leaving the block commits, an exception rolls back."""
        async with self._database.session() as session:
            await session.lock(("configuration", tenant))
            values = {
                name: stored
                for (owner, name), stored in session.rows(self._database.settings)
                if owner == tenant
            }
            yield _Change(self._database, session, tenant=tenant, values=values)

    async def maintenance(self, tenant: str) -> Maintenance | None:
        """Return whether the tenant is in maintenance; None if it never was."""
        async with self._database.session() as session:
            return session.get(self._database.maintenance, tenant)
