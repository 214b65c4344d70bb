"""Quotas on PostgreSQL: what a tenant and its users have is read from the deliveries themselves."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

import asyncpg

from app.codes import Code
from app.delivery.model import Delivery
from app.delivery.quotas import BATCH_SIZE, Quota, Usage, Use, Waiting, fitting
from app.delivery.states import State
from app.store.rows import delivery_of
from app.store.sql import load

SQL = load(__name__)


class QuotasInTransaction:
    """The part of a `UnitOfWork` that is about quotas."""

    at_once = BATCH_SIZE  # that one statement lets through
    _connection: asyncpg.pool.PoolConnectionProxy

    async def admit(self, tenant: str, quota: Quota) -> list[Delivery]:
        """Let requests through that wait, as many as a tenant's quotas have places for."""
        await self._connection.execute(*SQL["lock_quota"](tenant=tenant))
        rows = await self._connection.fetch(
            *SQL["admit"](
                tenant=tenant,
                state=State.RECEIVED.value,
                active=quota.tenant.active,
                requests=quota.tenant.requests_per_minute,
                user_active=quota.user.active,
                user_requests=quota.user.requests_per_minute,
                limit=self.at_once,
            )
        )
        return [delivery_of(row) for row in rows]

    async def charge(self, tenant: str, quota: Quota) -> list[Delivery]:
        """Let deliveries through that wait, laid out, as far as a tenant's bytes of the day go."""
        await self._connection.execute(*SQL["lock_quota"](tenant=tenant))
        waiting = await self._connection.fetch(
            *SQL["chargeable"](
                tenant=tenant,
                bytes=quota.tenant.bytes_per_day,
                user_bytes=quota.user.bytes_per_day,
                limit=self.at_once,
            )
        )
        chosen = fitting(
            quota,
            [
                Waiting(id=row["id"], user=row["user_email"], size=row["total_bytes"])
                for row in waiting
            ],
            of_tenant=waiting[0]["of_tenant"] if waiting else 0,
            of_users={row["user_email"]: row["of_user"] for row in waiting},
        )
        if not chosen:
            return []
        rows = await self._connection.fetch(*SQL["charge"](ids=chosen, state=State.READY.value))
        return sorted(map(delivery_of, rows), key=lambda delivery: chosen.index(delivery.id))

    async def over_day(self, tenant: str, most: int) -> list[Delivery]:
        """Return deliveries that wait, laid out, and have more bytes than that."""
        rows = await self._connection.fetch(
            *SQL["over_day"](tenant=tenant, state=State.READY.value, most=most, limit=self.at_once)
        )
        return [delivery_of(row) for row in rows]

    async def hold(self, delivery: Delivery) -> None:
        """Let a delivery that is laid out wait for its quota of bytes."""
        await self._connection.execute(*SQL["hold"](id=delivery.id))

    async def note_held(self, causes: Mapping[UUID, str]) -> None:
        """Note why deliveries wait for their quota."""
        await self._connection.execute(
            *SQL["note_held"](
                ids=list(causes), causes=list(causes.values()), code=Code.QUOTA_AWAITED
            )
        )

    async def usage(self, tenant: str, users: Collection[str], quota: Quota) -> dict[str, Usage]:
        """Tell what a tenant has, and each of some users of it."""
        rows = await self._connection.fetch(
            *SQL["usage"](
                tenant=tenant,
                users=list(users),
                of_tenant=quota.tenant.requests_per_minute,
                of_user=quota.user.requests_per_minute,
            )
        )
        return {
            row["user_email"]: Usage(at=row["at"], tenant=_use_of(row), user=_use_of(row, "user_"))
            for row in rows
        }

    async def held_tenants(self) -> list[str]:
        """Return the tenants with deliveries that wait for a quota."""
        return [row["tenant"] for row in await self._connection.fetch(*SQL["held_tenants"]())]


def _use_of(row: asyncpg.Record, whose: str = "") -> Use:
    return Use(
        active=row[f"{whose}active"],
        requests=row[f"{whose}requests"],
        bytes=row[f"{whose}bytes"],
        waiting=row[f"{whose}waiting"],
        waiting_bytes=row[f"{whose}waiting_bytes"],
        filled_at=row[f"{whose}filled_at"],
    )
