"""A file that is larger than a part, on its way to the store by an upload of its own.

How far it is, is saved now and then, and when its attempt ends: the next one reads all of it again,
as rs-order gives a file from its first byte on, and sends what is not there (`app.delivery
.kept_files`).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from app.delivery.kept_files import KeptFile, SentPart
from app.delivery.manifest import ManifestFile
from app.delivery.manifest_document import media_type_of
from app.delivery.object_store import StoredPart, Upload
from app.delivery.ports import Folder
from app.errors import (
    DeliveryError,
    StoreUnavailableError,
    TargetUnavailableError,
    UploadLostError,
    WrongFileError,
    WrongObjectError,
)
from app.telemetry.logs import get_logger
from app.waiting.patience import Retried
from sinks.formats.files import MD5_MARK, Placed
from sinks.pipeline.checkpoints import EVERY_BYTES, EVERY_SECONDS
from sinks.pipeline.parts import Part

if TYPE_CHECKING:
    from sinks.pipeline.placing import Placer

log = get_logger(__name__)

T = TypeVar("T")

_TIMEOUT = 10.0  # seconds that PostgreSQL has for one step


def wrong(file: ManifestFile, how: str) -> WrongFileError:
    """Return what is wrong with a file."""
    return WrongFileError(f"{named(file)}: {how}", position=file.position)


def named(file: ManifestFile) -> str:
    """Return what a file is called in an error."""
    return f"file {file.file_id} ({file.member})"


class LargeFile:
    """The upload of a file; begun by the archive's thread."""

    def __init__(
        self,
        placer: Placer,
        file: ManifestFile,
        key: str,
        part_size: int,
        kept: KeptFile | None,
    ) -> None:
        self._placer = placer
        self._by = placer.by
        self._file = file
        self._key = key
        self._kept = kept
        # What is marked is compared before the object appears.
        known = {} if file.md5 is None else {MD5_MARK: file.md5}
        self._marks = {**self._by.marks, **known}
        self._upload: Upload | None = None
        self._steps = _Steps(self._by.may, file, part_size, kept)
        self._opening = placer.submit(self._open)
        self._parts: list[Future[StoredPart]] = []

    def put(self, part: Part) -> None:
        """Begin to send the next part, unless it is there."""
        number = len(self._parts) + 1
        there = self._kept.stored(number, part.md5) if self._kept else None
        if there is None:
            self._parts.append(self._placer.submit(partial(self._send, number, part)))
            return
        done: Future[StoredPart] = Future()
        done.set_result(there)
        self._parts.append(done)
        self._placer.sent(part)
        self._by.kept(len(part))

    def complete(self, placed: Placed) -> Future[Placed]:
        """Let the object appear, once all parts are there."""
        return self._placer.submit(partial(self._complete, placed))

    async def _open(self) -> Upload:
        """Open the upload, or go on with the one that is kept.

        Asked for once, as one that was not answered may be open all the same. Then the attempt is
        given up, and the next one aborts what it finds.
        """
        by = self._by
        await by.may.may_put()
        await by.may.clear(self._key)
        if self._kept is not None:
            self._upload = self._kept.upload
        else:
            self._upload = await by.objects.create_upload(
                by.target, self._key, self._marks, media_type=media_type_of(self._file)
            )
        self._placer.opened(self)
        return self._upload

    async def _send(self, number: int, part: Part) -> StoredPart:
        by = self._by
        try:
            upload = await _result(self._opening)

            async def put() -> StoredPart:
                await by.may.may_put()
                return await by.objects.put_part(by.target, upload, number, part)

            with self._found_again():
                stored: StoredPart = await by.send(part, put)
        finally:
            self._placer.sent(part)
        self._steps.sent(upload, SentPart(number=number, stored=stored, md5=part.md5), len(part))
        return stored

    async def _complete(self, placed: Placed) -> Placed:
        by = self._by
        upload = await _result(self._opening)
        parts = [await _result(part) for part in self._parts]

        async def complete(*, again: bool) -> str:
            await by.may.may_put()
            return await by.objects.complete(
                by.target,
                upload,
                parts,
                placed.size,
                marks=self._marks,
                md5=placed.md5,
                again=again,
            )

        try:
            with self._found_again():
                await by.send(None, Retried(complete))
        except WrongObjectError:
            await self._steps.forget()  # to go on with it would make the same again
            raise
        self._placer.closed(self)
        await self._steps.forget()
        return placed

    @contextlib.contextmanager
    def _found_again(self) -> Iterator[None]:
        """Tell an upload that is lost as what passes: the delivery's own is another one."""
        try:
            yield
        except UploadLostError as error:
            raise TargetUnavailableError(f"{named(self._file)}: {error}") from error

    async def end(self) -> None:
        """Keep what was sent for the next attempt; abort an upload of which nothing is kept.

        If the store can be asked; else the next attempt does, or the sweep.
        """
        if self._upload is None or await self._steps.end(self._upload):
            return
        with contextlib.suppress(DeliveryError):
            await self._by.objects.abort(self._by.target, self._upload)


class _Steps:
    """What is saved of a file; for the event loop, once it is made."""

    def __init__(
        self, folder: Folder, file: ManifestFile, part_size: int, kept: KeptFile | None
    ) -> None:
        self._folder = folder
        self._file = file
        self._part_size = part_size
        self._number = 0 if kept is None else kept.steps  # of the last one
        self._is_kept = kept is not None  # as far as is known: an answer may have been lost
        self._unsaved: list[SentPart] = []
        self._bytes = 0  # sent since the last step
        self._last = time.monotonic()
        self._saving = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def sent(self, upload: Upload, part: SentPart, size: int) -> None:
        """Note that the store has a part more; begin to save it, if it is time."""
        if self._file.size is None:  # which other file it is then, can't be told
            return
        self._unsaved.append(part)
        self._bytes += size
        is_due = self._bytes >= EVERY_BYTES or time.monotonic() - self._last >= EVERY_SECONDS
        if is_due and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._save(upload))

    async def end(self, upload: Upload) -> bool:
        """Save what is left; return whether anything of the upload may be kept."""
        try:
            await self._save(upload)
        finally:
            if self._task is not None:
                self._task.cancel()
        return self._is_kept

    async def forget(self) -> None:
        """Keep nothing any more. Where PostgreSQL is away, it goes when the delivery ends."""
        self._over = True
        async with self._saving:
            if not self._is_kept:
                return
            with contextlib.suppress(StoreUnavailableError, TimeoutError):
                async with asyncio.timeout(_TIMEOUT):
                    await self._folder.forget(self._file)

    async def _save(self, upload: Upload) -> None:
        """Save a step. Raises nothing: what PostgreSQL is away for comes with the next one."""
        async with self._saving:
            if self._over or not self._unsaved:
                return
            parts = tuple(self._unsaved)
            self._bytes, self._last = 0, time.monotonic()
            before, self._is_kept = self._is_kept, True
            try:
                async with asyncio.timeout(_TIMEOUT):
                    saved = await self._folder.keep(
                        self._file,
                        upload,
                        part_size=self._part_size,
                        step=self._number + 1,
                        parts=parts,
                    )
            except Exception as error:
                late = f"PostgreSQL did not answer within {_TIMEOUT:g} s"
                log.warning(
                    "checkpoint_waits",
                    file=self._file.member,
                    parts=len(parts),
                    cause=late if isinstance(error, TimeoutError) else str(error),
                    exc_info=not isinstance(error, (TimeoutError, StoreUnavailableError)),
                )
                return
            if not saved:
                self._is_kept = before
                return
            self._number += 1
            del self._unsaved[: len(parts)]


async def _result(future: Future[T]) -> T:
    """Wait for what another task does, without ending it."""
    return await asyncio.shield(asyncio.wrap_future(future))
