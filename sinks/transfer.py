"""The transfer: GET → verify → zip → parts → S3, every stage beside the others, nothing on disk.

The event loop reads from rs-order and writes to S3; `pipeline.zipper` zips in a thread of its own,
with the digests beside it. What is between two stages is bounded in bytes, so the slowest of them
sets the pace of all, up to the source's socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from functools import partial

from app.delivery.manifest import ManifestFile
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.ports import Hold, OrderSource, ProgressListener
from app.delivery.progress import Phase
from app.delivery.targets import S3Target, StoredObject, Upload
from app.errors import DeliveryError, LeaseLostError
from app.telemetry.metrics import TARGET_BYTES
from app.waiting.patience import Patience, Waits, out_of_slot
from sinks.pipeline.budget import Budget
from sinks.pipeline.meter import Meter
from sinks.pipeline.parts import Part, PartPlan, plan_parts, within
from sinks.pipeline.prefetch import Prefetcher
from sinks.pipeline.zipper import Zipper
from sinks.stores.s3.store import S3Sink


class StreamingArchiver:
    """See `ports.Archiver`."""

    def __init__(
        self,
        source: OrderSource,
        sink: S3Sink,
        progress: ProgressListener,
        *,
        compression: str,
        part_size: int,
        memory: int,
        worker_memory: Budget,
        max_object_size: int,
        connections: int,
        patience: Patience,
    ) -> None:
        self._source = source
        self._sink = sink
        self._progress = progress
        self._compression = compression
        self._part_size = part_size
        self._memory = memory
        self._worker_memory = worker_memory
        self._max_object_size = max_object_size
        self._connections = connections
        self._patience = patience

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile],
        target: S3Target,
        upload: Upload,
        *,
        at_most: int,
        held: Hold,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
    ) -> StoredObject:
        """Transfer one delivery. Raises LeaseLostError rather than complete without a lease.

        While the target is away, what was sent is kept, and what failed is sent again; without a
        slot, when that takes long.
        """
        plan = plan_parts(
            total_bytes=delivery.total_bytes,
            file_count=delivery.file_count,
            at_most=at_most,
            part_size=self._part_size,
            memory=self._memory,
            worker_memory=self._worker_memory.size,
            max_object_size=self._max_object_size,
        )
        waits = Waits(
            self._patience,
            partial(self._aside, held, plan.memory),
            wanted=self._worker_memory.is_wanted,
        )
        meter = Meter(delivery, self._progress)
        ticking = asyncio.create_task(meter.tick())
        try:
            async with self._reserved(held, plan.memory):
                zipper = await self._stream(
                    delivery, files, target, upload, plan, meter, waits, held
                )
            meter.enter(Phase.COMPLETING)
            stored = zipper.stored()
            result = StoredObject(
                url=upload.url, md5=zipper.md5(), size=zipper.size, etag=self._sink.etag_of(stored)
            )
            tries = 0

            async def complete() -> str:
                nonlocal tries
                tries += 1
                if not await may_complete(result):
                    raise LeaseLostError(f"the lease of {delivery} ran out before its completion")
                return await self._sink.complete(
                    target,
                    upload,
                    stored,
                    result.size,
                    marks=marks_of(delivery),
                    again=tries > 1,
                )

            etag = await self._without_slot(complete, held)
        except BaseException:
            meter.enter(Phase.FAILED)
            raise
        finally:
            ticking.cancel()
        meter.enter(Phase.DONE)
        return replace(result, etag=etag)

    @contextlib.asynccontextmanager
    async def _reserved(self, held: Hold, memory: int) -> AsyncIterator[None]:
        """Hold memory. Who must wait for it has no slot meanwhile: who has memory may need one."""
        async with contextlib.AsyncExitStack() as share:
            if self._worker_memory.has(memory):
                await share.enter_async_context(self._worker_memory.reserve(memory))
            else:
                async with held.aside(claims=False):
                    await share.enter_async_context(self._worker_memory.reserve(memory))
            yield

    async def _without_slot(self, complete: Callable[[], Awaitable[str]], held: Hold) -> str:
        """Complete: a store may take minutes for it, which need neither memory nor a slot."""

        @contextlib.asynccontextmanager
        async def away() -> AsyncIterator[None]:
            held.leave()
            yield

        leaving = asyncio.get_running_loop().call_later(self._patience.in_slot, held.leave)
        try:
            return await Waits(self._patience, away).through(complete)
        finally:
            leaving.cancel()

    @contextlib.asynccontextmanager
    async def _aside(self, held: Hold, memory: int) -> AsyncIterator[None]:
        with self._worker_memory.idle(memory):
            async with held.aside():
                yield

    async def _stream(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile],
        target: S3Target,
        upload: Upload,
        plan: PartPlan,
        meter: Meter,
        waits: Waits,
        held: Hold,
    ) -> Zipper:
        prefetcher = Prefetcher(
            delivery, self._source, budget=plan.prefetch, connections=self._connections
        )
        zipper = Zipper(prefetcher, plan, self._compression, meter)

        last = time.monotonic()

        def moved() -> None:
            nonlocal last
            last = time.monotonic()

        async def send(number: int, part: Part) -> None:
            part.moved = moved
            put = partial(self._sink.put_part, target, upload, number, part)
            stored = await out_of_slot(
                partial(waits.through, put),
                held.aside,
                after=self._patience.silence,
                moved=lambda: last,
            )
            moved()
            zipper.sent(number, stored)
            TARGET_BYTES.labels(delivery.tenant).inc(len(part))

        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(prefetcher.run(files))
                async for number, part in zipper.parts():
                    within(
                        plan, number=number, size=len(part), max_object_size=self._max_object_size
                    )
                    stages.create_task(send(number, part))
        except BaseExceptionGroup as group:
            raise _first_cause(group) from None
        finally:
            await zipper.stop()
        return zipper


def _first_cause(group: BaseExceptionGroup) -> BaseException:
    """Return the error that made the stages fall: ours before any that followed from it."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [group]
    while pending:
        error = pending.pop(0)
        if isinstance(error, BaseExceptionGroup):
            pending.extend(error.exceptions)
        else:
            leaves.append(error)
    return next((error for error in leaves if isinstance(error, DeliveryError)), leaves[0])
