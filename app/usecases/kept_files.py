"""Large files that are delivered as they are, half-sent: kept for the attempt that takes over.

Under the fence of the delivery's own upload, as an archive's steps: what an attempt that has lost
its lease would save, or forget, changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from app.delivery.kept_files import FileStep, KeptFile, SentPart
from app.delivery.lease import Lease
from app.delivery.manifest import ManifestFile
from app.delivery.model import Delivery
from app.delivery.object_store import Upload
from app.delivery.ports import Checkpoints
from app.delivery.targets import Target, same_place
from app.errors import (
    CheckpointUnusableError,
    LeaseLostError,
    SecretUnreadableError,
    TargetRefusedError,
    UploadLostError,
)
from app.telemetry.logs import get_logger
from app.usecases.uploads import Uploads
from app.waiting.patience import until_answered

log = get_logger(__name__)

T = TypeVar("T")


class KeptFiles:
    """Those of one attempt."""

    def __init__(
        self,
        checkpoints: Checkpoints,
        uploads: Uploads,
        delivery: Delivery,
        target: Target,
        lease: Lease,
    ) -> None:
        self._checkpoints = checkpoints
        self._uploads = uploads
        self._delivery = delivery
        self._target = target
        self._lease = lease
        self._own: Upload | None = None  # the delivery's
        self._kept: dict[int, str] | None = None  # by position, as earlier attempts have left it

    def begin(self, own: Upload) -> None:
        """Save under the fence of this upload from now on."""
        self._own, self._kept = own, None

    async def resume(self, file: ManifestFile, key: str, *, at_most: int) -> KeptFile | None:
        """See `ports.Folder`; the file's object is to have that key."""
        if self._kept is None:
            self._kept = await self._ask(partial(self._checkpoints.kept_uploads, self._delivery))
        if file.position not in self._kept:
            return None
        read = partial(self._checkpoints.file_steps, self._delivery, file.position)
        steps = await self._ask(read)
        if not steps:
            return None
        try:
            self._check(steps, file, key, at_most=at_most)
            upload = steps[-1].upload
            if not self._lease.safe_to_complete():  # some stores shut others out by the look
                raise LeaseLostError(f"the lease of {self._delivery} ran out")
            there = await self._uploads.objects.part_etags(self._target, upload)
        except (
            CheckpointUnusableError,
            SecretUnreadableError,
            TargetRefusedError,
            UploadLostError,
        ) as error:
            log.warning(
                "file_begins_again",
                **self._delivery.log_context,
                attempt=self._delivery.attempt,
                key=key,
                cause=str(error),
                consequence="all of the file is sent again",
            )
            if not await self._forgotten(file):
                raise LeaseLostError(
                    f"{self._delivery} was taken over before a file was begun again"
                ) from error
            return None
        log.info(
            "file_resumed",
            **self._delivery.log_context,
            attempt=self._delivery.attempt,
            key=key,
            parts=len(there),
        )
        return KeptFile(
            upload=upload,
            part_size=steps[-1].part_size,
            steps=steps[-1].number,
            saved={part.number: part for step in steps for part in step.parts},
            there=there,
        )

    def _check(
        self, steps: Sequence[FileStep], file: ManifestFile, key: str, *, at_most: int
    ) -> None:
        """Raise CheckpointUnusableError unless this attempt may go on with what was sent."""
        last = steps[-1]
        if not last.is_of(file):
            raise CheckpointUnusableError(
                f"what was sent is of file {last.file_id} with {last.size} bytes and MD5 "
                f"{last.md5 or 'unknown'}, and now it is file {file.file_id} with {file.size} "
                f"bytes and MD5 {file.md5 or 'unknown'}"
            )
        assert last.upload.target is not None  # noqa: S101 - NOT NULL
        place = self._uploads.opened(last.upload.target)
        if (
            last.upload.key != key
            or not same_place(place, self._target)
            or dict(place.opened_with) != dict(self._target.opened_with)
        ):
            raise CheckpointUnusableError(
                f"what was sent is at {last.upload.key} in {place}, and the file is to be at "
                f"{key} in {self._target} now, or there in another way"
            )
        if last.part_size > at_most:
            raise CheckpointUnusableError(
                f"what was sent is in parts of {last.part_size} bytes, and this worker has memory "
                f"for parts of {at_most}"
            )

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
        assert self._own is not None  # noqa: S101 - it has begun
        assert file.size is not None  # noqa: S101 - of others nothing is kept
        taken = FileStep(
            position=file.position,
            file_id=file.file_id,
            size=file.size,
            md5=file.md5,
            upload=self._uploads.located(upload, self._target),
            part_size=part_size,
            number=step,
            parts=parts,
        )
        return await self._checkpoints.save_file(self._delivery, self._own, taken)

    async def forget(self, file: ManifestFile) -> None:
        """See `ports.Folder`."""
        assert self._own is not None  # noqa: S101 - it has begun
        await self._checkpoints.forget_file(self._delivery, self._own, file.position)

    async def _forgotten(self, file: ManifestFile) -> bool:
        assert self._own is not None  # noqa: S101 - it has begun
        forget = self._checkpoints.forget_file
        return await self._ask(partial(forget, self._delivery, self._own, file.position))

    async def _ask(self, act: Callable[[], Awaitable[T]]) -> T:
        return await until_answered(act, good=self._lease.safe_to_complete)
