"""A person, or a client, steps in: cancel a delivery, try it again, ask for one without AMQP."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeGuard
from uuid import UUID, uuid4

from app.configuration import Actor, Done
from app.errors import (
    InvalidRequestError,
    NotPossibleError,
    UnknownDeliveryError,
)
from app.logs import get_logger
from app.model import Delivery, DeliveryRequest, ErrorType, Receipt, State
from app.ports import Store, Tenants, Users
from app.requests import parse_request
from app.tracking import Tracked, Tracking
from app.usecases.fail import fail
from app.usecases.submit import receive, unknown_target

log = get_logger(__name__)

_LONGEST_ID = 255  # characters of a correlation id


@dataclass(frozen=True, kw_only=True)
class Interventions:
    """What may be done to deliveries from outside, each noted in the audit trail."""

    store: Store
    tracking: Tracking
    tenants: Tenants
    users: Users

    async def cancel(
        self, actor: Actor, correlation_id: str, *, reason: str = "", arrival: UUID | None = None
    ) -> Delivery:
        """End an active delivery: `ERROR`, `INTERNAL_ERROR`, saying by whom it was cancelled.

        (Clients know no error type for it.) Its worker notices within a second, and aborts the
        upload; that of a dead one is swept later. `arrival` is that of the message which asked for
        it: it needs no further care, also when there is nothing to cancel. Raises
        UnknownDeliveryError, NotPossibleError.
        """
        message = f"cancelled by {actor.name or 'somebody without a name'}"
        if reason:
            message += f": {reason}"
        async with self.store.transaction() as tx:
            if arrival is not None:
                await tx.handled(arrival)
            delivery = await tx.lock(actor.tenant, correlation_id)
            if delivery is not None:
                await fail(tx, delivery, ErrorType.INTERNAL_ERROR, message)
                await tx.note(_done(actor, "cancel", delivery, after=State.ERROR))
        if delivery is None:
            last = await self._last(actor.tenant, correlation_id)
            raise NotPossibleError(
                f"{last.delivery} has ended already ({last.delivery.state}); "
                "there is nothing to cancel"
            )
        return delivery

    async def retry(self, actor: Actor, correlation_id: str) -> Delivery:
        """Try again at once what waits for a later attempt, or anew what ended in ERROR.

        What has ended is asked for again as its client would: a new delivery of the same request,
        with new responses. Raises UnknownDeliveryError, NotPossibleError.
        """
        async with self.store.transaction() as tx:
            delivery = await tx.lock(actor.tenant, correlation_id)
            hastened = delivery is not None and await tx.hasten(delivery)
            if delivery is not None and hastened:
                await tx.note(_done(actor, "retry", delivery, after=delivery.state))
        if delivery is not None:
            if hastened:
                return delivery
            raise NotPossibleError(_nothing_to_hasten(delivery))
        last = (await self._last(actor.tenant, correlation_id)).delivery
        if last.state is State.DONE:
            raise NotPossibleError(f"{last} is done; ask for it again under another correlation id")
        receipt = _receipt(
            last.tenant, correlation_id, origin_app=last.origin_app, priority=last.priority
        )
        request = DeliveryRequest(target=last.target, user=last.user, order=last.order)
        return await self._open(actor, "retry", receipt, request)

    async def submit(self, actor: Actor, body: Mapping[str, Any], *, priority: int = 1) -> Delivery:
        """Take in a request as if it had come over AMQP: same rules, same responses there.

        Raises InvalidRequestError with every broken rule (and `DENIED` is sent, if there is a
        correlation id to answer to), NotPossibleError.
        """
        request: DeliveryRequest | InvalidRequestError
        try:
            request = parse_request(body)
        except InvalidRequestError as error:
            request = error
        correlation_id = body.get("correlationId")
        if not _answerable(correlation_id):
            assert isinstance(request, InvalidRequestError)  # noqa: S101 - that is one of the rules
            raise request
        user = request.user if isinstance(request, DeliveryRequest) else actor.name
        receipt = _receipt(actor.tenant, correlation_id, origin_app=user, priority=priority)
        if isinstance(request, DeliveryRequest):
            unknown = unknown_target(receipt, request, tenants=self.tenants)
            if unknown is None:
                return await self._open(actor, "submit", receipt, request)
            request = InvalidRequestError([unknown])
        await self._receive(receipt, request)
        raise request

    async def _receive(
        self, receipt: Receipt, request: DeliveryRequest | InvalidRequestError
    ) -> list[Delivery]:
        return await receive(
            [(receipt, request)], store=self.store, tenants=self.tenants, users=self.users
        )

    async def _open(
        self, actor: Actor, action: str, receipt: Receipt, request: DeliveryRequest
    ) -> Delivery:
        opened = await self._receive(receipt, request)
        if not opened:
            raise NotPossibleError(
                f"a delivery {receipt.correlation_id} of tenant {receipt.tenant} is still active; "
                "cancel it first, or choose another correlation id"
            )
        async with self.store.transaction() as tx:
            await tx.note(_done(actor, action, opened[0], after=opened[0].state))
        return opened[0]

    async def _last(self, tenant: str, correlation_id: str) -> Tracked:
        found = await self.tracking.of(tenant, correlation_id)
        if not found:
            raise UnknownDeliveryError(
                f"tenant {tenant} has no delivery {correlation_id[:100]!r}, or it was long ago"
            )
        return found[0]


def _answerable(correlation_id: object) -> TypeGuard[str]:
    return isinstance(correlation_id, str) and 0 < len(correlation_id.strip()) <= _LONGEST_ID


def _nothing_to_hasten(delivery: Delivery) -> str:
    if delivery.state in (State.GRANTED, State.ORDERED):
        return f"{delivery} waits for rs-order ({delivery.state}); there is nothing to try again"
    return f"{delivery} is under way ({delivery.state}); there is nothing to try again"


def _receipt(tenant: str, correlation_id: str, *, origin_app: str | None, priority: int) -> Receipt:
    ingress_id = uuid4()
    return Receipt(
        ingress_id=ingress_id,
        digest=hashlib.sha256(ingress_id.bytes).digest(),  # no message: like no other
        redelivered=False,
        tenant=tenant,
        correlation_id=correlation_id,
        origin_app=origin_app,
        priority=priority,
        received_at=datetime.now(UTC),
    )


def _done(actor: Actor, action: str, delivery: Delivery, *, after: State) -> Done:
    log.info(
        "intervention",
        action=action,
        tenant=delivery.tenant,
        correlation_id=delivery.correlation_id,
        actor=actor.name,
        role=actor.role,
        state=delivery.state.value,
    )
    return Done(
        actor=actor,
        action=action,
        subject=f"delivery {delivery.correlation_id}",
        before=delivery.state.value,
        after=after.value,
    )
