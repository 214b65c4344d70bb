"""Many deliveries at once: a look tells which would be acted on, and the act takes no others.

What a filter finds changes while a person reads it. So the act names the deliveries that the look
told, and does it to those of them that the filter still finds: never to more than were seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from app.audit import Actor, AuditRecord
from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore
from app.errors import (
    InterventionError,
    InvalidRequestError,
    NotPossibleError,
    RetryableError,
    UnknownDeliveryError,
)
from app.telemetry.logs import get_logger
from app.usecases.intervene import (
    Interventions,
    why_done_is_enough,
    why_it_fails_again,
    why_not_cancelled,
    why_not_retried,
    why_not_the_last,
    why_over,
)
from app.views.deliveries import Filter, Tracked, Tracking

log = get_logger(__name__)

MAX_AT_ONCE = 1000  # deliveries of a look, and of an act


class Act(StrEnum):
    """What may be done to many."""

    CANCEL = "cancel"
    RETRY = "retry"


@dataclass(frozen=True, kw_only=True)
class Left:
    """A delivery that is left as it is, and why."""

    id: UUID
    tracked: Tracked | None  # None: it is not known any more, or was not looked at
    why: str


@dataclass(frozen=True, kw_only=True)
class Looked:
    """What an act would do to the deliveries that a filter finds, the newest first."""

    would: Sequence[Tracked]
    left: Sequence[Left]
    more: bool  # there are older ones, which were not looked at


@dataclass(frozen=True, kw_only=True)
class Acted:
    """What an act did."""

    done: Sequence[tuple[UUID, Delivery]]  # the id that was named, and the delivery as it is now
    left: Sequence[Left]


@dataclass(frozen=True, kw_only=True)
class Many:
    """Looks, and acts. One delivery after another, each in a transaction of its own.

    So an act holds one connection at a time and no lock for long, and others' work goes between.
    """

    store: DeliveryStore
    tracking: Tracking
    interventions: Interventions

    async def look(self, actor: Actor, act: Act, wanted: Filter, *, force: bool = False) -> Looked:
        """Tell what would be done to the newest `MAX_AT_ONCE` that the filter finds."""
        found = await self.tracking.browse(
            [actor.tenant], wanted, before=None, limit=MAX_AT_ONCE + 1
        )
        more, found = len(found) > MAX_AT_ONCE, found[:MAX_AT_ONCE]
        newest = await self._newest(actor.tenant, found) if act is Act.RETRY else set()
        would, left = [], []
        for tracked in found:
            why = (
                _why_not_cancelled(tracked)
                if act is Act.CANCEL
                else _why_not_retried(tracked, is_newest=tracked.delivery.id in newest, force=force)
            )
            if why is None:
                would.append(tracked)
            else:
                left.append(Left(id=tracked.delivery.id, tracked=tracked, why=why))
        return Looked(would=would, left=left, more=more)

    async def act(
        self,
        actor: Actor,
        act: Act,
        wanted: Filter,
        ids: Sequence[UUID],
        *,
        reason: str = "",
        force: bool = False,
    ) -> Acted:
        """Do it to those of these deliveries that the filter still finds, the last named first.

        The audit trail has an entry for all, which is there before anything is done, and one of
        each that is done, with it. Where the store goes away meanwhile, those that were not come to
        say so. Raises InvalidRequestError, StoreUnavailableError.
        """
        if not 0 < len(ids) <= MAX_AT_ONCE:
            raise InvalidRequestError([f"ids: 1 to {MAX_AT_ONCE}"])
        # A look has the newest first: those that have waited longest are to go on first.
        named = list(dict.fromkeys(reversed(ids)))
        async with self.store.transaction() as tx:
            await tx.audit(_entry(actor, act, wanted, len(named), reason=reason, force=force))
        done: list[tuple[UUID, Delivery]] = []
        left: list[Left] = []
        for number, each in enumerate(named):
            tracked = None
            try:
                tracked = await self._now(actor.tenant, each)
                after = await self._one(actor, act, wanted, tracked, reason, force=force)
            except (InterventionError, InvalidRequestError) as error:
                left.append(Left(id=each, tracked=tracked, why=str(error)))
            except RetryableError as error:
                why = f"it may have been done, or not: {error}; look at it"
                left.append(Left(id=each, tracked=tracked, why=why))
                why = f"it was not come to: {error}; look again, and do it to those that are left"
                left += [Left(id=rest, tracked=None, why=why) for rest in named[number + 1 :]]
                break
            else:
                done.append((each, after))
        log.info(
            "intervention_of_many",
            action=act.value,
            tenant=actor.tenant,
            actor=actor.name,
            role=actor.role,
            done=len(done),
            left=len(left),
        )
        return Acted(done=done, left=left)

    async def _now(self, tenant: str, delivery_id: UUID) -> Tracked | None:
        """Return a delivery as it is right before it is acted on."""
        found = await self.tracking.some(tenant, [delivery_id])
        return found[0] if found else None

    async def _one(
        self,
        actor: Actor,
        act: Act,
        wanted: Filter,
        tracked: Tracked | None,
        reason: str,
        *,
        force: bool,
    ) -> Delivery:
        if tracked is None:
            raise UnknownDeliveryError(f"tenant {actor.tenant} keeps it no longer")
        delivery = tracked.delivery
        if not wanted.fits(tracked):
            raise NotPossibleError(
                f"{delivery} is not as it was when it was shown ({delivery.state}); look again"
            )
        name, one = delivery.correlation_id, delivery.id
        if act is Act.CANCEL:
            return await self.interventions.cancel(actor, name, reason=reason, one_of_many=one)
        return await self.interventions.retry(actor, name, force=force, one_of_many=one)

    async def _newest(self, tenant: str, found: Iterable[Tracked]) -> set[UUID]:
        ended = {tracked.delivery.correlation_id for tracked in found if tracked.ended}
        return await self.tracking.newest(tenant, ended) if ended else set()


def _why_not_cancelled(tracked: Tracked) -> str | None:
    if tracked.ended:
        return why_over(tracked.delivery)
    return why_not_cancelled(tracked.delivery) if tracked.delivery.ending is not None else None


def _why_not_retried(tracked: Tracked, *, is_newest: bool, force: bool) -> str | None:
    delivery = tracked.delivery
    if not tracked.ended:
        waits = delivery.state.work is not None and not (delivery.held or delivery.parked)
        if delivery.ending is None and waits and tracked.worker is None:
            return None
        return why_not_retried(delivery)
    if not is_newest:
        return why_not_the_last(delivery)
    if (why := why_done_is_enough(tracked)) is not None:
        return why
    return why_it_fails_again(tracked) if tracked.fails_again and not force else None


def _entry(
    actor: Actor, act: Act, wanted: Filter, count: int, *, reason: str, force: bool
) -> AuditRecord:
    """Return what is noted of all: what was looked for, and to how many it is to be done."""
    after: dict[str, Any] = {
        "filter": wanted.model_dump(mode="json", by_alias=True, exclude_none=True),
        "deliveries": count,
    }
    if reason:
        after["reason"] = reason
    if force:
        after["force"] = True
    return AuditRecord(
        actor=actor,
        action=act.value,
        subject=f"{count} deliveries" if count != 1 else "1 delivery",
        before=None,
        after=after,
    )
