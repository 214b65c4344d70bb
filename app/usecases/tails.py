"""Tails: what archives that paused have beyond their last part, each an object beside its archive.

Noted before it is put, and until it is surely gone: so whichever process dies, and whenever, the
next attempt finds what it needs, and the sweep what is left.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from app.delivery.checkpoint import Step, Tail, TailObject
from app.delivery.lease import Lease
from app.delivery.marks import marks_of
from app.delivery.model import Delivery
from app.delivery.object_store import PartBody, Upload
from app.delivery.ports import Checkpoints
from app.delivery.targets import Target, same_place
from app.errors import (
    DeliveryError,
    LeaseLostError,
    PermanentError,
    SecretUnreadableError,
    StoreUnavailableError,
)
from app.telemetry.logs import get_logger
from app.usecases.uploads import Uploads
from app.waiting.patience import until_answered

log = get_logger(__name__)

# After that, one that was to be put is there, or never will be: longer than a store's deadline for
# it, with what its bytes take at the slowest pace.
_LATE = timedelta(minutes=16)
_MIN_RATE = 256 * 1024  # bytes a second
_DROP_TIMEOUT = 5.0  # seconds in which a transfer drops what it needs no more; else others do


@dataclass(frozen=True, kw_only=True)
class Tails:
    """Puts tails, and removes them."""

    checkpoints: Checkpoints
    uploads: Uploads

    async def put(
        self,
        delivery: Delivery,
        target: Target,
        upload: Upload,
        body: PartBody,
        lease: Lease,
        *,
        again: bool,
    ) -> Tail:
        """Put one beside the archive; no other attempt, nor delivery, writes one of this name.

        `again`, if an earlier try may still be carried out. Raises LeaseLostError, and what a store
        raises.
        """
        key = f"{upload.key}.unfinished-{delivery.id}-{delivery.attempt}"
        until = _LATE + timedelta(seconds=len(body) / _MIN_RATE)
        placed = self.uploads.located(upload, target)  # with the credentials of today
        record = partial(self.checkpoints.record_tail, delivery, placed, key, until=until)
        noted = await until_answered(record, good=lease.safe_to_complete)
        if not noted or not lease.safe_to_complete():
            raise LeaseLostError(
                f"the lease of {delivery} ran out before the rest of its archive was put aside"
            )
        await self.uploads.objects.put_aside(target, key, body, marks_of(delivery))
        if not again:  # it was answered, and there is no other: nothing is put late
            with suppress(StoreUnavailableError):
                await self.checkpoints.record_tail(delivery, placed, key, until=timedelta())
        return Tail(key=key, size=len(body), md5=body.md5)

    async def drop_soon(self, delivery: Delivery, *, before: int | None = None) -> None:
        """Drop all that are there; or those of attempts `before` one. What fails, the sweep does.

        An attempt that has saved a step needs those of the ones before it no more, and no later one
        does; what later ones put is not its own to drop.
        """
        with suppress(DeliveryError, TimeoutError):
            async with asyncio.timeout(_DROP_TIMEOUT):
                there = [
                    tail
                    for tail in await self.checkpoints.tails(delivery)
                    if tail.manifest_key is None
                    and not tail.dropped
                    and (before is None or tail.attempt < before)
                ]
                await self.drop(delivery, there)

    async def drop(
        self, delivery: Delivery, tails: list[TailObject], *, today: Target | None = None
    ) -> bool:
        """Drop some, also ones that were dropped before: they may have been put late.

        Return whether none was refused. Raises RetryableError while a place does not answer. What
        is refused for good is logged, and stays noted. `today` is where the tenant would have one
        put now: credentials may have been changed.
        """
        began, dropped = time.monotonic(), []
        for tail in tails:
            try:
                await self._drop(tail, today)
            except (PermanentError, SecretUnreadableError) as error:
                log.warning(
                    "tail_left",
                    **delivery.log_context,
                    key=tail.key,
                    cause=str(error),
                    consequence="it is tried again, as long as the delivery is kept",
                )
            else:
                dropped.append(tail.key)
        if dropped:
            took = timedelta(seconds=time.monotonic() - began)
            await self.checkpoints.forget_tails(delivery, dropped, took=took)
        return len(dropped) == len(tails)

    async def _drop(self, tail: TailObject, today: Target | None) -> None:
        place = self.uploads.opened(tail.target)
        try:
            await self.uploads.objects.drop_aside(place, tail.key)
        except PermanentError:
            if today is None or today == place or not same_place(today, place):
                raise
            await self.uploads.objects.drop_aside(today, tail.key)


class KeptArchive:
    """What one attempt saves of a half-made archive, so that another one can go on."""

    def __init__(
        self, tails: Tails, delivery: Delivery, target: Target, upload: Upload, lease: Lease
    ) -> None:
        self._tails = tails
        self._delivery = delivery
        self._target = target
        self._upload = upload
        self._lease = lease
        self._had = delivery.attempt > 1  # whether attempts before may have left tails
        self._asked = False  # whether it has tried to put one

    async def save(self, step: Step) -> bool:
        """Save a step; see `ports.Checkpoints.save`. What was put aside before is dropped then.

        Not by a worker that stops: it has no time to ask a store, and others drop it, too.
        """
        saved = await self._tails.checkpoints.save(self._delivery, self._upload, step)
        if saved and self._had and not self._lease.stopping.is_set():
            self._had = False
            await self._tails.drop_soon(self._delivery, before=self._delivery.attempt)
        return saved

    async def put_aside(self, rest: PartBody) -> Tail:
        """Put what lies beyond the last part beside the archive."""
        again, self._asked = self._asked, True
        return await self._tails.put(
            self._delivery, self._target, self._upload, rest, self._lease, again=again
        )
