"""Leases on PostgreSQL: who works on what, by the database's clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta

import asyncpg

from app.delivery.missing import bounded
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.ports import Allowed
from app.delivery.states import Work
from app.delivery.targets import Blocked
from app.errors import EndingError, ObjectBusyError
from app.store.objects import lock_object
from app.store.pool import translate_errors
from app.store.rows import delivery_of
from app.store.sql import load
from app.telemetry.metrics import TAKEOVERS

SQL = load(__name__)


class PostgresLeases:
    """See `ports.Leases`."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        *,
        owner: str,
        ttl: timedelta,
        transfers_per_tenant: int | None = None,
        blocked: Callable[[], Blocked] = Blocked,
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._ttl = ttl
        self._limits = {Work.TRANSFER: transfers_per_tenant}
        self._blocked = blocked  # transfers, as this process sees their targets

    async def claim(self, work: Work) -> Delivery | None:
        """Lease the next delivery that this work is due for."""
        limit = self._limits.get(work)
        blocked = self._blocked() if work is Work.TRANSFER else Blocked()
        claim = SQL["claim"](
            owner=self._owner,
            ttl=self._ttl,
            work=work.value,
            most=limit,
            blocked=blocked.tenants,
            spared_tenants=[tenant for tenant, _ in blocked.spared],
            spared_targets=[target for _, target in blocked.spared],
        )
        with translate_errors():
            if limit is None:
                row = await self._pool.fetchrow(*claim)
            else:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(*SQL["lock_claims"](work=work.value))
                    row = await connection.fetchrow(*claim)
        if row and row["predecessor"] is not None:
            TAKEOVERS.labels(work.value).inc()
        return delivery_of(row) if row else None

    async def renew(self, delivery: Delivery) -> bool:
        """Hold on to a lease."""
        with translate_errors():
            return (
                await self._pool.fetchval(
                    *SQL["renew"](
                        id=delivery.id, attempt=delivery.attempt, owner=self._owner, ttl=self._ttl
                    )
                )
                is not None
            )

    async def holds(self, delivery: Delivery) -> bool:
        """Whether a lease is still this worker's."""
        with translate_errors():
            return bool(
                await self._pool.fetchval(
                    *SQL["holds"](id=delivery.id, attempt=delivery.attempt, owner=self._owner)
                )
            )

    async def record_completion(
        self,
        delivery: Delivery,
        result: StoredObject,
        *,
        namespace: str,
        until: timedelta,
        beside: str | None = None,
    ) -> Allowed | None:
        """Hold on to a lease, and note what is about to appear."""
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                await lock_object(connection, result.url, namespace)
                if beside is not None:
                    await lock_object(connection, beside, namespace)
                row = await connection.fetchrow(
                    *SQL["record_completion"](
                        id=delivery.id,
                        attempt=delivery.attempt,
                        owner=self._owner,
                        ttl=self._ttl,
                        completing=asdict(result) | {"server": namespace},
                        within=until,
                        url=result.url,
                        namespace=namespace,
                        appeared=beside is not None,
                    )
                )
        assert row is not None  # noqa: S101 - an aggregate has a row
        if row["ending"]:
            raise EndingError(f"{delivery} is to end: its archive is not asked for again")
        if row["busy"]:
            raise ObjectBusyError(
                f"a delivery of another tenant or user is just completing {result.url}"
            )
        return Allowed(replaces_listed=row["replaces_listed"]) if row["noted"] else None

    async def discard_completion(self, delivery: Delivery) -> None:
        """Note that what was noted last can't appear any more."""
        with translate_errors():
            await self._pool.execute(
                *SQL["discard_completion"](
                    id=delivery.id, attempt=delivery.attempt, owner=self._owner
                )
            )

    async def release(
        self,
        delivery: Delivery,
        *,
        after: timedelta,
        failed: bool,
        cause: str,
        tried: bool = True,
        retried: tuple[int, int] | None = None,
    ) -> None:
        """Let go of a lease."""
        with translate_errors():
            await self._pool.execute(
                *SQL["release"](
                    id=delivery.id,
                    attempt=delivery.attempt,
                    owner=self._owner,
                    after=after,
                    failed=int(failed),
                    tried=int(tried),
                    cause=cause,
                    announced=delivery.announced,
                    order_done=delivery.order_done,
                    retries=retried[0] if retried else None,
                    retried_for=retried[1] if retried else None,
                )
            )

    async def park(self, delivery: Delivery, *, cause: str) -> None:
        """Let go of a half-made archive until its order goes on."""
        parked = SQL["park"](
            id=delivery.id, attempt=delivery.attempt, owner=self._owner, cause=cause
        )
        with translate_errors():
            async with self._pool.acquire() as connection, connection.transaction():
                if await connection.fetchval(*parked) is False:
                    await connection.execute(
                        *SQL["go_on"](id=delivery.id, attempt=delivery.attempt)
                    )

    async def leave_out(self, delivery: Delivery, position: int, cause: str) -> bool:
        """Note that a file of the manifest is missing."""
        with translate_errors():
            return (
                await self._pool.fetchval(
                    *SQL["leave_out"](
                        id=delivery.id,
                        attempt=delivery.attempt,
                        owner=self._owner,
                        position=position,
                        cause=bounded(cause),
                    )
                )
                is not None
            )

    async def count_wrong(self, delivery: Delivery, position: int) -> int | None:
        """Note that a file's bytes were wrong once more."""
        with translate_errors():
            times: int | None = await self._pool.fetchval(
                *SQL["count_wrong"](
                    id=delivery.id, attempt=delivery.attempt, owner=self._owner, position=position
                )
            )
        return times

    async def record_upload(self, delivery: Delivery, upload: Upload) -> bool:
        """Note the upload of this attempt."""
        with translate_errors():
            return (
                await self._pool.fetchval(
                    *SQL["record_upload"](
                        id=delivery.id,
                        attempt=delivery.attempt,
                        owner=self._owner,
                        bucket=upload.container,
                        key=upload.key,
                        upload_id=upload.upload_id,
                        target=upload.target,
                    )
                )
                is not None
            )
