"""A delivered order must not keep its user's place at rs-order.

rs-order takes a suborder for downloaded once each of its files was. It never sees that of files of
2 GiB and more, so it waits for its user until the order expires, and restores nothing else.
"""

from __future__ import annotations

from app.delivery import outgoing
from app.delivery.model import Delivery
from app.delivery.ports import DeliveryStore, OrderSource
from app.errors import DeliveryError
from app.telemetry.logs import get_logger

log = get_logger(__name__)

UNSEEN = 1 << 31  # bytes of the smallest file whose download rs-order does not see


async def free_place(delivery: Delivery, *, source: OrderSource, store: DeliveryStore) -> None:
    """Cancel the order of a delivery that is done, if rs-order still waits for its user.

    What fails is logged: the delivery is done, and the order expires by itself.
    """
    assert delivery.order_id is not None  # noqa: S101 - it was transferred
    try:
        facts = await source.order(delivery)
        if facts is None or not facts.waiting_for_user:
            return
        async with store.transaction() as tx:
            await tx.enqueue(outgoing.cancel(delivery, delivery.order_id))
    except DeliveryError as error:
        log.warning(
            "place_not_freed",
            **delivery.log_context,
            order_id=delivery.order_id,
            cause=str(error),
            consequence="its user may wait for further orders until rs-order lets this one expire",
        )
    else:
        log.info("place_freed", **delivery.log_context, order_id=delivery.order_id)
