"""Files beside a manifest: noted before the first is put, and removed when they are in no answer.

Which files there may be is in the delivery's manifest in PostgreSQL, and where, is noted with each
attempt. So whichever process dies, and whenever, the sweep finds them. Nothing fences a file that
is put: it may come as long as a request takes, and is looked for once more after that.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar

from app.delivery.checkpoint import any_files_of, noted_files_of
from app.delivery.kept_files import KeptFile, SentPart
from app.delivery.lease import Lease
from app.delivery.manifest import MANIFEST_NAME, ManifestFile
from app.delivery.marks import Whose, check_replaceable, marks_of, whose
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, Upload
from app.delivery.ports import Checkpoints, DeliveryStore
from app.delivery.targets import Target
from app.errors import (
    DeliveryError,
    ForeignObjectError,
    LeaseLostError,
    PermanentError,
    RetryableError,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.usecases.kept_files import KeptFiles
from app.usecases.uploads import Uploads
from app.waiting.patience import until_answered

log = get_logger(__name__)

T = TypeVar("T")

# After that, an object that was asked for is there, or never will be: longer than any store's
# deadline for one, a completion of many parts or a PUT of a large one.
_LATE = timedelta(minutes=45)
# For so long it is noted at a time that files may come, and again whenever less than `_LATE` is
# left. Others wait as long for a delivery that has failed.
_NOTED = _LATE + timedelta(minutes=5)
_SETTLING = 30.0  # seconds until there is another look whether a worker may still put something
_BATCH = 32  # files that are asked for at the same time
_READ = 8 * 1024 * 1024  # bytes of a manifest that are read: some 30,000 files


@dataclass(frozen=True, kw_only=True, slots=True)
class Cleared:
    """Some files of a folder that were looked for."""

    position: int  # up to which none is left, but for those that a place refused to remove
    refused: PermanentError | None  # why, of the first of these


class Clear(Protocol):
    """Clears a folder of a delivery's files, some at a time, from behind a position on."""

    def __call__(
        self, delivery: Delivery, target: Target, manifest_key: str, /, *, after: int
    ) -> AsyncGenerator[Cleared, None]:
        """Tell what is cleared, after each batch."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Notes files, and removes them."""

    store: DeliveryStore
    checkpoints: Checkpoints
    uploads: Uploads
    # When a delivery ended so long ago, its worker knows it, and puts nothing more: `after_end`.
    settled: timedelta = timedelta()

    async def remove(
        self,
        delivery: Delivery,
        target: Target,
        manifest_key: str,
        *,
        after: int = -1,
        before: Delivery | None = None,
    ) -> AsyncGenerator[Cleared, None]:
        """Remove a delivery's files at a place, some at a time, from behind a position on.

        Tell what is cleared, again and again; a file that is refused keeps none behind it. It ends
        before the last one where another delivery is on its way there: what that puts is its own.
        Only what has the delivery's marks is removed. It may come right `before` another one of its
        client, which asks for it and has put nothing yet. Raises TargetUnavailableError.
        """
        asks = before or delivery
        async for files in self._batches(delivery, after):
            refusals = await self._abort_uploads(asks, target, manifest_key, files)
            if refusals is None:
                return
            keys = [_key_beside(manifest_key, file) for file in files]
            marks = marks_of(delivery)
            there, refused = await self._found(target, keys, marks)
            refusals += refused
            if there:
                # Looked at without the lock: a place that is silent keeps no connection to the
                # database. What follows was found to answer.
                async with self.store.transaction() as tx:
                    await tx.lock_object(target.url_of(manifest_key), target.namespace)
                    if await self._is_in_use(asks, target, manifest_key):
                        return
                    removed, refused = await self._delete(target, list(there), marks)
                    refusals += refused
                metrics.OBJECTS_REMOVED.labels(delivery.tenant).inc(removed)
                log.info(
                    "files_removed",
                    **delivery.log_context,
                    folder=target.url_of(_key_beside(manifest_key)),
                    files=removed,
                    of=delivery.file_count,
                )
            yield Cleared(position=files[-1].position, refused=next(iter(refusals), None))

    async def abort_uploads(
        self, delivery: Delivery, target: Target, manifest_key: str, *, after: int = -1
    ) -> AsyncGenerator[Cleared, None]:
        """Abort what may be open of a delivery's files; tell of it as `remove` does."""
        async for files in self._batches(delivery, after):
            refusals = await self._abort_uploads(delivery, target, manifest_key, files)
            if refusals is None:
                return
            yield Cleared(position=files[-1].position, refused=next(iter(refusals), None))

    async def _batches(self, delivery: Delivery, after: int) -> AsyncIterator[list[ManifestFile]]:
        files: list[ManifestFile] = []
        async for file in self._ever_put(delivery, after):
            files.append(file)
            if len(files) == _BATCH:
                yield files
                files = []
        if files:
            yield files

    async def _ever_put(self, delivery: Delivery, after: int) -> AsyncIterator[ManifestFile]:
        """Iterate over the files that may be there, in the order of their positions.

        Those among them that were left out later: of one that was sent in part, an upload may be
        open, and of one that was refused when it was read again, an object there.
        """
        left_out = self._left_out(delivery, after)
        missing = await anext(left_out, None)
        async for file in self.store.files(delivery, after=after):
            while missing is not None and missing.position < file.position:
                yield missing
                missing = await anext(left_out, None)
            yield file
        while missing is not None:
            yield missing
            missing = await anext(left_out, None)

    async def _left_out(self, delivery: Delivery, after: int) -> AsyncIterator[ManifestFile]:
        async for file in self.store.missing(delivery):
            if file.position is None:
                return  # and so are all behind it: they were never listed
            if file.position > after and file.member is not None and file.file_id is not None:
                yield ManifestFile(
                    position=file.position,
                    file_id=file.file_id,
                    member=file.member,
                    size=file.size,
                    md5=None,
                )

    async def _abort_uploads(
        self, delivery: Delivery, target: Target, manifest_key: str, files: Sequence[ManifestFile]
    ) -> list[PermanentError] | None:
        """Abort what may be open of some files; return what was refused, None if it is in use."""
        least = self.uploads.objects.uploads_from(target)
        aborted, refused = await _each(
            self.abort_open(delivery, target, manifest_key, _key_beside(manifest_key, file))
            for file in files
            if file.size is None or file.size >= least
        )
        return refused if all(aborted) else None

    async def abort_open(
        self, delivery: Delivery, target: Target, manifest_key: str, key: str
    ) -> bool:
        """Abort a file's open uploads; False, and none was, if another delivery may have them open.

        Not of all of them a row tells: those of any tenant whose manifest goes to the same place
        may. What this delivery keeps of its own, to go on with, stays. Looked at after the store
        has listed what is open, as with `Uploads.abort_orphans`.
        """
        found = await self.uploads.objects.open_uploads(target, key)
        if not found:
            return True
        if await self._is_in_use(delivery, target, manifest_key):
            return False
        kept = set((await self.checkpoints.kept_uploads(delivery)).values())
        for upload in found:
            if upload.upload_id not in kept:
                await self.uploads.objects.abort(target, upload)
        return True

    async def _found(
        self, target: Target, keys: Sequence[str], marks: Mapping[str, str]
    ) -> tuple[dict[str, FoundObject], list[PermanentError]]:
        """Return which of these are there and have the marks, and what was refused."""
        found, refused = await _each(self._find(target, key) for key in keys)
        there = {key: found for key, found in found if found is not None and found.has(marks)}
        return there, refused

    async def _find(self, target: Target, key: str) -> tuple[str, FoundObject | None]:
        return key, await self.uploads.objects.find(target, key)

    async def _is_in_use(self, delivery: Delivery, target: Target, manifest_key: str) -> bool:
        """Whether another delivery under way may be putting files there."""
        return await self.store.others_put_files_beside(
            delivery,
            any_files_of(manifest_key),
            url=target.url_of(manifest_key),
            namespace=target.namespace,
        )

    async def check_whose(self, delivery: Delivery, target: Target, manifest_key: str) -> None:
        """Raise ForeignObjectError if another client's manifest is there.

        Before anything is noted: others wait for what is.
        """
        found = await self.uploads.objects.find(target, manifest_key)
        if found is not None:
            check_replaceable(found.marks, marks_of(delivery), target, manifest_key)

    async def replace(self, delivery: Delivery, target: Target, manifest_key: str) -> None:
        """Remove what the same client was delivered there before: the manifest first.

        So nothing tells of files that are being replaced. What is there counts, whatever is known
        of it here: rows are kept for some days. An upload that is open of one of them goes before
        it: none completes it late, over what this one puts. Raises ForeignObjectError if
        what is there is another's, before any file is put, and what the store raises.
        """
        found = await self.uploads.objects.find(target, manifest_key)
        before = await self._replaced(delivery, target, manifest_key)
        marks: Mapping[str, str] | None = None if before is None else marks_of(before)
        keys: list[str] = []
        owner = Whose.ITS_OWN if found is None else whose(found.marks, marks_of(delivery))
        if found is not None and owner is not Whose.ITS_OWN:
            check_replaceable(found.marks, marks_of(delivery), target, manifest_key)
            if marks is None or not found.has(marks):
                if await self._is_told(delivery, target, manifest_key, found):
                    return  # of one that came later: this worker stood still
                if owner is Whose.ITS_USERS:
                    marks, before = found.marks, None  # of one that is kept no more
                    keys = await self._told_by(delivery, target, manifest_key, found)
            await self.uploads.objects.delete(target, manifest_key, etag=found.etag)
            log.info("delivery_replaced", **delivery.log_context, url=target.url_of(manifest_key))
        if marks is None:
            return
        for first in range(0, len(keys), _BATCH):
            await self._delete_all(target, keys[first : first + _BATCH], marks)
        if before is not None:
            async for files in self._batches(before, -1):
                await self._remove_replaced(delivery, target, manifest_key, files, marks)

    async def _remove_replaced(
        self,
        delivery: Delivery,
        target: Target,
        manifest_key: str,
        files: Sequence[ManifestFile],
        marks: Mapping[str, str],
    ) -> None:
        # Where another delivery may have some of them open, they stay: this one is taken over, or
        # a worker from before migration 0049 has noted files of that name, wherever.
        for error in await self._abort_uploads(delivery, target, manifest_key, files) or ():
            raise error
        of_them = [_key_beside(manifest_key, file) for file in files]
        await self._delete_all(target, of_them, marks)

    async def make_room(self, delivery: Delivery, target: Target, manifest_key: str) -> None:
        """Remove what deliveries of the same id that failed have left there, before the first put.

        Else their sweep would, once this one is done; and what their workers put late would take
        the place of its files. Raises RetryableError while one of them may still put something,
        and what the store raises.
        """
        noted = any_files_of(manifest_key)
        ask = partial(self.store.failed_before, delivery, noted, after=self.settled)
        for failed, settled in await until_answered(ask):
            if not settled:
                raise RetryableError(
                    f"{failed} has just failed, and its worker may still be putting files at "
                    f"{target.url_of(_key_beside(manifest_key))}: the next delivery of its client "
                    "begins when that is over",
                    retry_after=_SETTLING,
                )
            removing = self.remove(failed, target, manifest_key, before=delivery)
            async with aclosing(removing):
                async for cleared in removing:
                    if cleared.refused is not None:
                        raise cleared.refused

    async def _delete_all(
        self, target: Target, keys: Sequence[str], marks: Mapping[str, str]
    ) -> None:
        _, refused = await self._delete(target, keys, marks)
        for error in refused:
            raise error

    async def _delete(
        self, target: Target, keys: Sequence[str], marks: Mapping[str, str]
    ) -> tuple[int, list[PermanentError]]:
        """Remove those of some objects that have marks; return how many, and what was refused."""
        found, unseen = await self._found(target, keys, marks)
        removed, refused = await _each(
            self.uploads.objects.delete(target, key, etag=there.etag)
            for key, there in found.items()
        )
        return len(removed), unseen + refused

    async def _is_told(
        self, delivery: Delivery, target: Target, manifest_key: str, found: FoundObject
    ) -> bool:
        """Whether a client was told a manifest, by a delivery that is kept."""
        async with self.store.transaction() as tx:
            return await tx.relied_on(
                delivery, target.url_of(manifest_key), found.etag, namespace=target.namespace
            )

    async def _told_by(
        self, delivery: Delivery, target: Target, manifest_key: str, found: FoundObject
    ) -> list[str]:
        """Return the keys of what a manifest tells; none where it is too large, or another thing.

        Its delivery is kept no more, so nothing else tells them.
        """
        flaw = f"it has {found.size} bytes, more than are read"
        if found.size <= _READ:
            pieces = await self.uploads.objects.read_aside(target, manifest_key, size=found.size)
            paths = await asyncio.to_thread(_paths_of, b"".join(pieces))
            if paths:
                folder = manifest_key.removesuffix(MANIFEST_NAME)
                return [folder + path for path in paths]
            flaw = "it is none of this service"
        log.warning(
            "files_left",
            **delivery.log_context,
            key=manifest_key,
            cause=f"the delivery that this manifest is of is kept no more, and {flaw}",
            consequence="its files stay, unless the next delivery has one of the same name",
        )
        return []

    async def remove_replaced(
        self, delivery: Delivery, target: Target, manifest_key: str, *, after: int = -1
    ) -> AsyncGenerator[Cleared, None]:
        """Remove the rest of what a delivery that failed had begun to replace; see `remove`."""
        before = await self._replaced(delivery, target, manifest_key)
        if before is None:
            return
        found = await self.uploads.objects.find(target, manifest_key)
        if found is not None and found.has(marks_of(before)):
            return  # it is as it was
        async with aclosing(self.remove(before, target, manifest_key, after=after)) as removing:
            async for cleared in removing:
                yield cleared

    async def _replaced(
        self, delivery: Delivery, target: Target, manifest_key: str
    ) -> Delivery | None:
        ask = partial(self.store.delivered_before, delivery, target.url_of(manifest_key))
        return await until_answered(ask)


class AttemptFolder:
    """See `ports.Folder`: that of one attempt."""

    def __init__(self, by: Folders, delivery: Delivery, target: Target, lease: Lease) -> None:
        self._by = by
        self._delivery = delivery
        self._target = target
        self._lease = lease
        self._upload: Upload | None = None
        self._until = 0.0  # by the monotonic clock: files may come
        self._has_begun = False  # it may have put some
        self._noting = asyncio.Lock()
        self._kept = KeptFiles(by.checkpoints, by.uploads, delivery, target, lease)
        self.may_be_there = delivery.attempt > 1
        self.left_open = False  # whether this attempt may leave an upload of a file open

    async def begin(self, upload: Upload, *, goes_on: bool) -> None:
        """Note that files may come beside an upload's key; make room for them.

        Unless it `goes_on` with what an earlier attempt has put: then there is room. Raises
        LeaseLostError, ForeignObjectError if there is another client's manifest, FolderBusyError
        while another client's delivery is on its way there, and what the store raises.
        """
        self._upload, self._until = upload, 0.0
        self._kept.begin(upload)
        if not goes_on:
            await self._by.check_whose(self._delivery, self._target, upload.key)
        await self.may_put()
        if not goes_on:
            try:
                await self._by.make_room(self._delivery, self._target, upload.key)
                await self._by.replace(self._delivery, self._target, upload.key)
            except ForeignObjectError:
                if not self._has_begun:  # none need wait for what was never put
                    with suppress(DeliveryError):
                        await self._note(until=timedelta())
                raise
        self._has_begun = True

    async def may_put(self) -> None:
        """Return if a file may be put now. Raises LeaseLostError."""
        self._check_lease()
        if self._lasts():
            return
        async with self._noting:
            if not self._lasts():
                await self._note()
        self._check_lease()

    def _lasts(self) -> bool:
        return time.monotonic() + _LATE.total_seconds() < self._until

    async def _note(self, *, until: timedelta | None = None) -> None:
        assert self._upload is not None  # noqa: S101 - it has begun
        delivery = self._delivery
        key = noted_files_of(self._upload.key, delivery.id, delivery.attempt)
        placed = self._by.uploads.located(self._upload, self._target)
        lasts = _NOTED if until is None else until
        ends = time.monotonic() + lasts.total_seconds()
        # It waits for a removal that is under way, and does not know of this delivery yet.
        note = partial(
            self._by.checkpoints.record_files,
            delivery,
            placed,
            key,
            url=self._target.url_of(self._upload.key),
            namespace=self._target.namespace,
            until=lasts,
        )
        if not await until_answered(note, good=self._lease.safe_to_complete):
            raise LeaseLostError(f"{delivery} was taken over before its next file was put")
        self._until = ends

    def _check_lease(self) -> None:
        if not self._lease.safe_to_complete():
            raise LeaseLostError(
                f"the lease of {self._delivery} ran out before its next file was put"
            )

    async def resume(self, file: ManifestFile, *, at_most: int) -> KeptFile | None:
        """See `ports.Folder`."""
        assert self._upload is not None  # noqa: S101 - it has begun
        self._check_lease()
        key = _key_beside(self._upload.key, file)
        return await self._kept.resume(file, key, at_most=at_most)

    async def keep(
        self,
        file: ManifestFile,
        upload: Upload,
        *,
        part_size: int,
        step: int,
        parts: Sequence[SentPart],
    ) -> bool:
        """See `ports.Folder`."""
        return await self._kept.keep(file, upload, part_size=part_size, step=step, parts=parts)

    async def forget(self, file: ManifestFile) -> None:
        """See `ports.Folder`."""
        await self._kept.forget(file)

    async def clear(self, key: str) -> None:
        """Abort uploads of a file that earlier attempts may have left open, but one it keeps."""
        if self.may_be_there:
            assert self._upload is not None  # noqa: S101 - it has begun
            await self._by.abort_open(self._delivery, self._target, self._upload.key, key)

    def begins_again(self) -> None:
        """Note that this attempt has lost its upload: what it has put is there."""
        self.may_be_there = True
        self.leaves_open()

    def leaves_open(self) -> None:
        """See `ports.Folder`."""
        self.left_open = True


def _paths_of(manifest: bytes) -> list[str]:
    try:
        paths = [file["path"] for file in json.loads(manifest)["files"]]
    except (ValueError, TypeError, KeyError):
        return []
    return [path for path in paths if isinstance(path, str) and _is_below(path)]


def _is_below(path: str) -> bool:
    return {"", ".", ".."}.isdisjoint(path.split("/"))


async def _each(asked: Iterable[Awaitable[T]]) -> tuple[list[T], list[PermanentError]]:
    """Return the answers, once all are there, and what was refused. Raises the first other error.

    So what is refused of one file keeps no other one.
    """
    answers: list[T] = []
    refused: list[PermanentError] = []
    raised: list[BaseException] = []
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        if isinstance(answer, PermanentError):
            refused.append(answer)
        elif isinstance(answer, BaseException):
            raised.append(answer)
        else:
            answers.append(answer)
    for error in raised:
        raise error
    return answers, refused


def _key_beside(manifest_key: str, file: ManifestFile | None = None) -> str:
    folder, slash, _ = manifest_key.rpartition("/")
    return f"{folder}{slash}{file.member if file else ''}"
