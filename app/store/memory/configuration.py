"""Settings of tenants, maintenance and pauses in memory; secrets are as they were given."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from app.audit import AuditRecord
from app.delivery.maintenance import Maintenance
from app.delivery.model import Delivery
from app.delivery.pauses import Pause, PauseSubject, Running
from app.delivery.states import State
from app.store.memory.audit import record
from app.store.memory.database import MemoryDatabase, as_json, seconds_left
from app.store.memory.deliveries import update
from app.store.memory.session import Session
from app.tenants.values import Configuration, StoredValue


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

    async def set(self, name: str, value: Any, *, deployment_key: bool = False) -> StoredValue:
        await self._database.trip()
        stored = StoredValue(
            value=as_json(value), version=self._database.version(), deployment_key=deployment_key
        )
        self._session.put(self._database.settings, (self._tenant, name), stored)
        self.values[name] = replace(stored, value=value)
        return self.values[name]

    async def refer(self, name: str) -> None:
        await self._database.trip()
        referring = replace(self.values[name], deployment_key=True)
        self._session.put(self._database.settings, (self._tenant, name), referring)
        self.values[name] = referring

    async def reset(self, name: str) -> None:
        await self._database.trip()
        await self._session.delete(self._database.settings, (self._tenant, name))
        self.values.pop(name, None)

    async def maintain(
        self,
        *,
        active: bool,
        enabled_by: str | None = None,
        reason: str | None = None,
        until: datetime | None = None,
    ) -> Maintenance:
        await self._database.trip()
        before = self._session.get(self._database.maintenance, self._tenant)
        lasts = before is not None and before.active == active
        now = Maintenance(
            active=active,
            updated_at=before.updated_at if before is not None and lasts else self._session.now,
            reason=reason,
            until=until,
            enabled_by=enabled_by,
        )
        self._session.put(self._database.maintenance, self._tenant, now)
        if before is not None and before.active and not active:
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
        await self._database.trip()
        now = self._session.now
        before = self._session.get(self._database.pauses, subject)
        lasting = before is not None and (before.until is None or before.until > now)
        pause = Pause(
            subject=subject,
            reason=reason,
            running=running,
            paused_by=paused_by,
            since=before.since if before is not None and lasting else now,
            until=until if until is not None or lasts is None else now + lasts,
        )
        self._session.put(self._database.pauses, subject, pause)
        return replace(pause, left=seconds_left(pause, now))

    async def resume(self, subject: PauseSubject) -> Pause | None:
        await self._database.trip()
        now = self._session.now
        before = self._session.get(self._database.pauses, subject)
        if before is None or (before.until is not None and before.until <= now):
            return None
        self._session.put(self._database.pauses, subject, replace(before, until=now))
        return replace(before, left=seconds_left(before, now))

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
            pauses = self._database.pauses_in_effect(session)
        return Configuration(
            settings=dict(settings),
            paused=dict(paused),
            pauses=tuple(sorted(pauses, key=lambda pause: pause.since)),
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
