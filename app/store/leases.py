"""Leases on PostgreSQL: who works on what, by the database's clock."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from app.model import Delivery, Upload, Work
from app.store.pool import wrap_errors
from app.store.rows import delivery_of
from app.store.sql import QUERIES


class PostgresLeases:
    """See `app.ports.Leases`."""

    def __init__(self, pool: asyncpg.Pool, *, owner: str, ttl: timedelta) -> None:
        self._pool = pool
        self._owner = owner
        self._ttl = ttl

    async def claim(self, work: Work) -> Delivery | None:
        """Lease the next delivery that this work is due for."""
        with wrap_errors():
            row = await self._pool.fetchrow(QUERIES["claim"], self._owner, self._ttl, work.value)
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

    async def holds(self, delivery: Delivery) -> bool:
        """Whether a lease is still this worker's."""
        with wrap_errors():
            return bool(
                await self._pool.fetchval(
                    QUERIES["holds"], delivery.id, delivery.attempt, self._owner
                )
            )

    async def release(
        self, delivery: Delivery, *, after: timedelta, failed: bool, cause: str
    ) -> None:
        """Let go of a lease."""
        with wrap_errors():
            await self._pool.execute(
                QUERIES["release"],
                delivery.id,
                delivery.attempt,
                self._owner,
                after,
                int(failed),
                cause,
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
                    upload.target,
                )
                is not None
            )
