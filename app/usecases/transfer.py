"""A worker has claimed a delivery: make its archive, and end it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from app.delivery import outgoing
from app.delivery.checkpoint import Checkpoint
from app.delivery.content import end_of, in_words
from app.delivery.contents import Wanted
from app.delivery.lease import Lease
from app.delivery.manifest import MANIFEST_NAME, Extent, ManifestFile, Seam
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, StoredObject, Upload
from app.delivery.ports import Archiver, Checkpoints, DeliveryStore, Leases, UnitOfWork
from app.delivery.segments import suborders_are
from app.delivery.states import State
from app.delivery.targets import Target
from app.delivery.told import Told
from app.errors import (
    CheckpointUnusableError,
    DeliveryError,
    EndingError,
    ForeignObjectError,
    LeaseLostError,
    RetryableError,
    SourceGoneError,
    SourceRefusedError,
    StoreUnavailableError,
    TargetRefusedError,
    UploadLostError,
    WorkerStoppedError,
    WrongCrc32Error,
    WrongFileError,
    WrongObjectError,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.usecases.archive_manifests import NOT_WRITTEN, ArchiveManifests, Written
from app.usecases.completion import CompletionGuard
from app.usecases.folders import AttemptFolder, Folders
from app.usecases.free_place import Places, may_keep, may_keep_place
from app.usecases.leaving_out import LeavingOut, of_a_file
from app.usecases.remove import Removal
from app.usecases.reports import clear_report
from app.usecases.resume import FROM_THE_START, Resumption, Unfinished, tell_unusable
from app.usecases.retried import next_retry
from app.usecases.segments import SegmentFiles, Segments
from app.usecases.tails import KeptArchive, Tails
from app.usecases.uploads import Uploads
from app.waiting.backoff import Backoff
from app.waiting.patience import Patience, Retried, Waits, out_of_slot, until_answered

log = get_logger(__name__)

T = TypeVar("T")

# After that, a completion that was asked for has happened, or never will: its deadline, and some.
COMPLETION = timedelta(minutes=16)
_OPENING_TIMEOUT = 10.0  # seconds that a target is waited for before anything was sent to it
_MAX_LOST_UPLOADS = 3  # that an attempt may lose
# What leaves an upload as good as it was: the next attempt, here or elsewhere, may go on with it.
# (Unless it is lost. And what is not foreseen may come of the upload.)
_PASSING = (asyncio.CancelledError, LeaseLostError, RetryableError)


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where an object has appeared."""

    key: str
    namespace: str  # `Target.namespace`


@dataclass(frozen=True, kw_only=True)
class Transfers:
    """What a transfer works with."""

    store: DeliveryStore
    leases: Leases
    tenants: ConfiguredTenants
    objects: ObjectStore[Any]
    uploads: Uploads
    checkpoints: Checkpoints
    archiver: Archiver
    segments: Segments
    patience: Patience = field(
        default_factory=lambda: Patience(limit=0, backoff=Backoff(first=1, longest=1))
    )
    completion: timedelta = COMPLETION
    settled: timedelta = timedelta()  # see `Folders`
    frees_places: bool = True  # at rs-order, once all is delivered
    attempts: float = math.inf  # that may fail: what the last one has sent is of no use

    @property
    def resumption(self) -> Resumption:
        """Return what looks for half-made archives."""
        return Resumption(checkpoints=self.checkpoints, objects=self.objects, uploads=self.uploads)

    @property
    def tails(self) -> Tails:
        """Return what puts aside and drops what archives that paused have behind their parts."""
        return Tails(checkpoints=self.checkpoints, uploads=self.uploads)

    @property
    def folders(self) -> Folders:
        """Return what notes and removes files that are delivered as they are."""
        return Folders(
            store=self.store,
            checkpoints=self.checkpoints,
            uploads=self.uploads,
            settled=self.settled,
        )

    @property
    def manifests(self) -> ArchiveManifests:
        """Return what writes manifests beside archives, and removes them."""
        return ArchiveManifests(
            store=self.store,
            leases=self.leases,
            checkpoints=self.checkpoints,
            uploads=self.uploads,
            patience=self.patience,
            within=self.completion,
        )

    async def deliver(self, delivery: Delivery, lease: Lease) -> None:
        """Make the archive and end the delivery; or, where that pauses, only what came of it.

        Raises what `Settlement` decides on.

        An upload that the target has lost, or that can't be gone on with, begins again at once,
        while the lease surely holds; the latter from an earlier place, if there is one. Of a
        delivery that is to end no archive is made: it is done if there is one.
        """
        if delivery.ending is not None:
            await self._end_or_finish(delivery, lease)
            return
        self.tenants.check_secrets(delivery.tenant)
        target = self.tenants.settings(delivery.tenant).target_named(delivery.target)
        if target is None:
            raise TargetRefusedError(
                f"target {delivery.target} is not among the delivery_targets of tenant "
                f"{delivery.tenant} any more; set it again, or ask for another one"
            )
        key = target.prefix + delivery.key
        began = time.monotonic()
        folder = AttemptFolder(self.folders, delivery, target, lease)
        result = await self._make(delivery, target, key, lease, folder)
        if result is None:
            return
        written = Written(left_open=folder.left_open)
        if self._is_listed(delivery):
            written = await self.manifests.write(delivery, target, key, result, lease)
        lease.finishes()
        place = Place(key=key, namespace=target.namespace)
        await self.finish(delivery, result, written, at=place)
        _measure(delivery, time.monotonic() - began)
        lease.leave()
        await self._tidy(delivery)

    async def _make(
        self, delivery: Delivery, target: Target, key: str, lease: Lease, folder: AttemptFolder
    ) -> StoredObject | None:
        """Make the archive, however often its upload is lost; None: it goes on later."""
        unfinished = await self._fence(delivery, target, key, lease)
        result = await self._completed_before(delivery, target, key, lease)
        if result is not None and unfinished is not None:  # which is of no use any more
            await self._ask(lease, partial(self.uploads.abort_last, delivery))
        segments = self.segments.of(delivery, lease) if delivery.plan is not None else None
        leaving_out = self._leaving_out(delivery, lease)
        lost = 0
        while result is None:
            begin = partial(self._begin, delivery, target, key, lease)
            upload = unfinished.upload if unfinished else await begin()
            after = unfinished.after if unfinished else None
            opened = replace(delivery, upload=upload)
            try:
                result = await self._archive(
                    delivery, target, upload, lease, after, segments, folder, leaving_out
                )
                if result is None:
                    assert segments is not None  # noqa: S101 - what is planned whole ends whole
                    await self._park(opened, target, lease, segments)
                    return None
            except (SourceRefusedError, WrongFileError) as error:
                unfinished = await self._without(opened, target, lease, leaving_out, error)
                folder.begins_again()
            except CheckpointUnusableError as error:
                assert unfinished is not None  # noqa: S101 - nothing else is gone on from
                unfinished = await self._step_back(opened, target, unfinished, lease, error)
                if unfinished is None:
                    result = await self._completed_before(delivery, target, key, lease)
            except UploadLostError as error:
                lost += 1
                folder.begins_again()
                if lost == _MAX_LOST_UPLOADS:
                    raise
                log.warning("upload_lost", key=key, upload_id=upload.upload_id, cause=str(error))
                await lease.come_back()
                if unfinished is not None:
                    # Also known to the attempt that began it, which may have completed it.
                    await self._check_not_taken_over(delivery, upload, lease)
                    await self._ask(lease, partial(self.uploads.abort_last, opened))
                    result = await self._completed_before(delivery, target, key, lease)
                    unfinished = None
        return result

    def _leaving_out(self, delivery: Delivery, lease: Lease) -> LeavingOut | None:
        """Return what decides which files a delivery is without; None: all or nothing."""
        if not delivery.partial:
            return None
        return LeavingOut(
            store=self.store,
            leases=self.leases,
            delivery=delivery,
            lease=lease,
            source=self.segments.source,
            attempts=self.attempts,
        )

    async def _without(
        self,
        delivery: Delivery,
        target: Target,
        lease: Lease,
        leaving_out: LeavingOut | None,
        error: SourceRefusedError | WrongFileError,
    ) -> Unfinished | None:
        """Return what can be gone on with, of a file that can't be had once some of it went out.

        It is left out from now on; or, where it was wrong or refused, and may not be another time,
        read again after a pause, without a slot. None, and nothing is open: it begins again. What
        rs-order may make available again is raised, and what ends a delivery of all or nothing.
        """
        position = of_a_file(error)
        if leaving_out is None or position is None:
            raise error
        if not await leaving_out.decides(position, error):
            if isinstance(error, SourceGoneError):
                raise error
            async with lease.aside():
                await lease.unless_stopping(asyncio.sleep(self.patience.backoff.first))
        await self._check_held(delivery, lease)
        members = await leaving_out.members_before(position)
        assert delivery.upload is not None  # noqa: S101 - some of it went out
        key = delivery.upload.key
        find = partial(self.resumption.find, delivery, target, key, most_members=members)
        unfinished = await self._ask(lease, find)
        if unfinished is None:
            await self._ask(lease, partial(self.uploads.abort_last, delivery))
        await lease.come_back()
        return unfinished

    async def _tidy(self, delivery: Delivery) -> None:
        """Give back what a delivery that is done needs no more, if that can be done soon."""
        if delivery.attempt > 1:  # who pauses goes on as another attempt
            await self.tails.drop_soon(delivery)
        if self.frees_places:
            await Places(source=self.segments.source, store=self.store).free_soon(delivery)

    async def _end_or_finish(self, delivery: Delivery, lease: Lease) -> None:
        """Look whether the archive has appeared, now that it can't any more.

        Raises EndingError when it has not.
        """
        await self._ask(lease, partial(self.uploads.abort_last, delivery))
        place, result = self.uploads.place(delivery), None
        if place is not None and delivery.upload is not None:
            result = await self._completed_before(delivery, place, delivery.upload.key, lease)
        if result is None:
            raise EndingError(f"the archive of {delivery} has not appeared")
        written = NOT_WRITTEN
        assert place is not None  # noqa: S101 - something was found there
        assert delivery.upload is not None  # noqa: S101 - as it was
        if self.tenants.works_for(delivery.tenant) and self._is_listed(delivery):
            write = self.manifests.write
            written = await write(delivery, place, delivery.upload.key, result, lease, waits=False)
        lease.finishes()
        at = Place(key=delivery.upload.key, namespace=place.namespace)
        await self.finish(delivery, result, written, at=at)

    def _is_listed(self, delivery: Delivery) -> bool:
        """Whether there is to be a manifest beside its archive."""
        # What is missing of a part that was taken is never left untold.
        asks = delivery.partial or self.tenants.settings(delivery.tenant).manifest
        return asks and delivery.archive_name != MANIFEST_NAME

    def _wanted(self, delivery: Delivery) -> Wanted:
        """Return what is to be known of an archive and its files."""
        settings = self.tenants.settings(delivery.tenant)
        return Wanted(
            contents=self._is_listed(delivery),
            sha256=settings.sha256,
            compression_threshold=settings.compression_threshold,
        )

    async def _fence(
        self, delivery: Delivery, target: Target, key: str, lease: Lease
    ) -> Unfinished | None:
        """Return the upload that can be gone on with; of others none can be completed any more.

        What an earlier attempt does to that one does no harm: it can't record a completion, and one
        that is under way makes this archive.
        """
        unfinished = await self._ask(lease, partial(self.resumption.find, delivery, target, key))
        if unfinished is None:
            check = partial(self._check_held, delivery, lease)
            await self._ask(lease, partial(self.uploads.abort_last, delivery, check=check))
        if delivery.attempt > 1:
            # A predecessor may have died between opening an upload and noting it.
            kept = unfinished.upload if unfinished else None
            await self._ask(
                lease, partial(self.uploads.abort_orphans, delivery, target, key, but=kept)
            )
        return unfinished

    async def _check_held(self, delivery: Delivery, lease: Lease) -> None:
        """Raise LeaseLostError unless this attempt is surely the last one.

        A later one may go on with what earlier ones left.
        """
        holds = partial(self.leases.holds, delivery)
        if not (
            lease.safe_to_complete() and await until_answered(holds, good=lease.safe_to_complete)
        ):
            raise LeaseLostError(f"{delivery} was taken over before its upload began")

    async def _step_back(
        self,
        delivery: Delivery,
        target: Target,
        unfinished: Unfinished,
        lease: Lease,
        error: CheckpointUnusableError,
    ) -> Unfinished | None:
        """Return what can be gone on with instead; None, and the upload is aborted: nothing.

        Tried once. A wrong file is in one place, and what was sent before it is good; another
        library, or kind of processor, makes other bytes everywhere. A worker that stops leaves it
        to the next one, and all as it is: WorkerStoppedError.
        """
        if lease.stopping.is_set():
            raise WorkerStoppedError
        await self._check_not_taken_over(delivery, unfinished.upload, lease)
        earlier = None
        if not unfinished.stepped_back:
            find = partial(
                self.resumption.find,
                delivery,
                target,
                unfinished.upload.key,
                before=unfinished.after,
            )
            earlier = await self._ask(lease, find)
        consequence = (
            FROM_THE_START
            if earlier is None
            else f"the transfer goes on behind part {earlier.after.boundary.parts}"
        )
        tell_unusable(delivery, unfinished.upload, str(error), consequence)
        if earlier is None:
            await self._ask(lease, partial(self.uploads.abort_last, delivery))
        await lease.come_back()
        return earlier

    async def _check_not_taken_over(self, delivery: Delivery, upload: Upload, lease: Lease) -> None:
        """Raise LeaseLostError if a later attempt may go on with an upload."""
        goes_on = partial(self.checkpoints.is_kept, delivery, upload, for_another=True)
        if await until_answered(goes_on, good=lease.safe_to_complete):
            raise LeaseLostError(f"{delivery} was taken over while it was to begin again")

    async def _completed_before(
        self, delivery: Delivery, target: Target, key: str, lease: Lease
    ) -> StoredObject | None:
        """Return the archive that an earlier attempt completed, and could not record."""
        completed = delivery.completing
        if completed is None or completed.etag is None or completed.url != target.url_of(key):
            return None
        found = await self._ask(lease, partial(self.objects.find, target, key))
        if found is None or (found.size, found.etag) != (completed.size, completed.etag):
            return None
        if not found.has(marks_of(delivery)):
            return None
        # Of a file that is missing by now, it may have the bytes.
        if delivery.partial and completed.files is not None:
            so_far = await until_answered(
                partial(self.store.missing_so_far, delivery), good=lease.safe_to_complete
            )
            if so_far.left != completed.files:
                return None
        log.info(
            "archive_found",
            **delivery.log_context,
            url=completed.url,
            attempt=delivery.attempt,
        )
        return completed

    async def _begin(self, delivery: Delivery, target: Target, key: str, lease: Lease) -> Upload:
        """Open an upload, and note it before any part.

        Asked for once in an attempt, and never waited for in place: an opening that was not
        answered may be carried out at any time after that. It is this attempt's, which is given up;
        so whichever comes after it is not the first, and what it leaves open is looked for.

        A delivery that has ended is swept when its lease has run out: nothing opens then, not even
        after its worker stood still. Raises LeaseLostError.
        """
        if not lease.safe_to_complete():
            raise LeaseLostError(f"the lease of {delivery} ran out before its upload was opened")
        create = partial(
            self.objects.create_upload,
            target,
            key,
            marks_of(delivery),
            media_type=self.archiver.media_type(delivery),
        )
        opening = asyncio.ensure_future(create())
        try:
            opened = await out_of_slot(
                lambda: asyncio.shield(opening), lease.aside, after=self.patience.in_slot
            )
        except BaseException:
            await self._abandon(delivery, opening, target, lease)
            raise
        upload = self.uploads.located(opened, target)
        record = partial(self.leases.record_upload, delivery, upload)
        try:
            if not await until_answered(record, good=lease.safe_to_complete):
                raise LeaseLostError(f"{delivery} was taken over before its upload began")
        except BaseException:
            await self._abort_late(delivery, opening, target)
            raise
        log.info(
            "transfer_began",
            **delivery.log_context,
            attempt=delivery.attempt,
            target=str(target),
            key=upload.key,
            bytes=delivery.total_bytes,
            files=delivery.file_count,
        )
        return upload

    async def _abandon(
        self, delivery: Delivery, opening: asyncio.Future[Upload], target: Target, lease: Lease
    ) -> None:
        """Abort what is opened for an attempt that has ended, where nothing else looks for that.

        Its worker stood still as it asked, for so long that the delivery may be swept by now.
        """
        if lease.safe_to_complete():  # the next attempt does, or the sweep
            opening.cancel()
            await asyncio.wait({opening})
            return
        await self._abort_late(delivery, opening, target)

    async def _abort_late(
        self, delivery: Delivery, opening: asyncio.Future[Upload], target: Target
    ) -> None:
        """Abort an upload that no attempt goes on with; where that fails, it is swept.

        PostgreSQL is asked for that once, as the worker may stop just now: where it is away, an
        operator is told.
        """
        try:
            async with asyncio.timeout(_OPENING_TIMEOUT):
                await self.objects.abort(target, await opening)
        except (TimeoutError, DeliveryError) as error:
            try:
                await self.store.sweep_again(delivery)
            except StoreUnavailableError:
                log.warning(
                    "uploads_not_swept",
                    **delivery.log_context,
                    cause=str(error) or "the target did not answer in time",
                    consequence=f"an upload may stay open at the target; {target.leftovers}",
                )

    async def _archive(
        self,
        delivery: Delivery,
        target: Target,
        upload: Upload,
        lease: Lease,
        after: Checkpoint | None,
        segments: SegmentFiles | None,
        folder: AttemptFolder,
        leaving_out: LeavingOut | None,
    ) -> StoredObject | None:
        """Stream the archive into an upload; None when it goes on later.

        What fails leaves no object. Nor an upload, unless the next attempt can go on with it. What
        pauses as the next suborder could not be listed, raises why.
        """
        completion = CompletionGuard(
            delivery=delivery,
            namespace=target.namespace,
            leases=self.leases,
            lease=lease,
            within=self.completion,
            clear=partial(self.manifests.clear, delivery, target, upload.key),
            listed=not self._is_listed(delivery),
            clear_report=partial(clear_report, self.objects, delivery, target, upload.key),
        )
        kept = KeptArchive(self.tails, delivery, target, upload, lease)
        try:
            if delivery.archive_name == MANIFEST_NAME:
                await self._ask(lease, partial(folder.begin, upload, goes_on=after is not None))
            if segments is None:
                files: AsyncIterator[ManifestFile | Seam]
                extent, files = await until_answered(
                    partial(self.store.measured, delivery), good=lease.safe_to_complete
                )
            else:
                extent, files = segments.extent, segments.all()
                planned = replace(delivery, file_count=segments.most_files)
                segments.beside = self.memory_of(planned, extent, after)
            made = await self.archiver.run(
                delivery,
                files,
                target,
                upload,
                at_most=self._at_most(delivery, extent),
                name_bytes=extent.name_bytes,
                most_files=None if segments is None else segments.most_files,
                lease=lease,
                may_complete=completion.allowed,
                save=kept.save,
                put_aside=kept.put_aside,
                folder=folder,
                keep=partial(self._keep, delivery, upload, lease),
                wanted=self._wanted(delivery),
                leaving_out=leaving_out,
                after=after,
            )
            if made is None and segments is not None and segments.failed is not None:
                raise segments.failed
        except CheckpointUnusableError:
            raise
        except BaseException as error:
            ends = not self._passes(error, delivery)
            if await self.resumption.is_kept(delivery, upload, for_another=ends):
                raise
            # Also when cancelled: an upload that is never completed would cost money for ever.
            # Should this fail too, the worker that takes the delivery next aborts it first.
            if not isinstance(error, UploadLostError):
                lease.leave()  # the target may be silent
            with suppress(DeliveryError):
                await self.objects.abort(target, upload)
            if isinstance(error, WrongObjectError):
                await self._remove(delivery, target, upload.key)
            # Refused at the first try: nothing of it comes later, and none need wait for that.
            first = completion.asked == 1 and delivery.completing is None
            if isinstance(error, ForeignObjectError) and first:
                with suppress(DeliveryError):
                    await self.leases.discard_completion(delivery)
            raise
        return made

    async def _keep(
        self,
        delivery: Delivery,
        upload: Upload,
        lease: Lease,
        result: StoredObject,
        first: int,
        contents: bytes,
    ) -> bool:
        """Keep what a manifest will tell of files behind the last step; see `ports.Archiver`."""
        keep = partial(
            self.checkpoints.keep_contents,
            delivery,
            upload,
            md5=result.md5,
            first=first,
            contents=contents,
        )
        return await until_answered(keep, good=lease.safe_to_complete)

    async def _park(
        self, delivery: Delivery, target: Target, lease: Lease, segments: SegmentFiles
    ) -> None:
        """Let go of a half-made archive: it goes on when its order does.

        One that has nothing, each file so far is missing, say, begins then.
        """
        upload = delivery.upload
        assert upload is not None  # noqa: S101 - it was opened for what pauses
        if not await self.resumption.is_kept(delivery, upload):
            with suppress(DeliveryError):
                await self._ask(lease, partial(self.objects.abort, target, upload))
        lease.finishes()
        if segments.full:
            release = partial(
                self.leases.release,
                delivery,
                after=timedelta(),
                failed=False,
                cause="its archive has more files than it had room for, and goes on with more room",
            )
        else:
            archived, total = segments.segments, segments.total_suborders or 0
            release = partial(
                self.leases.park,
                delivery,
                cause=f"{suborders_are(archived, total if total > archived else None)} archived, "
                f"and rs-order has not made the next one of order {delivery.order_id} available "
                "yet",
            )
        await until_answered(release, good=lease.safe_to_complete)
        log.info("transfer_parked", **delivery.log_context, attempt=delivery.attempt)

    def _passes(self, error: BaseException, delivery: Delivery) -> bool:
        """Whether there is another attempt after an error, and the upload as good as it was."""
        if delivery.partial and of_a_file(error) is not None:
            return True
        if isinstance(error, SourceGoneError):
            return next_retry(delivery, error) is not None
        if isinstance(error, WrongCrc32Error):  # however many have failed before
            return True
        if isinstance(error, WrongFileError):
            return delivery.failures + 1 < self.attempts
        return isinstance(error, _PASSING) and not isinstance(error, UploadLostError)

    def memory_of(self, delivery: Delivery, extent: Extent, after: Checkpoint | None = None) -> int:
        """Return the bytes of memory that the transfer of a delivery holds to its end.

        Raises ArchiveTooLargeError when no worker has as many, and CheckpointUnusableError.
        """
        return self.archiver.memory_of(
            delivery,
            at_most=self._at_most(delivery, extent),
            name_bytes=extent.name_bytes,
            after=after,
            wanted=self._wanted(delivery),
        )

    def _at_most(self, delivery: Delivery, extent: Extent) -> int:
        """Return the bytes that the files may have, as far as it is known before."""
        if extent.sizes_known:
            return delivery.total_bytes
        limit = self.tenants.settings(delivery.tenant).order_size_limit_bytes
        return max(delivery.total_bytes, limit)

    async def _remove(self, delivery: Delivery, target: Target, key: str) -> None:
        try:
            removal = Removal(store=self.store, objects=self.objects)
            await removal.remove(delivery, target, key)
        except DeliveryError as error:
            log.warning(
                "object_not_removed",
                **delivery.log_context,
                url=target.url_of(key),
                cause=str(error),
            )

    async def _ask(self, lease: Lease, act: Callable[[], Awaitable[T]]) -> T:
        """Ask a target before anything was sent: briefly, since stepping back loses nothing.

        One that is silent keeps no slot meanwhile.
        """
        limit = min(self.patience.limit, _OPENING_TIMEOUT)
        opening = Waits(replace(self.patience, limit=limit, in_slot=math.inf), lease.aside)
        asking = partial(opening.through, act)
        return await out_of_slot(asking, lease.aside, after=self.patience.in_slot)

    async def finish(
        self,
        delivery: Delivery,
        result: StoredObject,
        written: Written = NOT_WRITTEN,
        *,
        at: Place | None = None,
    ) -> None:
        """Record the archive, however long PostgreSQL is away: all the work is done.

        The lease may run out meanwhile; as long as no worker has taken over, this attempt ends it.
        """
        if not await until_answered(Retried(partial(self._end, delivery, result, written, at))):
            raise LeaseLostError(f"{delivery} was taken over while its archive was completed")
        log.info(
            "delivery_done",
            **delivery.log_context,
            url=result.url,
            bytes=result.size,
            attempt=delivery.attempt,
        )

    async def _end(
        self,
        delivery: Delivery,
        result: StoredObject,
        written: Written,
        at: Place | None,
        *,
        again: bool,
    ) -> bool:
        missing = 0
        if delivery.partial:
            missing = (await self.store.missing_so_far(delivery)).files
        told = replace(Told.of(result, manifest_url=written.url), missing=missing or None)
        # What was sent of a file before it was left out may be open.
        left_open = written.left_open or (missing > 0 and delivery.archive_name == MANIFEST_NAME)
        count = partial(metrics.ended, delivery.tenant, State.DONE.value, labels=delivery.labels)
        if self._ends_alone(delivery):
            answer = outgoing.done(delivery, result, told)
            finished = await self.store.finish(delivery, result, told, answer, left_open=left_open)
            if finished is not None:
                if finished:
                    count()
                return finished or (again and await self.store.done_by(delivery))
        async with self.store.transaction() as tx:
            until = await self._stays_until(tx, delivery)
            if until is not None:
                told = replace(told, expires=in_words(until))
            ended = await tx.advance(
                delivery, State.DONE, result=result, told=told, left_open=left_open
            )
            if ended:
                if until is not None:
                    key, namespace = (at.key, at.namespace) if at else (None, None)
                    await tx.keep_content(delivery, until=until, key=key, namespace=namespace)
                await tx.enqueue(outgoing.done(delivery, result, told))
                if self.frees_places:
                    await may_keep_place(tx, delivery)
                tx.on_commit(count)
        # An earlier try may have done it, and only its answer was lost.
        return ended or (again and await self.store.done_by(delivery))

    def _ends_alone(self, delivery: Delivery) -> bool:
        """Whether nothing is noted with the end of a delivery that is done, but its answer."""
        keeps = self.frees_places and may_keep(delivery)
        return not keeps and not self.tenants.settings(delivery.tenant).delivered_ttl

    async def _stays_until(self, tx: UnitOfWork, delivery: Delivery) -> datetime | None:
        """Return until when what is done now stays at the target, by the store's clock.

        It is told, and kept: a later change of the setting does not move it.
        """
        stays = self.tenants.settings(delivery.tenant).delivered_ttl
        return end_of(await tx.now(), stays) if stays else None


def _measure(delivery: Delivery, seconds: float) -> None:
    metrics.TRANSFER_SECONDS.labels(delivery.tenant, delivery.target).observe(seconds)
    # Of what an earlier attempt has made, or was waited for, the time says nothing.
    if delivery.attempt == 1 and delivery.plan is None:
        rate = metrics.TRANSFER_RATE.labels(delivery.tenant, delivery.target)
        rate.observe(delivery.total_bytes / seconds)
