"""A delivery request arrived: grant it or deny it, once."""

from __future__ import annotations

from app import outgoing
from app.logs import get_logger
from app.model import DeliveryRequest, ErrorType, Receipt
from app.ports import Store, Tenants, Users

log = get_logger(__name__)


async def grant(
    receipt: Receipt, request: DeliveryRequest, *, store: Store, tenants: Tenants, users: Users
) -> None:
    """Save the delivery, answer GRANTED and order the products: all in one transaction.

    Or answer DENIED, if the user is unknown. While nobody can tell whether it is, RetryableError:
    an outage delays a request, it does not deny it.
    """
    if not await users.known(receipt.tenant, request.user):
        reason = f"order.user {request.user} is not a user of tenant {receipt.tenant}"
        await deny(receipt, ErrorType.FORBIDDEN, reason, store=store)
        return
    settings = tenants.settings(receipt.tenant)
    async with store.transaction() as tx:
        if not await tx.remember(receipt):
            log.info(
                "request_repeated", tenant=receipt.tenant, correlation_id=receipt.correlation_id
            )
            return
        delivery = await tx.open(
            receipt, request, expires_at=receipt.received_at + settings.request_ttl
        )
        if delivery is None:
            log.warning(
                "request_ignored",
                tenant=receipt.tenant,
                correlation_id=receipt.correlation_id,
                reason="a delivery with this correlationId is still active",
            )
            return
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


async def deny(receipt: Receipt, error_type: ErrorType, reason: str, *, store: Store) -> None:
    """Answer DENIED, once; nothing else is kept of the request."""
    async with store.transaction() as tx:
        if not await tx.remember(receipt):
            return
        await tx.owe(outgoing.denied(receipt, error_type, reason))
    log.info(
        "delivery_denied",
        tenant=receipt.tenant,
        correlation_id=receipt.correlation_id,
        reason=reason,
    )
