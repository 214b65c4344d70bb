"""A worker has claimed a delivery: make its archive, and tell how that went."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from app import metrics, outgoing
from app.errors import (
    DeliveryError,
    EmptyOrderError,
    LeaseLostError,
    PermanentError,
    RetryableError,
    TargetRefusedError,
    WrongFileError,
    WrongObjectError,
)
from app.logs import get_logger
from app.model import Delivery, ErrorType, S3Target, State, StoredObject, Upload
from app.naming import object_key
from app.ports import Archiver, ArchiveSink, Leases, Store, Tenants
from app.usecases.fail import fail
from app.usecases.uploads import Uploads

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How long to wait between attempts, and how many of them may fail."""

    first: float  # seconds
    longest: float  # seconds
    attempts: int

    def after(self, tries: int) -> timedelta:
        """Return the wait after so many tries before this one."""
        doubled: float = self.first * 2 ** min(tries, 30)
        return timedelta(seconds=min(doubled, self.longest))


@dataclass(frozen=True, kw_only=True)
class Transfers:
    """What a transfer works with."""

    store: Store
    leases: Leases
    tenants: Tenants
    sink: ArchiveSink
    uploads: Uploads
    archiver: Archiver
    backoff: Backoff

    async def deliver(
        self, delivery: Delivery, *, may_complete: Callable[[], Awaitable[bool]]
    ) -> None:
        """Make the archive and end the delivery. Raises what `settle` decides on."""
        self.tenants.check_secrets(delivery.tenant)
        target = self.tenants.settings(delivery.tenant).target_named(delivery.target)
        if target is None:
            raise TargetRefusedError(
                f"target {delivery.target} is not among the delivery_targets of tenant "
                f"{delivery.tenant} any more; set it again, or ask for another one"
            )
        began = time.monotonic()
        upload = await self._begin(delivery, target)
        try:
            result = await self.archiver.run(
                delivery, self.store.files(delivery), target, upload, may_complete=may_complete
            )
        except BaseException:
            # Also when cancelled: an upload that nobody completes would cost money for ever.
            # Should this fail too, whoever takes the delivery next aborts it first.
            with suppress(DeliveryError):
                await self.sink.abort(target, upload)
            raise
        await self._finish(delivery, result)
        seconds = time.monotonic() - began
        metrics.TRANSFER_SECONDS.labels(delivery.tenant).observe(seconds)
        metrics.TRANSFER_RATE.labels(delivery.tenant).observe(delivery.total_bytes / seconds)

    async def _begin(self, delivery: Delivery, target: S3Target) -> Upload:
        """Fence off whoever tried before, then open an upload and note it before any part."""
        assert delivery.archive_name is not None  # noqa: S101 - READY has a manifest
        key = target.prefix + object_key(delivery.correlation_id, delivery.archive_name)
        await self.uploads.abort_last(delivery)
        if delivery.attempt > 1:
            # A predecessor may have died between opening an upload and noting it.
            await self.uploads.abort_orphans(delivery, target, key)
        upload = self.uploads.located(await self.sink.begin(target, key), target)
        if not await self.leases.record_upload(delivery, upload):
            await self.sink.abort(target, upload)
            raise LeaseLostError(f"{delivery} was taken over before its upload began")
        log.info(
            "transfer_began",
            tenant=delivery.tenant,
            correlation_id=delivery.correlation_id,
            attempt=delivery.attempt,
            target=str(target),
            key=upload.key,
            bytes=delivery.total_bytes,
            files=delivery.file_count,
        )
        return upload

    async def _finish(self, delivery: Delivery, result: StoredObject) -> None:
        async with self.store.transaction() as tx:
            if not await tx.advance(delivery, State.DONE, result=result):
                raise LeaseLostError(f"{delivery} was taken over while its archive was completed")
            await tx.owe(outgoing.done(delivery, result))
            tx.on_commit(metrics.FINISHED.labels(delivery.tenant, State.DONE.value, "").inc)
        log.info(
            "delivery_done",
            tenant=delivery.tenant,
            correlation_id=delivery.correlation_id,
            url=result.url,
            bytes=result.size,
            attempt=delivery.attempt,
        )

    async def settle(self, delivery: Delivery, error: DeliveryError) -> None:
        """Decide what an error of checking, planning or transferring means for the delivery."""
        context = {
            "tenant": delivery.tenant,
            "correlation_id": delivery.correlation_id,
            "attempt": delivery.attempt,
            "cause": str(error),
        }
        match error:
            case LeaseLostError():
                log.warning("lease_lost", **context)
            case EmptyOrderError():
                await self._fail(delivery, ErrorType.EMPTY_ORDER, error)
            case PermanentError():
                await self._fail(delivery, ErrorType.INTERNAL_ERROR, error)
            case WrongFileError() | WrongObjectError():
                if delivery.failures + 1 >= self.backoff.attempts:
                    await self._fail(delivery, ErrorType.INTERNAL_ERROR, error)
                else:
                    await self._retry(delivery, context, failed=True)
            case RetryableError() | _:
                await self._retry(delivery, context, failed=False)

    async def _fail(self, delivery: Delivery, error_type: ErrorType, error: DeliveryError) -> None:
        async with self.store.transaction() as tx:
            await fail(tx, delivery, error_type, str(error))

    async def _retry(self, delivery: Delivery, context: dict[str, object], *, failed: bool) -> None:
        after = self.backoff.after(delivery.tries)
        log.warning(
            "work_postponed",
            state=delivery.state.value,
            retry_in_seconds=after.total_seconds(),
            **context,
        )
        metrics.POSTPONED.labels(delivery.tenant, delivery.state.value).inc()
        await self.leases.release(delivery, after=after, failed=failed, cause=str(context["cause"]))
