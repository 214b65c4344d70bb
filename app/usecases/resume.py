"""What an earlier attempt has sent, and whether this one can go on with it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from app.delivery.checkpoint import Checkpoint, SavedStep
from app.delivery.model import Delivery
from app.delivery.object_store import ObjectStore, Upload
from app.delivery.ports import Checkpoints
from app.delivery.targets import Target, same_place
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

FROM_THE_START = "the transfer begins again from its first file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unfinished:
    """An upload that is open, and how much of its archive is there."""

    upload: Upload
    after: Checkpoint
    stepped_back: bool = False  # more was sent, which can't be gone on from


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """Looks for uploads that attempts before have left open, to be gone on with."""

    checkpoints: Checkpoints
    objects: ObjectStore[Any]
    uploads: Uploads

    async def find(
        self,
        delivery: Delivery,
        target: Target,
        key: str,
        *,
        before: Checkpoint | None = None,
        most_members: int | None = None,
    ) -> Unfinished | None:
        """Return what can be gone on with: the store has every part of it, as it was sent.

        Of several boundaries the last one; or the last one `before` the file that a checkpoint lies
        in: if that was a wrong one, so is what was sent of it, and what was sent before is not. Or
        the last one before which so many members end at most, and which lies in none behind them.

        Raises TargetUnavailableError while the store does not tell. What is open and can't be gone
        on with is the caller's to abort.
        """
        upload = delivery.upload
        if upload is None or upload.key != key or not self._is_at(delivery, target):
            return None
        steps = await self.checkpoints.steps(delivery, upload)
        if before is not None:
            steps = [step for step in steps if step.boundary.members < before.boundary.members]
        if most_members is not None:
            steps = _before_the_next(steps, most_members)
        if not steps:
            return None
        try:
            there = await self.objects.part_etags(target, upload)
            checkpoint = self._last_that_is(there, steps, delivery, upload)
        except (CheckpointUnusableError, UploadLostError, TargetRefusedError) as error:
            tell_unusable(delivery, upload, str(error), FROM_THE_START)
            return None
        return Unfinished(
            upload=upload,
            after=replace(checkpoint, sent=max(there, default=0)),
            stepped_back=before is not None,
        )

    def _last_that_is(
        self, there: dict[int, str], steps: list[SavedStep], delivery: Delivery, upload: Upload
    ) -> Checkpoint:
        """Return the last boundary up to which all parts are there. Raises CheckpointUnusableError.

        What lies behind was not saved, or is not there: it is sent again.
        """
        load = partial(self.checkpoints.members, delivery, upload)
        checkpoint = Checkpoint.of(steps, load)
        same = _same(checkpoint, there)
        if same == len(checkpoint.parts):
            return checkpoint
        flaw = (
            f"part {same + 1} of {len(checkpoint.parts)} that were sent should have ETag "
            f"{checkpoint.parts[same].etag}, and the store has {there.get(same + 1, 'none')}"
        )
        earlier = [step for step in steps if step.boundary.parts <= same]
        if not earlier:
            raise CheckpointUnusableError(flaw)
        consequence = f"the transfer goes on behind part {earlier[-1].boundary.parts}"
        tell_unusable(delivery, upload, flaw, consequence)
        return Checkpoint.of(earlier, load)

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
        return (
            place is not None
            and same_place(place, target)
            and dict(place.opened_with) == dict(target.opened_with)
        )


def _before_the_next(steps: list[SavedStep], members: int) -> list[SavedStep]:
    """Return the steps up to the last that has nothing of what is behind so many members.

    A step of fewer may have it all the same: of small members some are made at a time. Then its
    bytes are other ones.
    """
    reached: list[SavedStep] = []
    finished = 0
    for step in steps:
        finished += step.finished
        kept = step.boundary.parts * step.part_size + (step.tail.size if step.tail else 0)
        if step.boundary.members > members:
            break
        if step.boundary.members == members and kept > finished:
            break
        reached.append(step)
    return reached


def tell_unusable(delivery: Delivery, upload: Upload, cause: str, consequence: str) -> None:
    """Log that what was saved last is not gone on from."""
    log.warning(
        "checkpoint_unusable",
        **delivery.log_context,
        attempt=delivery.attempt,
        upload_id=upload.upload_id,
        cause=cause,
        consequence=consequence,
    )


def _same(checkpoint: Checkpoint, there: dict[int, str]) -> int:
    """Return how many parts, from the first, are those that were sent."""
    for number, part in enumerate(checkpoint.parts, start=1):
        if there.get(number) != part.etag:
            return number - 1
    return len(checkpoint.parts)
