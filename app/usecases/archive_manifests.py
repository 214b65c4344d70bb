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
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from app.delivery import manifest_document
from app.delivery.contents import with_contents
from app.delivery.lease import Lease
from app.delivery.manifest import MANIFEST_NAME
from app.delivery.marks import Whose, marks_of, whose
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, StoredObject, StoredPart, Upload
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
from app.usecases.uploads import Uploads
from app.waiting.patience import Patience, Retried, Waits, until_answered

log = get_logger(__name__)

# Of one upload, and what is put at once: a few thousand files.
PART = 8 * 1024 * 1024
_TRIES = 3  # of what a target loses, or stores otherwise


def manifest_key_of(archive_key: str) -> str:
    """Return the key of the manifest beside an archive."""
    folder, slash, _ = archive_key.rpartition("/")
    return f"{folder}{slash}{MANIFEST_NAME}"


def may_be_large(delivery: Delivery) -> bool:
    """Whether its manifest may have had an upload of several parts."""
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

        Raises TargetUnavailableError. What is another client's stays; what this one's place does
        not let remove, is told in the log.
        """
        key = manifest_key_of(archive_key)
        try:
            found = await self.objects.find(target, key)
            if found is None:
                return
            if whose(found.marks, marks_of(delivery)) not in (Whose.ITS_OWN, Whose.ITS_USERS):
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
                await self.clear(delivery, target, archive_key)
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
        self.size = 0
        parts = _parts(self._document(), self.by.part_size)
        first = await anext(parts)
        self.size += len(first)
        if len(first) < self.by.part_size:
            await self._put(first)
        else:
            await self._send(first, parts)

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

    async def _put(self, content: bytes) -> None:
        await self.by.objects.put_object(
            self.target,
            self.key,
            _Body(content),
            marks_of(self.delivery),
            media_type=manifest_document.MEDIA_TYPE,
            may=self._may,
        )

    async def _send(self, first: bytes, rest: AsyncIterator[bytes]) -> None:
        """Send what is larger than a part by an upload of its own, which no failure leaves open.

        Of a worker that dies it stays open: the next attempt aborts it, or the sweep.
        """
        objects = self.by.objects
        await self._may()
        if self.delivery.attempt > 1 or self.left_open:
            await self.by.uploads.abort_orphans(self.delivery, self.target, self.key)
        self.left_open = True
        upload = await objects.create_upload(
            self.target,
            self.key,
            marks_of(self.delivery),
            media_type=manifest_document.MEDIA_TYPE,
        )
        try:
            stored = [await self._send_part(upload, 1, first)]
            async for part in rest:
                self.size += len(part)
                stored.append(await self._send_part(upload, len(stored) + 1, part))
            await Retried(partial(self._complete, upload, stored))()
        except BaseException:
            with suppress(DeliveryError):
                await objects.abort(self.target, upload)
                self.left_open = False
            raise
        self.left_open = False

    async def _send_part(self, upload: Upload, number: int, content: bytes) -> StoredPart:
        self._check_lease()
        objects = self.by.objects
        return await objects.put_part(self.target, upload, number, _Body(content))

    async def _complete(self, upload: Upload, stored: Sequence[StoredPart], *, again: bool) -> str:
        await self._may()
        return await self.by.objects.complete(
            self.target, upload, stored, self.size, marks=marks_of(self.delivery), again=again
        )

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


async def _parts(pieces: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Cut into parts of the same size, but for the last one."""
    part = bytearray()
    async for piece in pieces:
        part += piece
        while len(part) > size:
            yield bytes(part[:size])
            del part[:size]
    yield bytes(part)


class _Body:
    """See `PartBody`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.md5 = hashlib.md5(content, usedforsecurity=False).digest()

    def __len__(self) -> int:
        return len(self._content)

    async def __aiter__(self) -> AsyncIterator[bytes | memoryview]:
        yield self._content

    def seek(self, offset: int, whence: int = 0) -> int:  # noqa: ARG002
        """Rewind: each iteration begins at the first byte."""
        return 0

    def read(self) -> bytes:
        """Return all bytes."""
        return self._content
