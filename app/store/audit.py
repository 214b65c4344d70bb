"""The audit trail: who did what."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

import asyncpg

from app.audit import AuditEntry, AuditRecord
from app.store.pool import translate_errors
from app.store.sql import load

SQL = load(__name__)


async def record(
    connection: asyncpg.pool.PoolConnectionProxy[asyncpg.Record], done: AuditRecord
) -> None:
    """Note what was done, in the transaction that does it."""
    await connection.execute(
        *SQL["record_change"](
            tenant=done.actor.tenant,
            actor=done.actor.name,
            role=done.actor.role,
            action=done.action,
            subject=done.subject,
            before=done.before,
            after=done.after,
        )
    )


class PostgresAudit:
    """See `app.audit.AuditTrail`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @contextlib.asynccontextmanager
    async def recording(self, done: AuditRecord) -> AsyncIterator[None]:
        """Record what is done within the block, unless it raises.

        What it raises leaves as it is: RabbitMQ's silence is not PostgreSQL's.
        """
        with translate_errors():
            async with contextlib.AsyncExitStack() as stack:
                connection = await stack.enter_async_context(self._pool.acquire())
                await stack.enter_async_context(connection.transaction())
                await record(connection, done)
                noted = stack.pop_all()
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                await noted.__aexit__(type(error), error, error.__traceback__)
            raise
        with translate_errors():
            await noted.aclose()

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
        wanted = {
            "before": before,
            "since": since,
            "until": until,
            "limit": limit,
            "actor": actor,
            "action": action,
            "subject": subject,
        }
        # Each by the index that has it. Of a subject there are few, whatever else is asked for.
        if tenant is None:
            asked = SQL["audit_of_all"](**wanted)
        elif subject is not None:
            asked = SQL["audit_of_subject"](tenant=tenant, **wanted)
        elif actor is not None and action is not None:
            asked = SQL["audit_of_both"](tenant=tenant, **wanted)
        elif actor is not None:
            asked = SQL["audit_of_actor"](tenant=tenant, **wanted)
        elif action is not None:
            asked = SQL["audit_of_action"](tenant=tenant, **wanted)
        else:
            asked = SQL["audit"](tenant=tenant, **wanted)
        with translate_errors():
            rows = await self._pool.fetch(*asked)
        return [AuditEntry(**row) for row in rows]
