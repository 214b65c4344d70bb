"""The transfer: GET → verify → zip → parts → S3, every stage beside the others, nothing on disk.

The event loop reads from rs-order and writes to S3; one thread of the transfer's own checks,
zips and cuts parts. (Not the default executor: transfers that wait for each other's threads there
would stand still for ever.)
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

from app.errors import DeliveryError, LeaseLostError
from app.model import (
    Delivery,
    ManifestFile,
    Phase,
    Progress,
    S3Target,
    StoredObject,
    Upload,
)
from app.ports import OrderSource, ProgressListener
from sinks.archive import Member, zip_blocks
from sinks.handover import AbortedError
from sinks.parts import PartPlan, into_parts, plan_parts
from sinks.prefetch import Opened, Prefetcher
from sinks.s3 import S3Sink, StoredPart

_TICK = 0.5  # seconds between looks at the counters


class StreamingArchiver:
    """See `app.ports.Archiver`."""

    def __init__(
        self,
        source: OrderSource,
        sink: S3Sink,
        progress: ProgressListener,
        *,
        compression: str,
        part_size: int,
        memory: int,
        max_object_size: int,
        connections: int,
    ) -> None:
        self._source = source
        self._sink = sink
        self._progress = progress
        self._compression = compression
        self._part_size = part_size
        self._memory = memory
        self._max_object_size = max_object_size
        self._connections = connections

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile],
        target: S3Target,
        upload: Upload,
        *,
        may_complete: Callable[[], Awaitable[bool]],
    ) -> StoredObject:
        """Transfer one delivery. Raises LeaseLostError rather than complete without a lease."""
        plan = plan_parts(
            total_bytes=delivery.total_bytes,
            file_count=delivery.file_count,
            part_size=self._part_size,
            memory=self._memory,
            max_object_size=self._max_object_size,
        )
        meter = _Meter(delivery, self._progress)
        ticking = asyncio.create_task(meter.tick())
        try:
            zipper = await self._stream(delivery, files, target, upload, plan, meter)
            meter.enter(Phase.COMPLETING)
            if not await may_complete():
                raise LeaseLostError(f"the lease of {delivery} ran out before its completion")
            await self._sink.complete(target, upload, zipper.stored(), zipper.size)
        except BaseException:
            meter.enter(Phase.FAILED)
            raise
        finally:
            ticking.cancel()
        meter.enter(Phase.DONE)
        return StoredObject(
            url=f"s3://{upload.bucket}/{upload.key}",
            md5=zipper.md5.hexdigest(),
            size=zipper.size,
        )

    async def _stream(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile],
        target: S3Target,
        upload: Upload,
        plan: PartPlan,
        meter: _Meter,
    ) -> _Zipper:
        prefetcher = Prefetcher(
            delivery, self._source, budget=plan.prefetch, connections=self._connections
        )
        zipper = _Zipper(prefetcher, plan, self._compression, meter)

        async def send(number: int, part: bytes) -> None:
            zipper.sent(number, await self._sink.put_part(target, upload, number, part))

        try:
            async with asyncio.TaskGroup() as stages:
                stages.create_task(prefetcher.run(files))
                async for number, part in zipper.parts():
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


class _Meter:
    """Counts what went through; the zipping thread counts, the loop reads."""

    def __init__(self, delivery: Delivery, listener: ProgressListener) -> None:
        self._delivery = delivery
        self._listener = listener
        self._began = time.monotonic()
        self._phase = Phase.TRANSFERRING
        self._elapsed: float | None = None  # set when no more bytes come
        self.bytes = 0
        self.files = 0

    def count(self, size: int) -> None:
        self.bytes += size

    def enter(self, phase: Phase) -> None:
        """Change the phase, and tell. The rate is that of the bytes: its clock stops with them."""
        if self._elapsed is None:
            self._elapsed = time.monotonic() - self._began
        self._phase = phase
        self._tell()

    def _tell(self) -> None:
        elapsed = self._elapsed
        self._listener.report(
            Progress(
                tenant=self._delivery.tenant,
                correlation_id=self._delivery.correlation_id,
                attempt=self._delivery.attempt,
                phase=self._phase,
                bytes_done=self.bytes,
                bytes_total=self._delivery.total_bytes,
                files_done=self.files,
                files_total=self._delivery.file_count,
                elapsed=time.monotonic() - self._began if elapsed is None else elapsed,
            )
        )

    async def tick(self) -> None:
        while True:
            self._tell()
            await asyncio.sleep(_TICK)


class _Zipper:
    """The thread that zips, and the parts that it hands to the loop."""

    def __init__(
        self, prefetcher: Prefetcher, plan: PartPlan, compression: str, meter: _Meter
    ) -> None:
        self._prefetcher = prefetcher
        self._plan = plan
        self._compression = compression
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._parts: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue()
        # One permit a part in flight; the one being filled has none yet.
        self._permits = threading.Semaphore(plan.in_flight)
        self._aborted = False
        self._thread = threading.Thread(target=self._run, name="zip", daemon=True)
        self.md5 = hashlib.md5(usedforsecurity=False)  # of the archive
        self.size = 0
        self._stored: dict[int, StoredPart] = {}

    async def parts(self) -> AsyncIterator[tuple[int, bytes]]:
        """Iterate over the numbered parts. Raises what made the zipping fail."""
        self._thread.start()
        number = 0
        while (part := await self._parts.get()) is not None:
            if isinstance(part, BaseException):
                raise part
            number += 1
            yield number, part
            del part

    def sent(self, number: int, part: StoredPart) -> None:
        """Note that a part is stored, and has left memory."""
        self._stored[number] = part
        self._permits.release()

    def stored(self) -> list[StoredPart]:
        """Return all parts in their order."""
        return [part for _, part in sorted(self._stored.items())]

    async def stop(self) -> None:
        """Make sure that the thread has ended, whatever it waits for."""
        self._aborted = True
        self._prefetcher.abort()
        self._permits.release()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    def _members(self) -> Iterator[Member]:
        while (opened := self._prefetcher.next()) is not None:
            yield opened.file, _chunks(opened)
            self._prefetcher.done(opened)
            self._meter.files += 1

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            blocks = zip_blocks(
                self._members(), compression=self._compression, note=self._meter.count
            )
            for part in into_parts(self._hashed(blocks), self._plan.part_size):
                self._permits.acquire()
                if self._aborted:
                    raise AbortedError
                self._loop.call_soon_threadsafe(self._parts.put_nowait, part)
        except BaseException as error:  # noqa: BLE001 - handed to the loop, which raises it
            end = error
        self._loop.call_soon_threadsafe(self._parts.put_nowait, end)

    def _hashed(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        for block in blocks:
            self.md5.update(block)
            self.size += len(block)
            yield block


def _chunks(opened: Opened) -> Iterator[bytes]:
    while (chunk := opened.chunks.get()) is not None:
        yield chunk
