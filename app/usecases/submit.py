"""A delivery request arrived: grant it or deny it, once."""

from __future__ import annotations

from app import outgoing
from app.errors import InvalidRequestError
from app.logs import get_logger
from app.model import DeliveryRequest, ErrorType, Receipt
from app.ports import Store, Tenants

log = get_logger(__name__)


async def grant(
    receipt: Receipt, request: DeliveryRequest, *, store: Store, tenants: Tenants
) -> None:
    """Save the delivery, answer GRANTED and order the products: all in one transaction."""
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


async def deny(receipt: Receipt, error: InvalidRequestError, *, store: Store) -> None:
    """Answer DENIED, once; nothing else is kept of the request."""
    async with store.transaction() as tx:
        if not await tx.remember(receipt):
            return
        await tx.owe(outgoing.denied(receipt, ErrorType.INVALID_CONTENT, str(error)))
    log.info(
        "delivery_denied",
        tenant=receipt.tenant,
        correlation_id=receipt.correlation_id,
        reason=str(error),
    )
