"""The audit trail in memory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

from app.audit import AuditEntry, AuditRecord
from app.store.memory.database import MemoryDatabase, as_json
from app.store.memory.session import Session


def record(database: MemoryDatabase, session: Session, done: AuditRecord) -> None:
    """Note what was done, in the transaction that does it."""
    entry = AuditEntry(
        id=database.audit.number(),
        at=database.clock(),
        tenant=done.actor.tenant,
        actor=done.actor.name,
        role=done.actor.role,
        action=done.action,
        subject=done.subject,
        before=as_json(done.before),
        after=as_json(done.after),
    )
    session.put(database.audit, entry.id, entry)


class MemoryAudit:
    """See `app.audit.AuditTrail`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    @contextlib.asynccontextmanager
    async def recording(self, done: AuditRecord) -> AsyncIterator[None]:
        """Record what is done within the block, unless it raises."""
        async with self._database.session() as session:
            record(self._database, session, done)
            yield

    async def record(self, done: AuditRecord) -> None:
        """Note what was done, or is about to be."""
        async with self.recording(done):
            pass

    async def entries(
        self,
        tenant: str | None,
        *,
        before: int,
        limit: int,
        since: datetime | None = None,
        until: datetime | None = None,
        actor: str | None = None,
        action: str | None = None,
        subject: str | None = None,
    ) -> list[AuditEntry]:
        """Return the newest entries with ids under `before`; of all tenants for None."""
        async with self._database.session() as session:
            found = session.where(
                self._database.audit,
                lambda entry: (
                    tenant in (entry.tenant, None)
                    and entry.id < before
                    and (since is None or entry.at >= since)
                    and (until is None or entry.at < until)
                    and actor in (entry.actor, None)
                    and action in (entry.action, None)
                    and subject in (entry.subject, None)
                ),
            )
        return [entry for _, entry in sorted(found, reverse=True)[:limit]]
