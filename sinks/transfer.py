"""The transfer, on one page: source → verify → format → parts → store, and nothing on disk.

    event loop         source ─► Prefetcher ─┐                                ┌─► put_part ─► store
    archive's thread                         └─► Verifier ─► format ─► parts ─┘

Files that are delivered as they are go to the store by themselves, and become the lines of their
manifest, which is what the parts are of (`formats.files`):

    event loop         source ─► Prefetcher ─┐          ┌─► put ─► store ─┐       ┌─► put_part
    archive's thread                         └─► Placer ┘        manifest └─► parts

All stages run at once. The event loop reads from rs-order and writes to the store; a thread of the
transfer's own makes the archive (`pipeline.archive`), with the digests beside it. What is between
two stages is bounded in bytes, so the slowest of them sets the pace of all, up to the source's
socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from typing import Any, TypeVar

from app.delivery.checkpoint import Checkpoint, Tail
from app.delivery.contents import MAX_RECORD, NOTHING, Packed, Wanted
from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile, Seam
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, PartBody, StoredObject, StoredPart, Upload
from app.delivery.ports import Folder, LeavesOut, OrderSource
from app.delivery.progress import Phase, Report
from app.delivery.targets import Target
from app.errors import (
    ArchiveTooLargeError,
    CheckpointUnusableError,
    DeliveryError,
    LeaseLostError,
    NothingAvailableError,
    RetryableError,
    StoreUnavailableError,
    TargetRefusedError,
    TargetUnavailableError,
    WorkerStoppedError,
    WrongBytesError,
)
from app.telemetry.logs import get_logger
from app.telemetry.metrics import BYTES_KEPT, TARGET_BYTES, TRANSFERS_RESUMED
from app.waiting.patience import Patience, Retried, Waits, out_of_slot
from sinks.formats import (
    FORMATS,
    FormatsMade,
    as_wanted,
    format_of,
    going_on,
    has_sizes_first,
    made_by_of,
)
from sinks.formats.archive_format import ArchiveFormat, ArchiveWriter
from sinks.formats.files import Files
from sinks.pipeline.archive import ArchiveStream
from sinks.pipeline.budget import Budget
from sinks.pipeline.checkpoints import Checkpoints, SaveStep
from sinks.pipeline.digest import without_checkpoints
from sinks.pipeline.leaving_out import UnlessMissing, missing_files
from sinks.pipeline.meter import Meter
from sinks.pipeline.parts import (
    FolderPlan,
    Part,
    PartPlan,
    plan_folder,
    plan_parts,
    within,
)
from sinks.pipeline.placing import Placer, Placing, UnlessThere
from sinks.pipeline.prefetch import FileSource, Prefetcher, share_of
from sinks.pipeline.verify import FileCounter, FileVerifier

log = get_logger(__name__)

T = TypeVar("T")

PutAside = Callable[[PartBody], Awaitable[Tail]]
Keep = Callable[[StoredObject, int, bytes], Awaitable[bool]]

# Of what ends early, and can be gone on with: seconds for what would be done again otherwise. When
# the worker stops, one after the other: DELIVERY_SHUTDOWN_GRACE tells of the sum.
_READING = 10.0  # files that are open
_SENDING = 7.0  # parts that are on their way, and what lies behind them
_SAVING = 3.0  # how far it is then


@dataclass(frozen=True)
class StreamingArchiver:
    """See `ports.Archiver`."""

    source: OrderSource
    objects: ObjectStore[Any]
    report: Report
    _: KW_ONLY
    compression: str  # auto, store or deflate
    part_size: int  # bytes, at least
    memory: int  # bytes that a transfer gets along with, where parts need not be larger
    worker_memory: Budget  # that all transfers share
    max_object_size: int  # bytes
    connections: int  # files of a transfer that are read at the same time
    patience: Patience  # with a store that is away
    formats: FormatsMade = FORMATS

    def media_type(self, delivery: Delivery) -> str:
        """Return the media type of its archive's format."""
        return self._form_of(delivery).media_type

    def _form_of(
        self,
        delivery: Delivery,
        after: Checkpoint | None = None,
        wanted: Wanted = NOTHING,
    ) -> ArchiveFormat | Files:
        assert delivery.archive_name is not None  # noqa: S101 - READY has a manifest
        form = as_wanted(format_of(delivery.archive_name, self.formats), wanted)
        return form if after is None else going_on(form, after)

    def memory_of(
        self,
        delivery: Delivery,
        *,
        at_most: int,
        name_bytes: int,
        after: Checkpoint | None = None,
        wanted: Wanted = NOTHING,
    ) -> int:
        """Return the bytes of memory that a transfer holds to its end."""
        return self._plan(
            self._form_of(delivery, after, wanted),
            delivery,
            at_most=at_most,
            name_bytes=name_bytes,
            after=after,
            wanted=wanted,
        ).memory

    async def run(
        self,
        delivery: Delivery,
        files: AsyncIterator[ManifestFile | Seam],
        target: Target,
        upload: Upload,
        *,
        at_most: int,
        name_bytes: int,
        most_files: int | None = None,
        lease: Lease,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
        save: SaveStep,
        put_aside: PutAside,
        folder: Folder,
        keep: Keep | None = None,
        wanted: Wanted = NOTHING,
        leaving_out: LeavesOut | None = None,
        after: Checkpoint | None = None,
    ) -> StoredObject | None:
        """Transfer one delivery. Raises LeaseLostError rather than complete without a lease.

        None: it paused, and all that came is saved.
        When the worker stops, it ends where another attempt can go on: WorkerStoppedError.

        While the target is away, what was sent is kept, and what failed is sent again; without a
        slot, when that takes long.
        """
        form = self._form_of(delivery, after, wanted)
        planned = replace(delivery, file_count=most_files or delivery.file_count)
        plan = self._plan(
            form, planned, at_most=at_most, name_bytes=name_bytes, after=after, wanted=wanted
        )
        meter = Meter(delivery, self.report)
        transfer = _Transfer(
            self,
            delivery,
            form,
            plan,
            target,
            upload,
            lease,
            meter,
            folder,
            leaving_out,
            wanted,
        )
        ticking = asyncio.create_task(meter.tick())
        try:
            async with transfer.memory():
                archive = await transfer.stream(files, save, put_aside, after)
            if archive.paused:
                meter.enter(Phase.PAUSED)
                return None
            if leaving_out is not None and not archive.files:
                raise NothingAvailableError(f"each file of {delivery} is missing")
            meter.enter(Phase.COMPLETING)
            result = await transfer.complete(archive, may_complete, keep)
        except BaseException:
            meter.enter(Phase.FAILED)
            raise
        finally:
            ticking.cancel()
        meter.enter(Phase.DONE)
        return result

    def _plan(
        self,
        form: ArchiveFormat | Files,
        delivery: Delivery,
        *,
        at_most: int,
        name_bytes: int,
        after: Checkpoint | None,
        wanted: Wanted,
    ) -> PartPlan | FolderPlan:
        limits: dict[str, Any] = {
            "file_count": delivery.file_count,
            "name_bytes": name_bytes,
            "part_size": self.part_size,
            "memory": self.memory,
            "worker_memory": self.worker_memory.size,
            "max_object_size": self.max_object_size,
            "sent_in": None if after is None else after.part_size,
            "sent_members": 0 if after is None else after.most_members,
        }
        if isinstance(form, Files):
            return plan_folder(form, total_bytes=delivery.total_bytes, **limits)
        try:
            return plan_parts(
                form,
                total_bytes=delivery.total_bytes,
                at_most=at_most,
                kept=MAX_RECORD if wanted.contents else 0,
                **limits,
            )
        except ArchiveTooLargeError as error:
            if made_by_of(form) == made_by_of(self._form_of(delivery, wanted=wanted)):
                raise
            raise CheckpointUnusableError(
                f"what was sent was made by {made_by_of(form)}: going on so, {error}"
            ) from error


@dataclass(frozen=True)
class _Transfer:
    """One delivery on its way."""

    by: StreamingArchiver
    delivery: Delivery
    form: ArchiveFormat | Files
    sizes: PartPlan | FolderPlan
    target: Target
    upload: Upload
    lease: Lease
    meter: Meter
    folder: Folder
    leaving_out: LeavesOut | None
    wanted: Wanted

    @property
    def plan(self) -> PartPlan:
        """Sizes of the object's own upload."""
        return self.sizes.manifest if isinstance(self.sizes, FolderPlan) else self.sizes

    async def stream(
        self,
        files: AsyncIterator[ManifestFile | Seam],
        save: SaveStep,
        put_aside: PutAside,
        after: Checkpoint | None,
    ) -> ArchiveStream:
        """Send the files' bytes through all stages; return when the last part is stored.

        Or, where it pauses, all that came.

        Should it fail, what was sent is known as far as it can be gone on from. Where the source
        ends it, parts that are on their way arrive before, if they do soon.
        """
        waits = Waits(self.by.patience, self.aside, wanted=self.by.worker_memory.is_wanted)
        tail = await self._read(after.tail, waits) if after and after.tail else []
        sending = _Sending(self, waits)
        making = self._making(sending, after)
        source = making.source
        if after is not None:
            await self._skip(files, making.writer, after)
        archive = ArchiveStream(
            source,
            making.verifier,
            making.writer,
            self.plan,
            self.meter,
            after=after,
            tail=tail,
            repeats=making.placer is None,
            takes_told_sizes=has_sizes_first(self.form),
            leaves_out=self.leaving_out is not None,
            made_by=made_by_of(self.form),
            sha256=self.wanted.sha256,
        )
        del tail
        checkpoints = Checkpoints(archive, save)
        keeping = asyncio.create_task(checkpoints.keep())
        sender = _PartSender(self, archive, checkpoints, sending)
        hand_over = _HandOver(self.lease, source)
        saves = True
        try:
            async with asyncio.TaskGroup() as stages:
                # First: a worker that stops already opens no file, which would count for its user.
                stopping = stages.create_task(hand_over.run())
                reading = stages.create_task(source.run(files))
                try:
                    await sender.send(stages, after)
                except (RetryableError, WrongBytesError):
                    source.abort()
                    await sender.ended(timeout=_SENDING)
                    raise
                stopping.cancel()
                if source.cut:
                    reading.cancel()  # it may wait for more files
            if archive.paused:
                putting = partial(sender.put_aside, put_aside)
                await hand_over.pause(checkpoints.pause(putting, good=self.lease.safe_to_complete))
            saves = False
        except BaseExceptionGroup as group:
            raise _first_cause(group) from None
        except GeneratorExit:  # there is no loop any more
            saves = False
            raise
        finally:
            keeping.cancel()
            await making.stop(archive)
            if saves:
                await checkpoints.save(_SAVING if self.lease.stopping.is_set() else None)
        return archive

    def _making(self, sending: _Sending, after: Checkpoint | None) -> _Making:
        """Return what makes the object: an archive of the files, or the list of them."""
        by, delivery, plan = self.by, self.delivery, self.plan
        files: FileSource = by.source
        if self.leaving_out is not None:
            files = UnlessMissing(
                files,
                self.leaving_out,
                whole_up_to=share_of(plan.prefetch),
                pauses=by.patience.backoff.pauses,
            )
        if not isinstance(self.form, Files):
            source = Prefetcher(delivery, files, budget=plan.prefetch, connections=by.connections)
            kept = None
            if self.wanted.contents:  # where files are delivered as they are, lines tell them
                begun = 0 if after is None else after.boundary.members
                kept = Packed(begun, sha256=self.wanted.sha256)
            verifier = FileVerifier(
                self.meter.count, lag=plan.lag, kept=kept, sha256=self.wanted.sha256
            )
            return _Making(source, verifier, self.form.writer(compression=by.compression))
        assert isinstance(self.sizes, FolderPlan)  # noqa: S101 - `_plan` made it
        placing = Placing(
            objects=by.objects,
            target=self.target,
            folder=self.upload.key.removesuffix(self.form.suffix),
            marks=marks_of(delivery),
            plan=self.sizes,
            max_object_size=by.max_object_size,
            may=self.folder,
            send=sending.send,
            # The thread may wait for the next file.
            sha256=self.form.sha256,
            failed=lambda error: source.abort(error),  # noqa: PLW0108 - it is made below
            kept=BYTES_KEPT.labels(delivery.tenant).inc,
        )
        placer = Placer(placing)
        if self.folder.may_be_there:
            files = UnlessThere(files, placer, self.meter.found)
        source = Prefetcher(delivery, files, budget=plan.prefetch, connections=by.connections)
        counter = FileCounter(self.meter.count, lag=plan.lag)
        missing = partial(missing_files, self.leaving_out, placer)
        writer = self.form.writer(delivery.correlation_id, placer.place, missing=missing)
        return _Making(source, counter, writer, placer)

    async def _read(self, tail: Tail, waits: Waits) -> list[bytes]:
        """Return what lies beyond the last part, in pieces, as it was put aside.

        Raises CheckpointUnusableError when it is another one, or gone.
        """
        read = partial(self.by.objects.read_aside, self.target, tail.key, size=tail.size)
        try:
            pieces = await out_of_slot(
                partial(waits.through, read), self.lease.aside, after=self.by.patience.in_slot
            )
        except TargetRefusedError as error:
            raise CheckpointUnusableError(f"{error}; it begins again") from error
        size = sum(map(len, pieces))
        if size != tail.size or await asyncio.to_thread(_md5, pieces) != tail.md5:
            raise CheckpointUnusableError(
                f"{tail.key} in {self.target}, the {tail.size} bytes that the archive of "
                f"{self.delivery} has beyond its last part, is "
                f"{'another object by now' if pieces else 'gone'}: it begins again"
            )
        return pieces

    def resumed(self, after: Checkpoint) -> None:
        """Tell that it goes on after a checkpoint: what was sent before was compared."""
        log.info(
            "transfer_resumed",
            **self.delivery.log_context,
            attempt=self.delivery.attempt,
            key=self.upload.key,
            parts=after.boundary.parts,
            files=after.boundary.members,
            bytes=after.kept,
        )
        TRANSFERS_RESUMED.labels(self.delivery.tenant).inc()
        BYTES_KEPT.labels(self.delivery.tenant).inc(after.kept)

    async def _skip(
        self, files: AsyncIterator[ManifestFile | Seam], writer: ArchiveWriter, after: Checkpoint
    ) -> None:
        """Take the members before a checkpoint as made: their files are not read again."""
        async for members in after.members():
            for finished in members:
                while isinstance(file := await anext(files), Seam):
                    pass
                writer.skip(file, finished)
                self.meter.skip(file.size or 0)

    async def complete(
        self,
        archive: ArchiveStream,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
        keep: Keep | None,
    ) -> StoredObject:
        """Let the object appear, however long the store takes for it: with neither memory nor slot.

        Raises LeaseLostError when it may not.
        """
        parts = archive.stored()
        expected = StoredObject(
            url=self.target.url_of(self.upload.key),
            md5=archive.md5(),
            size=archive.size,
            etag=self.by.objects.etag_of(self.target, parts),
            files=archive.files,
            sha256=archive.sha256(),
        )
        for first, contents in archive.unsaved():
            if keep is None or not await keep(expected, first, contents):
                raise LeaseLostError(f"the lease of {self.delivery} ran out before its completion")
        complete = Retried(partial(self._complete, parts, expected, may_complete))
        patience = self.by.patience
        leaving = asyncio.get_running_loop().call_later(patience.in_slot, self.lease.leave)
        try:
            etag = await Waits(patience, self._away).through(complete)
        finally:
            leaving.cancel()
        return replace(expected, etag=etag)

    async def _complete(
        self,
        parts: Sequence[StoredPart],
        expected: StoredObject,
        may_complete: Callable[[StoredObject], Awaitable[bool]],
        *,
        again: bool,
    ) -> str:
        """Ask for the completion once; return the object's ETag."""
        if not await may_complete(expected):
            raise LeaseLostError(f"the lease of {self.delivery} ran out before its completion")
        return await self.by.objects.complete(
            self.target,
            self.upload,
            parts,
            expected.size,
            marks=marks_of(self.delivery),
            md5=expected.md5,
            again=again,
        )

    @contextlib.asynccontextmanager
    async def memory(self) -> AsyncIterator[None]:
        """Hold memory. Who must wait for it has no slot meanwhile: who has memory may need one."""
        budget, size = self.by.worker_memory, self.sizes.memory
        async with contextlib.AsyncExitStack() as share:
            if budget.has(size):
                await share.enter_async_context(budget.reserve(size))
            else:
                async with self.lease.aside(claims=False):
                    reserving = share.enter_async_context(budget.reserve(size))
                    await self.lease.unless_stopping(reserving)
            yield

    @contextlib.asynccontextmanager
    async def aside(self) -> AsyncIterator[None]:
        """Give up the slot for the block, and let others see that its memory is idle.

        Raises TargetUnavailableError when too much of the worker's memory is.
        """
        with self.by.worker_memory.idle(self.sizes.memory):
            async with self.lease.aside():
                yield

    @contextlib.asynccontextmanager
    async def _away(self) -> AsyncIterator[None]:
        self.lease.leave()
        yield


@dataclass(frozen=True)
class _Making:
    """What makes the object of a delivery."""

    source: Prefetcher
    verifier: FileVerifier
    writer: ArchiveWriter
    placer: Placer | None = None  # where files are delivered as they are

    async def stop(self, archive: ArchiveStream) -> None:
        """Make sure that nothing of it runs, or is on its way."""
        if self.placer is None:
            await archive.stop()
            return
        self.placer.abort()  # the archive's thread may wait for it
        try:
            await archive.stop()
        finally:
            await self.placer.close()


class _Sending:
    """Sends what a transfer has, each however often; without a slot while nothing gets on."""

    def __init__(self, transfer: _Transfer, waits: Waits) -> None:
        self._transfer = transfer
        self._waits = waits
        self._last = time.monotonic()  # when bytes of whichever body were taken

    async def send(self, body: Part | None, act: Callable[[], Awaitable[T]]) -> T:
        """Ask the store, with a body if there is one; return what it answers."""
        transfer = self._transfer
        if body is not None:
            body.moved = self._bytes_moved
        done = await out_of_slot(
            partial(self._waits.through, act),
            transfer.lease.aside,
            after=transfer.by.patience.silence,
            moved=self._last_moved,
        )
        self._bytes_moved()
        if body is not None:
            delivery = transfer.delivery
            TARGET_BYTES.labels(delivery.tenant, delivery.target).inc(len(body))
        return done

    def _bytes_moved(self) -> None:
        self._last = time.monotonic()

    def _last_moved(self) -> float:
        return self._last


class _PartSender:
    """Sends the parts of the delivery's object."""

    def __init__(
        self,
        transfer: _Transfer,
        archive: ArchiveStream,
        checkpoints: Checkpoints,
        by: _Sending,
    ) -> None:
        self._transfer = transfer
        self._archive = archive
        self._checkpoints = checkpoints
        self._by = by
        self._sending: set[asyncio.Task[None]] = set()

    async def send(self, stages: asyncio.TaskGroup, after: Checkpoint | None) -> None:
        """Send each part as it is made; return when all are stored."""
        transfer = self._transfer
        async for number, part in self._archive.parts():
            if after is not None and number == after.boundary.parts + 1:
                transfer.resumed(after)
            within(
                transfer.plan,
                number=number,
                size=len(part),
                max_object_size=transfer.by.max_object_size,
            )
            self._begin(stages, number, part)
            del part
        await self.ended()

    def _begin(self, stages: asyncio.TaskGroup, number: int, part: Part) -> None:
        sending = stages.create_task(self._send(number, part))
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    async def ended(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as `wait` has it
        """Return when none is on its way any more, or after `timeout` seconds."""
        if self._sending:
            await asyncio.wait(set(self._sending), timeout=timeout)

    async def _send(self, number: int, part: Part) -> None:
        """Send one part; return when it is stored."""
        transfer = self._transfer
        put = partial(transfer.by.objects.put_part, transfer.target, transfer.upload, number, part)
        stored = await self._by.send(part, put)
        self._archive.sent(number, stored)
        self._checkpoints.sent(len(part))

    async def put_aside(self, put: PutAside, rest: Part) -> Tail:
        """Put what lies beyond the last part aside; return when it is stored."""
        return await self._by.send(rest, partial(put, rest))


class _HandOver:
    """When the worker stops, a transfer ends where another worker goes on, within moments.

    The files that are open are read to their end, as each counts for its user's quota, and would be
    read again.
    """

    def __init__(self, lease: Lease, source: Prefetcher) -> None:
        self._lease = lease
        self._source = source
        self._until = 0.0  # by the loop's clock

    async def run(self) -> None:
        """Let the source pause as soon as the worker stops. Raises WorkerStoppedError.

        That is, when what is open takes longer than it is given: then the last part's end is where
        another worker goes on.
        """
        await self._lease.stopping.wait()
        if without_checkpoints() is not None:
            return  # all would be done again: it ends in the grace of the worker, if it can
        self._until = asyncio.get_running_loop().time() + _READING + _SENDING
        self._source.pause()
        await asyncio.sleep(_READING)
        stopped = WorkerStoppedError()
        self._source.abort(stopped)
        await asyncio.sleep(_SENDING)  # the archive's thread may wait for parts that don't get on
        raise stopped

    async def pause(self, pausing: Coroutine[Any, Any, None]) -> None:
        """Save all of an archive that paused.

        Where it did since the worker stops: in the time that is left. What can't be, is made again
        from the last part's end. Raises WorkerStoppedError then, and LeaseLostError.
        """
        if not self._source.cut:
            await pausing
            return
        try:
            async with asyncio.timeout_at(self._until):
                await pausing
        except (StoreUnavailableError, TargetRefusedError, TargetUnavailableError) as error:
            _tell_not_kept(str(error))
        except TimeoutError:
            _tell_not_kept("what lies behind the last part was not stored and saved in time")
        raise WorkerStoppedError


def _tell_not_kept(cause: str) -> None:
    log.warning(
        "pause_not_kept",
        cause=cause,
        consequence="another worker goes on where the last part ends, and reads what is behind it",
    )


def _md5(pieces: Sequence[bytes]) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


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
