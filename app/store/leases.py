"""Leases on PostgreSQL: who works on what, by the database's clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta

import asyncpg

from app.codes import Code
from app.delivery.attempts import unknown
from app.delivery.missing import bounded
from app.delivery.model import Delivery
from app.delivery.object_store import StoredObject, Upload
from app.delivery.ports import Allowed
from app.delivery.states import Work
from app.delivery.targets import Blocked
from app.errors import EndingError, ObjectBusyError
from app.store.objects import lock_of
from app.store.pool import begun_with, translate_errors
from app.store.rows import delivery_of
from app.store.sql import load
from app.telemetry.metrics import TAKEOVERS

SQL = load(__name__)


def words_of(work: Work) -> list[str]:
    """Return the words by which rows have a piece of work; see the migration 0067.

    Workers that don't know deliveries which take a part look for the first one alone.
    """
    return [work.value] if work is Work.CHECK else [work.value, f"{work.value}-part"]


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
        archived: Callable[[Delivery], int | None] = unknown,
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._ttl = ttl
        self._limits = {Work.TRANSFER: transfers_per_tenant}
        self._blocked = blocked  # transfers, as this process sees their targets
        self._more: dict[Work, bool] = {}
        self._archived = archived  # bytes, by an attempt of this worker

    async def claim(self, work: Work) -> Delivery | None:
        """Lease the next delivery that this work is due for."""
        limit = self._limits.get(work)
        blocked = self._blocked() if work is Work.TRANSFER else Blocked()
        claim = SQL["claim"](
            owner=self._owner,
            ttl=self._ttl,
            work=work.value,
            words=words_of(work),
            most=limit,
            blocked=blocked.tenants,
            spared_tenants=[tenant for tenant, _ in blocked.spared],
            spared_targets=[target for _, target in blocked.spared],
        )
        self._more[work] = True
        with translate_errors():
            if limit is None:
                row = await self._pool.fetchrow(*claim)
            else:
                async with self._pool.acquire() as connection, connection.transaction():
                    await connection.execute(*SQL["lock_claims"](work=work.value))
                    row = await connection.fetchrow(*claim)
        self._more[work] = row is None or row["more"]
        if row and row["predecessor"] is not None:
            TAKEOVERS.labels(work.value).inc()
        return delivery_of(row) if row else None

    def sees_more(self, work: Work) -> bool:
        """Whether more may have been due when this work was last claimed."""
        return self._more.get(work, True)

    async def renew(self, delivery: Delivery) -> bool:
        """Hold on to a lease."""
        with translate_errors():
            return (
                await self._pool.fetchval(
                    *SQL["renew"](
                        id=delivery.id,
                        attempt=delivery.attempt,
                        owner=self._owner,
                        ttl=self._ttl,
                        bytes=self._archived(delivery),
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
        locks = [lock_of(url, namespace) for url in (result.url, beside) if url is not None]
        with translate_errors():
            async with self._pool.acquire() as connection, begun_with(connection, *locks):
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
        if not row["noted"]:
            return None
        return Allowed(
            replaces_archive=row["replaces_archive"], replaces_report=row["replaces_report"]
        )

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
        code: str | None = None,
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
                    code=code,
                    announced=delivery.announced,
                    order_done=delivery.order_done,
                    retries=retried[0] if retried else None,
                    retried_for=retried[1] if retried else None,
                    bytes=self._archived(delivery),
                )
            )

    async def park(self, delivery: Delivery, *, cause: str) -> None:
        """Let go of a half-made archive until its order goes on."""
        parked = SQL["park"](
            id=delivery.id,
            attempt=delivery.attempt,
            owner=self._owner,
            cause=cause,
            code=Code.SUBORDER_AWAITED,
            bytes=self._archived(delivery),
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

    async def failures_of(self, delivery: Delivery, position: int) -> int | None:
        """Return how often a file was refused, or wrong."""
        asked = SQL["failures_of"](id=delivery.id, position=position)
        with translate_errors():
            times: int | None = await self._pool.fetchval(*asked)
        return times

    async def record_failures(self, delivery: Delivery, position: int, times: int) -> bool:
        """Note how often a file was refused, or wrong."""
        recorded = SQL["record_failures"](
            id=delivery.id,
            attempt=delivery.attempt,
            owner=self._owner,
            position=position,
            times=times,
        )
        with translate_errors():
            return await self._pool.fetchval(*recorded) is not None

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
