"""A delivery request arrived: grant it or deny it, once."""

from __future__ import annotations

from app import outgoing
from app.logs import get_logger
from app.model import Delivery, DeliveryRequest, ErrorType, Receipt, State
from app.ports import Store, Tenants, Transaction, Users

log = get_logger(__name__)


async def receive(
    receipt: Receipt, request: DeliveryRequest, *, store: Store, tenants: Tenants, users: Users
) -> State | None:
    """Save the delivery; grant it in the same transaction if its user is known without asking.

    Otherwise it is left RECEIVED, and `check` asks: nobody's requests wait here for rs-admin.
    Returns the state it is in now, or None when the request changed nothing.
    """
    settings = tenants.settings(receipt.tenant)
    known = users.remembers(receipt.tenant, request.user)
    async with store.transaction() as tx:
        if not await tx.remember(receipt):
            log.info(
                "request_repeated", tenant=receipt.tenant, correlation_id=receipt.correlation_id
            )
            return None
        delivery = await tx.open(
            receipt,
            request,
            state=State.GRANTED if known else State.RECEIVED,
            expires_at=receipt.received_at + settings.request_ttl,
        )
        if delivery is None:
            log.warning(
                "request_ignored",
                tenant=receipt.tenant,
                correlation_id=receipt.correlation_id,
                reason="a delivery with this correlationId is still active",
            )
            return None
        if known:
            await _granted(tx, delivery, tenants=tenants)
    return delivery.state


async def check(delivery: Delivery, *, store: Store, tenants: Tenants, users: Users) -> None:
    """Ask whether the user of a RECEIVED delivery is known; grant or deny it.

    While nobody can tell, RetryableError: an outage delays a request, it does not deny it.
    """
    if await users.known(delivery.tenant, delivery.user):
        async with store.transaction() as tx:
            if await tx.advance(delivery, State.GRANTED):
                await _granted(tx, delivery, tenants=tenants)
        return
    reason = f"order.user {delivery.user} is not a user of tenant {delivery.tenant}"
    async with store.transaction() as tx:
        # Nothing is kept of a request that is denied, but that it was there (the inbox).
        if await tx.withdraw(delivery):
            await _denied(tx, delivery, ErrorType.FORBIDDEN, reason)


async def deny(receipt: Receipt, reason: str, *, store: Store) -> None:
    """Answer DENIED to a request that breaks rules, once."""
    async with store.transaction() as tx:
        if await tx.remember(receipt):
            await _denied(tx, receipt, ErrorType.INVALID_CONTENT, reason)


async def _granted(tx: Transaction, delivery: Delivery, *, tenants: Tenants) -> None:
    settings = tenants.settings(delivery.tenant)
    await tx.owe(
        outgoing.granted(delivery),
        outgoing.order(delivery, size_limit=settings.order_size_limit_bytes),
    )
    log.info(
        "delivery_granted",
        tenant=delivery.tenant,
        correlation_id=delivery.correlation_id,
        target=delivery.target,
    )


async def _denied(
    tx: Transaction, origin: Delivery | Receipt, error_type: ErrorType, reason: str
) -> None:
    await tx.owe(outgoing.denied(origin, error_type, reason))
    log.info(
        "delivery_denied",
        tenant=origin.tenant,
        correlation_id=origin.correlation_id,
        reason=reason,
    )
