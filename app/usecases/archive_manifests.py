"""The manifest beside an archive: written when that has appeared, and before its client is told.

Written by the attempt that completed the archive, or by the one that finds it: of rows alone, so
that whichever writes it writes the same. Each request is fenced by the lease, as a completion is:
until what was asked for has happened, or never will, the delivery counts as completing. So nothing
of a manifest comes once the delivery has failed, that the sweep does not see.

What a client was delivered before under the same id may have a manifest, too. That is removed
before the new archive appears: no manifest tells of another archive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from app.delivery import manifest_document
from app.delivery.contents import with_contents
from app.delivery.lease import Lease
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import FOREIGN, Whose, marks_of, whose
from app.delivery.model import Delivery
from app.delivery.object_store import FoundObject, ObjectStore, StoredObject
from app.delivery.ports import Checkpoints, DeliveryStore, Leases
from app.delivery.states import State
from app.delivery.targets import Target
from app.errors import (
    DeliveryError,
    LeaseLostError,
    PermanentError,
    StoreUnavailableError,
    TargetUnavailableError,
    UploadLostError,
    WrongObjectError,
)
from app.telemetry.logs import get_logger
from app.usecases.documents import PART, Document
from app.usecases.uploads import Uploads
from app.waiting.patience import Patience, Waits, until_answered

log = get_logger(__name__)

_TRIES = 3  # of what a target loses, or stores otherwise


def manifest_key_of(archive_key: str) -> str:
    """Return the key of the manifest beside an archive."""
    folder, slash, _ = archive_key.rpartition("/")
    return f"{folder}{slash}{MANIFEST_NAME}"


def may_be_large(delivery: Delivery) -> bool:
    """Whether its manifest may have had an upload of several parts."""
    if delivery.partial:
        return True  # it may tell of any number of files that rs-order never listed
    most = manifest_document.MAX_BEGIN + delivery.file_count * manifest_document.MAX_LINE
    return most > PART


@dataclass(frozen=True, kw_only=True)
class ArchiveManifests:
    """Writes manifests, and removes them."""

    store: DeliveryStore
    leases: Leases
    checkpoints: Checkpoints
    uploads: Uploads
    patience: Patience
    within: timedelta  # after that, what was asked for has happened, or never will
    part_size: int = PART  # bytes

    @property
    def objects(self) -> ObjectStore[Any]:
        """Where they are put."""
        return self.uploads.objects

    async def clear(self, delivery: Delivery, target: Target, archive_key: str) -> None:
        """Remove what tells of an archive that is about to be replaced, if it is the client's own.

        Raises TargetUnavailableError. What is another client's stays, and what tells of something
        else: of files as they are, or of another archive. So does it all beside an archive that is
        another client's: that is not replaced. What this one's place does not let remove, is told
        in the log.
        """
        key = manifest_key_of(archive_key)
        try:
            found = await self.objects.find(target, key)
            if found is None or not _is_the_clients(delivery, found):
                return
            if await self._told_of(target, key, found) != archive_key:
                return
            archive = await self.objects.find(target, archive_key)
            if archive is not None and whose(archive.marks, marks_of(delivery)) in FOREIGN:
                return
            await self.objects.delete(target, key, etag=found.etag)
        except PermanentError as error:
            log.warning(
                "manifest_not_removed",
                **delivery.log_context,
                url=target.url_of(key),
                cause=str(error),
                consequence="it may tell of an archive that this delivery replaces",
            )
        else:
            log.info("manifest_removed", **delivery.log_context, url=target.url_of(key))

    async def check_replaceable(self, delivery: Delivery, target: Target, key: str) -> None:
        """Raise PermanentError where the client's own list of files as they are has a key.

        That is what an earlier delivery was told as: none could find its files without.
        """
        found = await self.objects.find(target, key)
        if found is None or whose(found.marks, marks_of(delivery)) is not Whose.ITS_USERS:
            return
        if await self._told_of(target, key, found) is None:
            raise PermanentError(
                f"{target.url_of(key)} lists the files of an earlier delivery of the same client, "
                "and stays: ask with another correlationId, or remove that delivery's content"
            )

    async def _told_of(self, target: Target, key: str, found: FoundObject) -> str | None:
        """Return the key of the archive that a manifest tells of; None: it tells of none."""
        length = min(found.size, manifest_document.MAX_BEGIN)
        pieces = await self.objects.read(target, key, etag=found.etag, offset=0, length=length)
        return manifest_document.archive_key_of(b"".join(pieces))

    async def _take_back(self, delivery: Delivery, target: Target, key: str) -> None:
        """Remove a manifest of the delivery's own that is not as it was sent."""
        found = await self.objects.find(target, key)
        if found is not None and found.has(marks_of(delivery)):
            await self.objects.delete(target, key, etag=found.etag)

    async def write(
        self,
        delivery: Delivery,
        target: Target,
        archive_key: str,
        result: StoredObject,
        lease: Lease,
        *,
        waits: bool = True,
    ) -> Written:
        """Write the manifest of an archive that is there.

        One that a target refuses for good is told in the log: the delivery is done without. While
        a target is away it is waited for, as completions wait; unless it `waits`, that counts as
        refused. Raises LeaseLostError, and TargetUnavailableError when patience is over.
        """
        writing = _Writing(self, delivery, target, archive_key, result, lease)
        leaving = asyncio.get_running_loop().call_later(self.patience.in_slot, lease.leave)
        try:
            if waits:
                await Waits(self.patience, writing.away).through(writing.write)
            else:
                await writing.write()
        except WrongObjectError as error:
            with suppress(DeliveryError):
                await self._take_back(delivery, target, writing.key)
            writing.tell_not_written(error)
        except (PermanentError, UploadLostError) as error:
            writing.tell_not_written(error)
        except TargetUnavailableError as error:
            if waits:
                raise
            writing.tell_not_written(error)
        else:
            log.info(
                "manifest_written",
                **delivery.log_context,
                url=writing.url,
                bytes=writing.size,
                attempt=delivery.attempt,
            )
            return Written(url=writing.url, left_open=writing.left_open)
        finally:
            leaving.cancel()
        return Written(url=None, left_open=writing.left_open)


def _is_the_clients(delivery: Delivery, found: FoundObject) -> bool:
    return whose(found.marks, marks_of(delivery)) in (Whose.ITS_OWN, Whose.ITS_USERS)


async def remove_late(
    delivery: Delivery, target: Target, store: DeliveryStore, objects: ObjectStore[Any]
) -> bool:
    """Remove the manifest of a delivery that failed after it had asked for its archive to appear.

    Return whether it was there. Raises what the store raises.
    """
    upload = delivery.upload
    if delivery.state is not State.ERROR or delivery.completing is None or upload is None:
        return False
    key, marks = manifest_key_of(upload.key), marks_of(delivery)
    found = None if key == upload.key else await objects.find(target, key)
    if found is None or not found.has(marks):
        return False
    async with store.transaction() as tx:  # what another delivery puts there waits meanwhile
        await tx.lock_object(target.url_of(key), target.namespace)
        found = await objects.find(target, key)
        if found is None or not found.has(marks):
            return False
        await objects.delete(target, key, etag=found.etag)
    log.info("manifest_removed", **delivery.log_context, url=target.url_of(key))
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What came of a manifest."""

    url: str | None = None  # None: there is none
    left_open: bool = False  # whether an upload of it may be open


NOT_WRITTEN = Written()


@dataclass
class _Writing:
    """One manifest on its way. Each try makes it of the rows again: who waits holds none of it."""

    by: ArchiveManifests
    delivery: Delivery
    target: Target
    archive_key: str
    result: StoredObject
    lease: Lease
    size: int = field(default=0, init=False)  # bytes, of the last try
    left_open: bool = field(default=False, init=False)
    _failed: int = field(default=0, init=False)

    @property
    def key(self) -> str:
        return manifest_key_of(self.archive_key)

    @property
    def url(self) -> str:
        return self.target.url_of(self.key)

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        """Give up the slot: what is left to do needs none."""
        self.lease.leave()
        yield

    async def write(self) -> None:
        """Write it, whatever a try before has left."""
        while True:
            try:
                await self._write()
            except (UploadLostError, WrongObjectError):
                self._failed += 1
                if self._failed == _TRIES:
                    raise
            else:
                return

    async def _write(self) -> None:
        await self.by.check_replaceable(self.delivery, self.target, self.key)
        document = self._made()
        try:
            await document.send(self._document(), opens=self._may_open, may=self._may_send)
            await document.appear(self._may)
        except BaseException:
            await document.abort()
            raise
        finally:
            self.size = document.size
            if document.opened:
                self.left_open = document.left_open

    def _made(self) -> Document:
        return Document(
            objects=self.by.objects,
            target=self.target,
            key=self.key,
            marks=marks_of(self.delivery),
            media_type=manifest_document.MEDIA_TYPE,
            part_size=self.by.part_size,
        )

    async def _may_open(self) -> None:
        """Return if an upload may be opened now; what one before has left open is none any more.

        No failure leaves it open. Of a worker that dies it stays so: the next attempt aborts it, or
        the sweep.
        """
        await self._may()
        if self.delivery.attempt > 1 or self.left_open:
            await self.by.uploads.abort_orphans(self.delivery, self.target, self.key)

    async def _may_send(self) -> None:
        self._check_lease()

    async def _document(self) -> AsyncIterator[bytes]:
        store, checkpoints = self.by.store, self.by.checkpoints
        yield manifest_document.begin(
            self.delivery.correlation_id, self.result, key=self.archive_key
        )
        kept = checkpoints.contents(self.delivery, md5=self.result.md5)
        between = b""
        async for file, contents in with_contents(store.files(self.delivery), kept):
            yield between + manifest_document.line(file, contents)
            between = manifest_document.BETWEEN
        async for piece in manifest_document.ended(store.missing(self.delivery)):
            yield piece

    async def _may(self) -> None:
        """Return if it may be asked for now, which is noted. Raises LeaseLostError."""
        self._check_lease()
        note = partial(
            self.by.leases.record_completion,
            self.delivery,
            self.result,
            namespace=self.target.namespace,
            until=self.by.within,
            beside=self.url,
        )
        try:
            noted = await until_answered(note, good=self.lease.safe_to_complete)
        except StoreUnavailableError as error:
            raise LeaseLostError(f"{self._lost}: {error}") from error
        if noted is None:
            raise LeaseLostError(self._lost)
        self._check_lease()
        self.lease.completes()

    def _check_lease(self) -> None:
        if not self.lease.safe_to_complete():
            raise LeaseLostError(self._lost)

    @property
    def _lost(self) -> str:
        return f"the lease of {self.delivery} ran out before its manifest was written"

    def tell_not_written(self, error: DeliveryError) -> None:
        """Log why there is none."""
        log.warning(
            "manifest_not_written",
            **self.delivery.log_context,
            url=self.url,
            cause=str(error),
            consequence="its archive is delivered, and its client told of that, without a manifest",
        )
