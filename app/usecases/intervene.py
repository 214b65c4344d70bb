"""A person, or a client, steps in: cancel a delivery, try it again, ask for one without AMQP."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from app.audit import Actor, AuditRecord
from app.codes import CATALOGUE, Code, known
from app.delivery.content import ContentState, content_gone
from app.delivery.ingress import Asked, Cancel, DeliveryRequest
from app.delivery.messages import as_property
from app.delivery.model import Delivery
from app.delivery.own_ids import as_own
from app.delivery.ports import DeliveryStore, UnitOfWork, Users
from app.delivery.requests import parse_request
from app.delivery.states import State
from app.errors import (
    ErrorType,
    FailsAgainError,
    InvalidRequestError,
    NotPossibleError,
    UnknownDeliveryError,
)
from app.telemetry import metrics
from app.telemetry.logs import get_logger
from app.tenants.registry import ConfiguredTenants
from app.usecases.fail import fail
from app.usecases.quotas import refusal_of
from app.usecases.submit import missed, not_taken, opening, save
from app.views.deliveries import Tracked, Tracking

log = get_logger(__name__)

_PURGED_AT_ONCE = 1000  # deliveries, in a transaction


@dataclass(frozen=True, kw_only=True)
class Interventions:
    """What may be done to deliveries from outside, each noted in the audit trail.

    Where a `user` is given, only that user's deliveries exist: another's is answered as one that
    never was, whatever is done to it.
    """

    store: DeliveryStore
    tracking: Tracking
    tenants: ConfiguredTenants
    users: Users

    async def cancel(
        self,
        actor: Actor,
        correlation_id: str,
        *,
        user: str | None = None,
        reason: str = "",
        one_of_many: UUID | None = None,
    ) -> Delivery:
        """End an active delivery: `ERROR`, `INTERNAL_ERROR`, saying by whom it was cancelled.

        (Clients know no error type for it.) Its worker notices within a second, and aborts the
        upload; that of a dead one is swept later. One whose archive may be appearing is returned as
        `TRANSFERRING`: it ends when that is known, and is done if it has appeared. `one_of_many`:
        only the delivery of this id. Raises UnknownDeliveryError, NotPossibleError.
        """
        async with self.store.transaction() as tx:
            delivery = _of(user, await tx.lock(actor.tenant, correlation_id))
            if delivery is not None and one_of_many in (delivery.id, None):
                if delivery.ending is not None:
                    raise NotPossibleError(why_not_cancelled(delivery))
                state = await _end(tx, delivery, actor, reason)
                return replace(delivery, state=state)
        last = await self._last(actor.tenant, correlation_id, user, one_of_many)
        raise NotPossibleError(why_over(last.delivery))

    async def retry(
        self,
        actor: Actor,
        correlation_id: str,
        *,
        user: str | None = None,
        force: bool = False,
        one_of_many: UUID | None = None,
    ) -> Delivery:
        """Try again at once what waits for a later attempt, or again what ended in ERROR.

        Or what was done, once its content is removed.

        What has ended is asked for again as its client would: a new delivery of the same request,
        with new responses, and all of the tenant's time. What would end the same way only with
        `force`. `one_of_many`: only the delivery of this id. Raises UnknownDeliveryError,
        NotPossibleError, FailsAgainError, OverQuotaError.
        """
        async with self.store.transaction() as tx:
            active = _of(user, await tx.lock(actor.tenant, correlation_id))
            if active is not None:
                if one_of_many not in (active.id, None):
                    raise NotPossibleError(why_not_the_last(active))
                if active.ending is not None or not await tx.retry_now(active):
                    raise NotPossibleError(why_not_retried(active))
                _wake(tx, active)
                await tx.audit(_done(actor, "retry", active, after=active.state))
                return active
        tracked = await self._last(actor.tenant, correlation_id, user)
        last = tracked.delivery
        if one_of_many not in (last.id, None):
            raise NotPossibleError(why_not_the_last(last))
        if user is not None and await self._taken_since(last):
            # The client that has the id now is none of this user's business.
            raise NotPossibleError(
                f"{last} can't be asked for again; ask for it under another correlation id"
            )
        if (why := why_done_is_enough(tracked)) is not None:
            raise NotPossibleError(why)
        if tracked.fails_again and not force:
            raise FailsAgainError(why_it_fails_again(tracked))
        request = DeliveryRequest(
            id=uuid4(),
            tenant=last.tenant,
            correlation_id=correlation_id,
            origin_app=as_property(last.origin_app),
            priority=last.priority,
            target=last.target,
            format=last.format,
            archive_template=last.archive_template,
            prefix_template=last.prefix_template,
            partial=last.partial,
            labels=last.labels,
            user=last.user,
            order=last.order,
        )
        async with self.store.transaction() as tx:
            return await self._open(tx, actor, "retry", request)

    async def remove(
        self,
        actor: Actor,
        correlation_id: str,
        *,
        delivery_id: UUID | None = None,
        user: str | None = None,
    ) -> Tracked:
        """Let the content of a delivery be removed from its target: of the last one, or a named.

        Of one that failed, its report.

        Again changes nothing, but that it is tried at once; one whose content is removed is
        returned as it is. Raises UnknownDeliveryError, NotPossibleError.
        """
        last = await self._last(actor.tenant, correlation_id, user, delivery_id)
        delivery = last.delivery
        if delivery.state is not State.DONE and last.told.report_url is None:
            raise NotPossibleError(
                f"{delivery} is not done ({delivery.state}): nothing of it is at its target"
                + ("" if delivery.state.ended else "; cancel it")
            )
        if last.content is not None and last.content.state is ContentState.REMOVED:
            return last
        async with self.store.transaction() as tx:
            if await tx.ask_removal([delivery.id]):
                seen = ContentState.PRESENT if last.content is None else last.content.state
                done = _done(actor, "remove", delivery, after=delivery.state)
                await tx.audit(replace(done, before=seen, after=ContentState.REMOVING))
        found = await self.tracking.one(actor.tenant, delivery.id)
        if found is None or found.content is None:
            raise NotPossibleError(f"it is not known any more where the content of {delivery} is")
        return found

    async def count_old(self, actor: Actor, age: timedelta) -> tuple[int, int]:
        """Return of how many deliveries `purge` would remove the content, and its bytes."""
        async with self.store.transaction() as tx:
            return await tx.count_old_contents(actor.tenant, age)

    async def purge(
        self, actor: Actor, age: timedelta, *, limit: int = _PURGED_AT_ONCE
    ) -> tuple[int, int]:
        """Let the content of deliveries be removed that were done so long ago: `limit` at most.

        Return of how many, and their bytes; none: there is no more. Deliveries that are not kept
        any more are not known, nor is what they left.
        """
        async with self.store.transaction() as tx:
            old = await tx.old_contents(actor.tenant, age, limit=limit)
            asked = set(await tx.ask_removal([delivery for delivery, _ in old]))
            sizes = [size for delivery, size in old if delivery in asked]
            if sizes:
                await tx.audit(
                    AuditRecord(
                        actor=actor,
                        action="purge",
                        subject=f"deliveries done more than {age} ago",
                        before=None,
                        after={"deliveries": len(sizes), "bytes": sum(sizes)},
                    )
                )
        return len(sizes), sum(sizes)

    async def submit(
        self,
        actor: Actor,
        body: Mapping[str, Any],
        *,
        user: str | None = None,
        priority: int = 1,
        key: str | None = None,
    ) -> UUID:
        """Take in a request as if it had come over AMQP; return the id of its delivery.

        The same rules hold, and responses go out there; but what is refused is answered here
        alone. Asked again (with the same key; or with the same body, while it is active, unless
        another key tells that another delivery is meant) it is the same delivery. Raises
        InvalidRequestError with every broken rule, NotPossibleError, OverQuotaError.
        """
        asked = asked_of(actor, body, priority=priority, key=key)
        named = body.get("correlationId") is not None
        whole = body if user is None else as_own(user, body, priority=priority)
        request = parse_request(whole, delivery_id=uuid4(), tenant=actor.tenant, priority=priority)
        async with self.store.transaction() as tx:
            before = await tx.asked_before(asked, active=named or key is None)
            if before is None:
                if flaws := not_taken(request, None, tenants=self.tenants):
                    raise InvalidRequestError(flaws)
                opened = await self._open(tx, actor, "submit", request)
                if (flaw := missed(request, opened.requested_at)) is not None:
                    raise InvalidRequestError([flaw])  # by the store's clock; nothing is saved
                delivery_id = opened.id
            elif before.request == asked.request:
                delivery_id = before.delivery_id
                tx.on_commit(metrics.REQUESTS.labels(actor.tenant, "repeated").inc)
            else:
                raise InvalidRequestError(
                    ["Idempotency-Key came with another request before; give each its own"]
                )
            await tx.record_request(asked, delivery_id)
        return delivery_id

    async def _open(
        self, tx: UnitOfWork, actor: Actor, action: str, request: DeliveryRequest
    ) -> Delivery:
        """Save a delivery, what is owed for it and the entry of the audit trail: all or nothing."""
        asked = opening(request, None, tenants=self.tenants, users=self.users)
        opened, over = await save(tx, [asked], tenants=self.tenants)
        if not opened:
            raise NotPossibleError(
                f"a delivery {request.correlation_id} of tenant {request.tenant} is still active; "
                "cancel it first, or choose another correlation id"
            )
        if (why := over.get(opened[0].id)) is not None:  # nothing is saved
            raise refusal_of(request.correlation_id, why)
        _wake(tx, opened[0])
        await tx.audit(_done(actor, action, opened[0], after=opened[0].state))
        return opened[0]

    async def _taken_since(self, last: Delivery) -> bool:
        """Whether another user has asked under the same correlation id since."""
        newest = (await self.tracking.of(last.tenant, last.correlation_id))[0]
        return newest.delivery.user != last.user

    async def _last(
        self,
        tenant: str,
        correlation_id: str,
        user: str | None,
        delivery_id: UUID | None = None,
    ) -> Tracked:
        found = await self.tracking.of(tenant, correlation_id)
        found = [
            tracked
            for tracked in found
            if _of(user, tracked.delivery) and delivery_id in (tracked.delivery.id, None)
        ]
        if not found:
            raise UnknownDeliveryError(
                f"tenant {tenant} has no delivery {correlation_id[:100]!r}, or it was long ago"
            )
        return found[0]


async def apply_cancel(cancel: Cancel, *, store: DeliveryStore) -> None:
    """Do what a client asks for over AMQP: end its delivery, as an operator may, if it is active.

    One that can't be about the active delivery changes nothing.
    """
    actor = Actor(name=cancel.origin_app or "its client", role="AMQP", tenant=cancel.tenant)
    async with store.transaction(locking=[cancel.ingress.digest]) as tx:
        arrived_at = (await tx.record_receipts([cancel.ingress])).get(cancel.ingress.id)
        active = await tx.lock(cancel.tenant, cancel.correlation_id)
        ignored = why_cancel_is_ignored(active, arrived_at)
        if active is not None and ignored is None:
            await _end(tx, active, actor, cancel.reason or "")
    if ignored is not None:
        log.info(
            "cancel_ignored",
            tenant=cancel.tenant,
            correlation_id=cancel.correlation_id,
            cause=ignored,
        )


def why_cancel_is_ignored(active: Delivery | None, arrived_at: datetime | None) -> str | None:
    """Return why a cancel changes nothing; None when it ends the active delivery.

    It arrived then by the store's clock; None says that it was applied before. One that came before
    the active delivery was requested is about an earlier one.
    """
    if arrived_at is None:
        return "it was applied before"
    if active is None:
        return "no delivery with this correlationId is active"
    if arrived_at < active.requested_at:
        return "it arrived before the active delivery was requested"
    if active.ending is not None:
        return why_not_cancelled(active)
    return None


def _of(user: str | None, delivery: Delivery | None) -> Delivery | None:
    """Return the delivery if it is the user's; None is any user."""
    if delivery is None or (user is not None and delivery.user != user):
        return None
    return delivery


def _wake(tx: UnitOfWork, delivery: Delivery) -> None:
    """Wake workers for a delivery that they can go on with: this process may have none."""
    if delivery.work is not None:
        tx.wake(delivery.work)


async def _end(tx: UnitOfWork, delivery: Delivery, actor: Actor, reason: str) -> State:
    """End a delivery that is locked, or note that it ends; return the state that it is in then."""
    message = f"cancelled by {actor.name or 'a caller without a name'}"
    if reason:
        message += f": {reason}"
    state = await fail(tx, delivery, ErrorType.INTERNAL_ERROR, message, code=Code.CANCELLED)
    assert state is not None  # noqa: S101 - it is locked
    await tx.audit(_done(actor, "cancel", delivery, after=state))
    return state


def why_over(delivery: Delivery) -> str:
    """Return why there is nothing to cancel of a delivery that has ended."""
    return f"{delivery} has ended already ({delivery.state}); there is nothing to cancel"


def why_not_the_last(newer: Delivery) -> str:
    """Return why one is not tried again whose correlation id another delivery has by now."""
    return f"{newer} was asked for again since then ({newer.state}); look at that one"


def why_done_is_enough(tracked: Tracked) -> str | None:
    """Return why one that is done is not tried again: its content is there, or on its way out."""
    delivery, content = tracked.delivery, tracked.content
    removed = content is not None and content.state is ContentState.REMOVED
    if delivery.state is not State.DONE or removed:
        return None
    going = content_gone(delivery, content)
    if going is None:
        return f"{delivery} is done; ask for it again under another correlation id"
    return f"{going}; ask for it again when it is gone"


def why_not_cancelled(delivery: Delivery) -> str:
    """Return why there is nothing to cancel of a delivery whose end is noted."""
    assert delivery.ending is not None  # noqa: S101 - else it can be
    return (
        f"{delivery} ends as soon as it is known whether its archive has appeared "
        f"({delivery.ending.message}); there is nothing to cancel"
    )


def why_not_retried(delivery: Delivery) -> str:
    """Return why there is nothing to try again of an active delivery that waits for no attempt."""
    if delivery.ending is not None:
        return (
            f"{delivery} ends as soon as it is known whether its archive has appeared "
            f"({delivery.ending.message}); there is nothing to try again"
        )
    if delivery.held:
        return f"{delivery} can't be tried now: {delivery.last_cause}; it goes on by itself"
    if delivery.parked:
        return (
            f"{delivery} waits for rs-order: {delivery.last_cause}; there is nothing to try again"
        )
    if delivery.state.work is None:
        return f"{delivery} waits for rs-order ({delivery.state}); there is nothing to try again"
    return f"{delivery} is under way ({delivery.state}); there is nothing to try again"


def why_it_fails_again(tracked: Tracked) -> str:
    """Return what a person is told who would ask again for what failed for a cause that stays."""
    assert tracked.error is not None  # noqa: S101 - it failed
    code = known(tracked.code)
    assert code is not None  # noqa: S101 - else nothing tells that it fails again
    stanza = CATALOGUE[code]
    return (
        f"{tracked.delivery} would fail again as it did: {tracked.error[1]} ({code}). First: "
        f"{stanza.do} To try it all the same, force it"
    )


def asked_of(actor: Actor, body: Mapping[str, Any], *, priority: int, key: str | None) -> Asked:
    """Return by what a request over HTTP, with the key that came with it, is known again."""
    caller = [actor.tenant, actor.name]
    return Asked(
        request=_digest([*caller, priority, body]),
        key=None if key is None else _digest([*caller, key]),
    )


def _digest(value: Sequence[Any]) -> bytes:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).digest()


def _done(actor: Actor, action: str, delivery: Delivery, *, after: State) -> AuditRecord:
    log.info(
        "intervention",
        action=action,
        **delivery.log_context,
        actor=actor.name,
        role=actor.role,
        state=delivery.state.value,
    )
    return AuditRecord(
        actor=actor,
        action=action,
        subject=f"delivery {delivery.correlation_id}",
        before=delivery.state.value,
        after=after.value,
    )
