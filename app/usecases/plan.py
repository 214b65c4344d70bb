"""The order is done: write down what goes into the archive."""

from __future__ import annotations

from app import outgoing
from app.errors import EmptyOrderError
from app.logs import get_logger
from app.model import Delivery, State
from app.naming import build_manifest
from app.outgoing import Kind
from app.ports import OrderSource, Store

log = get_logger(__name__)


async def plan(delivery: Delivery, *, source: OrderSource, store: Store) -> None:
    """Read the order's listing, lay out the archive and make the delivery ready for transfer.

    Raises EmptyOrderError, and what reading the listing raises.
    """
    listing = [file async for file in source.listing(delivery)]
    if not listing:
        raise EmptyOrderError(f"order {delivery.order_id} is done, but holds no file")
    manifest = build_manifest(delivery.correlation_id, listing)
    async with store.transaction() as tx:
        if await tx.advance(delivery, State.READY, manifest=manifest):
            await tx.owe(outgoing.wake(delivery, Kind.TRANSFER))
    log.info(
        "delivery_planned",
        tenant=delivery.tenant,
        correlation_id=delivery.correlation_id,
        files=len(manifest.files),
        bytes=manifest.total_bytes,
    )
    unchecked = sum(file.md5 is None for file in manifest.files)
    if unchecked:
        log.warning(
            "files_without_checksum",
            tenant=delivery.tenant,
            correlation_id=delivery.correlation_id,
            files=unchecked,
            example=next(file.member for file in manifest.files if file.md5 is None),
            consequence="verified by size alone",
        )
