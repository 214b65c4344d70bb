"""What an earlier attempt has sent, and whether this one can go on with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from app.delivery.checkpoint import Checkpoint
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, Upload
from app.delivery.ports import Checkpoints
from app.delivery.targets import Target
from app.errors import (
    CheckpointUnusableError,
    SecretUnreadableError,
    StoreUnavailableError,
    TargetRefusedError,
    UploadLostError,
)
from app.telemetry.logs import get_logger
from app.usecases.uploads import Uploads

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfinished:
    """An upload that is open, and how much of its archive is there."""

    upload: Upload
    after: Checkpoint


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """Looks for uploads that attempts before have left open, to be gone on with."""

    checkpoints: Checkpoints
    objects: ObjectStore[Any]
    uploads: Uploads

    async def find(self, delivery: Delivery, target: Target, key: str) -> Unfinished | None:
        """Return what can be gone on with: the store has every part that was saved, as it was sent.

        Raises TargetUnavailableError while the store does not tell. What is open and can't be gone
        on with is the caller's to abort.
        """
        upload = delivery.upload
        if upload is None or upload.key != key or not self._is_at(delivery, target):
            return None
        steps = await self.checkpoints.steps(delivery, upload)
        if not steps:
            return None
        try:
            checkpoint = Checkpoint.of(steps)
            there = await self.objects.part_etags(target, upload)
            self._compare(checkpoint, there)
        except (CheckpointUnusableError, UploadLostError, TargetRefusedError) as error:
            log.warning(
                "checkpoint_unusable",
                **delivery.log_context,
                attempt=delivery.attempt,
                upload_id=upload.upload_id,
                cause=str(error),
                consequence="the transfer begins again from its first file",
            )
            return None
        return Unfinished(upload=upload, after=replace(checkpoint, sent=max(there, default=0)))

    async def is_kept(
        self, delivery: Delivery, upload: Upload, *, for_another: bool = False
    ) -> bool:
        """Whether another attempt may go on with an upload: so this one is not to abort it.

        Not once the delivery has ended, and not where nothing was saved; `for_another`, only when a
        later attempt has begun. Where PostgreSQL does not tell, it stays open: it is recorded, so
        the next attempt finds it, or the sweep.
        """
        try:
            return await self.checkpoints.is_kept(delivery, upload, for_another=for_another)
        except StoreUnavailableError:
            return True

    def _is_at(self, delivery: Delivery, target: Target) -> bool:
        """Whether the upload is open where an attempt now would open one, and as it would."""
        try:
            place = self.uploads.place(delivery)
        except SecretUnreadableError:
            return False
        return place is not None and _opened_at(place) == _opened_at(target)

    @staticmethod
    def _compare(checkpoint: Checkpoint, there: dict[int, str]) -> None:
        """Raise CheckpointUnusableError unless the parts are those that were sent.

        What lies behind them was not saved, and is sent again.
        """
        for number, part in enumerate(checkpoint.parts, start=1):
            if there.get(number) != part.etag:
                raise CheckpointUnusableError(
                    f"part {number} of {len(checkpoint.parts)} that were sent should have ETag "
                    f"{part.etag}, and the store has {there.get(number, 'none')}"
                )


def _opened_at(target: Target) -> tuple[object, ...]:
    return target.kind, target.namespace, target.container, dict(target.opened_with)
