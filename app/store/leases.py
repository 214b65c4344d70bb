"""Leases on PostgreSQL: who works on what, by the database's clock."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from app.model import Delivery, Upload
from app.store.pool import wrap_errors
from app.store.rows import delivery_of
from app.store.sql import QUERIES


class PostgresLeases:
    """See `app.ports.Leases`."""

    def __init__(self, pool: asyncpg.Pool, *, owner: str, ttl: timedelta) -> None:
        self._pool = pool
        self._owner = owner
        self._ttl = ttl

    async def claim_plan(self) -> Delivery | None:
        """Lease the next delivery to plan."""
        return await self._claim("claim_plan")

    async def claim_transfer(self) -> Delivery | None:
        """Lease the next delivery to transfer."""
        return await self._claim("claim_transfer")

    async def _claim(self, query: str) -> Delivery | None:
        with wrap_errors():
            row = await self._pool.fetchrow(QUERIES[query], self._owner, self._ttl)
        return delivery_of(row) if row else None

    async def renew(self, delivery: Delivery) -> bool:
        """Hold on to a lease."""
        with wrap_errors():
            return (
                await self._pool.fetchval(
                    QUERIES["renew"], delivery.id, delivery.attempt, self._owner, self._ttl
                )
                is not None
            )

    async def release(self, delivery: Delivery, *, after: timedelta, failed: bool) -> None:
        """Let go of a lease."""
        with wrap_errors():
            await self._pool.execute(
                QUERIES["release"], delivery.id, delivery.attempt, self._owner, after, int(failed)
            )

    async def record_upload(self, delivery: Delivery, upload: Upload) -> bool:
        """Note the upload of this attempt."""
        with wrap_errors():
            return (
                await self._pool.fetchval(
                    QUERIES["record_upload"],
                    delivery.id,
                    delivery.attempt,
                    self._owner,
                    upload.bucket,
                    upload.key,
                    upload.upload_id,
                )
                is not None
            )
